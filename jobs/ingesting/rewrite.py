"""One part of a table merged with what a batch brings. Runs as a Ray task.

The one idea: only files whose statistics overlap the new rows are read and replaced; the new rows of
a month are cut into tiles of machines (and of time, where one machine alone is too much), so that a
task's memory is bounded, and the tiles cover everything, so that no row of a replaced file is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from cluster.commit import WrittenFile, write_part
from cluster.places import Place, place_of, read_parquet, reference
from cluster.storage import BOOKKEEPING, QUARANTINE, TIME, ReadingFile
from jobs.ingesting.bounds import Bounds
from jobs.ingesting.measures import measure
from jobs.ingesting.merge import Floats, Ints, Merged, merge
from jobs.ingesting.parts import ROW_CELLS, Part, Slice, write_ipc
from jobs.ingesting.plan import Plan
from models.checks import Mask

TILE_CELLS = 4_000_000  # what a task holds, with those that machine, time and sorting take; also a file's rows


class Tile(BaseModel):
    """New rows of one table and month within bounds, and the table's files they overlap."""

    model_config = ConfigDict(extra="forbid")

    plant: str
    folder: str
    month: str
    bounds: Bounds
    work: str  # folder for what is no file of the table
    masks: list[Mask] = []  # cells of the batch that go to quarantine
    stuck_h: dict[str, float] = {}
    parts: list[Slice]
    existing: list[str]
    batch: str
    created_at: datetime
    file_rows: int
    alone: bool  # the only tile of its month: nothing to write where nothing changed
    measured: bool = True  # for the gate


class Rewritten(BaseModel):
    """``superseded`` counts the batch's rows that changed nothing; ``changed``: whether any row did.

    ``measures`` and ``quarantine`` are files of the work folder; ``cells`` counts those that went to quarantine.
    """

    plant: str
    folder: str
    month: str
    bounds: Bounds
    existing: list[str]
    files: list[dict[str, Any]]
    superseded: int
    changed: bool
    measures: str | None = None
    quarantine: str | None = None
    cells: int = 0


def tiles(
    parts: Sequence[Part], existing: Sequence[ReadingFile], *, plan: Plan, folder: Place, work: Path
) -> list[Tile]:
    """Tiles of one table. ``existing`` are its files now."""
    stuck_h = {s.sensor: s.stuck_h for s in plan.source.sensors().values() if s.stuck_h}
    found: list[Tile] = []
    for month in sorted({part.month for part in parts}):
        own = sorted((p for p in parts if p.month == month), key=lambda p: p.place)
        files = [f for f in existing if f"/month={month}/" in f.path and overlaps(f, own)]
        file_rows = TILE_CELLS // (len({name for part in own for name in part.sensors}) + ROW_CELLS)
        cuts = _cuts(own, sum(f.num_rows for f in files), file_rows)
        for cut in cuts:
            slices = [rows for part in own if (rows := part.slice(cut.low, cut.high)).rows]
            met = [f.path for f in files if cut.meets(f)]
            if slices or met:
                found.append(
                    Tile(
                        plant=plan.plant, folder=reference(folder), month=month, bounds=cut, work=str(work),
                        parts=slices, existing=met, batch=plan.batch, created_at=plan.created_at, file_rows=file_rows,
                        alone=len(cuts) == 1, stuck_h=stuck_h,
                    )
                )  # fmt: skip
    return found


def rewrite_tile(item: dict[str, Any]) -> dict[str, Any]:
    """Ray Data's row in, row out: both hold JSON."""
    return {"rewritten": rewrite(Tile.model_validate_json(item["tile"])).model_dump_json()}


def rewrite(tile: Tile) -> Rewritten:
    cut = tile.bounds
    tables = [_history(path, cut) for path in tile.existing]
    num_old = sum(table.num_rows for table in tables)
    tables += [part.read(cut.since_us, cut.until_us) for part in tile.parts]
    lengths = [table.num_rows for table in tables]
    rows = _Rows.of(pa.concat_tables(tables, promote_options="default"))
    del tables  # what follows has its own arrays
    done = Rewritten(
        plant=tile.plant, folder=tile.folder, month=tile.month, bounds=cut, existing=tile.existing, files=[],
        superseded=0, changed=False,
    )  # fmt: skip
    if tile.masks:
        _mask(rows, np.repeat(np.arange(len(lengths)) - len(tile.existing), lengths), tile, done)
    merged = merge(rows.codes, rows.time, rows.columns)
    done.superseded = int(merged.superseded[num_old:].sum())
    done.changed = done.superseded < len(rows.time) - num_old
    if len(merged.first) and tile.measured:
        measures = measure(
            rows.names, rows.codes[merged.first], rows.time[merged.first], merged.columns, merged.owner >= num_old,
            tile.month, stuck_h=tile.stuck_h,
        )  # fmt: skip
        done.measures = write_ipc(Path(tile.work), "measures", measures) if measures.num_rows else None
    if len(merged.first) and (done.changed or not tile.alone):
        done.files = [file.as_dict() for file in _write(tile, rows.table, merged, num_old)]
    return done


@dataclass(frozen=True)
class _Rows:
    """Rows in delivery order as arrays; ``codes`` index ``names``, which are sorted. ``table`` has no sensors."""

    table: pa.Table
    names: list[str]
    codes: Ints
    time: Ints
    columns: dict[str, Floats]

    @classmethod
    def of(cls, table: pa.Table) -> _Rows:
        encoded = table["machine"].combine_chunks().dictionary_encode()
        seen: list[str] = encoded.dictionary.to_pylist()
        names = sorted(seen)
        place = {name: number for number, name in enumerate(names)}
        rank = np.asarray([place[name] for name in seen], np.int64)
        codes = rank[np.asarray(encoded.indices, np.int64)] if table.num_rows else np.zeros(0, np.int64)
        columns = {name: _floats(table[name]) for name in table.column_names if name not in BOOKKEEPING}
        kept = table.select([name for name in table.column_names if name in BOOKKEEPING])
        return cls(kept, names, codes, table["time"].to_numpy(), columns)


def _mask(rows: _Rows, origin: Ints, tile: Tile, done: Rewritten) -> None:
    """Empties cells of the batch, and writes them to quarantine. ``origin``: each row's part, negative in history."""
    wrong: list[dict[str, Any]] = []
    for mask in tile.masks:
        if mask.machine not in rows.names or mask.sensor not in rows.columns:
            continue
        values = rows.columns[mask.sensor].copy()
        own = (rows.codes == rows.names.index(mask.machine)) & (origin >= 0) & ~np.isnan(values)
        own &= (rows.time >= mask.from_us) & (rows.time <= mask.until_us)
        for row in np.flatnonzero(own).tolist():
            at, part = datetime.fromtimestamp(rows.time[row] / 1e6, UTC).isoformat(), tile.parts[origin[row]]
            raw = f"{mask.machine} {at} {mask.sensor} = {values[row]:.7g}"
            wrong.append({"raw": raw, "file": part.file, "stream": part.stream, "reason": mask.reason})
        values[own] = np.nan
        rows.columns[mask.sensor] = values
    if wrong:
        own_batch = {"time": tile.created_at, "source_id": tile.batch}
        table = pa.Table.from_pylist([entry | own_batch for entry in wrong], schema=QUARANTINE)
        done.quarantine, done.cells = write_ipc(Path(tile.work), "masked", table), len(wrong)


def _history(path: str, cut: Bounds) -> pa.Table:
    """Rows of a file of the table that lie within the bounds; row groups without any are not read."""
    found = read_parquet([path], filter=cut.condition(), use_threads=False)
    return found.set_column(1, "time", found["time"].cast(pa.int64()))


def _floats(column: pa.ChunkedArray) -> Floats:
    found: Floats = column.cast(pa.float32()).to_numpy()
    return found


def _write(tile: Tile, rows: pa.Table, merged: Merged, num_old: int) -> list[WrittenFile]:
    """The merged rows as files of the table; rows that the batch did not change keep their batch and time."""
    first, owner = pa.array(merged.first), merged.owner
    columns: dict[str, pa.Array] = {
        "machine": rows["machine"].take(first).combine_chunks(),
        "time": rows["time"].take(first).combine_chunks().cast(TIME),
    }
    columns |= {name: pa.array(values, from_pandas=True) for name, values in merged.columns.items()}
    if num_old:
        # Rows of the batch have neither column: the owner's is null exactly where the batch owns.
        kept = rows.select(["ingested_at", "source_id"]).take(pa.array(owner))
        columns["ingested_at"] = pc.fill_null(kept["ingested_at"].combine_chunks(), pa.scalar(tile.created_at, TIME))
        columns["source_id"] = pc.fill_null(kept["source_id"].combine_chunks(), tile.batch)
    else:
        columns["ingested_at"] = pa.repeat(pa.scalar(tile.created_at, TIME), len(owner))
        columns["source_id"] = pa.repeat(tile.batch, len(owner))
    table = pa.table(columns)
    return [
        write_part(
            place_of(tile.folder), table.slice(start, tile.file_rows), stem=f"part-{tile.batch}",
            partition={"month": tile.month},
        )
        for start in range(0, table.num_rows, tile.file_rows)
    ]


def overlaps(file: ReadingFile, parts: Sequence[Part]) -> bool:
    return any(
        file.first_machine <= machine <= file.last_machine and low <= file.last_us and high >= file.first_us
        for part in parts
        for machine, (_, low, high) in part.machines.items()
    )


def _cuts(parts: Sequence[Part], num_old: int, tile_rows: int) -> list[Bounds]:
    """Bounds with about ``tile_rows`` rows each that cover everything."""
    seen: dict[str, list[tuple[int, int, int]]] = {}
    for part in parts:
        for machine, own in part.machines.items():
            seen.setdefault(machine, []).append(own)
    total = sum(rows for found in seen.values() for rows, _, _ in found)
    share = 1 + num_old / max(1, total)  # history is taken to be spread as the new rows are
    cuts: list[Bounds] = []
    low, held = None, 0.0
    for machine, found in sorted(seen.items()):
        rows = share * sum(n for n, _, _ in found)
        if held and held + rows > tile_rows:
            cuts.append(Bounds(low=low, high=machine))
            low, held = machine, 0.0
        held += rows
        if rows > tile_rows:
            past = machine + "\0"  # the next name there can be
            first, last = min(at for _, at, _ in found), max(at for _, _, at in found)
            cuts += _in_time(Bounds(low=low, high=past), first, last, number=math.ceil(rows / tile_rows))
            low, held = past, 0.0
    return [*cuts, Bounds(low=low)]


def _in_time(cut: Bounds, first_us: int, last_us: int, *, number: int) -> list[Bounds]:
    between = [first_us + (last_us - first_us) * k // number for k in range(1, number)]
    ends = zip([None, *between], [*between, None], strict=True)
    return [cut.model_copy(update={"since_us": since, "until_us": until}) for since, until in ends]

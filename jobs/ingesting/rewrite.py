"""One part of a table merged with what a batch brings. Runs as a Ray task.

The one idea: only files whose statistics overlap the new rows are read and replaced; the new rows of
a month are cut into tiles of whole machines, so that a task's memory is bounded, and the tiles cover
every machine, so that no row of a replaced file is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from cluster.commit import WrittenFile, write_part
from cluster.storage import EVENTS, TIME, ReadingFile
from jobs.ingesting.merge import Merged, merge
from jobs.ingesting.parse import Part, kept_machines, read_back

TILE_ROWS = 3_000_000


class Tile(BaseModel):
    """New rows of one table and month, of machines in ``[low, high)``, and the table's files they overlap."""

    model_config = ConfigDict(extra="forbid")

    table: str
    folder: str
    month: str
    low: str | None = None
    high: str | None = None
    parts: list[str]
    existing: list[str]
    sensors: list[str]
    batch: str
    created_at: datetime
    alone: bool  # the only tile of its month: nothing to write where nothing changed


class Rewritten(BaseModel):
    """``superseded`` counts the batch's rows that changed nothing; ``changed``: whether any row did."""

    table: str
    folder: str
    month: str
    existing: list[str]
    files: list[dict[str, Any]]
    superseded: int
    changed: bool


def tiles(
    parts: Sequence[Part],
    existing: Sequence[ReadingFile],
    *,
    table: str,
    folder: Path,
    batch: str,
    created_at: datetime,
) -> list[Tile]:
    """Tiles of one table. ``existing`` are its files now."""
    found: list[Tile] = []
    for month in sorted({part.month for part in parts}):
        own = sorted((p for p in parts if p.month == month), key=lambda p: (p.order, p.number))
        files = [f for f in existing if f"/month={month}/" in f.path and _overlaps(f, own)]
        bounds = _cuts(own, sum(f.num_rows for f in files))
        sensors = sorted({name for part in own for name in part.sensors})
        for low, high in bounds:
            found.append(
                Tile(
                    table=table, folder=str(folder), month=month, low=low, high=high, sensors=sensors, batch=batch,
                    parts=[p.path for p in own if any(_inside(m, low, high) for m in p.machines)],
                    existing=[f.path for f in files if _meets(f, low, high)], created_at=created_at,
                    alone=len(bounds) == 1,
                )
            )  # fmt: skip
    return found


def rewrite_tile(item: dict[str, Any]) -> dict[str, Any]:
    """Ray Data's row in, row out: both hold JSON."""
    return {"rewritten": rewrite(Tile.model_validate_json(item["tile"])).model_dump_json()}


def rewrite(tile: Tile) -> Rewritten:
    tables = [kept_machines(_history(path), tile.low, tile.high) for path in tile.existing]
    num_old = sum(table.num_rows for table in tables)
    tables += [kept_machines(read_back(path), tile.low, tile.high) for path in tile.parts]
    rows = pa.concat_tables(tables, promote_options="default")
    names = [n for n in rows.column_names if n not in ("machine", "time", "ingested_at", "source_id")]
    merged = _merge(rows, names)
    superseded = int(merged.superseded[num_old:].sum())
    changed = superseded < rows.num_rows - num_old
    done = Rewritten(
        table=tile.table, folder=tile.folder, month=tile.month, existing=tile.existing, files=[],
        superseded=superseded, changed=changed,
    )  # fmt: skip
    if (changed or not tile.alone) and len(merged.first):
        done.files = [file.as_dict() for file in _write(tile, rows, merged, num_old)]
    return done


def rewrite_events(
    path: str, parts: Iterable[str], ends: pa.Table, existing: pa.Table, batch: str
) -> tuple[WrittenFile | None, int]:
    """The whole events table merged by ``event_id``, cell by cell, and how many of the batch's rows changed nothing.

    ``ends`` are events that readings imply; they are no source rows. None where nothing changed. A row
    changes nothing of its own where its event has the same cells already, or where another row of
    the batch has the same event.
    """
    new = [read_back(part) for part in parts]
    if not any(table.num_rows for table in (*new, ends)):
        return None, 0
    at = EVENTS.get_field_index("source_id")
    stamped = [table.set_column(at, "source_id", _constant(batch, table.num_rows)) for table in (*new, ends)]
    rows = pa.concat_tables([existing, *stamped])
    cells = [name for name in EVENTS.names if name not in ("event_id", "source_id")]
    last = pc.ScalarAggregateOptions(skip_nulls=True, min_count=0)
    grouped = rows.group_by("event_id", use_threads=False).aggregate(
        [(name, "last", last) for name in [*cells, "source_id"]]
    )
    merged = grouped.rename_columns(["event_id", *cells, "source_id"]).select(EVENTS.names).cast(EVENTS)
    merged = _keep_source(merged, existing, cells).sort_by([("started_at", "ascending"), ("event_id", "ascending")])
    num_new = sum(table.num_rows for table in new)
    changed = merged.filter(pc.equal(merged["source_id"], batch))
    if not changed.num_rows:
        return None, num_new
    implied = pc.sum(pc.is_in(changed["event_id"], ends["event_id"].combine_chunks())).as_py() or 0
    return write_part(Path(path), merged, stem=f"part-{batch}"), num_new - (changed.num_rows - implied)


def _keep_source(merged: pa.Table, existing: pa.Table, cells: Sequence[str]) -> pa.Table:
    """An event that a batch only repeats stays the earlier batch's."""
    before = {row["event_id"]: row for row in existing.to_pylist()}
    sources = [
        before[row["event_id"]]["source_id"]
        if row["event_id"] in before and all(row[c] == before[row["event_id"]][c] for c in cells)
        else row["source_id"]
        for row in merged.to_pylist()
    ]
    return merged.set_column(merged.num_columns - 1, "source_id", pa.array(sources, pa.string()))


def _history(path: str) -> pa.Table:
    found = pq.ParquetFile(path).read(use_threads=False)
    return found.set_column(1, "time", found["time"].cast(pa.int64()))


def _merge(rows: pa.Table, names: Sequence[str]) -> Merged:
    machine = rows["machine"].combine_chunks().dictionary_encode()
    order = np.asarray(pc.sort_indices(machine.dictionary), np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[np.asarray(machine.indices, np.int64)] if rows.num_rows else np.zeros(0, np.int64)
    columns = {name: _floats(rows[name]) for name in names}
    return merge(codes, rows["time"].to_numpy(), columns)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = column.cast(pa.float32()).to_numpy()
    return found


def _write(tile: Tile, rows: pa.Table, merged: Merged, num_old: int) -> list[WrittenFile]:
    """The merged rows as files of the table; rows that the batch did not change keep their batch and time."""
    first, owner = pa.array(merged.first), merged.owner
    fresh = owner >= num_old
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
        columns["ingested_at"] = pa.array([tile.created_at], TIME).take(pa.array(np.zeros(len(fresh), np.int64)))
        columns["source_id"] = _constant(tile.batch, len(fresh))
    table = pa.table(columns)
    return [
        write_part(
            Path(tile.folder), table.slice(start, TILE_ROWS), stem=f"part-{tile.batch}", partition={"month": tile.month}
        )
        for start in range(0, table.num_rows, TILE_ROWS)
    ]


def _constant(text: str, length: int) -> pa.Array:
    return pa.array([text], pa.string()).take(pa.array(np.zeros(length, np.int64)))


def _overlaps(file: ReadingFile, parts: Sequence[Part]) -> bool:
    return any(
        file.first_machine <= machine <= file.last_machine and low <= file.last_us and high >= file.first_us
        for part in parts
        for machine, (_, low, high) in part.machines.items()
    )


def _cuts(parts: Sequence[Part], num_old: int) -> list[tuple[str | None, str | None]]:
    """Bounds of machines, each with about TILE_ROWS rows, that cover everything."""
    counts: dict[str, int] = {}
    for part in parts:
        for machine, (rows, _, _) in part.machines.items():
            counts[machine] = counts.get(machine, 0) + rows
    share = 1 + num_old / max(1, sum(counts.values()))  # history is taken to be spread as the new rows are
    cuts: list[str] = []
    held = 0.0
    for machine, rows in sorted(counts.items()):
        if held and held + rows * share > TILE_ROWS:
            cuts.append(machine)
            held = 0.0
        held += rows * share
    return list(zip([None, *cuts], [*cuts, None], strict=True))


def _inside(machine: str, low: str | None, high: str | None) -> bool:
    return (low is None or machine >= low) and (high is None or machine < high)


def _meets(file: ReadingFile, low: str | None, high: str | None) -> bool:
    return (low is None or file.last_machine >= low) and (high is None or file.first_machine < high)

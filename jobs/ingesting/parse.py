"""One piece of a batch's files -> canonical rows on disk, by machine type and month. Runs as a Ray task.

The one idea: a unit's result is a list of files it has written and of counts; running it twice writes
twice and is used once. Everything it needs is in the unit, so that any node with the same storage can do
it. What it holds is bounded by cells, whatever the file's size or its number of wrong rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from cluster.storage import QUARANTINE
from jobs.ingesting.parts import Floats, Ints, Origin, Part, PartWriter, write_ipc
from jobs.ingesting.pieces import clock_steps, wrong_cells
from jobs.sources import archive, logs, reading, readings
from jobs.sources.raw import Chunk, Reason, Span, Wrong, only_wrong
from models.errors import MillwrightError
from models.source import SensorColumn, Stream

_WRONG_HELD = 5_000  # entries of quarantine held before they are written
UNUSABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)  # columns of types that say nothing


class Unit(BaseModel):
    """What a task needs. ``order`` is the file's place in the delivery, ``piece`` the span's in its file."""

    model_config = ConfigDict(extra="forbid")

    plant: str
    batch: str
    created_at: datetime
    order: int
    piece: int
    root: str
    path: str
    size: int
    mtime_ns: int
    readable: bool  # when it was planned
    span: tuple[int, int, int] | None
    stream: Stream
    machine_types: dict[str, str]
    folder: str

    @property
    def num_bytes(self) -> int:
        return self.size if self.span is None else self.span[1] - self.span[0]


class Parsed(BaseModel):
    """A unit's result. ``cells`` counts wrong cells of rows that were ingested."""

    plant: str
    order: int
    piece: int
    stream: str
    path: str
    num_bytes: int
    rows: int = 0
    quarantined: int = 0
    cells: int = 0
    reasons: dict[str, int] = {}
    parts: list[Part] = []
    logs: list[str] = []
    quarantine: list[str] = []
    pieces: str | None = None
    new_sensors: dict[str, SensorColumn] = {}


def parse_units(item: dict[str, Any]) -> dict[str, Any]:
    """Ray Data's row in, row out: both hold lists of JSON."""
    return {"parsed": [parse(Unit.model_validate_json(unit)).model_dump_json() for unit in item["units"]]}


def parse(unit: Unit) -> Parsed:
    """Raises MillwrightError where the file changes while it is read."""
    found = Parsed(
        plant=unit.plant, order=unit.order, piece=unit.piece, stream=unit.stream.name, path=unit.path,
        num_bytes=unit.num_bytes,
    )  # fmt: skip
    origin = Origin(
        unit.path, unit.stream.name, unit.order, unit.piece, unit.machine_types, unit.stream.machine_type
    )  # fmt: skip
    seen = _Seen(unit.stream)
    writer = PartWriter(Path(unit.folder), origin, seen.rows)
    wrong, now_us = _Quarantine(unit, found, seen), round(unit.created_at.timestamp() * 1e6)
    try:
        for chunk in _chunks(unit):
            if unit.stream.role == "readings":
                rows = readings.canonical(chunk, unit.stream, unit.path, now_us=now_us)
                writer.add(rows.table)
                found.new_sensors |= rows.new_sensors
                wrong.add(rows.wrong)
                found.rows += rows.num_rows
            else:
                table, errors, num_rows = logs.canonical(chunk, unit.stream, unit.path, unit.plant, now_us=now_us)
                if table.num_rows:
                    found.logs.append(write_ipc(Path(unit.folder), f"{unit.order:06d}-{unit.piece:06d}", table))
                wrong.add(errors)
                found.rows += num_rows
    except UNUSABLE as error:  # no file, however strange, may stop the others
        wrong.add([Wrong(Reason.UNREADABLE, detail=str(error)[:300], scope="file")])
    _check_unchanged(unit)
    found.parts = writer.finish()
    wrong.flush()
    found.pieces = seen.written(Path(unit.folder))
    return found


def _chunks(unit: Unit) -> Iterator[Chunk]:
    path = Path(unit.root) / unit.path
    try:
        with archive.split(path)[0].open("rb"):
            pass
    except OSError as error:
        if unit.readable:  # when it was planned: its rows are missing, not wrong
            raise _changed(path, error.strerror or str(error)) from error
        yield only_wrong(Wrong(Reason.UNREADABLE, detail=error.strerror or str(error), scope="file"))
        return
    yield from reading.chunks(path, unit.stream, Span(*unit.span) if unit.span else None)


def _check_unchanged(unit: Unit) -> None:
    path = Path(unit.root) / unit.path
    file = archive.split(path)[0]
    if not file.exists() or (archive.size(path), file.stat().st_mtime_ns) != (unit.size, unit.mtime_ns):
        raise _changed(path, "another size or time")


def _changed(path: Path, found: str) -> MillwrightError:
    return MillwrightError(
        "A file changed while it was read", expected="the file that was planned", found=found, where=path,
        do="Run `millwright ingest` again when it is complete",
    )


class _Seen:
    """What the gate wants to know of a piece that its rows do not tell once they are sorted."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.tables: list[pa.Table] = []

    def rows(self, machines: list[str], codes: Ints, time: Ints, columns: dict[str, Floats]) -> None:
        zone = self.stream.time.zone if self.stream.time else "UTC"
        long = self.stream.layout == "long"
        self.tables.append(clock_steps(machines, codes, time, columns, zone=zone, long=long))

    def wrong(self, entries: list[Wrong]) -> None:
        self.tables.append(wrong_cells(entries, self.stream))

    def written(self, folder: Path) -> str | None:
        tables = [table for table in self.tables if table.num_rows]
        return write_ipc(folder, "pieces", pa.concat_tables(tables)) if tables else None


class _Quarantine:
    """Counts what is wrong and writes it out before it fills the memory."""

    def __init__(self, unit: Unit, found: Parsed, seen: _Seen) -> None:
        self.unit, self.found, self.seen = unit, found, seen
        self.held: list[Wrong] = []
        self.reasons: Counter[str] = Counter()

    def add(self, wrong: list[Wrong]) -> None:
        self.held += wrong
        if len(self.held) >= _WRONG_HELD:
            self.flush()

    def flush(self) -> None:
        if not self.held:
            return
        unit, held, self.held = self.unit, self.held, []
        self.found.quarantined += sum(entry.scope == "row" for entry in held)
        self.found.cells += sum(entry.scope == "cell" for entry in held)
        self.reasons.update(entry.reason.value for entry in held)
        self.seen.wrong(held)
        self.found.reasons = dict(self.reasons)
        table = pa.table(
            {
                "raw": [entry.raw for entry in held],
                "file": pa.array([unit.path] * len(held), pa.string()),
                "line": pa.array([entry.line for entry in held], pa.int64()),
                "reason": [entry.reason.value for entry in held],
                "detail": [entry.detail for entry in held],
                "time": pa.array([unit.created_at] * len(held), pa.timestamp("us", "UTC")),
                "stream": pa.array([unit.stream.name] * len(held), pa.string()),
                "source_id": pa.array([unit.batch] * len(held), pa.string()),
            },
            schema=QUARANTINE,
        )
        self.found.quarantine.append(write_ipc(Path(unit.folder), f"{unit.order:06d}-{unit.piece:06d}", table))

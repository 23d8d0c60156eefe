"""One file of a batch -> canonical rows on disk, by machine type and month. Runs as a Ray task.

The one idea: a unit's result is a list of files it has written and of counts; running it twice writes
twice and is used once. Everything it needs is in the unit, so that any node with the same storage can do it.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from cluster.storage import QUARANTINE
from jobs.sources import logs, reading, readings
from jobs.sources.raw import Chunk, Reason, Wrong, only_wrong
from models.errors import MillwrightError
from models.source import SensorColumn, Stream

FLUSH_ROWS = 500_000  # rows held before they are written
UNUSABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)  # columns of types that say nothing
DEFAULT_TYPE = "machine"


class Unit(BaseModel):
    """What a task needs. ``order`` is the file's place in the delivery."""

    model_config = ConfigDict(extra="forbid")

    plant: str
    batch: str
    created_at: datetime
    order: int
    root: str
    path: str
    size: int
    mtime_ns: int
    stream: Stream
    machine_types: dict[str, str]
    folder: str


class Part(BaseModel):
    """Rows of one readings table and month in one file. ``machines``: rows, first and last time (us) of each."""

    order: int
    number: int
    machine_type: str
    month: str
    path: str
    rows: int
    sensors: list[str]
    machines: dict[str, tuple[int, int, int]]


class Parsed(BaseModel):
    """A unit's result. ``cells`` counts wrong cells of rows that were ingested."""

    plant: str
    order: int
    stream: str
    path: str
    rows: int = 0
    quarantined: int = 0
    cells: int = 0
    reasons: dict[str, int] = {}
    parts: list[Part] = []
    logs: str | None = None
    quarantine: str | None = None
    new_sensors: dict[str, SensorColumn] = {}


def parse_unit(item: dict[str, Any]) -> dict[str, Any]:
    """Ray Data's row in, row out: both hold JSON."""
    return {"parsed": parse(Unit.model_validate_json(item["unit"])).model_dump_json()}


def parse(unit: Unit) -> Parsed:
    """Raises MillwrightError where the file changes while it is read."""
    found = Parsed(plant=unit.plant, order=unit.order, stream=unit.stream.name, path=unit.path)
    wrong: list[Wrong] = []
    is_readings = unit.stream.role == "readings"
    now_us = round(unit.created_at.timestamp() * 1e6)
    writer = _Writer(unit, found)
    log_tables: list[pa.Table] = []
    try:
        for chunk in _chunks(unit):
            if is_readings:
                rows = readings.canonical(chunk, unit.stream, unit.path, now_us=now_us)
                writer.add(rows.table)
                found.new_sensors |= rows.new_sensors
                wrong, found.rows = wrong + rows.wrong, found.rows + rows.num_rows
            else:
                table, errors, num_rows = logs.canonical(chunk, unit.stream, unit.path, unit.plant)
                log_tables.append(table)
                wrong, found.rows = wrong + errors, found.rows + num_rows
    except UNUSABLE as error:  # no file, however strange, may stop the others
        wrong.append(Wrong(Reason.UNREADABLE, detail=str(error)[:300], scope="file"))
    _check_unchanged(unit)
    writer.flush()
    if any(table.num_rows for table in log_tables):
        found.logs = _write(unit, pa.concat_tables(log_tables))
    return _with_wrong(found, unit, wrong)


def _chunks(unit: Unit) -> Iterator[Chunk]:
    path = Path(unit.root) / unit.path
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        yield only_wrong(Wrong(Reason.UNREADABLE, detail=error.strerror or str(error), scope="file"))
        return
    yield from reading.chunks(path, unit.stream)


def _check_unchanged(unit: Unit) -> None:
    path = Path(unit.root) / unit.path
    stat = path.stat() if path.exists() else None
    if stat is None or (stat.st_size, stat.st_mtime_ns) != (unit.size, unit.mtime_ns):
        raise MillwrightError(
            "A file changed while it was read", expected="the file that was planned", found="another size or time",
            where=path, do="Run `millwright ingest` again when it is complete",
        )  # fmt: skip


def _with_wrong(found: Parsed, unit: Unit, wrong: list[Wrong]) -> Parsed:
    found.quarantined = sum(entry.scope == "row" for entry in wrong)
    found.cells = sum(entry.scope == "cell" for entry in wrong)
    found.reasons = dict(Counter(entry.reason.value for entry in wrong))
    if wrong:
        table = pa.table(
            {
                "raw": [entry.raw for entry in wrong],
                "file": pa.array([unit.path] * len(wrong), pa.string()),
                "line": pa.array([entry.line for entry in wrong], pa.int64()),
                "reason": [entry.reason.value for entry in wrong],
                "detail": [entry.detail for entry in wrong],
                "time": pa.array([unit.created_at] * len(wrong), pa.timestamp("us", "UTC")),
                "stream": pa.array([unit.stream.name] * len(wrong), pa.string()),
                "source_id": pa.array([unit.batch] * len(wrong), pa.string()),
            },
            schema=QUARANTINE,
        )
        found.quarantine = _write(unit, table)
    return found


class _Writer:
    """Holds canonical readings and writes them by machine type and month."""

    def __init__(self, unit: Unit, found: Parsed) -> None:
        self.unit, self.found = unit, found
        self.held: list[pa.Table] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        if table.num_rows:
            self.held.append(table)
            self.rows += table.num_rows
        if self.rows >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.held:
            return
        table = pa.concat_tables(self.held, promote_options="default").combine_chunks()
        self.held, self.rows = [], 0
        machine = table["machine"].combine_chunks().dictionary_encode()
        names: list[str] = machine.dictionary.to_pylist()
        codes = np.asarray(machine.indices, np.int64)
        types = [self._type(name) for name in names]
        kinds = sorted(set(types))
        kind = np.asarray([kinds.index(t) for t in types], np.int64)[codes]
        time = table["time"].to_numpy()
        month = time.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        place = kind * (1 << 32) + (month + (1 << 20))
        places = np.unique(place)
        for value in places.tolist():
            rows = np.flatnonzero(place == value) if len(places) > 1 else np.arange(len(place))
            taken = table if len(places) == 1 else table.take(pa.array(rows))
            text = str(np.datetime64(int((value & 0xFFFFFFFF) - (1 << 20)), "M"))
            self._part(taken, kinds[value >> 32], text, _bounds(names, codes[rows], time[rows]))

    def _type(self, machine: str) -> str:
        return self.unit.machine_types.get(machine) or slug(self.unit.stream.machine_type or DEFAULT_TYPE)

    def _part(self, table: pa.Table, machine_type: str, month: str, machines: dict[str, tuple[int, int, int]]) -> None:
        sensors = [name for name in table.column_names if name not in ("machine", "time")]
        part = Part(
            order=self.unit.order, number=len(self.found.parts), machine_type=machine_type, month=month,
            path=_write(self.unit, table), rows=table.num_rows, sensors=sensors, machines=machines,
        )  # fmt: skip
        self.found.parts.append(part)


def slug(machine_type: str) -> str:
    """A machine type as the name of a folder: lower case, ``_`` for whatever is no letter or digit."""
    return "".join(c if c.isalnum() else "_" for c in machine_type.strip().lower()).strip("_") or DEFAULT_TYPE


def _bounds(
    names: list[str], codes: npt.NDArray[np.int64], time: npt.NDArray[np.int64]
) -> dict[str, tuple[int, int, int]]:
    grouped = (
        pa.table({"code": codes, "time": time})
        .group_by("code")
        .aggregate([("time", "count"), ("time", "min"), ("time", "max")])
    )
    columns = (grouped[c].to_pylist() for c in ("code", "time_count", "time_min", "time_max"))
    return {names[code]: (count, low, high) for code, count, low, high in zip(*columns, strict=True)}


def _write(unit: Unit, table: pa.Table) -> str:
    folder = Path(unit.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{unit.order:06d}-{uuid.uuid4().hex[:12]}.arrow"
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return str(path)


def read_back(path: str) -> pa.Table:
    """What `parse` has written."""
    with pa.OSFile(path, "rb") as file:
        return pa.ipc.open_file(file).read_all()


def kept_machines(table: pa.Table, low: str | None, high: str | None) -> pa.Table:
    """Rows whose machine lies in ``[low, high)``; None is no bound."""
    mask = None
    if low is not None:
        mask = pc.greater_equal(table["machine"], low)
    if high is not None:
        below = pc.less(table["machine"], high)
        mask = below if mask is None else pc.and_(mask, below)
    return table if mask is None else table.filter(mask)

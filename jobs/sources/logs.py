"""Raw rows of logs and equipment lists -> rows of the `events` and `machines` tables.

The one idea: an event's identity is what stays when a log is exported again: plant, machine, kind and
the work order, or the start and code (else the failure mode) where there is none. Its hash is the
``event_id``, so that the same event delivered twice, corrected or with more columns filled, is one row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage import EVENTS, MACHINES
from jobs.sources.raw import Chunk, Reason, Wanted, Wrong
from jobs.sources.times import DAY_US, joined, to_us
from jobs.sources.values import encoded, machine_of_file, named, to_float, to_text
from models.source import EVENT_KIND, Stream, TimeFormat

Mask = npt.NDArray[np.bool_]
ALIASES = {"work_order": "external_id", "time": "started_at", "state": "code"}
_TIMES = ("started_at", "ended_at", "recorded_at", "valid_from", "valid_to")
_NUMBERS = ("downtime_h", "cost")
_WHOLE = re.compile(r"\A(-?\d+)\.0+\Z")  # 1.0, which another file writes as 1


def fields_of(stream: Stream) -> dict[str, str]:
    """Table column -> raw column, under the table's own names."""
    found = {ALIASES.get(name, name): raw for name, raw in stream.fields.items()}
    if stream.time and stream.role != "machines":
        found.setdefault("started_at", stream.time.column)
    return found


def wanted(stream: Stream) -> Wanted:
    """The raw columns of a log, and how to read them."""
    found = {raw: "time" if name in _TIMES else "text" for name, raw in fields_of(stream).items()}
    if stream.machine.kind == "column" and stream.machine.column:
        found[stream.machine.column] = "text"
    for form in (stream.time, *stream.times.values()):
        if form is not None and form.date_column:
            found[form.date_column] = "time"
    return found  # type: ignore[return-value]


def required(stream: Stream) -> list[str]:
    """Raw columns without which no row of the log means anything."""
    start = fields_of(stream).get("started_at") if stream.role != "machines" else None
    machine = stream.machine.column if stream.machine.kind == "column" else None
    date = stream.time.date_column if start and stream.time else None
    return [column for column in (machine, start, date) if column]


def canonical(
    chunk: Chunk, stream: Stream, path: str, plant: str, *, now_us: int | None = None
) -> tuple[pa.Table, list[Wrong], int]:
    """Rows of EVENTS or MACHINES (``source_id`` empty), what is wrong, and the number of source rows.

    A failure that starts more than a day after ``now_us`` is wrong; other events may be planned.
    """
    num_rows = chunk.table.num_rows + sum(entry.scope == "row" for entry in chunk.wrong)
    schema = MACHINES if stream.role == "machines" else EVENTS
    if chunk.table.num_rows == 0:
        return schema.empty_table(), list(chunk.wrong), num_rows
    machine = _machine(chunk, stream, path)
    columns, cells = _columns(chunk, stream, schema)
    columns["machine"] = machine
    lost = {Reason.MACHINE: np.asarray(machine.is_null())}
    if stream.role == "machines":
        columns["inferred"] = pc.is_null(columns["valid_from"])
        columns["machine_type"] = _types(columns["machine_type"], stream)
    else:
        lost[Reason.TIME] = np.asarray(columns["started_at"].is_null())
        if stream.role == "failures" and now_us is not None:
            started = np.asarray(pc.fill_null(columns["started_at"].cast(pa.int64()), 0))
            lost[Reason.FUTURE] = started > now_us + DAY_US
        columns["kind"] = pa.array([EVENT_KIND[stream.role]] * chunk.table.num_rows)
        columns["recorded_at"] = pc.coalesce(columns["recorded_at"], columns["ended_at"], columns["started_at"])
    wrong, bad = _wrong(chunk, lost, cells)
    table = pa.table([columns[f.name] for f in schema], schema=schema).filter(pa.array(~bad))
    if stream.role != "machines":
        ids = [event_id(plant, row) for row in table.to_pylist()]
        table = table.set_column(0, "event_id", pa.array(ids, pa.string()))
    return table, list(chunk.wrong) + wrong, num_rows


def event_id(plant: str, event: Mapping[str, object]) -> str:
    """The hash of an event's identity."""
    own = ("external_id",) if event.get("external_id") else ("started_at", "code")
    if not any(event.get(name) for name in ("external_id", "component", "code")):
        own = (*own, "failure_mode")  # nothing else tells two failures of one moment apart
    parts = [plant, *(_WHOLE.sub(r"\1", str(event.get(name) or "")) for name in ("machine", "kind", "component", *own))]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def _machine(chunk: Chunk, stream: Stream, path: str) -> pa.Array:
    if stream.machine.kind != "column":
        name = machine_of_file(path, stream.machine)
        return pa.array([name] * chunk.table.num_rows, pa.string())
    codes, found = encoded(chunk.table[stream.machine.column or "machine"])
    names = [*(named(name, stream.machine) for name in found), None]
    return pa.array(names, pa.string()).take(pa.array(np.where(codes < 0, len(found), codes)))


def _columns(
    chunk: Chunk, stream: Stream, schema: pa.Schema
) -> tuple[dict[str, pa.Array], list[tuple[str, Reason, Mask]]]:
    """Every column of the table, and the cells that hold something unusable."""
    raw, fields = chunk.table, fields_of(stream)
    columns: dict[str, pa.Array] = {f.name: pa.nulls(raw.num_rows, f.type) for f in schema}
    cells: list[tuple[str, Reason, Mask]] = []
    for name, column in fields.items():
        if column not in raw.column_names or name not in columns:
            continue
        text = to_text(raw[column])
        if name in _TIMES:
            own = stream.times.get(name) or stream.times.get(_raw_name(name, stream)) or stream.time
            form = own or TimeFormat(column=column)
            parted = form.date_column in raw.column_names and form.column == column
            found = to_us(joined(raw, form) if parted else raw[column], form)
            cells.append((column, Reason.TIME, np.asarray(pc.and_(found.is_null(), text.is_valid()))))
            columns[name] = found.cast(pa.timestamp("us", "UTC"))
        elif name in _NUMBERS:
            values, no_number = to_float(raw[column], stream.csv.decimal)
            cells.append((column, Reason.NUMBER, no_number))
            columns[name] = pa.array(values, from_pandas=True)
        else:
            columns[name] = _mapped(text, stream.values.get(name) or stream.values.get(_raw_name(name, stream)) or {})
    return columns, cells


def _raw_name(name: str, stream: Stream) -> str:
    return next((alias for alias, own in ALIASES.items() if own == name and alias in stream.fields), name)


def _mapped(text: pa.Array, values: Mapping[str, str]) -> pa.Array:
    if not values:
        return text
    return pa.array([None if t is None else values.get(t, t) for t in text.to_pylist()], pa.string())


def _types(column: pa.Array, stream: Stream) -> pa.Array:
    return column if stream.machine_type is None else pc.fill_null(column, stream.machine_type)


def _wrong(
    chunk: Chunk, lost: Mapping[Reason, Mask], cells: list[tuple[str, Reason, Mask]]
) -> tuple[list[Wrong], Mask]:
    bad = np.zeros(chunk.table.num_rows, bool)
    wrong: list[Wrong] = []
    for reason, mask in lost.items():
        rows = np.flatnonzero(mask & ~bad).tolist()
        wrong += [Wrong(reason, line, text) for line, text in (chunk.locate(rows) if rows else [])]
        bad |= mask
    for column, reason, mask in cells:
        rows = np.flatnonzero(mask & ~bad).tolist()
        for row, (line, text) in zip(rows, chunk.locate(rows) if rows else [], strict=True):
            wrong.append(Wrong(reason, line, text, f"{column} = {chunk.table[column][row].as_py()!s:.100}", "cell"))
    return wrong, bad

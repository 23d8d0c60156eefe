"""Raw rows of a readings stream -> canonical rows: machine, time (UTC), sensors in canonical units.

The one idea: a layout only says which columns hold which sensor of which machine; units, ranges and times
are judged a whole column at a time, the same in every layout.

A **wide** row with a wrong time or machine is quarantined. A wrong value (no number, or physically
impossible) costs its cell: the row's other cells are ingested and the row counts as ingested, with one
entry in quarantine for each wrong cell; a row that has wrong cells and no good one is quarantined. Where
the machine is in the columns' names (``P-01.temp``), each machine of a line is a row of its own, and one
without any value is none. A **long** row is one value: whatever is wrong with it, the row is quarantined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.infer.names import sensor_of
from jobs.sources.judging import Bounds, Judge, Mask, numbers_of, shown, states_of, text_of, time_of
from jobs.sources.raw import Chunk, Reason, Wanted, Wrong
from jobs.sources.values import Codes, Floats, encoded, machine_of_file, named, split_tags, tag_of_file
from models.quality import Scale, scale_of
from models.source import SensorColumn, Stream

Cells = dict[str, npt.NDArray[np.float32]]


@dataclass
class Readings:
    """Canonical rows in the file's order (``machine``, ``time`` int64 us, float32 sensors) and what is wrong.

    ``num_rows`` counts the source rows of the chunk, those quarantined included.
    """

    table: pa.Table
    wrong: list[Wrong]
    num_rows: int
    new_sensors: dict[str, SensorColumn] = field(default_factory=dict)


def wanted(stream: Stream, names: Iterable[str] = ()) -> Wanted:
    """The raw columns of a readings stream, and how to read them; ``names`` are those that a file has."""
    found: dict[str, str] = {}
    if stream.layout == "wide":
        columns = of_columns(stream, names) if stream.machine.kind == "tag" else {}
        described = {name: column for name, (_, column) in columns.items()} or stream.sensors
        found |= {name: "name" if column.states else "number" for name, column in described.items()}
    else:
        found[stream.value_column or "value"] = "number"
        found |= dict.fromkeys((c for c in (stream.tag_column, stream.quality_column) if c), "name")
    if stream.machine.kind == "column" and stream.machine.column:
        found[stream.machine.column] = "name"
    if stream.time:
        plain = stream.time.format in ("counter", "epoch_s", "epoch_ms", "epoch_us") and stream.format != "csv"
        found[stream.time.column] = "number" if plain else "time"
        found |= {stream.time.date_column: "time"} if stream.time.date_column else {}
    return found  # type: ignore[return-value]


def required(stream: Stream) -> list[str]:
    """Raw columns without which no row of the stream means anything."""
    columns = [stream.time.column, stream.time.date_column] if stream.time else []
    columns += [stream.machine.column if stream.machine.kind == "column" else None]
    if stream.layout == "long":
        columns += [stream.tag_column, stream.value_column]
    return [column for column in columns if column]


def of_columns(stream: Stream, names: Iterable[str]) -> dict[str, tuple[str, SensorColumn]]:
    """Of a wide file whose columns' names hold the machine: column -> machine and sensor.

    A column is described under its whole name or under the part that is its sensor.
    """
    columns = list(names)
    machines, parts = split_tags(columns, stream.machine)
    found = {}
    for column, machine, part in zip(columns, machines, parts, strict=True):
        described = stream.sensors.get(column) or stream.sensors.get(part)
        if machine is not None and described is not None:
            found[column] = (machine, described)
    return found


def canonical(chunk: Chunk, stream: Stream, path: str, *, now_us: int | None = None) -> Readings:
    """``path`` is the file's, below the source's root; readings of more than a day after ``now_us`` are wrong."""
    raw = chunk.table
    lost = sum(entry.scope == "row" for entry in chunk.wrong)
    if raw.num_rows == 0:
        return Readings(pa.table({}), list(chunk.wrong), lost)
    read = _long if stream.layout == "long" else _columns_of_machines if stream.machine.kind == "tag" else _wide
    found = read(chunk, stream, path, Bounds.of(stream, now_us))
    return Readings(found.table, list(chunk.wrong) + found.wrong, lost + found.num_rows, found.new_sensors)


def _wide(chunk: Chunk, stream: Stream, path: str, bounds: Bounds) -> Readings:
    judge = Judge(chunk)
    codes, names = _machine(chunk, stream, path, judge)
    time = time_of(chunk, stream, judge, bounds)
    cells, wrong_cells = _cells(chunk, stream, stream.sensors)
    _judge_cells(judge, wrong_cells, cells)
    good = ~judge.bad
    return Readings(_table(codes, names, time, cells, good), judge.wrong, chunk.table.num_rows)


def _columns_of_machines(chunk: Chunk, stream: Stream, path: str, bounds: Bounds) -> Readings:
    judge = Judge(chunk)
    time = time_of(chunk, stream, judge, bounds)
    late, num_rows = judge.bad, int(judge.bad.sum())
    columns = of_columns(stream, chunk.table.column_names)
    tables, wrong = [], judge.wrong
    for machine in dict.fromkeys(machine for machine, _ in columns.values()):
        own = {column: sensor for column, (name, sensor) in columns.items() if name == machine}
        cells, wrong_cells = _cells(chunk, stream, own)
        judge = Judge(chunk)
        judge.bad |= late
        _judge_cells(judge, wrong_cells, cells)
        some = np.zeros(chunk.table.num_rows, bool)
        for values in cells.values():
            some |= ~np.isnan(values)
        num_rows += int(((some | judge.bad) & ~late).sum())
        good = some & ~judge.bad
        tables.append(_table(np.zeros(len(good), np.int64), [machine], time, cells, good))
        wrong = wrong + judge.wrong
    table = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    return Readings(table, wrong, num_rows)


def _cells(
    chunk: Chunk, stream: Stream, sensors: dict[str, SensorColumn]
) -> tuple[Cells, list[tuple[str, Reason, Mask]]]:
    """Canonical values by sensor (NaN where none is usable), and the cells that are wrong."""
    cells: Cells = {}
    wrong: list[tuple[str, Reason, Mask]] = []
    for column, described in sensors.items():
        if column not in chunk.table.column_names:
            continue
        states = described.states
        raw, no_number = states_of(chunk, column, states) if states else numbers_of(chunk, column, stream.csv.decimal)
        values, out = _scaled(raw, scale_of(described))
        wrong += [(column, Reason.NUMBER, no_number), (column, Reason.RANGE, out)]
        before = cells.get(described.sensor)
        cells[described.sensor] = values if before is None else np.where(np.isnan(values), before, values)
    return cells, wrong


def _judge_cells(judge: Judge, wrong_cells: list[tuple[str, Reason, Mask]], cells: Cells) -> None:
    touched = [(column, reason, mask) for column, reason, mask in wrong_cells if mask.any()]
    if not touched:
        return
    rows = np.flatnonzero(np.logical_or.reduce([mask for _, _, mask in touched]))
    some_good = np.zeros(len(judge.bad), bool)
    for values in cells.values():
        some_good[rows] |= ~np.isnan(values[rows])
    for column, reason, mask in touched:
        judge.rows(mask & ~some_good, reason, shown(judge.chunk, column))
        judge.cells(mask & some_good, reason, column)


def _long(chunk: Chunk, stream: Stream, path: str, bounds: Bounds) -> Readings:
    raw, judge, value = chunk.table, Judge(chunk), stream.value_column or "value"
    codes, names = _tags(chunk, stream, path)
    judge.rows(codes < 0, Reason.TAG, "no tag")
    if stream.machine.kind == "tag":
        of_tag, names = split_tags(names, stream.machine)
        known = list(dict.fromkeys(machine for machine in of_tag if machine is not None))
        of_code = np.asarray([*(-1 if m is None else known.index(m) for m in of_tag), -1], np.int64)
        machines, machine_names = of_code[codes], known
        judge.rows(machines < 0, Reason.TAG, "no machine in the tag")
    else:
        machines, machine_names = _machine(chunk, stream, path, judge)
    described, new = _described(names, stream)
    scales = [scale_of(column) for column in described]
    if stream.quality_column and stream.quality_column in raw.column_names and stream.quality_good:
        qualities, of_quality = encoded(raw[stream.quality_column])
        accepted = np.asarray([*(name in stream.quality_good for name in of_quality), False])
        judge.rows(~accepted[qualities], Reason.QUALITY, lambda row: str([*of_quality, None][qualities[row]]))
    time = time_of(chunk, stream, judge, bounds)
    read = numbers_of(chunk, value, stream.csv.decimal)
    values, no_number = _with_states(chunk, value, read, codes, described)
    judge.rows(no_number, Reason.NUMBER, lambda row: f"{value} = {text_of(chunk, value, row)!s:.100}")
    judge.rows(np.isnan(values), Reason.NO_VALUE, "no value")
    factor, offset, low, high = _of_code([(s.factor, s.offset, s.low, s.high) for s in scales], (1, 0, 0, 0))
    values = values * factor[codes] + offset[codes]
    out = (values < low[codes]) | (values > high[codes])
    judge.rows(out, Reason.RANGE, lambda row: f"{names[codes[row]]} = {values[row]:.6g} {described[codes[row]].kind}")
    good = ~judge.bad
    columns = _spread(codes[good], values[good].astype(np.float32), [s.sensor for s in scales])
    seen = {names[code] for code in np.flatnonzero(np.bincount(codes[good], minlength=1)).tolist()}
    table = _named(machines, machine_names, good)
    return Readings(
        pa.table({"machine": table, "time": time[good], **columns}), judge.wrong, raw.num_rows,
        {tag: new[tag] for tag in sorted(seen) if tag in new},
    )  # fmt: skip


def _tags(chunk: Chunk, stream: Stream, path: str) -> tuple[Codes, list[str]]:
    if stream.tag_column or not stream.tag_pattern:
        return encoded(chunk.table[stream.tag_column or "tag"])
    tag = tag_of_file(path, stream.tag_pattern)
    return np.full(chunk.table.num_rows, 0 if tag else -1, np.int64), [tag] if tag else []


def _with_states(
    chunk: Chunk, column: str, read: tuple[Floats, Mask], codes: Codes, described: Sequence[SensorColumn]
) -> tuple[Floats, Mask]:
    """Values with those of tags that are states, whose texts may look like numbers."""
    stately = np.asarray([*(bool(sensor.states) for sensor in described), False])
    rows = np.flatnonzero(stately[codes])
    if not len(rows):
        return read
    values, no_number = read[0].copy(), read[1].copy()
    for row in rows.tolist():
        text = text_of(chunk, column, row)
        if text is not None:
            values[row] = described[codes[row]].states.get(text, np.nan)
            no_number[row] = np.isnan(values[row])
    return values, no_number


def _described(names: list[str], stream: Stream) -> tuple[list[SensorColumn], dict[str, SensorColumn]]:
    """Each tag's sensor; a tag that the description does not know is read from its own name."""
    new = {name: _sensor(name) for name in dict.fromkeys(names) if name not in stream.sensors}
    return [stream.sensors.get(name) or new[name] for name in names], new


@lru_cache(maxsize=65536)
def _sensor(tag: str) -> SensorColumn:
    return sensor_of(tag).column


def _spread(codes: Codes, values: npt.NDArray[np.float32], names: list[str]) -> dict[str, pa.Array]:
    """One column for each sensor that is read, null except in the rows that are its readings."""
    column_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    of_code = np.asarray([column_of[name] for name in names], np.int64)
    own = of_code[codes].astype(np.uint8 if len(column_of) < 256 else np.int32)
    read = np.flatnonzero(np.bincount(own, minlength=len(column_of))).tolist()
    found = list(column_of)
    return {found[number]: pa.array(values, mask=own != number) for number in read}


def _machine(chunk: Chunk, stream: Stream, path: str, judge: Judge) -> tuple[Codes, list[str]]:
    source = stream.machine
    if source.kind == "column":
        codes, found = encoded(chunk.table[source.column or "machine"])
        names = [named(name, source) for name in found]
    else:
        name = machine_of_file(path, source)
        codes, names = np.full(chunk.table.num_rows, 0 if name else -1, np.int64), [name] if name else []
    judge.rows(codes < 0, Reason.MACHINE, "no machine")
    return codes, names


def _scaled(values: Floats, scale: Scale) -> tuple[npt.NDArray[np.float32], Mask]:
    """Canonical values (NaN where none is usable), and where it is impossible."""
    if scale.factor != 1.0 or scale.offset != 0.0:
        values = values * scale.factor + scale.offset
    out = (values < scale.low) | (values > scale.high)
    return (np.where(out, np.nan, values) if out.any() else values).astype(np.float32), out


def _table(codes: Codes, names: list[str], time: npt.NDArray[np.int64], cells: Cells, good: Mask) -> pa.Table:
    whole = bool(good.all())
    columns = {name: _nullable(values if whole else values[good]) for name, values in cells.items()}
    machine = _named(codes, names, good)
    return pa.table({"machine": machine, "time": time if whole else time[good], **columns})


def _named(codes: Codes, names: list[str], good: Mask) -> pa.Array:
    kept = codes if good.all() else codes[good]
    return pa.array(names, pa.string()).take(pa.array(kept))


def _nullable(values: npt.NDArray[np.float32]) -> pa.Array:
    missing = np.isnan(values)
    return pa.array(values, mask=missing) if missing.any() else pa.array(values)


def _of_code(values: Sequence[tuple[float, ...]], missing: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """One row a figure; the last column is code -1's."""
    return np.ascontiguousarray(np.asarray([*values, missing], np.float64).T)

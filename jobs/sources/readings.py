"""Raw rows of a readings stream -> canonical rows: machine, time (UTC), sensors in canonical units.

The one idea: every rule is a mask over a whole column; only rows that some mask marks are looked at.

A **wide** row with a wrong time or machine is quarantined. A wrong value (no number, or physically
impossible) costs its cell: the row's other cells are ingested and the row counts as ingested, with one
entry in quarantine for each wrong cell; a row that has wrong cells and no good one is quarantined.
A **long** row is one value: whatever is wrong with it, the row is quarantined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.infer.names import sensor_of
from jobs.sources.raw import Chunk, Reason, Wanted, Wrong
from jobs.sources.times import EARLIEST_US, FIRST_READING_US, LATEST_US, to_us
from jobs.sources.values import machine_of_file, split_tags, to_float, to_text
from models.quality import Scale, scale_of
from models.source import SensorColumn, Stream

Mask = npt.NDArray[np.bool_]
DAY_US = 86_400_000_000  # no zone that is named wrongly moves a time further


@dataclass
class Readings:
    """Canonical rows in the file's order (``machine``, ``time`` int64 us, float32 sensors) and what is wrong.

    ``num_rows`` counts the source rows of the chunk, those quarantined included.
    """

    table: pa.Table
    wrong: list[Wrong]
    num_rows: int
    new_sensors: dict[str, SensorColumn] = field(default_factory=dict)


def wanted(stream: Stream) -> Wanted:
    """The raw columns of a readings stream, and how to read them."""
    found: dict[str, str] = {}
    if stream.layout == "wide":
        found |= dict.fromkeys(stream.sensors, "number")
    else:
        found |= {stream.value_column or "value": "number", stream.tag_column or "tag": "text"}
        found |= {stream.quality_column: "text"} if stream.quality_column else {}
    if stream.machine.kind == "column" and stream.machine.column:
        found[stream.machine.column] = "text"
    if stream.time:
        plain = stream.time.format in ("counter", "epoch_s", "epoch_ms", "epoch_us") and stream.format != "csv"
        found[stream.time.column] = "number" if plain else "time"
    return found  # type: ignore[return-value]


def required(stream: Stream) -> list[str]:
    """Raw columns without which no row of the stream means anything."""
    columns = [stream.time.column if stream.time else None]
    columns += [stream.machine.column if stream.machine.kind == "column" else None]
    if stream.layout == "long":
        columns += [stream.tag_column, stream.value_column]
    return [column for column in columns if column]


def canonical(chunk: Chunk, stream: Stream, path: str, *, now_us: int | None = None) -> Readings:
    """``path`` is the file's, below the source's root; readings of more than a day after ``now_us`` are wrong."""
    raw = chunk.table
    num_rows = raw.num_rows + sum(entry.scope == "row" for entry in chunk.wrong)
    if raw.num_rows == 0:
        return Readings(pa.table({}), list(chunk.wrong), num_rows)
    read = _wide if stream.layout == "wide" else _long
    found = read(chunk, stream, path, _Bounds.of(stream, now_us))
    return Readings(found.table, list(chunk.wrong) + found.wrong, num_rows, found.new_sensors)


class _Judge:
    """Collects which rows are wrong; the first reason a row gets is the one it keeps."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk, self.bad = chunk, np.zeros(chunk.table.num_rows, bool)
        self.wrong: list[Wrong] = []

    def rows(self, mask: Mask, reason: Reason, detail: Callable[[int], str] | str) -> None:
        self._add(mask & ~self.bad, reason, detail, "row")
        self.bad |= mask

    def cells(self, mask: Mask, reason: Reason, column: str) -> None:
        """Only rows that are not lost already."""
        self._add(mask & ~self.bad, reason, _shown(self.chunk, column), "cell")

    def _add(self, mask: Mask, reason: Reason, detail: Callable[[int], str] | str, scope: str) -> None:
        rows = np.flatnonzero(mask).tolist()
        for row, (line, text) in zip(rows, self.chunk.locate(rows) if rows else [], strict=True):
            said = detail if isinstance(detail, str) else detail(row)
            self.wrong.append(Wrong(reason, line, text, said, scope))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Bounds:
    """Times that a reading can have: a clock without a battery says 1970, one that is set wrong the next century."""

    first_us: int
    last_us: int

    @classmethod
    def of(cls, stream: Stream, now_us: int | None) -> _Bounds:
        if stream.time is None or stream.time.format == "counter":
            return cls(EARLIEST_US, LATEST_US)
        return cls(FIRST_READING_US, LATEST_US if now_us is None else now_us + DAY_US)


def _wide(chunk: Chunk, stream: Stream, path: str, bounds: _Bounds) -> Readings:
    raw, judge = chunk.table, _Judge(chunk)
    machine = _machine(chunk, stream, path, judge)
    time = _time(chunk, stream, judge, bounds, series=lambda: _codes(machine))
    cells: dict[str, npt.NDArray[np.float32]] = {}
    wrong_cells: list[tuple[str, Reason, Mask]] = []
    for column, described in stream.sensors.items():
        if column not in raw.column_names:
            continue
        values, no_number, out = _scaled(raw[column], scale_of(described), stream.csv.decimal)
        wrong_cells += [(column, Reason.NUMBER, no_number), (column, Reason.RANGE, out)]
        before = cells.get(described.sensor)
        cells[described.sensor] = values if before is None else np.where(np.isnan(values), before, values)
    _judge_cells(judge, wrong_cells, cells)
    good = ~judge.bad
    return Readings(_table(machine, time, {n: _nullable(v[good]) for n, v in cells.items()}, good), judge.wrong, 0)


def _judge_cells(
    judge: _Judge, wrong_cells: list[tuple[str, Reason, Mask]], cells: dict[str, npt.NDArray[np.float32]]
) -> None:
    touched = [(column, reason, mask) for column, reason, mask in wrong_cells if mask.any()]
    if not touched:
        return
    some_good = np.zeros(len(judge.bad), bool)
    for values in cells.values():
        some_good |= ~np.isnan(values)
    for column, reason, mask in touched:
        judge.rows(mask & ~some_good, reason, _shown(judge.chunk, column))
        judge.cells(mask & some_good, reason, column)


def _long(chunk: Chunk, stream: Stream, path: str, bounds: _Bounds) -> Readings:
    raw, judge = chunk.table, _Judge(chunk)
    tags = to_text(raw[stream.tag_column or "tag"]).dictionary_encode()
    names: list[str] = tags.dictionary.to_pylist()
    codes = np.asarray(pc.fill_null(tags.indices, -1))
    judge.rows(codes < 0, Reason.TAG, "no tag")
    if stream.machine.kind == "tag":
        of_tag, names = split_tags(names, stream.machine)
        machine = pa.array([*of_tag, None], pa.string()).take(pa.array(np.where(codes < 0, len(of_tag), codes)))
        judge.rows(np.asarray(machine.is_null()), Reason.TAG, "no machine in the tag")
    else:
        machine = _machine(chunk, stream, path, judge)
    described, new = _described(names, stream)
    scales = [scale_of(column) for column in described]
    if stream.quality_column and stream.quality_column in raw.column_names and stream.quality_good:
        quality = to_text(raw[stream.quality_column])
        good = np.asarray(pc.is_in(quality, pa.array(stream.quality_good, pa.string())))
        judge.rows(~good, Reason.QUALITY, lambda row: str(quality[row]))
    time = _time(chunk, stream, judge, bounds, series=lambda: _codes(machine) * (len(names) + 1) + codes)
    values, no_number = to_float(raw[stream.value_column or "value"], stream.csv.decimal)
    judge.rows(no_number, Reason.NUMBER, "the value is no number")
    judge.rows(np.isnan(values), Reason.NO_VALUE, "no value")
    factor, offset, low, high = _of_code(codes, [(s.factor, s.offset, s.low, s.high) for s in scales], (1, 0, 0, 0)).T
    values = values * factor + offset
    out = (values < low) | (values > high)
    judge.rows(out, Reason.RANGE, lambda row: f"{values[row]:.6g} {described[codes[row]].kind}")
    good = ~judge.bad
    columns = _spread(codes[good], values[good].astype(np.float32), [s.sensor for s in scales])
    read = {names[code] for code in np.unique(codes[good]).tolist()}
    return Readings(
        _table(machine, time, columns, good), judge.wrong, 0, {tag: new[tag] for tag in sorted(read) if tag in new}
    )


def _described(names: list[str], stream: Stream) -> tuple[list[SensorColumn], dict[str, SensorColumn]]:
    """Each tag's sensor; a tag that the description does not know is read from its own name."""
    new = {name: _named(name) for name in dict.fromkeys(names) if name not in stream.sensors}
    return [stream.sensors.get(name) or new[name] for name in names], new


@lru_cache(maxsize=65536)
def _named(tag: str) -> SensorColumn:
    return sensor_of(tag).column


def _spread(codes: npt.NDArray[np.int64], values: npt.NDArray[np.float32], names: list[str]) -> dict[str, pa.Array]:
    """One column for each sensor that is read, null except in the rows that are its readings."""
    column_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    own = np.asarray([column_of[name] for name in names], np.int64)[codes]
    read = set(np.unique(own).tolist())
    return {name: pa.array(values, mask=own != number) for name, number in column_of.items() if number in read}


def _machine(chunk: Chunk, stream: Stream, path: str, judge: _Judge) -> pa.Array:
    source = stream.machine
    if source.kind == "column":
        text = to_text(chunk.table[source.column or "machine"])
        found = pc.binary_join_element_wise(source.prefix, text, "") if source.prefix else text
    else:
        name = machine_of_file(path, source)
        found = pa.array([name], pa.string()).take(pa.array(np.zeros(chunk.table.num_rows, np.int64)))
    judge.rows(np.asarray(found.is_null()), Reason.MACHINE, "no machine")
    return found


def _time(
    chunk: Chunk, stream: Stream, judge: _Judge, bounds: _Bounds, *, series: Callable[[], npt.NDArray[np.int64]]
) -> npt.NDArray[np.int64]:
    assert stream.time is not None  # the plan refuses a readings stream without it
    column = chunk.table[stream.time.column]
    needs = stream.time.zone not in ("UTC", "Etc/UTC", "GMT") and column.type != pa.timestamp("us", "UTC")
    found = to_us(column, stream.time, series=series() if needs else None)
    shown = _shown(chunk, stream.time.column)
    judge.rows(np.asarray(found.is_null()), Reason.TIME, shown)
    moments = np.asarray(pc.fill_null(found, 0))
    judge.rows(moments < bounds.first_us, Reason.TIME, lambda row: f"{shown(row)}, before any reading")
    judge.rows(moments > bounds.last_us, Reason.FUTURE, shown)
    return moments


def _scaled(column: pa.ChunkedArray, scale: Scale, decimal: str) -> tuple[npt.NDArray[np.float32], Mask, Mask]:
    """Canonical values (NaN where none is usable), where there is no number, where it is impossible."""
    values, no_number = to_float(column, decimal)
    if scale.factor != 1.0 or scale.offset != 0.0:
        values = values * scale.factor + scale.offset
    out = (values < scale.low) | (values > scale.high)
    found = (np.where(out, np.nan, values) if out.any() else values).astype(np.float32)
    return found, no_number, out


def _table(machine: pa.Array, time: npt.NDArray[np.int64], columns: dict[str, pa.Array], good: Mask) -> pa.Table:
    kept = machine if good.all() else machine.filter(pa.array(good))
    return pa.table({"machine": kept, "time": time[good], **columns})


def _nullable(values: npt.NDArray[np.float32]) -> pa.Array:
    return pa.array(values, from_pandas=True)  # NaN -> null


def _codes(texts: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(texts.dictionary_encode().indices, -1), np.int64)


def _of_code(
    codes: npt.NDArray[np.int64], values: Sequence[tuple[float, ...]], missing: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    return np.asarray([*values, missing], np.float64)[codes]  # code -1 is the last one


def _shown(chunk: Chunk, column: str) -> Callable[[int], str]:
    values = chunk.table[column]
    return lambda row: f"{column} = {values[row].as_py()!s:.100}"

"""Which rows and cells of a chunk are wrong, and why; and its time and numbers, judged.

The one idea: every rule is a mask over a whole column; only rows that some mask marks are looked at, and
the first reason a row gets is the one it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sources.raw import Chunk, Reason, Wrong
from jobs.sources.times import EARLIEST_US, FIRST_READING_US, LATEST_US, Order, joined, to_us
from jobs.sources.values import Codes, Floats, encoded, to_float, to_text
from models.source import Stream

Mask = npt.NDArray[np.bool_]
DAY_US = 86_400_000_000  # no zone that is named wrongly moves a time further


class Judge:
    """Collects what is wrong."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk, self.bad = chunk, np.zeros(chunk.table.num_rows, bool)
        self.wrong: list[Wrong] = []

    def rows(self, mask: Mask, reason: Reason, detail: Callable[[int], str] | str) -> None:
        """These rows are lost."""
        if mask.any():
            self._add(mask & ~self.bad, reason, detail, "row")
            self.bad |= mask

    def cells(self, mask: Mask, reason: Reason, column: str) -> None:
        """A cell of these rows is wrong; only of rows that are not lost already."""
        self._add(mask & ~self.bad, reason, shown(self.chunk, column), "cell")

    def _add(self, mask: Mask, reason: Reason, detail: Callable[[int], str] | str, scope: str) -> None:
        rows = np.flatnonzero(mask).tolist()
        for row, (line, text) in zip(rows, self.chunk.locate(rows) if rows else [], strict=True):
            said = detail if isinstance(detail, str) else detail(row)
            self.wrong.append(Wrong(reason, line, text, said, scope))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Bounds:
    """Times that a reading can have: a clock without a battery says 1970, one that is set wrong the next century."""

    first_us: int
    last_us: int

    @classmethod
    def of(cls, stream: Stream, now_us: int | None) -> Bounds:
        if stream.time is None or stream.time.format == "counter":
            return cls(EARLIEST_US, LATEST_US)
        return cls(FIRST_READING_US, LATEST_US if now_us is None else now_us + DAY_US)


def times_of(chunk: Chunk, stream: Stream) -> pa.Array:
    """Microseconds UTC, null where there is no time."""
    assert stream.time is not None  # the plan refuses a readings stream without it
    order = Order(lambda: _clocks(chunk, stream), chunk.passes)
    return to_us(joined(chunk.table, stream.time), stream.time, order=order)


def _clocks(chunk: Chunk, stream: Stream) -> Codes:
    """One number a row, the same in every chunk of a file for rows of one machine and, in the long layout, tag."""
    found = np.zeros(chunk.table.num_rows, np.int64)
    machine = stream.machine.column if stream.machine.kind == "column" else None
    for column in (machine, stream.tag_column if stream.layout == "long" else None):
        if column is not None:
            found = (found << 31) + chunk.passes.numbers(*encoded(chunk.table[column]))
    return found


def time_of(chunk: Chunk, stream: Stream, judge: Judge, bounds: Bounds) -> npt.NDArray[np.int64]:
    """Microseconds UTC; rows without a usable time are judged."""
    assert stream.time is not None
    found = times_of(chunk, stream)
    told = shown(chunk, stream.time.column)
    if found.null_count:
        judge.rows(np.asarray(found.is_null()), Reason.TIME, told)
        found = pc.fill_null(found, 0)
    moments: npt.NDArray[np.int64] = found.to_numpy()
    if len(moments) and (moments.min() < bounds.first_us or moments.max() > bounds.last_us):
        judge.rows(moments < bounds.first_us, Reason.TIME, lambda row: f"{told(row)}, before any reading")
        judge.rows(moments > bounds.last_us, Reason.FUTURE, told)
    return moments


def numbers_of(chunk: Chunk, column: str, decimal: str) -> tuple[Floats, Mask]:
    """Values (NaN where there is none) and where there is something that is no number."""
    values, bad = to_float(chunk.table[column], decimal)
    if told := chunk.texts.get(column):
        bad = bad.copy()
        bad[np.fromiter(told, np.int64, len(told))] = True
    return values, bad


def states_of(chunk: Chunk, column: str, states: Mapping[str, float]) -> tuple[Floats, Mask]:
    """Values of a column of states; whatever is none of them is no number."""
    codes, names = encoded(chunk.table[column])
    of_name = np.asarray([*(states.get(name, np.nan) for name in names), np.nan])
    values = of_name[codes]
    return values, np.isnan(values) & (codes >= 0)


def text_of(chunk: Chunk, column: str, row: int) -> str | None:
    """What a cell holds, as text."""
    wrong = chunk.texts.get(column, {}).get(row)
    if wrong is not None:
        return wrong.strip()
    found: str | None = to_text(chunk.table[column].slice(row, 1).combine_chunks())[0].as_py()
    return found


def shown(chunk: Chunk, column: str) -> Callable[[int], str]:
    """``column = what the cell holds`` of a row."""
    values, texts = chunk.table[column], chunk.texts.get(column, {})
    return lambda row: f"{column} = {texts.get(row, values[row].as_py())!s:.100}"

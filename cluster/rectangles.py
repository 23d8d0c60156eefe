"""Files as rectangles over machines and times: which meet a span, how many rows lie in it, where to cut.

The one idea: everything is an array over rectangles or over spans, sorted once, so that a table of a million files is
cut without looking at each file for each unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.windows import Int

EVER = 2**62
MONTH_ROWS = 32_768  # half a row group: fewer rows of a month share theirs with other units, who decode it too
MOST_PAIRS = 1_000_000  # of spans and files that are compared at a time
MONTH_US = 2_629_746_000_000  # a mean Gregorian month

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Files as rectangles over machines (numbers, both inclusive) and times, each with its rows."""

    file: Int
    num_rows: Floats
    low: Int
    high: Int
    first_us: Int
    last_us: Int

    def __getitem__(self, chosen: npt.NDArray[np.bool_] | Int) -> Spread:
        return Spread(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def meeting(spread: Spread, groups: Sequence[tuple[int, int]]) -> Iterator[Int]:
    """The rectangles that meet each group of machines, in their own order; each is looked at in its groups alone."""
    order = np.argsort(spread.low, kind="stable")
    ends = np.searchsorted(spread.low[order], [stop for _, stop in groups])
    open_now, begin = np.empty(0, np.int64), 0
    for (start, _), end in zip(groups, ends.tolist(), strict=True):
        open_now = np.concatenate([open_now[spread.high[open_now] >= start], order[begin:end]])
        begin = end
        yield np.sort(open_now)


def spans(
    own: Spread, shares: Floats, bounds: Sequence[int | None], *, overlap: int, step_us: int
) -> Iterator[tuple[tuple[int | None, int | None], list[int], float]]:
    """Between each two ``bounds``: the files that may hold rows of it or of its left overlap, and how many rows."""
    order = np.argsort(own.first_us, kind="stable")
    own, shares = own[order], shares[order]
    ticks, num_files = list(pairwise(bounds)), int(own.file.max()) + 1
    low = np.array([-EVER if after is None else after * step_us for after, _ in ticks])
    reach = np.array([-EVER if after is None else (after - overlap) * step_us for after, _ in ticks])
    end = np.array([EVER if last is None else last * step_us for _, last in ticks])
    # Sorted by their first times, those that can meet a span lie next to each other; some that have ended lie between.
    left = np.searchsorted(np.maximum.accumulate(own.last_us), reach, side="right")
    counts = np.maximum(np.searchsorted(own.first_us, end, side="right") - left, 0)
    for some in _at_most(counts, MOST_PAIRS):
        span = np.repeat(np.arange(some.start, some.stop), counts[some])
        begins = np.cumsum(counts[some]) - counts[some]
        at = np.arange(len(span)) + np.repeat(left[some] - begins, counts[some])
        met = own.last_us[at] > reach[span]
        span, at = span[met], at[met]
        rows = np.zeros(len(ticks))
        np.add.at(rows, span, in_time(own[at], low[span], end[span]) * shares[at])
        pairs = np.unique(span * num_files + own.file[at])
        files = np.split(pairs % num_files, np.searchsorted(pairs, np.arange(some.start + 1, some.stop) * num_files))
        for number, found in enumerate(files, some.start):
            if len(found):
                yield ticks[number], found.tolist(), float(rows[number])


def _at_most(counts: Int, most: int) -> Iterator[slice]:
    """Neighbours that come to no more than ``most``, or one alone."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + most, side="right")))
        yield slice(start, stop)
        start = stop


def within(spread: Spread, since: int | None, until: int | None, *, overlap: int, step_us: int) -> Spread:
    """What may hold readings of the ticks asked for or of their left overlap, with the rows that are asked for."""
    low = -EVER if since is None else since * step_us
    high = EVER if until is None else until * step_us
    meets = (spread.last_us > low) & (spread.first_us <= high)  # be it with a single reading, at the very end
    rows = np.maximum(in_time(spread, low, high) * spread.num_rows, meets.astype(np.float64))
    kept = (spread.last_us > (-EVER if since is None else low - overlap * step_us)) & (spread.first_us <= high)
    return Spread(spread.file, rows, spread.low, spread.high, spread.first_us, spread.last_us)[kept]


def in_time(spread: Spread, since_us: Int | int, until_us: Int | int) -> Floats:
    """The share of each rectangle's time that lies within ``(since_us, until_us]``."""
    first, last = spread.first_us.astype(np.float64), spread.last_us.astype(np.float64)
    low, high = np.maximum(first, since_us), np.minimum(last, until_us)
    share: Floats = np.clip((np.maximum(high - low, 0) + (last == first)) / np.maximum(last - first, 1), 0, 1)
    return share


def grouped(spread: Spread, num_machines: int, target: float, parallel: int) -> list[tuple[int, int]]:
    """Ranges of machines: as few as hold ``target`` rows, but no fewer than share a month's row groups alone."""
    share = spread.num_rows / (spread.high - spread.low + 1)
    steps = np.zeros(num_machines + 1)
    np.add.at(steps, spread.low, share)
    np.add.at(steps, spread.high + 1, -share)
    each = np.maximum(np.cumsum(steps)[:num_machines], 0)
    known = (spread.first_us > -EVER) & (spread.last_us < EVER)
    span_us = int(spread.last_us[known].max() - spread.first_us[known].min()) if known.any() else 0
    months = max(1.0, span_us / MONTH_US)
    least = min(MONTH_ROWS, float(each.sum()) / months / max(1, parallel))
    found, start, held = [], 0, 0.0
    for number, rows in enumerate(each.tolist()):
        if held and (held + rows / 2 > target) and held / months >= least:
            found.append((start, number))
            start, held = number, 0.0
        held += rows
    return [*found, (start, num_machines)]


def share(own: Spread, start: int, stop: int) -> Floats:
    """Rows of each rectangle that belong to the machines ``[start, stop)``."""
    width = np.minimum(own.high, stop - 1) - np.maximum(own.low, start) + 1
    share: Floats = own.num_rows * width / (own.high - own.low + 1)
    return share


def cuts(
    own: Spread, rows: Floats, target: float, step_us: int, *, since: int | None = None, until: int | None = None
) -> list[int]:
    """Ticks after which a new unit begins, so that each holds about ``target`` rows; at months' ends where near."""
    number = int(rows.sum() / target + 0.5)
    known = (own.first_us > -EVER) & (own.last_us < EVER)
    if number < 2 or not known.any():
        return []
    asked_us = (-EVER if since is None else since * step_us, EVER if until is None else until * step_us)
    first, last = (np.clip(times[known], *asked_us) for times in (own.first_us, own.last_us))
    slope = rows[known] / np.maximum(last - first, step_us)
    times = np.concatenate([first, np.maximum(last, first + step_us)])
    change = np.concatenate([slope, -slope])
    order = np.argsort(times, kind="stable")
    times, rate = times[order], np.cumsum(change[order])
    done = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(times))])
    wanted = done[-1] * np.arange(1, number) / number
    at = np.interp(wanted, done, times.astype(np.float64))
    span = (times[-1] - times[0]) / number
    months = at.astype("int64").astype("datetime64[us]").astype("datetime64[M]")
    for step in (0, 1):
        edge = (months + step).astype("datetime64[us]").astype(np.int64)
        at = np.where(np.abs(edge - at) < span / 4, edge, at)
    ticks = np.unique((at // step_us).astype(np.int64))
    low, high = max(times[0], asked_us[0]) // step_us, -(-min(times[-1], asked_us[1]) // step_us)
    return [tick for tick in ticks.tolist() if low < tick < high]

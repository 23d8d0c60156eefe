"""How the field spoils readings on their way: missing, stuck, wrong, twice, late.

The one idea: first the values suffer (``spoil``), then the delivery does (``deliver``): it says which row lands in
which month's file, in what order, and which rows are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.fleet.physics import Floats

Ints = NDArray[np.int64]
MISSING_CELLS = 0.004
GAPS_PER_DAY = 1 / 40  # of a machine's whole record
STUCK_PER_DAY = 1 / 150  # of one sensor
LATE_PER_DAY = 1 / 45  # a gateway buffers, and its rows come with the next month's file
TWICE = 0.003
OVERLAP_S = 2 * 3600  # an export repeats the end of the one before
RIGHT, UNREADABLE, IMPOSSIBLE, NO_KEY = 0, 1, 2, 3
WRONG = {UNREADABLE: 0.0008, IMPOSSIBLE: 0.0009, NO_KEY: 0.0003}  # shares of rows


@dataclass(frozen=True)
class Spoiled:
    values: Floats  # [N, S, C] NaN where a cell is missing
    present: NDArray[np.bool_]  # [N, S] whether there is a row at all
    late: NDArray[np.bool_]  # [N, S]


def spoil(values: Floats, *, steps_per_day: int, rngs: list[np.random.Generator]) -> Spoiled:
    """Missing cells, gaps, stuck sensors; and which rows will be late. ``values`` [N, S, C] is left alone."""
    N, S, C = values.shape
    values, late = values.copy(), np.zeros((N, S), bool)
    silent = np.isnan(values)
    for n, rng in enumerate(rngs):
        for c in range(C):
            for first, last in _episodes(rng, S, STUCK_PER_DAY, steps_per_day, hours=(6, 72)):
                values[n, first:last, c] = values[n, first, c]
        for first, last in _episodes(rng, S, GAPS_PER_DAY, steps_per_day, hours=(1, 10)):
            silent[n, first:last] = True
        for first, last in _episodes(rng, S, LATE_PER_DAY, steps_per_day, hours=(4, 36)):
            late[n, first:last] = True
    present: NDArray[np.bool_] = ~np.asarray(silent.all(2))
    for n, rng in enumerate(rngs):
        silent[n] |= rng.random((S, C)) < MISSING_CELLS
    values[silent] = np.nan
    return Spoiled(values, present, late)


def _episodes(
    rng: np.random.Generator, length: int, per_day: float, steps_per_day: int, *, hours: tuple[int, int]
) -> list[tuple[int, int]]:
    starts = rng.integers(0, length, size=rng.poisson(per_day * length / steps_per_day))
    lasts = rng.integers(hours[0], hours[1] + 1, size=len(starts)) * max(1, steps_per_day // 24)
    return [(int(s), int(min(s + d, length))) for s, d in zip(starts, lasts, strict=True)]


@dataclass(frozen=True)
class Delivery:
    """Rows in the order in which files and lines carry them."""

    row: Ints  # index of the row that is carried; one may be carried twice
    file: Ints  # 0, 1, ...: the month's file
    fault: NDArray[np.int8]  # RIGHT, UNREADABLE, ...


def deliver(time_s: Ints, month: Ints, late: NDArray[np.bool_], rng: np.random.Generator) -> Delivery:
    """Deliver rows that are sorted by time. ``month`` counts from 0, [R]; late rows end the next month's file."""
    row = np.arange(len(time_s), dtype=np.int64)
    last = int(month.max(initial=0))
    delayed = late & (month < last)
    file = month + delayed
    twice = row[rng.random(len(row)) < TWICE]
    ends = np.flatnonzero(np.diff(month) > 0)  # last row of each month but the last
    again = [row[(time_s > time_s[end] - OVERLAP_S) & (month == month[end]) & ~delayed] for end in ends]
    overlap = np.concatenate([*again, row[:0]])
    carried = np.concatenate([row, twice, overlap])
    into = np.concatenate([file, file[twice], month[overlap] + 1])
    order = np.lexsort((carried, np.concatenate([delayed, delayed[twice], np.zeros(len(overlap), bool)]), into))
    carried, into = carried[order], into[order]
    edges = np.cumsum(list(WRONG.values()))
    kinds = np.array([*WRONG, RIGHT], dtype=np.int8)
    return Delivery(carried, into, kinds[np.searchsorted(edges, rng.random(len(carried)), side="right")])

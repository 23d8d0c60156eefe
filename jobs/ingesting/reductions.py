"""Reductions over many groups of sorted rows at once: no loop over machines, no pass that a column does not need.

The one idea: a group is a stretch of rows, so all groups of a tile are reduced by their edges alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
SAMPLE = 32  # values of a group that its quantiles are taken from
MIN_RUN = 4  # values


def search(time: Ints, starts: Ints, stops: Ints, bounds: Ints) -> Ints:
    """For each machine and bound the first of its rows that is not before the bound: all halved together."""
    low = np.repeat(starts[:, None], len(bounds), 1)
    high = np.repeat(stops[:, None], len(bounds), 1)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        before = open_ & (time[np.minimum(middle, len(time) - 1)] < bounds)
        low, high = np.where(before, middle + 1, low), np.where(open_ & ~before, middle, high)
    return low


def constant_runs(values: Floats, starts: Ints) -> tuple[Ints, Ints]:
    """First place and length of every run of at least ``MIN_RUN`` equal values; no run crosses one of ``starts``.

    Looks at aligned pairs first: a run of four holds a pair of values that both equal the one before.
    """
    n = len(values)
    turns = np.ones(n + n % 2 + 2, bool)
    np.not_equal(values[1:], values[:-1], out=turns[1:n])
    turns[starts] = True
    pairs = np.flatnonzero(turns.view(np.uint16) == 0)
    if not len(pairs):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    cuts = np.flatnonzero(np.diff(pairs) != 1)
    first, last = 2 * pairs[np.append(0, cuts + 1)], 2 * pairs[np.append(cuts, len(pairs) - 1)] + 1
    begin, end = first - 1 - ~turns[first - 1], last + ~turns[last + 1]
    length = end - begin + 1
    long = length >= MIN_RUN
    return begin[long], length[long]


def levels(values: Floats, starts: Ints, num: Ints) -> tuple[list[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """p10, p50, p90 and mean of each group's sample, NaN where a group is empty."""
    steps = np.arange(SAMPLE)
    place = np.where(num[:, None] <= SAMPLE, steps, (2 * steps + 1) * num[:, None] // (2 * SAMPLE))
    taken = values[np.minimum(starts[:, None] + place, len(values) - 1)]
    count = np.minimum(num, SAMPLE)
    taken = np.where(steps < count[:, None], taken, np.float32(np.nan))
    taken.sort(axis=1)  # NaN last
    total = np.where(steps < count[:, None], taken, 0).sum(1, dtype=np.float64)
    groups, top = np.arange(len(num)), np.maximum(count - 1, 0)
    found = []
    for q in (0.1, 0.5, 0.9):
        at = q * top
        low = at.astype(np.int64)
        below, above = taken[groups, low], taken[groups, np.minimum(low + 1, top)]
        found.append(below + (at - low) * (above - below))
    return found, total / np.where(count > 0, count, np.nan)


def largest(groups: Ints, values: Ints, num: int) -> Ints:
    found = np.zeros(num, np.int64)
    if len(groups):
        first = np.flatnonzero(np.diff(groups, prepend=-1))  # groups are sorted
        found[groups[first]] = np.maximum.reduceat(values, first)
    return found


def top(groups: Ints, values: Ints, most: int) -> Ints:
    """Places of the ``most`` largest values of each group."""
    order = np.lexsort((-values, groups))
    sorted_ = groups[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_, sorted_)
    return np.sort(order[rank < most])

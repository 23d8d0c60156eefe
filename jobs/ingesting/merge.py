"""Which cell wins: the law of identity, as one pure function over arrays.

The one idea: rows come in delivery order (what history holds already, then plan, path, row). A reading
is (machine, time); each of its cells is the last value delivered for it, and a missing value never
replaces one. The result depends on nothing but that order.

A cell's *owner* is the row that first delivered the value which then stayed to the end. A row is
**superseded** when it owns nothing: every cell it has lost to a later delivery, or repeats what was
there already. So a batch delivered twice supersedes all of its second copy and changes nothing.
A row without any value owns its identity if no other row of that identity has a value before or after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Merged:
    """Sorted by machine and time. ``first`` and ``owner`` are indices of input rows, one an output row.

    ``first`` has the identity, ``owner`` is the last row that owns a cell; ``superseded`` is by input row.
    """

    first: Ints
    owner: Ints
    columns: dict[str, Floats]
    superseded: Mask


def merge(machine: Ints, time: Ints, columns: Mapping[str, Floats]) -> Merged:
    """``machine`` are codes that sort as the names do; NaN is no value; rows in delivery order."""
    order = _sorted(machine, time)
    n = len(order)
    if n == 0:
        return Merged(order, order, {name: values[:0] for name, values in columns.items()}, np.zeros(0, bool))
    opens = np.empty(n, bool)
    opens[0] = True
    opens[1:] = (np.diff(machine[order]) != 0) | (np.diff(time[order]) != 0)
    starts = np.flatnonzero(opens)
    if len(starts) == n:
        return Merged(order, order, {name: values[order] for name, values in columns.items()}, np.zeros(n, bool))
    return _by_cell(order, opens, starts, columns)


def _by_cell(order: Ints, opens: Mask, starts: Ints, columns: Mapping[str, Floats]) -> Merged:
    n, group = len(order), np.cumsum(opens) - 1
    shared = np.diff(np.append(starts, n))[group] > 1
    rows = np.flatnonzero(shared)  # positions, in sorted order, of rows that share their identity
    owns = ~shared
    merged: dict[str, Floats] = {}
    for name, values in columns.items():
        found = values[order[starts]]
        cells = values[order[rows]]
        valid = ~np.isnan(cells)
        at, value = rows[valid], cells[valid]
        if len(at):
            of = group[at]
            turns = np.ones(len(at), bool)  # the value changes here
            turns[1:] = (of[1:] != of[:-1]) | (value[1:] != value[:-1])
            at, of, value = at[turns], of[turns], value[turns]
            last = np.append(of[1:] != of[:-1], True)
            found[of[last]] = value[last]
            owns[at[last]] = True
        merged[name] = found
    owned = np.zeros(len(starts), bool)
    owned[group[owns]] = True
    owns[starts[~owned]] = True
    owner = starts.copy()
    np.maximum.at(owner, group[owns], np.flatnonzero(owns))
    superseded = np.empty(n, bool)
    superseded[order] = ~owns
    return Merged(order[starts], order[owner], merged, superseded)


def _sorted(machine: Ints, time: Ints) -> Ints:
    """A stable order by machine and time."""
    if len(time) == 0:
        return np.zeros(0, np.int64)
    low = int(time.min())
    span = int(time.max()) - low + 1
    if (int(machine.max()) + 1) * span < 2**62:  # one key sorts three times as fast as two
        key = machine * span + (time - low)
        return np.arange(len(key)) if bool((np.diff(key) > 0).all()) else np.argsort(key, kind="stable")
    return np.lexsort((time, machine))

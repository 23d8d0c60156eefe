"""Which pass of an hour that a local clock shows twice in autumn a row belongs to.

The one idea: only the order of a file tells. A series (rows that one clock wrote) begins with the pass that comes
first, and from the row on where its clock did not go on it is the other one; what it has shown is carried from
chunk to chunk, and a piece of a file that begins inside such an hour looks at the rows before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
DAY_US = 86_400_000_000
_OTHER_AUTUMN_US = 12 * 3_600_000_000  # a row that is further off lies in another autumn


@dataclass(frozen=True)
class _Last:
    """A series' last row in a doubled hour. ``step_us``: how far the clock had gone on to it, where that is known.

    ``rooted``: rows before the hour were seen too, so that its first pass is known to be one.
    """

    local_us: int
    turned: bool
    step_us: int | None
    rooted: bool


@dataclass
class Passes:
    """What the rows of a file have shown so far.

    ``earlier`` gives what ever more of the rows before a piece show, with the time (us) of the first of them.
    """

    earlier: Callable[[dict[str, int]], Iterator[tuple[Passes, int | None]]] | None = None
    known: dict[str, int] = field(default_factory=dict)
    last: dict[int, _Last] = field(default_factory=dict)
    onward: int = 0  # steps forward less steps back: below nought where the newest row comes first

    def numbers(self, codes: Ints, names: Sequence[str]) -> Ints:
        """The same number for a name in every chunk of the file; -1 stays."""
        own = [self.known.setdefault(name, len(self.known)) for name in names]
        return np.asarray([*own, -1], np.int64)[codes]

    def second(self, local_us: Ints, doubled_us: Ints, series: Ints) -> Mask:
        """Whether a row belongs to the second pass of its hour.

        ``doubled_us``: how much of the day is shown twice where the row lies in that part of it, else 0.
        """
        step, begins = self._steps(local_us, series)
        rows = np.flatnonzero(doubled_us > 0)
        first = rows[begins[rows]]
        unknown = set(series[first].tolist()) - self.last.keys()
        if unknown and self.earlier is not None:
            self._look_back(unknown, int(local_us[first[0]]))
        newest_first = self.onward < 0
        found = np.zeros(len(local_us), bool)
        for row in rows.tolist():
            key, moment = int(series[row]), int(local_us[row])
            before = self.last.get(key)
            own_step = None if begins[row] else abs(int(step[row]))
            if before is None or abs(moment - before.local_us) >= _OTHER_AUTUMN_US:
                self.last[key] = before = _Last(moment, False, own_step, not begins[row])
            else:
                on = before.local_us - moment if newest_first else moment - before.local_us
                # The same time again: the hour is read once a pass, or else the row was written twice.
                turns = on < 0 or (on == 0 and (before.step_us is None or before.step_us >= doubled_us[row]))
                gone = before.step_us if on == 0 else abs(on)
                self.last[key] = before = _Last(moment, before.turned or turns, gone, before.rooted)
            found[row] = before.turned != newest_first
        return found

    def _steps(self, local_us: Ints, series: Ints) -> tuple[Ints, Mask]:
        """How far each row's clock has gone on since the series' row before it, and which rows have none before."""
        order = np.argsort(series, kind="stable")
        step = np.diff(local_us[order], prepend=0)
        fresh = np.append(True, np.diff(series[order]) != 0)[: len(order)]
        self.onward += int(np.sign(step[~fresh]).sum())
        steps, begins = np.empty_like(step), np.empty_like(fresh)
        steps[order], begins[order] = step, fresh
        return steps, begins

    def _look_back(self, unknown: set[int], local_us: int) -> None:
        assert self.earlier is not None
        before, found = Passes(), dict[int, _Last]()
        for before, first_us in self.earlier(self.known):
            found = {key: last for key in unknown if (last := before.last.get(key))}
            if len(found) == len(unknown) and all(last.rooted for last in found.values()):
                break
            if first_us is not None and abs(first_us - local_us) > 2 * DAY_US:  # no zone is further off than a day
                break
        self.last |= found
        self.onward += before.onward

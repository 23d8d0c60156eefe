"""The later slice that candidates are judged on: its sequences, its ticks, its failures.

The one idea: a history comes in chunks, but lives and alarms do not end where a chunk does; so ticks are placed by
their machine and their time, and a failure is known by its moment.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered

import numpy as np

from models.config import Clock
from models.episodes import Ticks
from models.features import Sequence
from models.split import draw

MOST_TICKS = 250_000  # of later time that a candidate is judged on: 130 MB with their hazards and exposures


def count_failures(sequences: Ordered[Sequence], clock: Clock) -> int:
    """Distinct failures behind the labels: steps of a machine that lead to one moment lead to one failure."""
    life, found = clock.life_per_step, 0
    last: dict[str, float] = {}
    for s in sequences:
        steps = np.flatnonzero(s.event & s.usable)
        if len(steps):
            ends = (s.first_tick + steps) * life + s.time[steps].astype(np.float64)
            found += int(abs(ends[0] - last.get(s.machine, -np.inf)) > life / 2)
            found += int((np.abs(np.diff(ends)) > life / 2).sum())
            last[s.machine] = float(ends[-1])
    return found


def later_ticks(parts: Ordered[Sequence], clock: Clock) -> tuple[Ticks, int]:
    """Every usable tick that judges with its label, and the distinct failures behind them."""
    life, columns = clock.life_per_step, []
    sequences = judging(parts, clock)
    numbers = {machine: number for number, machine in enumerate(dict.fromkeys(s.machine for s in sequences))}
    for s in sequences:
        rows = np.flatnonzero(s.usable)
        now = np.asarray((s.first_tick + rows) * life, np.float64)
        columns.append((np.full(len(rows), numbers[s.machine]), now, s.time[rows], s.event[rows]))
    machine, now, time_, event = (np.concatenate(x) for x in zip(*columns, strict=True))
    ticks = Ticks(machine, now, time_.astype(np.float64), event, len(numbers), life)
    return ticks, count_failures(sequences, clock)


def judging(parts: Ordered[Sequence], clock: Clock, *, most: int = MOST_TICKS) -> list[Sequence]:
    """The validation sequences that candidates are judged on: all, or whole machines of them where they are too many.

    Alarms are counted tick by tick, so ticks are never thinned; machines are drawn evenly over their failures.
    """
    found = [s for s in parts if s.usable.any()]
    total = sum(int(s.usable.sum()) for s in found)
    if total <= most:
        return found
    failures = {m: count_failures([s for s in found if s.machine == m], clock)
                for m in {s.machine for s in found}}  # fmt: skip
    kept = draw(failures, most / total, seed=0) or frozenset([max(failures, key=lambda m: (failures[m], m))])
    return [s for s in found if s.machine in kept]

"""Alarms as a planner meets them: one episode from its first tick, matched to failures, never counted in hours.

The one idea: an alarm is a promise made when it is raised, *this machine fails within max_lead*. It
holds for ``max_lead`` at most; still above the threshold after that, it is raised again. So an alarm
that never ends is not one lucky episode but a false one every ``max_lead``, and needs no other penalty.

Lives are told apart by the labels: all ticks before one failure (or one censoring) share ``now + time``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.config import HazardConfig
from models.metrics import Draws, Estimate, SortedValues

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
HOURS_A_MONTH = 730.5  # also the life units of a "month" on a clock of cycles
Outcome = Literal["true", "late", "false", "open"]


@dataclass(frozen=True)
class Ticks:
    """Usable ticks of many machines, sorted by machine and time; times in life units.

    ``machine`` [N] counts from 0 to ``num_machines`` - 1; ``now`` [N] is the tick's end, ``time`` and
    ``event`` [N] its label, ``step`` the life units of a tick.
    """

    machine: Ints
    now: Floats
    time: Floats
    event: Bools
    num_machines: int
    step: float

    def take(self, rows: Ints | Bools) -> Ticks:
        return Ticks(
            self.machine[rows], self.now[rows], self.time[rows], self.event[rows], self.num_machines, self.step
        )

    def within(self, keep: Bools) -> Ticks:
        """The ticks that ``keep`` [N] marks, their machines numbered anew from 0; the others are in no draw."""
        place = _places(self, keep)
        own = self.take(keep)
        return replace(own, machine=place[own.machine], num_machines=int((place >= 0).sum()))

    def lives(self) -> Ints:
        """A number for each tick, the same for all ticks that lead to one failure or one censoring."""
        end = self.now + self.time
        new = (np.diff(self.machine) != 0) | (np.abs(np.diff(end)) > self.step / 100)
        return np.concatenate([[0], np.cumsum(new)]).astype(np.int64) if len(end) else np.empty(0, np.int64)


@dataclass(frozen=True)
class AlarmRule:
    """When an alarm is worth something, in life units: not later than ``min_lead``, not earlier than ``max_lead``.

    Ticks above the threshold within ``quiet`` of the one before belong to one episode.
    """

    min_lead: float = 6.0
    max_lead: float = 168.0
    quiet: float = 24.0

    @staticmethod
    def of(config: HazardConfig) -> AlarmRule:
        """The longest horizon is the promise, the shortest is the quiet, a quarter of it is too late to act."""
        horizons = sorted(config.horizons.values())
        return AlarmRule(min_lead=horizons[0] / 4, max_lead=horizons[-1], quiet=horizons[0])


@dataclass(frozen=True)
class Episode:
    """One alarm. ``open``: the machine was serviced, or the record ended, before the promise could be checked.

    ``row`` is the tick that raised it.
    """

    machine: int
    start: float
    end: float
    outcome: Outcome
    row: int = -1


@dataclass(frozen=True)
class FailureSeen:
    """One failure that could have been announced; ``lead`` is its earliest good alarm's, None where it was missed.

    ``row`` is the last tick that could have announced it in time.
    """

    machine: int
    at: float
    lead: float | None
    row: int = -1


@dataclass(frozen=True)
class Judgement:
    """Every alarm and every failure, with machine-months of exposure for each machine [M]."""

    episodes: tuple[Episode, ...]
    failures: tuple[FailureSeen, ...]
    months: Floats

    def within(self, ticks: Ticks, keep: Bools) -> Judgement:
        """Alarms raised at the ticks that ``keep`` [N] marks, failures that ended among them, and their months.

        Machines are numbered as ``ticks.within(keep)`` numbers them.
        """
        place = _places(ticks, keep)
        own = np.bincount(ticks.machine[keep], minlength=ticks.num_machines)[place >= 0]
        return Judgement(
            tuple(replace(e, machine=int(place[e.machine])) for e in self.episodes if keep[e.row]),
            tuple(replace(f, machine=int(place[f.machine])) for f in self.failures if keep[f.row]),
            own.astype(np.float64) * (ticks.step / HOURS_A_MONTH),
        )


@dataclass(frozen=True)
class AlarmFigures:
    """``recall`` is the share of failures caught, ``precision`` that of checked alarms which came true."""

    num_failures: int
    num_caught: int
    num_false: int
    num_late: int
    num_open: int
    recall: Estimate
    precision: Estimate
    false_per_month: Estimate
    lead_median: Estimate
    lead_p10: Estimate


def judge(ticks: Ticks, risk: Floats, threshold: float, rule: AlarmRule) -> Judgement:
    """Raise alarms where ``risk`` [N] reaches the threshold and match them to the failures of the log."""
    lives = ticks.lives()
    episodes: list[Episode] = []
    lead: dict[int, float] = {}  # life -> earliest good lead
    for first, last in raised(ticks, lives, risk >= threshold, rule):
        outcome = _outcome(float(ticks.time[first]), bool(ticks.event[first]), rule)
        if outcome == "true":
            life = int(lives[first])
            lead[life] = max(lead.get(life, 0.0), float(ticks.time[first]))
        episodes.append(
            Episode(int(ticks.machine[first]), float(ticks.now[first]), float(ticks.now[last]), outcome, first)
        )
    failures = tuple(
        FailureSeen(int(ticks.machine[i]), float(ticks.now[i] + ticks.time[i]), lead.get(int(lives[i])), i)
        for i in announceable(ticks, lives, rule).tolist()
    )
    months = np.bincount(ticks.machine, minlength=ticks.num_machines).astype(np.float64) * (ticks.step / HOURS_A_MONTH)
    return Judgement(tuple(episodes), failures, months)


def alarm_figures(judgement: Judgement, *, draws: Draws) -> AlarmFigures:
    """Counts and rates of a judgement, each rate with its bootstrap interval by machine."""
    num = len(judgement.months)
    outcomes = {kind: _count([e.machine for e in judgement.episodes if e.outcome == kind], num)
                for kind in ("true", "late", "false", "open")}  # fmt: skip
    failures = _count([f.machine for f in judgement.failures], num)
    good = [(f.machine, f.lead) for f in judgement.failures if f.lead is not None]
    caught = _count([machine for machine, _ in good], num)
    machine_of_lead = np.array([machine for machine, _ in good], np.int64)
    leads = SortedValues([lead for _, lead in good])

    def ratio(above: Floats, below: Floats) -> Estimate:
        return draws.ratio(above, below).estimate()

    def lead_at(q: float) -> Estimate:
        return draws.sample(lambda w: leads.quantile(q, w[machine_of_lead])).estimate()

    return AlarmFigures(
        num_failures=int(failures.sum()), num_caught=int(caught.sum()), num_false=int(outcomes["false"].sum()),
        num_late=int(outcomes["late"].sum()), num_open=int(outcomes["open"].sum()), recall=ratio(caught, failures),
        precision=ratio(outcomes["true"], outcomes["true"] + outcomes["false"]),
        false_per_month=ratio(outcomes["false"], judgement.months),
        lead_median=lead_at(0.5), lead_p10=lead_at(0.1),
    )  # fmt: skip


def raised(ticks: Ticks, lives: Ints, above: Bools, rule: AlarmRule) -> list[tuple[int, int]]:
    """First and last row of every episode, where ``above`` [N] marks the ticks above the threshold."""
    rows = np.flatnonzero(above)
    if not len(rows):
        return []
    now, slack = ticks.now[rows], ticks.step / 100
    apart = (np.diff(lives[rows]) != 0) | (np.diff(now) > rule.quiet + slack)
    starts = np.r_[0, np.flatnonzero(apart) + 1]
    found: list[tuple[int, int]] = []
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
        first = start
        while first < stop:  # a promise is over after max_lead, and made again
            after = first + int(np.searchsorted(now[first:stop], now[first] + rule.max_lead + slack, side="right"))
            found.append((int(rows[first]), int(rows[after - 1])))
            first = after
    return found


def announceable(ticks: Ticks, lives: Ints, rule: AlarmRule) -> Ints:
    """For each failure that an alarm could have announced in time, the last tick that could."""
    rows = np.flatnonzero(ticks.event & (ticks.time >= rule.min_lead) & (ticks.time <= rule.max_lead))
    last: Ints = rows[np.flatnonzero(np.diff(lives[rows], append=-1) != 0)]
    return last


def _outcome(time: float, event: bool, rule: AlarmRule) -> Outcome:
    if time > rule.max_lead:
        return "false"
    if not event:
        return "open"
    return "true" if time >= rule.min_lead else "late"


def _places(ticks: Ticks, keep: Bools) -> Ints:
    """Each machine's new number, -1 for those without a tick that is kept."""
    present = np.bincount(ticks.machine[keep], minlength=ticks.num_machines) > 0
    return np.where(present, np.cumsum(present) - 1, -1).astype(np.int64)


def _count(machines: list[int], num_machines: int) -> Floats:
    return np.bincount(np.array(machines, np.int64), minlength=num_machines).astype(np.float64)

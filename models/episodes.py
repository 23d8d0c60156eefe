"""Alarms as a planner meets them: one episode from its first tick, matched to failures, never counted in hours.

The one idea: an alarm is a promise made when it is raised, *this machine fails within max_lead*. It
holds for ``max_lead`` at most; still above the threshold after that, it is raised again. So an alarm
that never ends is not one lucky episode but a false one every ``max_lead``, and needs no other penalty.

Lives are told apart by the labels: all ticks before one failure (or one censoring) share ``now + time``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.config import HazardConfig
from models.metrics import Estimate, estimate, weighted_quantile

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
    """One alarm. ``open``: the machine was serviced, or the record ended, before the promise could be checked."""

    machine: int
    start: float
    end: float
    outcome: Outcome


@dataclass(frozen=True)
class FailureSeen:
    """One failure that could have been announced; ``lead`` is its earliest good alarm's, None where it was missed."""

    machine: int
    at: float
    lead: float | None


@dataclass(frozen=True)
class Judgement:
    """Every alarm and every failure, with machine-months of exposure for each machine [M]."""

    episodes: tuple[Episode, ...]
    failures: tuple[FailureSeen, ...]
    months: Floats


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
    for first, last in _raised(ticks, lives, risk >= threshold, rule):
        outcome = _outcome(float(ticks.time[first]), bool(ticks.event[first]), rule)
        if outcome == "true":
            life = int(lives[first])
            lead[life] = max(lead.get(life, 0.0), float(ticks.time[first]))
        episodes.append(Episode(int(ticks.machine[first]), float(ticks.now[first]), float(ticks.now[last]), outcome))
    in_time = ticks.event & (ticks.time >= rule.min_lead) & (ticks.time <= rule.max_lead)
    _, first_of_life = np.unique(lives[in_time], return_index=True)
    failures = tuple(
        FailureSeen(int(ticks.machine[i]), float(ticks.now[i] + ticks.time[i]), lead.get(int(lives[i])))
        for i in np.flatnonzero(in_time)[first_of_life]
    )
    months = np.bincount(ticks.machine, minlength=ticks.num_machines).astype(np.float64) * (ticks.step / HOURS_A_MONTH)
    return Judgement(tuple(episodes), failures, months)


def alarm_figures(judgement: Judgement, *, rng: np.random.Generator, draws: int = 300) -> AlarmFigures:
    """Counts and rates of a judgement, each rate with its bootstrap interval by machine."""
    num = len(judgement.months)
    outcomes = {kind: _count([e.machine for e in judgement.episodes if e.outcome == kind], num)
                for kind in ("true", "late", "false", "open")}  # fmt: skip
    failures = _count([f.machine for f in judgement.failures], num)
    good = [(f.machine, f.lead) for f in judgement.failures if f.lead is not None]
    caught = _count([machine for machine, _ in good], num)
    machine_of_lead = np.array([machine for machine, _ in good], np.int64)
    leads = np.array([lead for _, lead in good], np.float64)
    checked = outcomes["true"] + outcomes["false"]

    def ratio(above: Floats, below: Floats) -> Estimate:
        return estimate(lambda w: _ratio(float(w @ above), float(w @ below)), num, rng=rng, draws=draws)

    def lead_at(q: float) -> Estimate:
        return estimate(lambda w: weighted_quantile(leads, q, w[machine_of_lead]), num, rng=rng, draws=draws)

    return AlarmFigures(
        num_failures=int(failures.sum()), num_caught=int(caught.sum()), num_false=int(outcomes["false"].sum()),
        num_late=int(outcomes["late"].sum()), num_open=int(outcomes["open"].sum()), recall=ratio(caught, failures),
        precision=ratio(outcomes["true"], checked), false_per_month=ratio(outcomes["false"], judgement.months),
        lead_median=lead_at(0.5), lead_p10=lead_at(0.1),
    )  # fmt: skip


def alarm_threshold(
    ticks: Ticks, risk: Floats, rule: AlarmRule, *, false_per_month: float | None = None, candidates: int = 60
) -> float:
    """The threshold with the best F1 of failures caught and alarms that come true.

    With a budget of false alarms a machine-month, the one that catches most within it. Ties go to
    the higher threshold. Where no failure can be judged, the risk that 1 % of the ticks exceed.
    """
    if not len(risk):
        return 0.5
    tried = np.unique(np.quantile(risk, 1.0 - np.geomspace(1e-4, 1.0, candidates)))
    fallback = float(np.quantile(risk, 0.99))
    best, chosen = 0.0, fallback
    for threshold in tried:
        value = _worth(judge(ticks, risk, float(threshold), rule), false_per_month)
        if value > 0 and value >= best:
            best, chosen = value, float(threshold)
    return chosen


def caught_within_budget(
    ticks: Ticks, risk: Floats, rule: AlarmRule, *, false_per_month: float, own: float | None = None
) -> tuple[int, float]:
    """Most failures that this risk could catch at no more false alarms, and the threshold that does.

    It chooses on the data that it judges: a bound in favour of what it is asked about, for comparisons only.
    Thresholds are tried on a grid; ``own``, the candidate's own, is tried too, so that what it did is never
    more than what it could do.
    """
    tuned = alarm_threshold(ticks, risk, rule, false_per_month=false_per_month, candidates=120)
    best = (0, tuned)
    for threshold in (tuned, tuned if own is None else own):
        found = judge(ticks, risk, threshold, rule)
        within = _false(found) / max(float(found.months.sum()), 1e-9) <= false_per_month + 1e-9
        caught = sum(f.lead is not None for f in found.failures)
        if within and caught > best[0]:
            best = (caught, threshold)
    return best


def _raised(ticks: Ticks, lives: Ints, above: Bools, rule: AlarmRule) -> list[tuple[int, int]]:
    """First and last row of every episode."""
    found: list[tuple[int, int]] = []
    first = last = -1
    now, slack = ticks.now, ticks.step / 100
    for row in np.flatnonzero(above).tolist():
        if (
            first < 0
            or lives[row] != lives[last]
            or now[row] - now[last] > rule.quiet + slack
            or now[row] - now[first] > rule.max_lead + slack
        ):
            if first >= 0:
                found.append((first, last))
            first = row
        last = row
    return [*found, (first, last)] if first >= 0 else found


def _outcome(time: float, event: bool, rule: AlarmRule) -> Outcome:
    if time > rule.max_lead:
        return "false"
    if not event:
        return "open"
    return "true" if time >= rule.min_lead else "late"


def _worth(judgement: Judgement, false_per_month: float | None) -> float:
    caught = sum(f.lead is not None for f in judgement.failures)
    if not judgement.failures or not caught:
        return 0.0
    wrong = _false(judgement)
    if false_per_month is not None:
        return float(caught) if wrong / float(judgement.months.sum()) <= false_per_month else 0.0
    right = sum(e.outcome == "true" for e in judgement.episodes)
    recall, precision = caught / len(judgement.failures), right / (right + wrong)
    return 2 * recall * precision / (recall + precision)


def _false(judgement: Judgement) -> int:
    return sum(e.outcome == "false" for e in judgement.episodes)


def _count(machines: list[int], num_machines: int) -> Floats:
    return np.bincount(np.array(machines, np.int64), minlength=num_machines).astype(np.float64)


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")

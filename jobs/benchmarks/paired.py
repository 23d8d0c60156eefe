"""Figures of candidates that answered the same ticks, each with its interval over machines, and their paired gain.

The one idea: a failure is one unit of evidence, however many hours before it are scored. At event level the positive
ticks of a failure (those within the horizon before it) weigh one together, and so do as many other ticks as the
horizon has; ticks whose outcome the record's end hides are left out. Machines are drawn with replacement, all ticks
and failures of a machine together; a figure of a draw is the mean over the repetitions of the folds, and a gain is the
difference of two candidates in the same draw. Intervals are the 2.5 and 97.5 percentiles: of 1,000 draws for a gain,
of 300 for a figure.

They say how the figures would differ with other machines under these fitted models; that other training machines
would have given other models shows in the repetitions alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from jobs.benchmarks.folds import OutOfFold, Said
from jobs.evaluation.results import Figure
from models.config import HazardConfig
from models.episodes import HOURS_A_MONTH, AlarmRule, Judgement, Ticks, judge
from models.metrics import Estimate, Ranking, estimate
from models.reliability import known_outcomes, skill
from models.thresholds import caught_within, sweep

DRAWS, DRAWS_OF_FIGURES, SEED = 1000, 300, 0
NEVER = 1.01  # a threshold that no probability reaches
Floats = NDArray[np.float64]
Statistic = Callable[[Floats], float]


class Figures(BaseModel):
    """One kind of candidate. ``caught`` and ``precision`` are at the same number of false alarms for every kind."""

    average_precision: Figure  # a failure weighs one
    average_precision_ticks: Figure  # every tick weighs one
    auc: Figure
    brier_skill: Figure  # over the Kaplan-Meier curve of the training machines
    caught: Figure  # share of the failures
    precision: Figure  # share of the alarm episodes that came true
    num_caught: float  # mean over the repetitions
    repeats: list[float]  # average precision of each repetition


class Compared(BaseModel):
    """Every kind on the same ticks. ``gain`` is the network's, ``baseline_gain`` the trees', in average precision at
    event level over the no-sensor baseline, machine by machine in the same draws. ``sensor_gain`` is the network's over
    itself without the sensors (``blind``): what the sensors alone are worth."""

    num_machines: int
    num_failures: int
    num_ticks: int
    positive_share: float  # of the ticks: average precision of who knows nothing
    machine_months: float
    false_alarms_per_machine_month: float  # that every kind is allowed
    model: Figures
    baseline: Figures
    no_sensor: Figures
    blind: Figures
    gain: Figure
    baseline_gain: Figure
    sensor_gain: Figure


def compared(answers: OutOfFold, config: HazardConfig, *, horizon: float) -> Compared:
    """All figures. The allowance of false alarms is what the no-sensor baseline's own thresholds give, on the mean."""
    ticks, num = answers.ticks, len(answers.machines)
    failed, known, _ = known_outcomes(ticks.time, ticks.event, horizon)
    budget = float(np.mean([_false_rate(ticks, said["no_sensor"], config) for said in answers.said]))
    order = {kind: [_rankings(ticks, said[kind], horizon) for said in answers.said] for kind in answers.said[0]}

    def gain(kind: str, over: str = "no_sensor") -> Figure:
        return _figure(lambda w: _mean(order[kind], w) - _mean(order[over], w), num, draws=DRAWS)

    def figures(kind: str) -> Figures:
        return _figures(answers, kind, order[kind], config, horizon=horizon, budget=budget)

    return Compared(
        num_machines=num, num_failures=_num_failures(ticks, horizon), num_ticks=int(known.sum()),
        positive_share=float(failed[known].mean()), machine_months=float(judge_never(ticks, config).months.sum()),
        false_alarms_per_machine_month=budget, model=figures("network"), baseline=figures("trees"),
        no_sensor=figures("no_sensor"), blind=figures("blind"),
        gain=gain("network"), baseline_gain=gain("trees"), sensor_gain=gain("network", over="blind"),
    )  # fmt: skip


def event_weights(ticks: Ticks, horizon: float) -> Floats:
    """What each tick weighs at event level [N]: the positive ticks of a failure together 1, ``horizon`` / ``step``
    others together 1, a tick of unknown outcome 0."""
    failed, known, _ = known_outcomes(ticks.time, ticks.event, horizon)
    lives = ticks.lives()
    positives = np.bincount(lives[failed], minlength=int(lives[-1]) + 1 if len(lives) else 0)
    own = 1.0 / np.maximum(positives[lives], 1)
    found: Floats = np.where(failed, own, np.where(known, ticks.step / horizon, 0.0))
    return found


def _rankings(ticks: Ticks, said: Said, horizon: float) -> Statistic:
    """Average precision at event level of one repetition, by the machines' weights."""
    failed, known, _ = known_outcomes(ticks.time, ticks.event, horizon)
    ranking, own, machine = (
        Ranking(said.risk[known], failed[known]),
        event_weights(ticks, horizon),
        ticks.machine[known],
    )
    return lambda w: ranking.average_precision(w[machine] * own[known])


def _figures(
    answers: OutOfFold, kind: str, order: list[Statistic], config: HazardConfig, *, horizon: float, budget: float
) -> Figures:
    ticks, num = answers.ticks, len(answers.machines)
    failed, known, outcome_weight = known_outcomes(ticks.time, ticks.event, horizon)
    said = [one[kind] for one in answers.said]
    rankings = [Ranking(one.risk[known], failed[known]) for one in said]
    machine, of_known = ticks.machine, ticks.machine[known]

    def squared(chance: Floats) -> Floats:  # sums by machine, since Brier's score is a sum over ticks
        return np.bincount(machine, outcome_weight * (failed - chance) ** 2, minlength=num).astype(np.float64)

    def skill_of(one: Said) -> Statistic:
        own, reference = squared(one.risk), squared(one.usual)
        return lambda w: skill(float(w @ own), float(w @ reference))

    skills = [skill_of(one) for one in said]
    alarms = [_at_budget(ticks, one, config, budget) for one in said]
    caught = [_ratio(one["caught"], one["failures"]) for one in alarms]
    came_true = [_ratio(one["true"], one["checked"]) for one in alarms]
    return Figures(
        average_precision=_figure(lambda w: _mean(order, w), num),
        average_precision_ticks=_figure(
            lambda w: float(np.mean([r.average_precision(w[of_known]) for r in rankings])), num
        ),
        auc=_figure(lambda w: float(np.mean([r.auc(w[of_known]) for r in rankings])), num),
        brier_skill=_figure(lambda w: _mean(skills, w), num),
        caught=_figure(lambda w: _mean(caught, w), num),
        precision=_figure(lambda w: _mean(came_true, w), num),
        num_caught=float(np.mean([one["caught"].sum() for one in alarms])),
        repeats=[round(one(np.ones(num)), 4) for one in order],
    )  # fmt: skip


def judge_never(ticks: Ticks, config: HazardConfig) -> Judgement:
    """What no alarm at all comes to: the failures and the exposure."""
    return judge(ticks, np.zeros(len(ticks.now)), 1.0, AlarmRule.of(config))


def _false_rate(ticks: Ticks, said: Said, config: HazardConfig) -> float:
    found = judge(ticks, said.alarm.astype(np.float64), 0.5, AlarmRule.of(config))
    return sum(e.outcome == "false" for e in found.episodes) / max(float(found.months.sum()), 1e-9)


def _at_budget(ticks: Ticks, said: Said, config: HazardConfig, budget: float) -> dict[str, Floats]:
    """Counts by machine under the one threshold that catches most within the allowance of false alarms.

    It is chosen on the ticks that are judged: a bound in favour of each kind alike, to compare them by.
    """
    rule, num = AlarmRule.of(config), ticks.num_machines
    months = len(ticks.now) * ticks.step / HOURS_A_MONTH
    _, threshold = caught_within(sweep(ticks, said.risk, rule), months=months, false_per_month=budget)
    found = judge(ticks, said.risk, NEVER if threshold is None else threshold, rule)

    def count(machines: list[int]) -> Floats:
        return np.bincount(np.array(machines, np.int64), minlength=num).astype(np.float64)

    right = count([e.machine for e in found.episodes if e.outcome == "true"])
    return {
        "failures": count([f.machine for f in found.failures]), "true": right,
        "caught": count([f.machine for f in found.failures if f.lead is not None]),
        "checked": right + count([e.machine for e in found.episodes if e.outcome == "false"]),
    }  # fmt: skip


def _ratio(above: Floats, below: Floats) -> Statistic:
    return lambda w: float(w @ above) / float(w @ below) if float(w @ below) > 0 else math.nan


def _mean(statistics: list[Statistic], weight: Floats) -> float:
    return float(np.mean([statistic(weight) for statistic in statistics]))


def _num_failures(ticks: Ticks, horizon: float) -> int:
    return len(np.unique(ticks.lives()[ticks.event & (ticks.time <= horizon)]))


def _figure(statistic: Statistic, num_machines: int, *, draws: int = DRAWS_OF_FIGURES) -> Figure:
    found: Estimate = estimate(statistic, num_machines, rng=np.random.default_rng(SEED), draws=draws)
    parts = (found.value, found.low, found.high)
    value, low, high = (round(x, 4) if math.isfinite(x) else None for x in parts)
    return Figure(value=value, low=low, high=high)

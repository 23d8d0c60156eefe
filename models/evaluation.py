"""One candidate judged on later time: every figure that a report prints, from arrays alone.

The one idea: a candidate is its risk at each tick (and its hazard curve, where it has one), so models,
baselines, the Kaplan-Meier curve and the simulator's oracle are judged by the same code and rows.

N ticks, K inner edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.config import HazardConfig
from models.episodes import AlarmFigures, AlarmRule, Judgement, Ticks, alarm_figures, judge
from models.hazard import quantiles, restricted_mean, survival_at
from models.metrics import Estimate, Ranking, concordance, estimate, weighted_quantile
from models.reliability import ReliabilityBin, brier, calibration_error, coverage, known_outcomes, reliability, skill

Floats = NDArray[np.float64]
NONE = Estimate(float("nan"), float("nan"), float("nan"))
MAX_ROWS = 5000  # rows of the figures that compare rows: neighbouring ticks tell the same story
MAX_PAIRED = 1500  # rows of the concordance, which compares all pairs


@dataclass(frozen=True)
class Forecast:
    """What a candidate says at each tick: ``risk`` [N] within the alarm's horizon; ``hazard`` [N, K+1] if any."""

    risk: Floats
    threshold: float
    hazard: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class LifeFigures:
    """Remaining life: error of the median in life units, order of machines, and the 80 % interval."""

    median_error: Estimate  # median absolute error of p50, over ticks whose failure came within the longest horizon
    concordance: Estimate
    coverage_80: Estimate
    width_80: float  # median width; infinite past the last edge


@dataclass(frozen=True)
class RiskFigures:
    """The risk within the alarm's horizon: order, error, skill over the plant's Kaplan-Meier risk, calibration."""

    auc: Estimate
    average_precision: Estimate
    brier: Estimate
    brier_skill: Estimate
    calibration_error: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class CandidateFigures:
    alarms: AlarmFigures
    risk: RiskFigures
    life: LifeFigures
    judgement: Judgement


def candidate_figures(
    ticks: Ticks, forecast: Forecast, *, config: HazardConfig, horizon: float, reference_risk: float,
    rng: np.random.Generator, draws: int = 200,
) -> CandidateFigures:  # fmt: skip
    """Judge a candidate. ``reference_risk``: what the training part's Kaplan-Meier curve gives to everyone."""
    judgement = judge(ticks, forecast.risk, forecast.threshold, AlarmRule.of(config))
    return CandidateFigures(
        alarm_figures(judgement, rng=rng, draws=draws),
        risk_figures(ticks, forecast.risk, horizon=horizon, reference_risk=reference_risk, rng=rng, draws=draws),
        life_figures(ticks, forecast.hazard, config=config, rng=rng, draws=draws),
        judgement,
    )


def risk_figures(
    ticks: Ticks, risk: Floats, *, horizon: float, reference_risk: float, rng: np.random.Generator, draws: int = 200
) -> RiskFigures:
    """Figures of the risk [N] of a failure within ``horizon`` life units."""
    rows = _thinned(len(risk), MAX_ROWS)
    ticks, risk = ticks.take(rows), risk[rows]
    if not len(risk):
        return RiskFigures(NONE, NONE, NONE, NONE, float("nan"), ())
    failed, known, outcome_weight = known_outcomes(ticks.time, ticks.event, horizon)
    machine, num = ticks.machine, ticks.num_machines
    ranking, of_known = Ranking(risk[known], failed[known]), machine[known]
    reference = np.full(len(risk), reference_risk)

    def brier_of(weight: Floats) -> float:
        return brier(risk, failed, outcome_weight, weight[machine])

    def skill_of(weight: Floats) -> float:
        return skill(brier_of(weight), brier(reference, failed, outcome_weight, weight[machine]))

    bins = reliability(risk, failed, outcome_weight, machine=machine)
    return RiskFigures(
        auc=estimate(lambda w: ranking.auc(w[of_known]), num, rng=rng, draws=draws),
        average_precision=estimate(lambda w: ranking.average_precision(w[of_known]), num, rng=rng, draws=draws),
        brier=estimate(brier_of, num, rng=rng, draws=draws),
        brier_skill=estimate(skill_of, num, rng=rng, draws=draws),
        calibration_error=calibration_error(bins),
        bins=tuple(bins),
    )


def life_figures(
    ticks: Ticks, hazard_NK: NDArray[np.float32] | None, *, config: HazardConfig, rng: np.random.Generator,
    draws: int = 200,
) -> LifeFigures:  # fmt: skip
    """Figures of remaining life; without a hazard curve there are none.

    The median's error counts only failures that came: it is conditional on the end, and its ticks
    are those within the longest horizon, where a planner would act on it.
    """
    if hazard_NK is None or not len(hazard_NK):
        return LifeFigures(NONE, NONE, NONE, float("nan"))
    rows = _thinned(len(hazard_NK), MAX_ROWS)
    ticks, hazard = ticks.take(rows), hazard_NK[rows]
    num, edges = ticks.num_machines, config.edges
    low, median, high = quantiles(hazard, edges, (0.1, 0.5, 0.9)).T
    near = ticks.event & (ticks.time <= max(config.horizons.values()))
    error = np.abs(np.minimum(median[near], edges[-1]) - ticks.time[near])
    cdf = 1.0 - survival_at(hazard, edges, ticks.time)
    paired = _thinned(len(hazard), MAX_PAIRED)
    mean = restricted_mean(hazard[paired], edges, edges[-1])
    order = concordance(-mean, ticks.time[paired], ticks.event[paired])
    return LifeFigures(
        median_error=estimate(
            lambda w: weighted_quantile(error, 0.5, w[ticks.machine[near]]), num, rng=rng, draws=draws
        ),
        concordance=Estimate(order, float("nan"), float("nan")),
        coverage_80=estimate(
            lambda w: coverage(cdf, ticks.event, 0.8, w[ticks.machine]), num, rng=rng, draws=draws
        ),
        width_80=float(np.median(high - np.minimum(low, edges[-1]))),
    )  # fmt: skip


def _thinned(length: int, most: int) -> NDArray[np.int64]:
    """Evenly spread rows, at most ``most`` or nearly so."""
    return np.arange(0, length, max(1, -(-length // most)), dtype=np.int64)

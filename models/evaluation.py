"""One candidate judged on later time: every figure that a report prints, from arrays alone.

The one idea: a candidate is its risk at each tick (and its hazard curve, where it has one), so models,
baselines, the Kaplan-Meier curve and the simulator's oracle are judged by the same code and rows. Its answers are
made ready once and judged on any part of the ticks: all, unseen machines, old ones, one failure mode.

N ticks, K inner edges.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.config import HazardConfig
from models.episodes import AlarmFigures, AlarmRule, Judgement, Ticks, alarm_figures, judge
from models.lifetimes import LEVELS, NO_LIFE, NONE, LifeFigures, LifeRows, life_bands, life_figures, life_rows
from models.metrics import Draws, Estimate, Ranking, Sample
from models.reliability import ReliabilityBin, calibration_error, known_outcomes, reliability, squared_error

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PRECISION = 0.5  # of flagged hours, at which recall by the hour is read


@dataclass(frozen=True)
class Forecast:
    """What a candidate says at each tick: ``risk`` [N] within the alarm's horizon; ``hazard`` [N, K+1] if any.

    ``levels`` are the quantiles of the curve that are served as p10, p50 and p90.
    """

    risk: Floats
    threshold: float
    hazard: NDArray[np.float32] | None = None
    levels: tuple[float, float, float] = LEVELS


@dataclass(frozen=True)
class Outcomes:
    """Whether each tick [N] failed within the alarm's horizon, whether that is known, its inverse-censoring weight."""

    failed: Bools
    known: Bools
    weight: Floats

    @staticmethod
    def of(ticks: Ticks, horizon: float) -> Outcomes:
        return Outcomes(*known_outcomes(ticks.time, ticks.event, horizon))

    def within(self, keep: Bools) -> Outcomes:
        return Outcomes(self.failed[keep], self.known[keep], self.weight[keep])


@dataclass(frozen=True)
class Part:
    """Some ticks to be judged alone: ``keep`` [N].

    ``event`` [N], where given, says which of all failures count; the others censor (one failure mode of several).
    """

    name: str
    keep: Bools
    event: Bools | None = None


@dataclass(frozen=True)
class Answers:
    """A candidate's answers at every tick of a plant, made ready once."""

    ticks: Ticks
    forecast: Forecast
    outcomes: Outcomes
    judgement: Judgement
    life: LifeRows | None
    config: HazardConfig


@dataclass(frozen=True)
class RiskFigures:
    """The risk within the alarm's horizon: order, error, skill over the plant's Kaplan-Meier risk, calibration.

    ``recall_at_half``: recall by the calendar hour. Of all machine-hours with a failure within the alarm's horizon
    (48 h) ahead, the share flagged by the lowest threshold at which at least half of the flagged hours are such
    hours. Hours whose outcome is unknown are left out. The threshold is found on the hours that are judged, so the
    figure describes an order and is no promise; it is read beside failures caught, because ten flagged hours before
    one failure are one success, not ten. It is the measure in which public results on hourly data are given.
    """

    auc: Estimate
    average_precision: Estimate
    recall_at_half: Estimate
    brier: Estimate
    brier_skill: Estimate
    calibration_error: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class CandidateFigures:
    """Every figure; ``samples`` holds those that ``compare`` subtracts."""

    alarms: AlarmFigures
    risk: RiskFigures
    life: LifeFigures
    judgement: Judgement
    log_likelihood: Estimate = NONE
    samples: dict[str, Sample] = field(default_factory=dict)


def candidate_figures(
    ticks: Ticks, forecast: Forecast, *, config: HazardConfig, horizon: float, reference_risk: float,
    rng: np.random.Generator, draws: int = 200,
) -> CandidateFigures:  # fmt: skip
    """Judge a candidate on all ticks. ``reference_risk``: what the training part's Kaplan-Meier curve gives to all."""
    ready = answers(ticks, forecast, config=config, outcomes=Outcomes.of(ticks, horizon))
    return figures(ready, reference_risk=reference_risk, rng=rng, draws=draws, bands=True)


def answers(ticks: Ticks, forecast: Forecast, *, config: HazardConfig, outcomes: Outcomes) -> Answers:
    """Make a candidate's answers ready; ``outcomes`` are the same for all candidates."""
    life = None
    if forecast.hazard is not None and len(forecast.hazard):
        life = life_rows(ticks, forecast.hazard, config=config, levels=forecast.levels)
    judgement = judge(ticks, forecast.risk, forecast.threshold, AlarmRule.of(config))
    return Answers(ticks, forecast, outcomes, judgement, life, config)


def figures(
    ready: Answers, part: Part | None = None, *, reference_risk: float, rng: np.random.Generator, draws: int = 200,
    bands: bool = False,
) -> CandidateFigures:  # fmt: skip
    """Judge a candidate on a part of the ticks. Equal ``rng`` and part give equal draws for all candidates."""
    keep = np.ones(len(ready.ticks.now), bool) if part is None else part.keep
    all_causes = part is None or part.event is None
    given = ready.ticks if part is None or part.event is None else replace(ready.ticks, event=part.event)
    ticks, outcomes = given.within(keep), ready.outcomes.within(keep)
    judgement = ready.judgement.within(given, keep)
    drawn = Draws.of(ticks.num_machines, rng=rng, draws=draws)
    risk, samples = risk_figures(ticks, ready.forecast.risk[keep], outcomes, reference=reference_risk, draws=drawn)
    life, likelihood = NO_LIFE, NONE
    if ready.life is not None and len(ticks.now):
        own = ready.life.take(keep)
        inner = life_bands(ready.config) if bands else ()
        life = life_figures(ticks, own, draws=drawn, all_causes=all_causes, bands=inner)
        if all_causes:
            samples["log_likelihood"] = mean_of_ticks(own.log_likelihood, ticks, drawn)
            likelihood = samples["log_likelihood"].estimate()
    return CandidateFigures(alarm_figures(judgement, draws=drawn), risk, life, judgement, likelihood, samples)


def compare(first: CandidateFigures, second: CandidateFigures) -> dict[str, Estimate]:
    """The first's figure minus the second's, on the same draws, for what both have; more is better for all three.

    Average precision, Brier skill, and the censored log-likelihood of a tick. Raises ValueError where the two were
    not judged on the same draws.
    """
    both = [name for name in first.samples if name in second.samples]
    if any(len(first.samples[name].drawn) != len(second.samples[name].drawn) for name in both):
        raise ValueError("two candidates can be compared on equal draws of the same machines only")
    return {name: Sample.of(np.subtract, first.samples[name], second.samples[name]).estimate() for name in both}


def risk_figures(
    ticks: Ticks, risk: Floats, outcomes: Outcomes, *, reference: float, draws: Draws
) -> tuple[RiskFigures, dict[str, Sample]]:
    """Figures of a risk [N], and the samples that ``compare`` subtracts. ``ticks`` tell machines and lives alone."""
    if not len(risk):
        return RiskFigures(NONE, NONE, NONE, NONE, NONE, float("nan"), ()), {}
    failed, known, weight = outcomes.failed, outcomes.known, outcomes.weight
    ranking, of_known = Ranking(risk[known], failed[known]), ticks.machine[known]
    auc, average_precision, recall = draws.samples(lambda w: ranking.figures(PRECISION, w[of_known]))
    error = mean_of_ticks(squared_error(risk, failed, weight), ticks, draws)
    usual = mean_of_ticks(squared_error(np.full(len(risk), reference), failed, weight), ticks, draws)
    happened = mean_of_ticks(failed.astype(np.float64), ticks, draws)  # without a failure, whoever says least has skill
    skill = Sample.of(lambda a, b, h: np.where((b > 0) & (h > 0), 1.0 - a / b, np.nan), error, usual, happened)
    bins = reliability(risk, failed, weight, life=ticks.lives(), machine=ticks.machine, draws=draws)
    found = RiskFigures(
        auc.estimate(), average_precision.estimate(), recall.estimate(), error.estimate(), skill.estimate(),
        calibration_error(bins), tuple(bins),
    )  # fmt: skip
    return found, {"average_precision": average_precision, "brier_skill": skill}


def mean_of_ticks(values: Floats, ticks: Ticks, draws: Draws) -> Sample:
    """The mean of ``values`` [N] over ticks."""
    machine, num = ticks.machine, ticks.num_machines
    return draws.ratio(np.bincount(machine, values, num), np.bincount(machine, minlength=num))

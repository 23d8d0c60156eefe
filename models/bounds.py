"""Condition-triggered maintenance under both bounds: what if each replacement came just in time, or for nothing?

The one idea: whether a machine that was replaced on its condition would have failed cannot be seen, and people
replace those that look worst, so censoring is not independent there. Figures are shown as if it were, and between
two certainties: each such machine would have failed at that moment, or none would have within the horizon.

N rows. Source: Peterson (1976), "Bounds for a joint distribution function with fixed sub-distribution functions:
application to competing risks", PNAS 73.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.episodes import AlarmRule, alarm_figures, judge
from models.evaluation import Answers, Outcomes, mean_of_ticks, risk_figures
from models.hazard import log_likelihood
from models.labels import CONDITION, FINDING
from models.lifetimes import NONE
from models.metrics import Draws, Estimate

Assumed = Literal["failed", "never"]
Outcome = tuple[NDArray[np.float64], NDArray[np.bool_]]


def on_condition(ended_by: ArrayLike) -> NDArray[np.bool_]:
    """Rows [N] whose life ended in maintenance that the condition triggered."""
    return np.isin(np.asarray(ended_by), (CONDITION, FINDING))


def failed_at_once(time: ArrayLike, event: ArrayLike, ended_by: ArrayLike) -> Outcome:
    """Time and event [N] as if each machine that was replaced on its condition had failed at that moment."""
    return np.asarray(time, np.float64), np.asarray(event, bool) | on_condition(ended_by)


def never_within(time: ArrayLike, event: ArrayLike, ended_by: ArrayLike, *, horizon: float) -> Outcome:
    """Time and event [N] as if none of them would have failed within ``horizon`` of its row.

    Such a row is censored just past the horizon, or where it was if that is later still.
    """
    when, replaced = np.asarray(time, np.float64), on_condition(ended_by)
    past = np.nextafter(np.float64(horizon), np.inf)
    return np.where(replaced, np.maximum(when, past), when), np.asarray(event, bool) & ~replaced


@dataclass(frozen=True)
class Bounded:
    """A candidate's figures at one of the two bounds; those that what ended a life can move."""

    num_failures: int
    num_caught: int
    recall: Estimate
    auc: Estimate
    brier_skill: Estimate
    log_likelihood: Estimate


def at_bound(
    ready: Answers, ended_by: ArrayLike, assumed: Assumed, *, horizon: float, reference_risk: float,
    rng: np.random.Generator, draws: int = 100,
) -> Bounded:  # fmt: skip
    """Judge a candidate on all ticks [N] as if each machine replaced on its condition had ``failed`` then, or as if
    it would ``never`` have within ``horizon``. ``reference_risk`` as in ``models.evaluation.candidate_figures``.

    Failures and alarms are the log's own at the second bound: where nothing failed, there was nothing to catch.
    """
    logged, judgement = ready.ticks, ready.judgement
    if assumed == "failed":
        time, event = failed_at_once(logged.time, logged.event, ended_by)
        judgement = judge(
            replace(logged, event=event), ready.forecast.risk, ready.forecast.threshold, AlarmRule.of(ready.config)
        )
    else:
        time, event = never_within(logged.time, logged.event, ended_by, horizon=horizon)
    drawn = Draws.of(logged.num_machines, rng=rng, draws=draws)
    outcomes = Outcomes.of(replace(logged, time=time, event=event), horizon)
    risk, _ = risk_figures(logged, ready.forecast.risk, outcomes, reference=reference_risk, draws=drawn)
    hazard, likelihood = ready.forecast.hazard, NONE
    if hazard is not None and len(hazard):
        each = log_likelihood(hazard, ready.config.edges, time, event)
        likelihood = mean_of_ticks(np.asarray(each, np.float64), logged, drawn).estimate()
    alarms = alarm_figures(judgement, draws=drawn)
    return Bounded(alarms.num_failures, alarms.num_caught, alarms.recall, risk.auc, risk.brier_skill, likelihood)

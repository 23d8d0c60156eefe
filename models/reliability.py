"""Are the probabilities true? Brier, skill, reliability bins and interval coverage under censoring.

The one idea: a machine that left before the horizon is neither a failure nor a success, so the rows
whose outcome is known are weighted by the inverse of their chance to stay observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.metrics import Draws

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """A right-continuous step function that starts at 1: ``value[i]`` holds from ``time[i]`` on."""

    time: Floats
    value: Floats

    def at(self, when: ArrayLike) -> Floats:
        return self._step(when, "right")

    def before(self, when: ArrayLike) -> Floats:
        """The limit from the left."""
        return self._step(when, "left")

    def _step(self, when: ArrayLike, side: str) -> Floats:
        padded = np.concatenate([[1.0], self.value])
        where = np.searchsorted(self.time, np.asarray(when, np.float64), side="right" if side == "right" else "left")
        found: Floats = padded[where]
        return found


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows of similar predicted risk: what was said, what happened, how many rows, and how many failures followed
    (``num_failures``: a failure counts once, however many ticks precede it). ``low`` and ``high``: the observed
    share's 95 % interval by machine."""

    predicted: float
    observed: float
    count: int
    num_failures: int
    low: float = float("nan")
    high: float = float("nan")


def kaplan_meier(time: ArrayLike, event: ArrayLike) -> Curve:
    """Share still alive after each time of an event. Source: Kaplan and Meier (1958)."""
    t, died = np.asarray(time, np.float64), np.asarray(event, bool)
    if not died.any():
        return Curve(np.empty(0), np.empty(0))
    times, deaths = np.unique(t[died], return_counts=True)
    at_risk = len(t) - np.searchsorted(np.sort(t), times, side="left")
    return Curve(times, np.cumprod(1.0 - deaths / at_risk).astype(np.float64))


def known_outcomes(time: ArrayLike, event: ArrayLike, horizon: float) -> tuple[Bools, Bools, Floats]:
    """Whether each row failed within the horizon, whether that is known, and its inverse-censoring weight (0: unknown).

    The censoring's survival is Kaplan-Meier's over the rows given, all machines together, and floored at 5 %: it takes
    leaving to say nothing of the risk, as maintenance by the calendar does, and no row stands for more than 20. A part
    of the rows (young machines, one failure mode) keeps the weights of all: a few censorings fit no curve.
    Source: Graf et al. (1999), equation 5.
    """
    t, died = np.asarray(time, np.float64), np.asarray(event, bool)
    failed, survived = died & (t <= horizon), t > horizon
    staying = kaplan_meier(t, ~died)
    chance = np.where(failed, staying.before(t), staying.at(horizon))
    weight = np.where(failed | survived, 1.0 / np.maximum(chance, 0.05), 0.0)
    return failed, failed | survived, weight


def brier(risk: ArrayLike, failed: ArrayLike, outcome_weight: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean squared error of a probability, weighted by inverse censoring; over all rows, as Graf et al. divide."""
    w = np.ones(len(np.asarray(risk))) if weight is None else np.asarray(weight, np.float64)
    if w.sum() <= 0:
        return float("nan")
    return float((w * squared_error(risk, failed, outcome_weight)).sum() / w.sum())


def squared_error(risk: ArrayLike, failed: ArrayLike, outcome_weight: ArrayLike) -> Floats:
    """Each row's part of the Brier score [N]; 0 where the outcome is unknown."""
    p, y = np.asarray(risk, np.float64), np.asarray(failed, np.float64)
    found: Floats = np.asarray(outcome_weight, np.float64) * (y - p) ** 2
    return found


def skill(score: float, reference: float) -> float:
    """Share of the reference's Brier score that is saved: 1 is perfect, 0 no better, negative worse."""
    return 1.0 - score / reference if reference > 0 else float("nan")


def reliability(
    risk: ArrayLike, failed: ArrayLike, outcome_weight: ArrayLike, *, life: ArrayLike, machine: ArrayLike | None = None,
    draws: Draws | None = None, bins: int = 8,
) -> list[ReliabilityBin]:  # fmt: skip
    """Predicted against observed risk, in bins that are finer where risk is high; ties kept together.

    Only rows whose outcome is known, weighted by inverse censoring; empty bins are left out. ``life`` [N] tells
    failures apart; ``machine`` [N] and ``draws`` give each bin its interval.
    """
    p, y, w = np.asarray(risk, np.float64), np.asarray(failed, bool), np.asarray(outcome_weight, np.float64)
    lives, known = np.asarray(life), w > 0
    who = None if machine is None else np.asarray(machine, np.int64)[known]
    p, y, w, lives = p[known], y[known], w[known], lives[known]
    if not len(p):
        return []
    # Half of the rows hold almost no risk: cut finer where risk is high.
    shares = 1.0 - np.geomspace(1.0, 0.004, bins + 1)[1:-1]
    group = np.searchsorted(np.unique(np.quantile(p, shares)), p, side="left")
    found = []
    for index in np.unique(group):
        rows = group == index
        weight = w[rows].sum()
        low = high = float("nan")
        if draws is not None and who is not None:
            num = draws.weight.shape[1]
            happened, all_of_it = (np.bincount(who[rows], v[rows], num) for v in (w * y, w))
            seen = draws.ratio(happened, all_of_it).estimate()
            low, high = seen.low, seen.high
        found.append(
            ReliabilityBin(
                float((w[rows] * p[rows]).sum() / weight), float((w[rows] * y[rows]).sum() / weight),
                int(rows.sum()), len(np.unique(lives[rows & y])), low, high,
            )
        )  # fmt: skip
    return found


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Mean distance of observed from predicted risk, bins weighted by their rows. Source: Naeini et al. (2015)."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.predicted - b.observed) for b in bins) / total if total else float("nan")


def coverage(cdf_at_time: ArrayLike, event: ArrayLike, level: float = 0.8, weight: ArrayLike | None = None) -> float:
    """Share of lives inside the central interval, ``cdf_at_time`` being the predicted F(time) of each row."""
    inside = inside_interval(cdf_at_time, event, level)
    w = np.ones(len(inside)) if weight is None else np.asarray(weight, np.float64)
    return float((w * inside).sum() / w.sum()) if w.sum() > 0 else float("nan")


def inside_interval(cdf_at_time: ArrayLike, event: ArrayLike, level: float = 0.8) -> Floats:
    """How much of each row's life [N] lies inside the central interval: 0 or 1 where the failure came.

    A censored row counts by the share of the interval that it may still reach, given that it is
    alive: leaving such rows out would count short lives only. That share is the prediction's own, so rows that
    ``settled`` does not mark cannot speak against it.
    Source: Haider et al. (2020), D-calibration, equation 5.
    """
    u, died = np.asarray(cdf_at_time, np.float64), np.asarray(event, bool)
    low, high = (1 - level) / 2, (1 + level) / 2
    reachable = np.clip(high - np.maximum(u, low), 0.0, None) / np.maximum(1.0 - u, 1e-12)
    found: Floats = np.where(died, (u >= low) & (u <= high), reachable)
    return found


def settled(cdf_at_time: ArrayLike, event: ArrayLike, level: float = 0.8) -> Bools:
    """Rows [N] whose answer the log knows: the failure came, or the life has outlived the interval."""
    found: Bools = np.asarray(event, bool) | (np.asarray(cdf_at_time, np.float64) > (1 + level) / 2)
    return found


def as_served(cdf: ArrayLike, levels: tuple[float, float, float]) -> Floats:
    """The predicted F on the scale on which ``levels`` are served as p10, p50 and p90; linear between.

    A model that serves its quantiles at 0.05, 0.5 and 0.97 claims 80 % between them, so 0.05 counts as 0.1 here.
    """
    found: Floats = np.interp(np.asarray(cdf, np.float64), (0.0, *levels, 1.0), (0.0, 0.1, 0.5, 0.9, 1.0))
    return found

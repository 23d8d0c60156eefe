"""Are the probabilities true? Brier, skill, reliability bins and interval coverage under censoring.

The one idea: a machine that left before the horizon is neither a failure nor a success, so the rows
whose outcome is known are weighted by the inverse of their chance to stay observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    """Rows of similar predicted risk: what was said, what happened, how many rows, and how many machines failed
    in them (``num_failures``: a machine counts once, however many of its ticks precede the failure)."""

    predicted: float
    observed: float
    count: int
    num_failures: int


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

    Source: Graf et al. (1999), equation 5; the censoring's survival is Kaplan-Meier's, floored at 5 %.
    """
    t, died = np.asarray(time, np.float64), np.asarray(event, bool)
    failed, survived = died & (t <= horizon), t > horizon
    staying = kaplan_meier(t, ~died)
    chance = np.where(failed, staying.before(t), staying.at(horizon))
    weight = np.where(failed | survived, 1.0 / np.maximum(chance, 0.05), 0.0)
    return failed, failed | survived, weight


def brier(risk: ArrayLike, failed: ArrayLike, outcome_weight: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean squared error of a probability, weighted by inverse censoring; over all rows, as Graf et al. divide."""
    p, y = np.asarray(risk, np.float64), np.asarray(failed, np.float64)
    w = np.ones(len(p)) if weight is None else np.asarray(weight, np.float64)
    if w.sum() <= 0:
        return float("nan")
    return float((w * np.asarray(outcome_weight) * (y - p) ** 2).sum() / w.sum())


def skill(score: float, reference: float) -> float:
    """Share of the reference's Brier score that is saved: 1 is perfect, 0 no better, negative worse."""
    return 1.0 - score / reference if reference > 0 else float("nan")


def reliability(
    risk: ArrayLike, failed: ArrayLike, outcome_weight: ArrayLike, *, machine: ArrayLike, bins: int = 8
) -> list[ReliabilityBin]:
    """Predicted against observed risk, in bins that are finer where risk is high; ties kept together.

    Only rows whose outcome is known, weighted by inverse censoring; empty bins are left out.
    """
    p, y, w = np.asarray(risk, np.float64), np.asarray(failed, bool), np.asarray(outcome_weight, np.float64)
    machines, known = np.asarray(machine), w > 0
    p, y, w, machines = p[known], y[known], w[known], machines[known]
    if not len(p):
        return []
    # Half of the rows hold almost no risk: cut finer where risk is high.
    shares = 1.0 - np.geomspace(1.0, 0.004, bins + 1)[1:-1]
    group = np.searchsorted(np.unique(np.quantile(p, shares)), p, side="left")
    found = []
    for index in np.unique(group):
        rows = group == index
        weight = w[rows].sum()
        found.append(
            ReliabilityBin(
                float((w[rows] * p[rows]).sum() / weight), float((w[rows] * y[rows]).sum() / weight),
                int(rows.sum()), len(np.unique(machines[rows & y])),
            )
        )  # fmt: skip
    return found


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Mean distance of observed from predicted risk, bins weighted by their rows. Source: Naeini et al. (2015)."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.predicted - b.observed) for b in bins) / total if total else float("nan")


def coverage(cdf_at_time: ArrayLike, event: ArrayLike, level: float = 0.8, weight: ArrayLike | None = None) -> float:
    """Share of lives inside the central interval, ``cdf_at_time`` being the predicted F(time) of each row.

    A censored row counts by the share of the interval that it may still reach, given that it is
    alive: leaving such rows out would count short lives only.
    Source: Haider et al. (2020), D-calibration, equation 5.
    """
    u, died = np.asarray(cdf_at_time, np.float64), np.asarray(event, bool)
    w = np.ones(len(u)) if weight is None else np.asarray(weight, np.float64)
    low, high = (1 - level) / 2, (1 + level) / 2
    reachable = np.clip(high - np.maximum(u, low), 0.0, None) / np.maximum(1.0 - u, 1e-12)
    inside = np.where(died, (u >= low) & (u <= high), reachable)
    return float((w * inside).sum() / w.sum()) if w.sum() > 0 else float("nan")

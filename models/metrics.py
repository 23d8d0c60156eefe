"""Figures of merit on plain arrays, each with optional row weights so that machines can be resampled.

The one idea: a bootstrap by machine is a weight a machine, so every figure takes ``weight`` and
is computed once a draw without copying rows. A figure that has no meaning (no positive, no pair)
is NaN, never zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % percentile interval; NaN where there is none."""

    value: float
    low: float
    high: float


def rmse(predicted: ArrayLike, actual: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Root of the mean squared error."""
    error = np.asarray(predicted, np.float64) - np.asarray(actual, np.float64)
    return float(np.sqrt(_mean(error**2, weight)))


def asymmetric_score(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Sum of penalties; predicting too long a life costs more. Source: Saxena et al., PHM08, equation 1."""
    late = np.asarray(predicted, np.float64) - np.asarray(actual, np.float64)
    return float(np.where(late < 0, np.expm1(-late / 13.0), np.expm1(late / 10.0)).sum())


class Ranking:
    """Scores of positives and negatives, sorted once, so that a bootstrap costs a sum a draw."""

    def __init__(self, score: ArrayLike, positive: ArrayLike) -> None:
        self._positive = np.asarray(positive, bool)
        distinct, self._group = np.unique(-np.asarray(score, np.float64), return_inverse=True)
        self._num_groups = len(distinct)

    def auc(self, weight: ArrayLike | None = None) -> float:
        """Chance that a positive scores above a negative, ties half. Source: Hanley and McNeil (1982)."""
        true, false = self._weigh(weight)
        if true.sum() <= 0 or false.sum() <= 0:
            return float("nan")
        below = np.cumsum(false[::-1])[::-1] - false  # negatives that score less than this group
        return float((true * (below + false / 2)).sum() / (true.sum() * false.sum()))

    def average_precision(self, weight: ArrayLike | None = None) -> float:
        """Precision averaged over the steps of recall, ties as one step, as scikit-learn defines it."""
        true, false = self._weigh(weight)
        if true.sum() <= 0:
            return float("nan")
        found, wrong = np.cumsum(true), np.cumsum(false)
        precision = found / np.maximum(found + wrong, 1e-300)
        return float((true * precision).sum() / true.sum())

    def _weigh(self, weight: ArrayLike | None) -> tuple[Floats, Floats]:
        """Weight of positives and of negatives at each distinct score, highest score first."""
        w = _weights(weight, len(self._positive))
        true = np.bincount(self._group, w * self._positive, minlength=self._num_groups)
        false = np.bincount(self._group, w * ~self._positive, minlength=self._num_groups)
        return true.astype(np.float64), false.astype(np.float64)


def auc(score: ArrayLike, positive: ArrayLike, weight: ArrayLike | None = None) -> float:
    return Ranking(score, positive).auc(weight)


def average_precision(score: ArrayLike, positive: ArrayLike, weight: ArrayLike | None = None) -> float:
    return Ranking(score, positive).average_precision(weight)


def concordance(risk: ArrayLike, time: ArrayLike, event: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Share of comparable pairs in which the one that fails first has the higher risk. Source: Harrell (1982).

    A pair is comparable where the earlier time is a failure and the other time is later. Takes a
    time that grows with the square of the rows: thin long series first.
    """
    risk, time, event = np.asarray(risk, np.float64), np.asarray(time, np.float64), np.asarray(event, bool)
    w = _weights(weight, len(risk))
    good = pairs = 0.0
    for index in np.flatnonzero(event & (w > 0)):
        later = time > time[index]
        wins = (risk[later] < risk[index]) + 0.5 * (risk[later] == risk[index])
        good += float(w[index] * (wins * w[later]).sum())
        pairs += float(w[index] * w[later].sum())
    return good / pairs if pairs > 0 else float("nan")


def estimate(
    statistic: Callable[[Floats], float], num_machines: int, *, rng: np.random.Generator, draws: int = 300
) -> Estimate:
    """A statistic of the machines' weights [M] with its bootstrap interval by machine.

    Machines are drawn with replacement; draws in which the figure has no meaning are left out, and
    where fewer than half have one, so is the interval. It is left out too where all draws agree: no draw
    can show what was never seen, so 0 of 10 caught is not «0 % to 0 %». Source: Efron (1979), percentile interval.
    """
    value = statistic(np.ones(num_machines))
    if num_machines < 2:
        return Estimate(value, float("nan"), float("nan"))
    weights = rng.multinomial(num_machines, np.full(num_machines, 1 / num_machines), size=draws).astype(np.float64)
    found = np.array([statistic(weight) for weight in weights])
    found = found[np.isfinite(found)]
    if len(found) * 2 < draws:
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(found, (0.025, 0.975))
    if np.ptp(found) <= 1e-9 * max(1.0, abs(value)):
        return Estimate(value, float("nan"), float("nan"))
    return Estimate(value, float(low), float(high))


def weighted_quantile(values: ArrayLike, q: float, weight: ArrayLike | None = None) -> float:
    """The smallest value with at least a share ``q`` of the weight at or below it; NaN of nothing."""
    found = np.asarray(values, np.float64)
    w = _weights(weight, len(found))
    found, w = found[w > 0], w[w > 0]
    if not len(found):
        return float("nan")
    order = np.argsort(found, kind="stable")
    reached = np.cumsum(w[order]) >= q * w.sum() - 1e-12
    return float(found[order][int(np.argmax(reached))])


def _weights(weight: ArrayLike | None, length: int) -> Floats:
    return np.ones(length) if weight is None else np.asarray(weight, np.float64)


def _mean(values: Floats, weight: ArrayLike | None) -> float:
    w = _weights(weight, len(values))
    return float((w * values).sum() / w.sum()) if w.sum() > 0 else float("nan")

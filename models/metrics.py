"""Figures of merit on plain arrays, each with optional row weights so that machines can be resampled.

The one idea: a bootstrap by machine is a weight a machine, so every figure takes ``weight`` and
is computed once a draw without copying rows; figures of the same draws can be subtracted, so that what two
models share cancels out. A figure that has no meaning (no positive, no pair) is NaN, never zero.

D draws, M machines, N rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Sample:
    """A figure and what it came to in each draw [D]."""

    value: float
    drawn: Floats

    @staticmethod
    def of(formula: Callable[..., Any], *samples: Sample) -> Sample:
        """A figure that follows from others of the same draws by a formula that takes arrays too."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(formula(*(np.float64(s.value) for s in samples)))
            return Sample(value, np.asarray(formula(*(s.drawn for s in samples)), np.float64))

    def estimate(self) -> Estimate:
        """The value with its percentile interval. Source: Efron (1979).

        Draws in which the figure has no meaning are left out, and where fewer than half have one, so is the
        interval. It is left out too where all draws agree: no draw can show what was never seen, so 0 of 10 caught
        is not «0 % to 0 %».
        """
        found = self.drawn[np.isfinite(self.drawn)]
        if not len(found) or len(found) * 2 < len(self.drawn) or np.ptp(found) <= 1e-9 * max(1.0, abs(self.value)):
            return Estimate(self.value, float("nan"), float("nan"))
        low, high = np.quantile(found, (0.025, 0.975))
        return Estimate(self.value, float(low), float(high))


@dataclass(frozen=True)
class Draws:
    """How often each machine is drawn, with replacement: ``weight`` [D, M]; none for a single machine."""

    weight: Floats

    @staticmethod
    def of(num_machines: int, *, rng: np.random.Generator, draws: int = 300) -> Draws:
        if num_machines < 2:
            return Draws(np.empty((0, num_machines)))
        even = np.full(num_machines, 1 / num_machines)
        return Draws(rng.multinomial(num_machines, even, size=draws).astype(np.float64))

    def samples(self, statistic: Callable[[Floats], tuple[float, ...]]) -> tuple[Sample, ...]:
        """Figures that a function finds together, from the machines' weights [M]."""
        values = statistic(np.ones(self.weight.shape[1]))
        drawn = np.array([statistic(weight) for weight in self.weight], np.float64).reshape(-1, len(values))
        return tuple(Sample(float(value), drawn[:, place]) for place, value in enumerate(values))

    def sample(self, statistic: Callable[[Floats], float]) -> Sample:
        return self.samples(lambda weight: (statistic(weight),))[0]

    def ratio(self, above: ArrayLike, below: ArrayLike) -> Sample:
        """A sum over machines by another, ``above`` [M] and ``below`` [M]; NaN where the second is not positive."""
        a, b = np.asarray(above, np.float64), np.asarray(below, np.float64)
        return Sample.of(lambda x, y: np.where(y > 0, x / y, np.nan), Sample(a.sum(), self.weight @ a),
                         Sample(b.sum(), self.weight @ b))  # fmt: skip


def rmse(predicted: ArrayLike, actual: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Root of the mean squared error."""
    error = np.asarray(predicted, np.float64) - np.asarray(actual, np.float64)
    return float(np.sqrt(_mean(error**2, weight)))


def asymmetric_score(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Sum of penalties; predicting too long a life costs more. Source: Saxena et al., PHM08, equation 1."""
    return float(asymmetric_penalty(predicted, actual).sum())


def asymmetric_penalty(predicted: ArrayLike, actual: ArrayLike) -> Floats:
    """The penalty of each row [N], in cycles of a life that is clipped at 125. Source: as ``asymmetric_score``."""
    late = np.asarray(predicted, np.float64) - np.asarray(actual, np.float64)
    found: Floats = np.where(late < 0, np.expm1(-late / 13.0), np.expm1(late / 10.0))
    return found


class Ranking:
    """Scores of positives and negatives, sorted once, so that a bootstrap costs a sum a draw."""

    def __init__(self, score: ArrayLike, positive: ArrayLike) -> None:
        self._positive = np.asarray(positive, bool)
        distinct, self._group = np.unique(-np.asarray(score, np.float64), return_inverse=True)
        self._num_groups = len(distinct)

    def auc(self, weight: ArrayLike | None = None) -> float:
        """Chance that a positive scores above a negative, ties half. Source: Hanley and McNeil (1982)."""
        true, false = self._weigh(weight)
        return _auc(true, false, np.cumsum(false))

    def average_precision(self, weight: ArrayLike | None = None) -> float:
        """Precision averaged over the steps of recall, ties as one step, as scikit-learn defines it."""
        true, false = self._weigh(weight)
        return _average_precision(true, np.cumsum(true), np.cumsum(false))

    def recall_at_precision(self, precision: float, weight: ArrayLike | None = None) -> float:
        """The highest share of positives that one threshold flags of whose flagged rows a share ``precision`` is right.

        The threshold is found on the rows that are judged: it describes an order of rows, and promises nothing of
        a threshold that was chosen before. 0 where no threshold is that precise. Davis and Goadrich (2006), "The
        relationship between precision-recall and ROC curves", on reading recall off the curve that is attained.
        """
        true, false = self._weigh(weight)
        return _recall_at(precision, np.cumsum(true), np.cumsum(false))

    def figures(self, precision: float, weight: ArrayLike | None = None) -> tuple[float, float, float]:
        """AUC, average precision, and recall at a precision, for the price of one."""
        true, false = self._weigh(weight)
        found, wrong = np.cumsum(true), np.cumsum(false)
        return _auc(true, false, wrong), _average_precision(true, found, wrong), _recall_at(precision, found, wrong)

    def _weigh(self, weight: ArrayLike | None) -> tuple[Floats, Floats]:
        """Weight of positives and of negatives at each distinct score, highest score first."""
        w = _weights(weight, len(self._positive))
        true = np.bincount(self._group, w * self._positive, minlength=self._num_groups)
        false = np.bincount(self._group, w * ~self._positive, minlength=self._num_groups)
        return true.astype(np.float64), false.astype(np.float64)


def _auc(true: Floats, false: Floats, wrong: Floats) -> float:
    """``true`` and ``false`` by score, highest first; ``wrong`` sums the false down to each score."""
    if not len(true) or true.sum() <= 0 or wrong[-1] <= 0:
        return float("nan")
    below = wrong[-1] - wrong  # negatives that score less
    return float((true * (below + false / 2)).sum() / (true.sum() * wrong[-1]))


def _average_precision(true: Floats, found: Floats, wrong: Floats) -> float:
    if not len(true) or found[-1] <= 0:
        return float("nan")
    return float((true * found / np.maximum(found + wrong, 1e-300)).sum() / found[-1])


def _recall_at(precision: float, found: Floats, wrong: Floats) -> float:
    if not len(found) or found[-1] <= 0:
        return float("nan")
    good = found >= precision * (found + wrong) - 1e-12
    return float(found[good].max(initial=0.0) / found[-1])


def auc(score: ArrayLike, positive: ArrayLike, weight: ArrayLike | None = None) -> float:
    return Ranking(score, positive).auc(weight)


def average_precision(score: ArrayLike, positive: ArrayLike, weight: ArrayLike | None = None) -> float:
    return Ranking(score, positive).average_precision(weight)


class Pairs:
    """Comparable pairs counted once, machine against machine, so that a bootstrap costs a product a draw.

    A pair is comparable where the earlier time is a failure and the other time is later; it is won where the one
    that fails first has the higher risk, half where risks are equal. ``machine`` [N] counts from 0; without it,
    each row is a machine of its own. Time grows with the square of the rows: thin long series first.
    """

    def __init__(self, risk: ArrayLike, time: ArrayLike, event: ArrayLike, machine: ArrayLike | None = None) -> None:
        risk, time, event = np.asarray(risk, np.float64), np.asarray(time, np.float64), np.asarray(event, bool)
        given = np.arange(len(risk)) if machine is None else np.asarray(machine, np.int64)
        self._present, own = np.unique(given, return_inverse=True)
        num = len(self._present)
        self._won, self._compared = np.zeros((num, num)), np.zeros((num, num))
        for index in np.flatnonzero(event):
            later = time > time[index]
            wins = (risk[later] < risk[index]) + 0.5 * (risk[later] == risk[index])
            self._won[own[index]] += np.bincount(own[later], wins, num)
            self._compared[own[index]] += np.bincount(own[later], minlength=num)

    def concordance(self, weight: ArrayLike | None = None) -> float:
        """Share of the comparable pairs that are won, by the machines' weights [M]. Source: Harrell (1982)."""
        w = np.ones(len(self._present)) if weight is None else np.asarray(weight, np.float64)[self._present]
        compared = float(w @ self._compared @ w)
        return float(w @ self._won @ w) / compared if compared > 0 else float("nan")


def concordance(risk: ArrayLike, time: ArrayLike, event: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Share of comparable pairs that are won, see ``Pairs``; ``weight`` [N] counts rows. Source: Harrell (1982)."""
    return Pairs(risk, time, event).concordance(weight)


def estimate(
    statistic: Callable[[Floats], float], num_machines: int, *, rng: np.random.Generator, draws: int = 300
) -> Estimate:
    """A statistic of the machines' weights [M] with its bootstrap interval by machine, see ``Sample.estimate``."""
    return Draws.of(num_machines, rng=rng, draws=draws).sample(statistic).estimate()


def paired(
    first: Callable[[Floats], float], second: Callable[[Floats], float], num_machines: int, *,
    rng: np.random.Generator, draws: int = 300,
) -> Estimate:  # fmt: skip
    """The first statistic minus the second, each of the machines' weights [M], with the interval of the difference.

    Both see the same draws, so what is hard for both cancels out: with an interval above zero the first is larger,
    even where the two intervals overlap. A machine is whatever is drawn: an engine, an episode, a fold's plant.
    Source: Efron and Tibshirani (1993), section 8.3, on resampling pairs.
    """
    one, other = Draws.of(num_machines, rng=rng, draws=draws).samples(lambda weight: (first(weight), second(weight)))
    return Sample.of(lambda a, b: a - b, one, other).estimate()


class SortedValues:
    """Values [N] sorted once, so that a quantile costs a sum a draw."""

    def __init__(self, values: ArrayLike) -> None:
        given = np.asarray(values, np.float64)
        self._order = np.argsort(given, kind="stable")
        self._values = given[self._order]

    def quantile(self, q: float, weight: ArrayLike | None = None) -> float:
        """The smallest value with at least a share ``q`` of the weight at or below it; NaN of nothing."""
        w = _weights(weight, len(self._order))[self._order]
        reached = np.cumsum(w)
        if not len(w) or reached[-1] <= 0:
            return float("nan")
        place = int(np.searchsorted(reached, max(q * reached[-1] - 1e-12, 1e-300), side="left"))
        return float(self._values[min(place, len(w) - 1)])


def weighted_quantile(values: ArrayLike, q: float, weight: ArrayLike | None = None) -> float:
    """The smallest value with at least a share ``q`` of the weight at or below it; NaN of nothing."""
    return SortedValues(values).quantile(q, weight)


def _weights(weight: ArrayLike | None, length: int) -> Floats:
    return np.ones(length) if weight is None else np.asarray(weight, np.float64)


def _mean(values: Floats, weight: ArrayLike | None) -> float:
    w = _weights(weight, len(values))
    return float((w * values).sum() / w.sum()) if w.sum() > 0 else float("nan")

"""Intervals of remaining life that cover what they say: at which levels p10, p50 and p90 are read off the curve.

The one idea: a true curve puts a machine's life at a uniform level, ``u = F(T)``. Where lives of a later slice fall
elsewhere, p10 is read where a tenth of the lives lay below and p90 where a tenth lay above. The curve, hence every
probability, stays as it is, and one order of levels keeps the quantiles in order. Each life has one vote, spread over
its ticks, since the ticks before one failure tell the same story. A life that was censored, or goes on past the last
edge, is known to lie above its level, and the product limit estimator gives its vote to those that were seen above.

Source: Chernozhukov, Wuthrich & Zhu (2021), "Distributional conformal prediction", PNAS 118, on F(T) as the score;
Lee, Barber & Willett (2023), "Distribution-free inference with hierarchical data", arXiv:2306.06342, on one vote a
block; Vovk, Gammerman & Shafer (2005), section 2.2, on the newcomer's vote, halved; Candes, Lei & Ren (2023), JRSS-B
85, and Gui, Hore, Ren & Barber (2024), Biometrika 111, on censoring, whose inverse weights on this scale are the
product limit (Satten & Datta 2001, The American Statistician 55). Legend: N ticks, K1 bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.episodes import Ticks
from models.hazard import Float64, quantiles, survival_at
from models.metrics import Estimate, estimate

Levels = tuple[float, float, float]
NOMINAL: Levels = (0.1, 0.5, 0.9)
# Failures below which levels lean on the fleet's and are never narrower than nominal.
ENOUGH = 20
# How far from nominal the levels of a calibrated curve are believed to lie before any life is seen (one deviation).
SPREAD = 0.06
# Nothing beyond these can be learned from a slice: one life in two hundred.
LIMITS = (0.005, 0.995)
# The least of 1, 2, 4 and 8 by which the models of FD001 were, on average, no surer without any one sensor.
MISSING_POWER = 4


@dataclass(frozen=True)
class LevelCurve:
    """Share of lives at or below each level: ``share`` [L] at ``level`` [L], straight between, (0, 0) to (1, 1)."""

    level: Float64
    share: Float64

    def at(self, share: float) -> float:
        """The level that this share of lives does not pass."""
        return float(np.interp(share, self.share, self.level))


def fit_levels(
    hazard: NDArray[np.float32], edges: Sequence[float], ticks: Ticks, *, toward: Levels = NOMINAL
) -> Levels:
    """Levels of p10, p50 and p90 from calibrated hazards [N, K1] at the ticks of a slice that no weight was fitted to.

    A study's slice has also chosen the epoch and the calibration, so what it covers is no measure of later coverage.

    The fewer the lives, the nearer to ``toward``; with fewer than 20 failures never inside nominal. Both ends move on
    their own; p50 only as far as it stays between them.
    """
    level, seen = levels_of(hazard, edges, ticks.time, ticks.event)
    lives = ticks.lives()
    num = len(np.unique(lives[seen]))
    if num == 0:
        return toward
    curve = level_curve(level, seen, lives)
    low, middle, high = (
        _learned(curve.at(((num + 1) * share - 0.5) / num), start, num)
        for share, start in zip(NOMINAL, toward, strict=True)
    )
    if num < ENOUGH:
        low, high = min(low, NOMINAL[0]), max(high, NOMINAL[2])
    low, high = max(low, LIMITS[0]), min(high, LIMITS[1])
    if not low < middle < high:
        middle = toward[1] if low < toward[1] < high else (low + high) / 2
    return (round(low, 6), round(middle, 6), round(high, 6))


def widened(levels: Levels, missing: ArrayLike) -> Float64:
    """Levels [B, 3] of windows in which this share [B] of the plant's sensors says nothing: outwards, never inwards.

    A model that has not learned without a sensor may be surer without it. Its curve stays; each end keeps a
    ``(1 - missing) ** 4`` of the chance outside it, so that with nothing known every life is covered.
    """
    kept = (1.0 - np.asarray(missing, np.float64)) ** MISSING_POWER
    low, middle, high = levels
    columns = (low * kept, np.full_like(kept, middle), np.minimum(1.0 - (1.0 - high) * kept, 1.0 - 1e-12))
    return np.column_stack(columns)


def levels_of(
    hazard: NDArray[np.float32], edges: Sequence[float], time: ArrayLike, event: ArrayLike
) -> tuple[Float64, NDArray[np.bool_]]:
    """The level F(time) of each row [N], and whether the failure was seen there; else it lies above."""
    when, last = np.asarray(time, np.float64), float(edges[-1])
    seen = np.asarray(event, bool) & (when <= last)
    level = np.subtract(1.0, survival_at(hazard, edges, np.minimum(when, last)))
    return level, seen


def level_curve(level: Float64, seen: NDArray[np.bool_], lives: NDArray[np.int64]) -> LevelCurve:
    """Where lives fall, each with one vote, by the product limit estimator of Kaplan & Meier (1958).

    Above the highest level at which a failure was seen nothing is known, and the rest is spread evenly.
    """
    _, life, count = np.unique(lives, return_inverse=True, return_counts=True)
    order = np.lexsort((~seen, level))
    weight, died, at = (1.0 / count[life])[order], seen[order], level[order]
    at_risk = np.cumsum(weight[::-1])[::-1]
    alive = np.cumprod(1.0 - np.where(died, weight / at_risk, 0.0))
    after = 1.0 - alive[died]
    middle = (np.concatenate([[0.0], after[:-1]]) + after) / 2
    level_L = np.concatenate([[0.0], at[died], [1.0]])
    share_L = np.concatenate([[0.0], middle, [1.0]])
    return LevelCurve(level_L, share_L)


def _learned(found: float, start: float, num: int) -> float:
    """Between ``start`` and what ``num`` lives say, by the precision of each, on the scale of log-odds."""
    error = start * (1.0 - start) / num  # variance of a share of so many lives
    trust = SPREAD**2 / (SPREAD**2 + error)
    logit = trust * _logit(found) + (1.0 - trust) * _logit(start)
    return 1.0 / (1.0 + math.exp(-logit))


def _logit(share: float) -> float:
    held = min(max(share, LIMITS[0]), LIMITS[1])
    return math.log(held) - math.log1p(-held)


@dataclass(frozen=True)
class IntervalFigures:
    """Intervals of remaining life against lives that ended, with 95 % bootstrap intervals over machines.

    ``coverage`` takes an interval as it is served: one that goes on past the last edge covers every longer life, so it
    lies above its level wherever the curve ends early. ``counted`` stops looking at the last edge and gives a longer
    life the share of the interval that lies there (Haider et al. 2020, equation 5): a true curve gives the level.
    ``width`` is the median, upper ends held at the last edge; ``beyond`` the share of intervals that go on past it.
    """

    coverage: Estimate
    counted: Estimate
    width: float
    beyond: float
    below: float  # lives that ended before the interval
    above: float
    count: int


def interval_figures(
    hazard: NDArray[np.float32], edges: Sequence[float], levels: ArrayLike, life: ArrayLike, *,
    machine: NDArray[np.int64] | None = None, draws: int = 2000, seed: int = 0,
) -> IntervalFigures:  # fmt: skip
    """Judge the intervals that hazards [N, K1] give at ``levels``, [3] or each row's own [N, 3], by ``life`` [N].

    ``machine`` [N] counts from 0 and says which rows are of one machine (None: each row is a machine).
    """
    when, last = np.asarray(life, np.float64), float(edges[-1])
    first, _, final = np.broadcast_to(np.asarray(levels, np.float64), (len(when), 3)).T
    low, high = np.minimum(quantiles(hazard, edges, np.column_stack([first, final])), last).T
    rows = np.arange(len(when)) if machine is None else machine
    beyond = high >= last
    below, above = when < low, (when > high) & ~beyond
    inside = ~(below | above)
    level, seen = levels_of(hazard, edges, when, np.ones(len(when), bool))
    ahead = np.clip(final - np.maximum(level, first), 0.0, None) / np.maximum(1.0 - level, 1e-12)
    counted = np.where(seen, (level >= first) & (level <= final), ahead)
    rng, num = np.random.default_rng(seed), int(rows.max()) + 1
    return IntervalFigures(
        estimate(lambda w: float(np.average(inside, weights=w[rows])), num, rng=rng, draws=draws),
        estimate(lambda w: float(np.average(counted, weights=w[rows])), num, rng=rng, draws=draws),
        width=float(np.median(high - low)), beyond=float(beyond.mean()), below=float(below.mean()),
        above=float(above.mean()), count=num,
    )  # fmt: skip

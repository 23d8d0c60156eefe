"""Remaining life judged: its error, its order, and how often and how tightly the 80 % interval holds it.

The one idea: lives are long and records are short, so most lives are censored. What needs the failure (errors) says
on what it is conditional; what can do without it (order, coverage) uses every tick and says how much of it the log
could settle.

Bands of *true* life look at failures alone and know how it ended: of lives that turned out short, most lay below any
honest p10, so coverage there is biased even for a perfect model. Bands of the *predicted* median are what a planner
can see beforehand and check; a calibrated model covers 80 % in each of them.

N ticks, K inner edges, M machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.config import HazardConfig
from models.episodes import Ticks
from models.hazard import log_likelihood, quantiles, restricted_mean, survival_at
from models.metrics import Draws, Estimate, Pairs, Sample, SortedValues, asymmetric_penalty
from models.reliability import as_served, inside_interval, settled

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEVELS = (0.1, 0.5, 0.9)
NONE = Estimate(float("nan"), float("nan"), float("nan"))
MAX_PAIRED = 1500  # rows of the concordance, which compares all pairs
PHM_CAP = 125.0  # cycles; the life that the asymmetric score's constants were made for


@dataclass(frozen=True)
class LifeRows:
    """What a candidate says of each tick's remaining life, ready to be judged on any part of the ticks; all [N].

    ``low``, ``median``, ``high`` are the served quantiles, held at ``last``, the last edge; ``beyond``: the upper
    one lies past it. ``mean`` is E[min(T, limit)], ``limit`` being the longest horizon; ``order`` the same up to the
    last edge. ``cdf`` is F at the tick's label, on the served scale.
    """

    low: Floats
    median: Floats
    high: Floats
    beyond: Bools
    mean: Floats
    order: Floats
    cdf: Floats
    log_likelihood: Floats
    limit: float
    last: float

    def take(self, keep: Bools) -> LifeRows:
        return LifeRows(
            self.low[keep], self.median[keep], self.high[keep], self.beyond[keep], self.mean[keep], self.order[keep],
            self.cdf[keep], self.log_likelihood[keep], self.limit, self.last,
        )  # fmt: skip


@dataclass(frozen=True)
class Band:
    """Ticks whose life, true or predicted, lies in (``low``, ``high``]; ``width`` is the interval's median width.

    ``settled`` is the share of ticks whose answer the log knows, ``beyond`` that of intervals open at the top.
    """

    low: float
    high: float
    coverage: Estimate
    width: float
    beyond: float
    settled: float
    num_ticks: int
    num_failures: int


@dataclass(frozen=True)
class LifeFigures:
    """Remaining life in life units.

    ``median_error``, ``rmse`` and ``asymmetric`` are conditional on the end: ticks whose failure came within
    ``limit``, the longest horizon, where a planner would act (``num_failures`` of them). A model that always says
    «soon» looks well in them: read them beside the false alarms. ``median_error`` is the median absolute error of
    p50, ``rmse`` that of E[min(T, limit)], ``asymmetric`` its mean penalty a tick, with ``limit`` counted as 125
    cycles so that the score's constants keep their meaning.
    """

    median_error: Estimate
    rmse: Estimate
    asymmetric: Estimate
    num_failures: int
    limit: float
    concordance: Estimate
    coverage_80: Estimate
    width_80: float  # median width, ends past the last edge held there, as served
    beyond_80: float  # share of intervals whose upper end lies past the last edge
    settled_80: float
    by_predicted: tuple[Band, ...] = ()
    by_true: tuple[Band, ...] = ()


NO_LIFE = LifeFigures(NONE, NONE, NONE, 0, float("nan"), NONE, NONE, float("nan"), float("nan"), float("nan"))


def life_rows(
    ticks: Ticks, hazard_NK: NDArray[np.float32], *, config: HazardConfig,
    levels: tuple[float, float, float] = LEVELS,
) -> LifeRows:  # fmt: skip
    """Everything that figures of remaining life need of each tick, computed once."""
    edges, last, limit = config.edges, float(config.edges[-1]), float(max(config.horizons.values()))
    low, median, high = quantiles(hazard_NK, edges, levels).T
    return LifeRows(
        low=np.minimum(low, last), median=np.minimum(median, last), high=np.minimum(high, last), beyond=high > last,
        mean=restricted_mean(hazard_NK, edges, limit), order=restricted_mean(hazard_NK, edges, last),
        cdf=as_served(1.0 - survival_at(hazard_NK, edges, ticks.time), levels),
        log_likelihood=log_likelihood(hazard_NK, edges, ticks.time, ticks.event), limit=limit, last=last,
    )  # fmt: skip


def life_figures(
    ticks: Ticks, rows: LifeRows, *, draws: Draws, all_causes: bool = True, bands: Sequence[float] = ()
) -> LifeFigures:
    """Figures of remaining life on some ticks, ``rows`` being theirs; ``bands`` are inner edges of life bands.

    Without ``all_causes`` only some failures count as events, and there is no coverage: the interval is that of
    all failures together.
    """
    near = ticks.event & (ticks.time <= rows.limit)
    error = SortedValues(np.abs(rows.median[near] - ticks.time[near]))
    judged = _Judged(ticks, rows, ticks.lives(), draws)
    who, everyone = ticks.machine[near], np.ones(len(ticks.time), bool)
    late = PHM_CAP / rows.limit * (rows.mean[near] - ticks.time[near])
    penalty = asymmetric_penalty(late, np.zeros(len(late)))
    squares = _mean_of((rows.mean[near] - ticks.time[near]) ** 2, who, draws)
    paired = np.arange(0, len(ticks.time), max(1, -(-len(ticks.time) // MAX_PAIRED)))
    pairs = Pairs(-rows.order[paired], ticks.time[paired], ticks.event[paired], ticks.machine[paired])
    whole = judged.band(everyone, 0.0, np.inf)
    return LifeFigures(
        median_error=draws.sample(lambda w: error.quantile(0.5, w[who])).estimate(),
        rmse=Sample.of(np.sqrt, squares).estimate(), asymmetric=_mean_of(penalty, who, draws).estimate(),
        num_failures=len(np.unique(judged.lives[near])), limit=rows.limit,
        concordance=draws.sample(pairs.concordance).estimate(),
        coverage_80=whole.coverage if all_causes else NONE, width_80=whole.width, beyond_80=whole.beyond,
        settled_80=whole.settled if all_causes else float("nan"),
        by_predicted=judged.bands(rows.median, everyone, bands), by_true=judged.bands(ticks.time, ticks.event, bands),
    )  # fmt: skip


def life_bands(config: HazardConfig) -> tuple[float, ...]:
    """Inner edges of the bands of life: every horizon, and the last edge."""
    return tuple(sorted({*map(float, config.horizons.values()), float(config.edges[-1])}))


@dataclass(frozen=True)
class _Judged:
    """Ticks with what a candidate says of them; ``lives`` [N] tells failures apart."""

    ticks: Ticks
    rows: LifeRows
    lives: NDArray[np.int64]
    draws: Draws

    def bands(self, life: Floats, among: Bools, inner: Sequence[float]) -> tuple[Band, ...]:
        """Bands that hold a tick. A life held at the last edge lies beyond it, hence in the band above."""
        where = np.where(life >= self.rows.last, np.inf, life)
        found = [(among & (where > a) & (where <= b), a, b) for a, b in pairwise([0.0, *inner, np.inf]) if inner]
        return tuple(self.band(keep, a, b) for keep, a, b in found if keep.any())

    def band(self, keep: Bools, low: float, high: float) -> Band:
        event, cdf, width = self.ticks.event[keep], self.rows.cdf[keep], (self.rows.high - self.rows.low)[keep]
        inside = _mean_of(inside_interval(cdf, event), self.ticks.machine[keep], self.draws)
        return Band(
            low, high, inside.estimate(), float(np.median(width)), beyond=float(self.rows.beyond[keep].mean()),
            settled=float(settled(cdf, event).mean()), num_ticks=int(keep.sum()),
            num_failures=len(np.unique(self.lives[keep][event])),
        )  # fmt: skip


def _mean_of(values: Floats, machine: NDArray[np.int64], draws: Draws) -> Sample:
    num = draws.weight.shape[1]
    return draws.ratio(np.bincount(machine, values, num), np.bincount(machine, minlength=num))

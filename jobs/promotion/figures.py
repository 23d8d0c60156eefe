"""Two models on the same rows: the paired difference in log-likelihood, and failures caught at equal false alarms.

The one idea: the bootstrap draws machines, so all ticks that lead to one failure come or stay away together, and both
models are in the same draw: what is hard for both cancels out.

N ticks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.config import HazardConfig
from models.episodes import HOURS_A_MONTH, AlarmRule, Ticks
from models.evaluation import Forecast, mean_of_ticks
from models.hazard import log_likelihood
from models.metrics import Draws, Estimate, Sample
from models.thresholds import Swept, caught_within, sweep

DRAWS, SEED = 1000, 0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairFigures:
    """``usual``: the log-likelihood a tick of the usual curve, None without one. Caught: at the champion's false
    alarms, each model at its best threshold that raises no more."""

    champion: Estimate
    challenger: Estimate
    difference: Estimate
    usual: float | None
    caught_champion: int
    caught_challenger: int
    num_announceable: int
    caught_difference: Estimate


def pair_figures(
    ticks: Ticks, doubtful: NDArray[np.bool_], champion: Forecast, challenger: Forecast, *, config: HazardConfig,
    usual: tuple[float, ...] = (),
) -> PairFigures:  # fmt: skip
    """Compare two forecasts with hazards. ``doubtful`` [N] ticks count neither way; ``usual`` is a hazard [K+1]."""
    assert champion.hazard is not None and challenger.hazard is not None
    draws = Draws.of(ticks.num_machines, rng=np.random.default_rng(SEED), draws=DRAWS)
    # As `jobs.series.judged`: whoever was replaced on a confirmed finding survived nothing.
    seen = np.where(doubtful, 0.0, ticks.time)

    def mean(hazard: NDArray[np.floating]) -> Sample:
        return mean_of_ticks(log_likelihood(hazard, config.edges, seen, ticks.event), ticks, draws)

    one, other = mean(champion.hazard), mean(challenger.hazard)
    known = None if not usual else mean(np.repeat(np.array([usual], np.float64), len(seen), axis=0)).value
    first, second, failures = _caught(ticks, champion, challenger, AlarmRule.of(config))
    counts = [np.bincount(ticks.machine[rows], minlength=ticks.num_machines) for rows in (first, second, failures)]
    return PairFigures(
        one.estimate(), other.estimate(), Sample.of(np.subtract, other, one).estimate(), known, len(first),
        len(second), len(failures), draws.ratio(counts[1] - counts[0], counts[2]).estimate(),
    )  # fmt: skip


def _caught(
    ticks: Ticks, champion: Forecast, challenger: Forecast, rule: AlarmRule
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The failures that each catches at the champion's false alarms, and all, as rows."""
    months = len(ticks.now) * ticks.step / HOURS_A_MONTH
    swept = [sweep(ticks, one.risk, rule, own=one.threshold) for one in (champion, challenger)]
    own = next(one for one in swept[0] if one.threshold == champion.threshold)
    rate = len(own.false) / max(months, 1e-9)
    first, second = (_rows(one, months, rate) for one in swept)
    return first, second, own.failures


def _rows(swept: tuple[Swept, ...], months: float, rate: float) -> NDArray[np.int64]:
    _, threshold = caught_within(swept, months=months, false_per_month=rate)
    none = np.empty(0, np.int64)
    return next((one.caught for one in swept if one.threshold == threshold), none)

"""Thresholds of the risk: which one to raise alarms at, and what others would have come to.

The one idea: a threshold is worth the failures and the alarms that follow from it, so candidates are compared at
equal false alarms, each with its best threshold on the ticks judged: a bound in favour of whoever chooses there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.episodes import AlarmRule, Ticks, announceable, raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Swept:
    """What one threshold comes to, as ticks: those that raised a true and a false alarm, and for each failure caught
    and each that could have been, the last tick that could have announced it."""

    threshold: float
    true: Ints
    false: Ints
    caught: Ints
    failures: Ints


def sweep(
    ticks: Ticks, risk: Floats, rule: AlarmRule, *, own: float | None = None, candidates: int = 120
) -> tuple[Swept, ...]:
    """What thresholds on a grid of the risk's quantiles come to, finer where risk is high, lowest first.

    ``own``, the candidate's own threshold, is tried too, so that what it did is never more than what it could do.
    """
    if not len(risk):
        return ()
    tried = np.quantile(risk, 1.0 - np.geomspace(1e-4, 1.0, candidates))
    lives = ticks.lives()
    failures = announceable(ticks, lives, rule)
    found = []
    for threshold in np.unique(tried if own is None else np.r_[tried, own]).tolist():
        first = np.array([row for row, _ in raised(ticks, lives, risk >= threshold, rule)], np.int64)
        lead = ticks.time[first]
        true = first[ticks.event[first] & (lead >= rule.min_lead) & (lead <= rule.max_lead)]
        caught = failures[np.isin(lives[failures], lives[true])]
        found.append(Swept(threshold, true, first[lead > rule.max_lead], caught, failures))
    return tuple(found)


def alarm_threshold(ticks: Ticks, risk: Floats, rule: AlarmRule, *, candidates: int = 60) -> float:
    """The threshold with the best F1 of failures caught and alarms that come true.

    Ties go to the higher threshold. Where no failure can be judged, the risk that 1 % of the ticks exceed.
    """
    if not len(risk):
        return 0.5
    best, chosen = 0.0, float(np.quantile(risk, 0.99))
    for one in sweep(ticks, risk, rule, candidates=candidates):
        if (value := _f1(one)) > 0 and value >= best:
            best, chosen = value, one.threshold
    return chosen


def caught_within(
    swept: tuple[Swept, ...], *, months: float, false_per_month: float, keep: Bools | None = None
) -> tuple[int, float | None]:
    """Most failures caught at no more false alarms in ``months`` machine-months, and the highest threshold that does.

    ``keep`` [N] marks the ticks that count. No threshold: nothing is caught within the budget.
    """
    best, chosen = 0, None
    for one in swept:
        caught, false = (len(r) if keep is None else int(keep[r].sum()) for r in (one.caught, one.false))
        if caught and caught >= best and false / max(months, 1e-9) <= false_per_month + 1e-9:
            best, chosen = caught, one.threshold
    return best, chosen


def _f1(one: Swept) -> float:
    if not len(one.caught):
        return 0.0
    recall = len(one.caught) / len(one.failures)
    precision = len(one.true) / (len(one.true) + len(one.false))
    return 2 * recall * precision / (recall + precision)

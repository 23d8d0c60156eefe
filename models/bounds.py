"""Condition-triggered maintenance under both bounds: what if each replacement came just in time, or for nothing?

The one idea: whether a machine that was replaced on its condition would have failed cannot be seen, and people
replace those that look worst, so censoring is not independent there. Figures are shown as if it were, and between
two certainties: each such machine would have failed at that moment, or none would have within the horizon.

N rows. Source: Peterson (1976), "Bounds for a joint distribution function with fixed sub-distribution functions:
application to competing risks", PNAS 73.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.labels import CONDITION, FINDING

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

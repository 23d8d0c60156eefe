"""Failures caught at equal false alarms, machine by machine, so that machines can be drawn anew.

The one idea: a number of false alarms is allowed to all, and each candidate may then take the threshold that catches
most within it, on the ticks that are judged. So figures compare what candidates know, not where they happened to set
their alarm. D draws, H thresholds, M machines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation.judging import Judged
from jobs.evaluation.results import Figure
from models.episodes import HOURS_A_MONTH
from models.metrics import Draws, Sample

RATES = (0.1, 0.2, 0.5, 1.0)  # false alarms a machine-month, about what a planner would still look into
DRAWS, SEED = 1000, 0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alarms:
    """One candidate: failures caught and false alarms [H, M] by threshold and machine; ``own`` is its own threshold."""

    caught: Floats
    false: Floats
    own: int

    def allowed(self, weight: Floats) -> Floats:
        """False alarms [D] under its own threshold, each machine counted as ``weight`` [D, M] says."""
        found: Floats = weight @ self.false[self.own]
        return found

    def most_within(self, allowed: Floats, weight: Floats) -> Floats:
        """Most failures caught [D] under one threshold with at most ``allowed`` [D] false alarms; 0 where none has."""
        caught, false = weight @ self.caught.T, weight @ self.false.T
        found: Floats = np.where(false <= allowed[:, None] + 1e-9, caught, 0.0).max(axis=1)
        return found


@dataclass(frozen=True)
class Counts:
    """A judged plant: each candidate's alarms, ``failures`` and ``months`` [M] by machine."""

    alarms: dict[str, Alarms]
    failures: Floats
    months: Floats


def counts_of(judged: Judged, kinds: Iterable[str]) -> Counts:
    """The counts behind the figures of some candidates."""
    machines, machine, ticks = np.unique(judged.ticks["machine"].to_numpy(), return_inverse=True, return_counts=True)
    found = {c.kind: c for c in judged.result.all.candidates}

    def count(rows: NDArray[np.int64]) -> Floats:
        return np.bincount(machine[rows], minlength=len(machines)).astype(np.float64)

    alarms = {}
    for kind in kinds:
        swept = judged.swept[kind]
        own = next(place for place, one in enumerate(swept) if one.threshold == found[kind].threshold)
        caught, false = (np.stack([count(getattr(one, name)) for one in swept]) for name in ("caught", "false"))
        alarms[kind] = Alarms(caught, false, own)
    failures = count(next(iter(judged.swept.values()))[0].failures)
    months = ticks.astype(np.float64) * (judged.result.scored_every / HOURS_A_MONTH)
    return Counts(alarms, failures, months)


def weights(machines: int, *seed: int, draws: int = DRAWS) -> Floats:
    """[1 + D, M]: every machine once, then the draws, equal for equal ``seed``."""
    rng = np.random.default_rng([SEED, *seed])
    return np.concatenate([np.ones((1, machines)), Draws.of(machines, rng=rng, draws=draws).weight])


def total(parts: Sequence[Floats]) -> Floats:
    """Over the draws that all have: a plant of a single machine has none."""
    length = min(len(part) for part in parts)
    found: Floats = np.sum([part[:length] for part in parts], axis=0)
    return found


def ratio(above: Floats, below: Floats) -> Figure:
    """The first of each [1 + D] as the value, the rest as its interval; no value where the second is not positive."""
    values = np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)
    found = Sample(float(values[0]), values[1:]).estimate()
    value, low, high = (round(x, 4) if math.isfinite(x) else None for x in (found.value, found.low, found.high))
    return Figure(value=value, low=low, high=high)

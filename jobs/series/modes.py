"""Failure modes in training sequences: how many failures each has, and how far a network's shares are believed.

The one idea: ticks before one failure tell the same story many times, so failures are counted, never ticks: by the
moment that they lead to, as in ``jobs.series.later``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.config import Clock, ModelConfig
from models.features import Sequence
from models.labels import UNNAMED
from models.modes import Modes, fit_trust, modes_of

if TYPE_CHECKING:
    from models.networks import NetworkModel


def known_modes(train: Ordered[Sequence], names: Ordered[str], clock: Clock) -> Modes:
    """The modes that the training part has enough failures of; ``names`` are the plant's."""
    if not names:
        return modes_of((), ())
    found = {(machine, round(end)): mode for machine, end, mode in _failures(train, clock)}
    counts = Counter(mode for mode in found.values() if mode != UNNAMED)
    return modes_of(names, [counts[number] for number in range(len(names))])


def _failures(sequences: Ordered[Sequence], clock: Clock) -> Iterator[tuple[str, float, int]]:
    """Machine, moment in steps and mode of the failures that a sequence's usable steps lead to; repeats from chunk to
    chunk."""
    for s in sequences:
        steps = np.flatnonzero(s.event & s.usable)
        ends = s.first_tick + steps + s.time[steps].astype(np.float64) / clock.life_per_step
        changes = np.flatnonzero(np.diff(ends, prepend=-np.inf) > 0.5)
        for at in changes.tolist():
            yield s.machine, float(ends[at]), int(s.mode[steps[at]])


def mode_trust(heard: Ordered[tuple[Ordered[Sequence], NetworkModel]], modes: Modes, config: ModelConfig) -> float:
    """``models.modes.fit_trust`` on slices, each heard from a network that has not learned from it.

    Counts steps within the longest horizon before a named failure.
    """
    within = max(config.hazard.horizons.values(), default=0.0)
    logits = [np.empty((0, len(modes.names)), np.float32)]
    of_rows: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    weights: list[npt.NDArray[np.float64]] = [np.empty(0)]
    for s, model in ((s, model) for part, model in heard for s in part):
        mode = np.where(s.event & s.usable & (s.time <= within), modes.classes(s.mode), UNNAMED)
        rows = np.flatnonzero(mode != UNNAMED)
        if len(rows):
            logits.append(model.sequence_answers(s.values)[1][rows])
            of_rows.append(mode[rows])
            ends = np.round(rows + s.time[rows].astype(np.float64) / config.clock.life_per_step)
            _, failure, size = np.unique(ends, return_inverse=True, return_counts=True)
            weights.append(1.0 / size[failure])
    return fit_trust(np.concatenate(logits), np.concatenate(of_rows), np.concatenate(weights), modes.shares)

"""How a candidate does on slices that it has not learned from: calibration, alarm threshold, interval, likelihood.

The one idea: each slice is heard from a model that has not seen it, whichever of a candidate's members that is.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

import numpy as np

from jobs.series.later import judging, later_ticks
from models.calibration import Calibration, fit_calibration
from models.config import ModelConfig
from models.conformal import Levels, fit_levels
from models.episodes import AlarmRule
from models.features import Sequence
from models.hazard import SequenceModel, WindowModel, log_likelihood, probability_within
from models.labels import doubtful_ticks
from models.thresholds import alarm_threshold
from models.windows import Float, windows_ending

Heard = Ordered[tuple[Ordered[Sequence], WindowModel]]  # slices, and who is asked about each


@dataclass(frozen=True)
class Judged:
    calibration: Calibration
    log_likelihood: float
    threshold: float
    levels: Levels
    mode_trust: float = 1.0
    by_machine: dict[str, tuple[float, int]] = field(default_factory=dict, compare=False)  # sum of likelihoods, ticks


def judge(heard: Heard, config: ModelConfig, *, compared: Ordered[Sequence] | None = None) -> Judged:
    """``log_likelihood`` is that of the machines of ``compared``, on which all candidates are heard (None: of all)."""
    sequences = [s for part, _ in heard for s in part]
    asked = {s.machine: model for part, model in heard for s in part}
    assert all(asked[s.machine] is model for part, model in heard for s in part), "a machine is heard from one model"
    ticks, failures = later_ticks(sequences, config.clock)
    hazards = config.hazard
    judged = judging(sequences, config.clock)
    logits = np.concatenate([_logits(asked[s.machine], s, config.window.length) for s in judged])
    # Whoever was replaced on a confirmed finding survived nothing: its last ticks count neither way.
    doubtful = [doubtful_ticks(s.time, s.ended_by, within=hazards.alarm_within)[s.usable] for s in judged]
    seen = np.where(np.concatenate(doubtful), 0.0, ticks.time)
    calibration = fit_calibration(logits, hazards.edges, seen, ticks.event, num_failures=failures)
    hazard = calibration.hazard(logits)
    risk = probability_within(hazard, hazards.edges, hazards.horizons[hazards.alarm_horizon])
    likelihood = log_likelihood(hazard, hazards.edges, seen, ticks.event)
    machines = np.concatenate([np.full(int(s.usable.sum()), s.machine) for s in judged])
    if compared is not None:
        kept = np.isin(machines, [s.machine for s in compared])
        likelihood, machines = likelihood[kept], machines[kept]
    return Judged(
        calibration, float(likelihood.mean()), alarm_threshold(ticks, risk, AlarmRule.of(hazards)),
        fit_levels(hazard, hazards.edges, ticks),
        by_machine={str(m): (float(likelihood[machines == m].sum()), int((machines == m).sum()))
                    for m in np.unique(machines)},
    )  # fmt: skip


def _logits(model: WindowModel, sequence: Sequence, length: int) -> Float:
    """Logits of every usable tick; a network answers all of a history's windows in one pass."""
    rows = np.flatnonzero(sequence.usable)
    if isinstance(model, SequenceModel):
        found: Float = model.sequence_logits(sequence.values)[rows]
        return found
    return model.logits(windows_ending(sequence.values, rows, length))

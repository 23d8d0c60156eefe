"""How sensors hang together: what is left of each once all others, at the same step, have spoken.

The one idea: load moves every sensor of a machine, wear moves one. So a network is given, beside each value, its
deviation from what the others suggest: the residual of its linear regression on them, in standard deviations. All
regressions are one matrix, the inverse P of the correlations: row i of diag(P)^-1/2 P times the scaled values.

Source: Lauritzen (1996), "Graphical models", section 5.1 (regression of one variable on the rest through P).
Legend: T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered

import numpy as np

from models.features import Sequence
from models.hazard import Float32
from models.scaling import STILL, Scaling, stride_of
from models.windows import Channel

RIDGE = 0.01  # of a sensor's variance: no deviation is magnified more than tenfold
MIN_STEPS = 200  # at which two sensors both have a value, for a correlation


def relations_of(scaling: Scaling, sequences: Ordered[Sequence], channels: Ordered[Channel]) -> Float32:
    """diag(P)^-1/2 P [C, C] over the sensors' scaled values in training; rows and columns of other channels are 0.

    Labels are not read. Sensors that were hardly ever seen together count as unrelated.
    """
    sensors = [i for i, channel in enumerate(channels) if channel.role == "sensor"]
    stride = stride_of(sum(len(s.values) for s in sequences))
    rows = np.concatenate([scaling.apply(s.values[::stride])[:, sensors] for s in sequences]).astype(np.float64)
    known = np.isfinite(rows)
    filled, counted = np.where(known, rows, 0.0), known.astype(np.float64)
    together = counted.T @ counted
    moments = np.where(together >= MIN_STEPS, filled.T @ filled / np.maximum(together, 1.0), 0.0)
    spread = np.sqrt(np.diag(moments))
    spread = np.where(spread > STILL, spread, 1.0)  # of a sensor that is still or hardly ever seen
    values, vectors = np.linalg.eigh(moments / np.outer(spread, spread))
    precision = (vectors / (np.maximum(values, 0.0) + RIDGE)) @ vectors.T
    own = precision / np.sqrt(np.diag(precision))[:, None] / spread
    found = np.zeros((len(channels), len(channels)), np.float32)
    found[np.ix_(sensors, sensors)] = own
    return found

"""Calibration: two numbers that turn a model's hazard logits into hazards one can believe.

The one idea: ``slope * logit + shift`` keeps the order of all risks and one distribution, and two numbers are all
that a later slice with a handful of failures can support. Ticks before one failure tell the same story many
times, so the likelihood is weighted to count failures, not ticks, and is pulled to the identity.

Source: Platt (1999) on scaling by two numbers; Cox (1958), "Two further applications of a model for binary
regression", on slope and shift as the test of calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.hazard import Float32, Float64, exposure, sigmoid

MIN_FAILURES = 5
# Spread of what we believe before seeing the slice: slope 1 +- 0.3, shift 0 +- 0.7 (a factor of 2 in hazard).
SLOPE_SPREAD, SHIFT_SPREAD = 0.3, 0.7
SLOPE_LIMITS = (0.2, 5.0)


@dataclass(frozen=True)
class Calibration:
    """``calibrated logit = slope * logit + shift``; the default changes nothing."""

    slope: float = 1.0
    shift: float = 0.0

    def apply(self, logits: Float32) -> Float32:
        """Calibrated logits, same shape."""
        return logits * np.float32(self.slope) + np.float32(self.shift)

    def hazard(self, logits: Float32) -> Float32:
        """Calibrated hazards, same shape, float32."""
        return sigmoid(self.apply(logits)).astype(np.float32)


def fit_calibration(
    logits: Float32,
    edges: Sequence[float],
    time: ArrayLike,
    event: ArrayLike,
    *,
    num_failures: int | None = None,
    rounds: int = 50,
) -> Calibration:
    """Slope and shift by penalised censored likelihood; logits [B, K1], time and event [B] of a later slice.

    ``num_failures`` is the number of distinct failures behind the rows' events (None: each event row is one).
    Fewer than 5 give the identity.
    """
    exposed, failed = exposure(edges, time, event)
    events = float(failed.sum())
    failures = events if num_failures is None else min(float(num_failures), events)
    if failures < MIN_FAILURES:
        return Calibration()
    weight = failures / events
    z = np.asarray(logits, dtype=np.float64)
    at = np.array([1.0, 0.0])
    loss, gradient, curvature = _penalised(at, z, exposed * weight, failed * weight)
    for _ in range(rounds):
        step = np.linalg.solve(curvature, gradient)
        scale = 1.0
        while scale > 1e-6:
            trial = at - scale * step
            found = _penalised(trial, z, exposed * weight, failed * weight)
            if found[0] <= loss:
                break
            scale /= 2
        else:
            break
        done = loss - found[0] < 1e-10 * max(1.0, abs(loss))
        at, (loss, gradient, curvature) = trial, found
        if done:
            break
    return Calibration(float(np.clip(at[0], *SLOPE_LIMITS)), float(at[1]))


def _penalised(at: Float64, z: Float64, exposed: Float64, failed: Float64) -> tuple[float, Float64, Float64]:
    """Negative log-likelihood with its prior, its gradient and its Hessian; convex in slope and shift."""
    spread = np.array([SLOPE_SPREAD, SHIFT_SPREAD])
    away = at - np.array([1.0, 0.0])
    logit = at[0] * z + at[1]
    h = sigmoid(logit)
    loss = (exposed * np.logaddexp(0.0, logit) - failed * logit).sum() + 0.5 * ((away / spread) ** 2).sum()
    residual = exposed * h - failed
    gradient = np.array([(residual * z).sum(), residual.sum()]) + away / spread**2
    bend = exposed * h * (1.0 - h)
    cross = (bend * z).sum()
    curvature = np.array([[(bend * z * z).sum(), cross], [cross, bend.sum()]]) + np.diag(1.0 / spread**2)
    return float(loss), gradient, curvature

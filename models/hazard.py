"""One distribution of the time to failure: hazards of bins, and everything that follows from them.

The one idea: life is cut at K inner edges into K+1 bins. ``hazard[k]`` is the chance to fail in bin k of a
machine that has reached it. Inside a bin the hazard is constant (survival falls exponentially); the last bin is
open: it is an endless row of bins as wide as the one before it, all with the last hazard. Every probability,
quantile and mean is read from that one curve, so they cannot contradict each other, and risk can only grow with
the horizon. Bins are closed on the right: a failure at an edge belongs to the bin that ends there.

Legend: B rows, K inner edges, K1 = K + 1 bins, Q quantiles. Times are life units from the window's end.

Source: Cox (1972), "Regression models and life-tables"; Brown (1975), "On the use of indicator variables for
studying the time-dependence of parameters in a response-time model" (the likelihood as Bernoulli trials);
Gensheimer & Narasimhan (2019), "A scalable discrete-time survival model for neural networks", PeerJ 7:e6257.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Hazards are kept off 0 and 1 by this much, so that logarithms stay finite.
TINY = 1e-7
BLOCK = 65_536  # rows whose exposures are in memory at a time: 2 x K1 numbers each


class WindowModel(Protocol):
    """Whatever answers windows with hazard logits: numpy in, numpy out."""

    @property
    def kind(self) -> str: ...

    def logits(self, values: Float32) -> Float32:
        """Windows [B, W, C] float32, NaN where there is no value -> uncalibrated hazard logits [B, K1]."""
        ...


@runtime_checkable
class SequenceModel(Protocol):
    """A model that answers every window of a history at once."""

    def sequence_logits(self, values: Float32) -> Float32:
        """A history [T, C] -> logits [T, K1]; row t is the answer to the window that ends at t."""
        ...


def widths(edges: Sequence[float]) -> Float64:
    """Width of each bin [K1]; the open bin repeats the width of the one before it."""
    inner = np.diff(np.asarray([0.0, *edges], dtype=np.float64))
    return np.append(inner, inner[-1])


def sigmoid(logits: ArrayLike) -> Float64:
    """Logits of any shape -> hazards, float64, without overflow."""
    z = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(z))
    result: Float64 = np.where(z >= 0, 1.0, small) / (1.0 + small)
    return result


def exposure(edges: Sequence[float], time: ArrayLike, event: ArrayLike) -> tuple[Float64, Float64]:
    """How much of each bin a machine went through, and in which it failed: ([B, K1], [B, K1]).

    All likelihoods need only these two: ``sum(failed * log h + (exposed - failed) * log(1 - h))``. A failure
    exposes its own bin fully; a censored machine its last bin in part (hazard constant within it). In the open
    bin, a failure in the n-th repetition counts n exposures. A failure at time 0 or before falls into the first
    bin. Times must not be NaN.
    """
    starts = np.asarray([0.0, *edges], dtype=np.float64)
    width = widths(edges)
    when = np.maximum(np.asarray(time, dtype=np.float64), 0.0)[:, None]
    died = np.asarray(event, dtype=bool)
    exposed = np.clip((when - starts) / width, 0.0, 1.0)
    exposed[:, -1] = np.maximum(when[:, 0] - starts[-1], 0.0) / width[-1]
    failed = np.zeros_like(exposed)
    bins = np.searchsorted(starts[1:], when[:, 0], side="left")
    rows = np.flatnonzero(died)
    failed[rows, bins[rows]] = 1.0
    exposed[rows, bins[rows]] = np.maximum(np.ceil(exposed[rows, bins[rows]]), 1.0)
    return exposed, failed


def log_likelihood(hazard: ArrayLike, edges: Sequence[float], time: ArrayLike, event: ArrayLike) -> Float64:
    """Censored log-likelihood of each row [B]: hazard [B, K1], time [B], event [B] (False: censored at time)."""
    h = _clipped(hazard)
    exposed, failed = exposure(edges, time, event)
    result: Float64 = (failed * np.log(h) + (exposed - failed) * np.log1p(-h)).sum(axis=1)
    return result


def survival(hazard: ArrayLike, edges: Sequence[float]) -> Float64:
    """Chance to live past each inner edge [B, K]."""
    h = np.asarray(hazard, dtype=np.float64)
    return np.cumprod(1.0 - h[:, : len(edges)], axis=1, dtype=np.float64)


def survival_at(hazard: ArrayLike, edges: Sequence[float], time: ArrayLike) -> Float64:
    """Chance to live past ``time`` [B]: a number or one for each row; exact at edges, exponential between."""
    h = _clipped(hazard)
    when = np.broadcast_to(np.asarray(time, dtype=np.float64), (len(h),))
    exposed, _ = exposure(edges, when, np.zeros(len(h), dtype=bool))
    result: Float64 = np.exp((exposed * np.log1p(-h)).sum(axis=1))
    return result


def probability_within(hazard: ArrayLike, edges: Sequence[float], horizon: float) -> Float64:
    """Chance to fail within ``horizon`` life units [B]."""
    result: Float64 = within(decay_of(hazard), edges, (horizon,))[:, 0]
    return result


def decay_of(hazard: ArrayLike) -> Float64:
    """What each bin adds to the cumulative hazard, ``-log(1 - h)`` [B, K1]."""
    result: Float64 = -np.log1p(-_clipped(hazard))
    return result


def within(decay: Float64, edges: Sequence[float], horizons: Sequence[float]) -> Float64:
    """Chance to fail within each of ``horizons`` [B, H], from ``decay_of`` hazards: ``1 - survival_at``, bit by bit."""
    exposed = _exposed_until(tuple(edges), tuple(horizons))
    result: Float64 = np.subtract(1.0, np.exp(-(exposed * decay[:, None]).sum(axis=2)))
    return result


@lru_cache(maxsize=4096)
def _exposed_until(edges: tuple[float, ...], horizons: tuple[float, ...]) -> Float64:
    """Share of each bin that lies before each horizon [H, K1]: the same for every window of a model."""
    exposed, _ = exposure(edges, horizons, np.zeros(len(horizons), dtype=bool))
    exposed.setflags(write=False)
    return exposed


def quantiles(hazard: ArrayLike, edges: Sequence[float], q: ArrayLike = (0.1, 0.5, 0.9)) -> Float64:
    """Remaining life that a share ``q``, [Q] or one a row [B, Q], does not reach [B, Q]; inf past the last edge."""
    decay, share = decay_of(hazard), np.asarray(q, dtype=np.float64)
    return reached(decay, edges, np.atleast_2d(-np.log1p(-share)))


def reached(decay: Float64, edges: Sequence[float], wanted: Float64) -> Float64:
    """When the cumulative hazard reaches ``wanted`` [B or 1, Q], ``-log(1 - q)`` for quantile q; inf past the end."""
    starts, inner = _starts(tuple(edges)), decay[:, :-1]
    total = np.zeros(decay.shape)  # at 0 and at every inner edge
    np.cumsum(inner, axis=1, out=total[:, 1:])
    bins = (total[:, None] < wanted[:, :, None]).sum(axis=2) - 1
    inside = np.minimum(np.maximum(bins, 0), len(edges) - 1)
    rows = np.arange(len(decay))[:, None]
    part = (wanted - total[rows, inside]) / inner[rows, inside]
    found = starts[inside] + part * (starts[inside + 1] - starts[inside])
    result: Float64 = np.where(bins < len(edges), found, np.inf)
    return result


@lru_cache(maxsize=4096)
def _starts(edges: tuple[float, ...]) -> Float64:
    starts = np.asarray([0.0, *edges], dtype=np.float64)
    starts.setflags(write=False)
    return starts


def restricted_mean(hazard: ArrayLike, edges: Sequence[float], cap: float) -> Float64:
    """E[min(T, cap)] [B]: the area under the survival curve up to ``cap``.

    Source: Royston & Parmar (2011), Statistics in Medicine 30, on the restricted mean survival time.
    """
    h = _clipped(hazard)
    covered, _ = exposure(edges, np.asarray([cap]), np.asarray([False]))  # share of each bin below the cap
    decay = -np.log1p(-h) * covered
    before = np.exp(-np.concatenate([np.zeros((len(h), 1)), np.cumsum(decay, axis=1)[:, :-1]], axis=1))
    area = before * (-np.expm1(-decay) / np.where(decay > 0, decay, 1.0)) * covered * widths(edges)
    result: Float64 = area.sum(axis=1)
    return result


def usual_hazard(edges: Sequence[float], time: ArrayLike, event: ArrayLike) -> Float64:
    """The hazard of each bin over all rows together [K1], pulled slightly to their common rate.

    Half an event a bin is borrowed from the rate over all bins, so that an empty bin is neither 0 nor unknown.
    """
    return usual_hazard_over(edges, [(np.asarray(time), np.asarray(event))])


def usual_hazard_over(edges: Sequence[float], parts: Iterable[tuple[ArrayLike, ArrayLike]]) -> Float64:
    """``usual_hazard`` of all the parts' rows (time, event) together, a block of them in memory at a time."""
    exposed, failed = np.zeros(len(edges) + 1), np.zeros(len(edges) + 1)
    for time, event in parts:
        when, died = np.asarray(time), np.asarray(event)
        for start in range(0, len(when), BLOCK):
            went, ended = exposure(edges, when[start : start + BLOCK], died[start : start + BLOCK])
            exposed += went.sum(axis=0)
            failed += ended.sum(axis=0)
    width = widths(edges)
    rate = (failed.sum() + 0.5) / max(float((exposed * width).sum()), float(width.sum()))
    prior = np.clip(1.0 - np.exp(-rate * width), TINY, 1.0 - TINY)
    result: Float64 = np.clip((failed + 0.5) / (exposed + 0.5 / prior), TINY, 1.0 - TINY)
    return result


def _clipped(hazard: ArrayLike) -> Float64:
    return np.clip(np.asarray(hazard, dtype=np.float64), TINY, 1.0 - TINY)

"""Failure modes: which ones a model tells apart, and how likely each is where a machine fails.

The one idea: the hazard of mode m in bin k is ``h_k * s_m``. The shares ``s`` sum to 1 and are the same in all bins,
so that modes sum exactly to the total hazard and the likelihood falls into two factors: that of the total, as without
modes, and at each failure whose mode is named the log of that mode's share. Nothing about the total can change.

Legend: B rows, M modes. Source: Prentice et al. (1978), "The analysis of failure times in the presence of competing
risks" (cause-specific hazards and their likelihood); Larson & Dinse (1985), "A mixture model for the regression
analysis of competing risks data" (a share for each mode, beside one time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.hazard import Float32, Float64
from models.labels import UNNAMED

OTHER = "other"
MIN_FAILURES = 5  # of a mode in the training part; rarer ones are pooled
_TRUSTS = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True)
class Modes:
    """``names`` and training ``shares`` of what a model tells apart; ``class_of`` the plant's number of each mode."""

    names: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    class_of: tuple[int, ...] = ()

    def classes(self, mode: NDArray[np.int8]) -> NDArray[np.int64]:
        """The plant's numbers of modes -> the model's, ``UNNAMED`` where it has none."""
        if not self.names:
            return np.full(mode.shape, UNNAMED, np.int64)
        found: NDArray[np.int64] = np.array([*self.class_of, UNNAMED], np.int64)[mode]
        return found


NO_MODES = Modes()


def modes_of(names: Sequence[str], failures: Sequence[int]) -> Modes:
    """What can be told apart, by the distinct training ``failures`` of each of the plant's modes.

    In the order of names; rarer modes than ``MIN_FAILURES`` are ``other``, the last. ``NO_MODES`` where fewer than
    two of the resulting classes have so many.
    """
    pooled = [OTHER if count < MIN_FAILURES else name for name, count in zip(names, failures, strict=True)]
    total: dict[str, int] = dict.fromkeys(sorted(set(pooled) - {OTHER}), 0) | {OTHER: 0}
    for name, count in zip(pooled, failures, strict=True):
        total[name] += count
    kept = {name: count for name, count in total.items() if count}
    if sum(count >= MIN_FAILURES for count in kept.values()) < 2:
        return NO_MODES
    number = {name: index for index, name in enumerate(kept)}
    shares = tuple(count / sum(kept.values()) for count in kept.values())
    return Modes(tuple(kept), shares, tuple(number.get(name, UNNAMED) for name in pooled))


def shares_of(logits: ArrayLike, usual: Sequence[float], trust: float) -> Float32:
    """Shares [B, M] from mode logits [B, M]: ``trust`` of the model's own, the rest the training shares."""
    z = np.asarray(logits, np.float64)
    own = np.exp(z - z.max(axis=1, keepdims=True, initial=-np.inf)) if z.shape[1] else z
    own = own / own.sum(axis=1, keepdims=True) if z.shape[1] else own
    found: Float32 = (trust * own + (1 - trust) * np.asarray(usual, np.float64)).astype(np.float32)
    return found


def usual_shares(count: int, usual: Sequence[float]) -> Float32:
    """The training shares for each of so many rows [B, M]."""
    return np.repeat(np.asarray(usual, np.float32).reshape(1, -1), count, axis=0)


def fit_trust(logits: ArrayLike, mode: NDArray[np.int64], weight: ArrayLike, usual: Sequence[float]) -> float:
    """How far a model's shares are to be believed, on a later slice: rows before failures whose mode is named.

    ``weight`` [B] makes the rows of one failure count as one. Pulled to a half, which it is where there is none.
    """
    rows = np.flatnonzero(mode != UNNAMED)
    own = shares_of(np.asarray(logits)[rows], usual, 1.0)[np.arange(len(rows)), mode[rows]].astype(np.float64)
    known = np.asarray(usual, np.float64)[mode[rows]]
    mixed = _TRUSTS[:, None] * own + (1 - _TRUSTS[:, None]) * known
    gain: Float64 = (np.log(mixed) * np.asarray(weight, np.float64)[rows]).sum(axis=1)
    return float(_TRUSTS[int(np.argmax(gain + 0.5 * (np.log(_TRUSTS) + np.log1p(-_TRUSTS))))])

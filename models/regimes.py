"""Operating regimes: the few states between which a machine switches, and in each of which its sensors read otherwise.

The one idea: a regime is what explains most of what most sensors do. Channels that dwell at a few distinct levels
(settings, loads, on and off) are candidates; their joint levels count as regimes only where they explain the sensors'
variance, so that neither a coarsely rounded sensor nor a stage of wear is taken for one. Found on training machines.

Legend: N rows, C channels, R regimes, Q keys (the channels that tell the regime). Source: Heimes (2008), "Recurrent
neural networks for remaining useful life estimation", PHM08 (scaling within the regimes of C-MAPSS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.hazard import Float32, Float64

MAX_REGIMES = 16
BINS = 40  # of a channel's range; levels are runs of bins that an empty one parts
EMPTY = 0.002  # share of rows under which a bin is empty: machines pass through on their way to another level
DWELLING = 0.95  # share of rows that must lie in levels
MIN_SHARE = 0.01  # of rows, for a regime
KNOWN = 0.9  # of rows, in which all keys have a value: one that is missing in a whole regime has no level there
WORTH = 0.01  # of the variance, for which one more key is taken
EXPLAINED = 0.8  # of a sensor's variance, in the median over sensors that are no keys


@dataclass(frozen=True)
class Regimes:
    """``levels`` [R, Q] of the channels ``keys``; a step's regime has the nearest, in units of ``spread`` [Q]."""

    keys: tuple[int, ...]
    levels: tuple[tuple[float, ...], ...]
    spread: tuple[float, ...]

    def __post_init__(self) -> None:
        whole = {len(row) for row in (*self.levels, self.spread)} == {len(self.keys)}
        whole = whole and len(self.levels) <= MAX_REGIMES
        if not whole or any(key < 0 for key in self.keys) or any(not s > 0 for s in self.spread):
            raise InputError(
                "Regimes are broken",
                expected=f"for each key a level in each of at most {MAX_REGIMES} regimes, and a positive spread",
                found=f"keys {self.keys[:20]}, spread {self.spread[:20]}, {len(self.levels)} regimes",
            )  # fmt: skip

    def of(self, values: Float32) -> NDArray[np.int64]:
        """Regime of each row [..., C]: 0 to R - 1, or R where no key has a value."""
        scaled = values[..., list(self.keys)] / np.asarray(self.spread, np.float32)
        levels = np.asarray(self.levels, np.float32) / np.asarray(self.spread, np.float32)
        away = np.nan_to_num(scaled[..., None, :] - levels) ** 2  # a key without a value does not vote
        found: NDArray[np.int64] = np.where(np.isnan(scaled).all(axis=-1), len(levels), away.sum(axis=-1).argmin(-1))
        return found

    def level_of(self, values: Float32) -> Float32:
        """The level of each key [..., Q] in the regime of each row [..., C]; NaN where that is unknown."""
        found: Float32 = np.array([*self.levels, [np.nan] * len(self.keys)], np.float32)[self.of(values)]
        return found


def find_regimes(rows: Float32, candidates: Sequence[int]) -> Regimes | None:
    """Regimes of rows [N, C] told by some of the ``candidates``; None where there are none.

    The tightest levels come first, since a setting holds its level where a sensor that wears drifts from it; more
    keys are taken for what they add to the explained variance, as long as each regime keeps its share of the rows.
    """
    tried_all = ((c, _levels(rows[:, c])) for c in candidates)
    levels = {c: found for c, found in tried_all if found is not None}
    if not levels:
        return None
    present = np.isfinite(rows)
    moving = [c for c in candidates if present[:, c].any() and np.nanstd(rows[:, c]) > 0]
    codes = {c: np.abs(rows[:, c, None] - found).argmin(axis=1) for c, found in levels.items()}
    loose = {c: _looseness(rows[:, c], codes[c], found) for c, found in levels.items()}
    keys: list[int] = []
    joint, known = np.zeros(len(rows), np.int64), 0.0  # of a row without a value of some key: -1
    for channel in sorted(levels, key=lambda c: (loose[c], c)):
        told = present[:, channel] & (joint >= 0)
        if told.sum() < KNOWN * len(rows):
            continue
        _, of_told = np.unique(np.column_stack([joint, codes[channel]])[told], axis=0, return_inverse=True)
        tried = np.full(len(rows), -1, np.int64)
        tried[told] = of_told
        sizes = np.bincount(of_told)
        gained = _explained(rows, tried, [m for m in moving if m != channel]) - known
        if len(sizes) > MAX_REGIMES or sizes.min() < MIN_SHARE * len(rows) or gained < WORTH:
            continue
        keys, joint, known = [*keys, channel], tried, known + gained
    others = [m for m in moving if m not in keys]
    if not keys or not others or _explained(rows, joint, others) < EXPLAINED:
        return None
    found = [[float(np.nanmedian(rows[joint == r, c])) for c in keys] for r in range(joint.max() + 1)]
    spread = [float(np.ptp(levels[c])) for c in keys]
    return Regimes(tuple(keys), tuple(tuple(level) for level in found), tuple(spread))


def _levels(column: Float32) -> Float64 | None:
    """The 2 to 16 distinct levels at which a channel dwells, or None where it does not."""
    known = column[np.isfinite(column)].astype(np.float64)
    if len(known) < 100 or np.ptp(known) == 0:
        return None
    low, high = np.quantile(known, (0.001, 0.999))
    if not high > low:
        return None
    counts, edges = np.histogram(np.clip(known, low, high), BINS, (low, high))
    full = counts >= EMPTY * len(known)
    starts = np.flatnonzero(full & ~np.r_[False, full[:-1]])
    stops = np.flatnonzero(full & ~np.r_[full[1:], False])
    if not 2 <= len(starts) <= MAX_REGIMES or counts[full].sum() < DWELLING * len(known):
        return None
    if (stops - starts).max() > BINS // 8:  # a level that wide is a range
        return None
    return np.array([
        np.median(known[(known >= edges[a]) & (known <= edges[b + 1])]) for a, b in zip(starts, stops, strict=True)
    ])  # fmt: skip


def _looseness(column: Float32, code: NDArray[np.int64], levels: Float64) -> float:
    """Spread of a channel about its levels, in units of the smallest gap between two."""
    away = np.abs(column - levels[code])
    return float(np.nanquantile(away, 0.9) / np.diff(np.sort(levels)).min())


def _explained(rows: Float32, code: NDArray[np.int64], channels: Sequence[int]) -> float:
    """Share of the channels' variance that lies between the codes, the median over channels; -1 is no code."""
    shares = []
    for c in channels:
        known = np.isfinite(rows[:, c]) & (code >= 0)
        x, group = rows[known, c].astype(np.float64), code[known]
        count = np.bincount(group)
        middle = np.bincount(group, x) / np.maximum(count, 1)
        total = x.var() if len(x) else 0.0
        if total > 0:
            shares.append(1.0 - ((x - middle[group]) ** 2).mean() / total)
    return float(np.median(shares)) if shares else 0.0

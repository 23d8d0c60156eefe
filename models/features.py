"""Features of windows for the gradient-boosted baseline: level, spread and trend of each channel.

The one idea: features are computed from the window alone, all windows at once, so that training, evaluation and
serving share them. NaN in a window is no value; a feature without any value is NaN, which LightGBM understands.

Legend: N windows, W steps, C channels, F features.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.hazard import Float32
from models.labels import END, UNNAMED, Codes

WHOLE = ("last", "mean", "std", "slope", "min", "max", "missing")
RECENT = ("mean", "slope", "min", "max")
# Features are computed for so many windows at a time, which bounds the memory.
CHUNK = 4096


@dataclass(frozen=True)
class Sequence:
    """A machine's history as training sees it: values [T, C] float32 in canonical units, NaN for no value.

    ``time`` [T]: life units to failure (``event``) or to censoring; only ``usable`` steps are learned from, the
    others are context. A long history comes as several, each with its own context; ``first_tick`` tells their order.
    ``mode`` and ``ended_by`` [T] are those of ``models.labels.Labels``; left out, no mode is named and lives end as
    observation does.
    """

    machine: str
    values: Float32
    time: NDArray[np.float32]
    event: NDArray[np.bool_]
    usable: NDArray[np.bool_]
    first_tick: int = 0
    mode: Codes = field(default_factory=lambda: np.empty(0, np.int8))
    ended_by: Codes = field(default_factory=lambda: np.empty(0, np.int8))

    def __post_init__(self) -> None:
        for name, left_out in (("mode", UNNAMED), ("ended_by", END)):
            if len(getattr(self, name)) != len(self.time):
                object.__setattr__(self, name, np.full(len(self.time), left_out, np.int8))


def feature_names(channels: Ordered[str]) -> list[str]:
    """Names in the order of ``features``: ``<channel>.<statistic>``, the last quarter's with ``recent_``."""
    kinds = [*WHOLE, *(f"recent_{name}" for name in RECENT)]
    return [f"{channel}.{kind}" for kind in kinds for channel in channels]


def features(windows: Float32) -> Float32:
    """Features [N, F] float32 of windows [N, W, C], statistic by statistic, channels within each.

    ``last`` is the newest value in the window; slopes are a step, by least squares over the values there are;
    ``missing`` is the share of steps without a value.
    """
    parts = [_features(windows[start : start + CHUNK]) for start in range(0, len(windows), CHUNK)]
    width = windows.shape[2] * (len(WHOLE) + len(RECENT))
    return np.concatenate([np.empty((0, width), np.float32), *parts])


def _features(windows: Float32) -> Float32:
    recent = windows[:, -max(1, windows.shape[1] // 4) :]
    last, mean, std, slope, low, high, missing = _statistics(windows)
    _, recent_mean, _, recent_slope, recent_low, recent_high, _ = _statistics(recent)
    whole = (last, mean, std, slope, low, high, missing)
    return np.concatenate([*whole, recent_mean, recent_slope, recent_low, recent_high], axis=1)


def _statistics(windows: Float32) -> tuple[Float32, ...]:
    """Last, mean, std, slope, min, max and missing share, each [N, C]."""
    length = windows.shape[1]
    known = ~np.isnan(windows)
    count = known.sum(axis=1).astype(np.float32)
    empty = count == 0
    newest = length - 1 - np.argmax(known[:, ::-1], axis=1)
    last = np.take_along_axis(windows, newest[:, None], axis=1)[:, 0]
    # Centred on the newest value: sums of squares of large, steady values would lose all digits in float32.
    centred = np.where(known, windows - last[:, None], np.float32(0))
    step = np.arange(length, dtype=np.float32) - np.float32((length - 1) / 2)
    share = np.maximum(count, 1)
    offset = centred.sum(axis=1) / share
    variance = np.maximum((centred * centred).sum(axis=1) / share - offset * offset, 0)
    middle = np.einsum("w,nwc->nc", step, known.astype(np.float32)) / share
    spread = np.einsum("w,nwc->nc", step * step, known.astype(np.float32)) / share - middle * middle
    moved = np.einsum("w,nwc->nc", step, centred) / share - middle * offset
    slope = np.where(spread > 0, moved / np.where(spread > 0, spread, 1), np.float32(0))
    low = np.where(known, windows, np.float32(np.inf)).min(axis=1)
    high = np.where(known, windows, np.float32(-np.inf)).max(axis=1)
    found = (last + offset, np.sqrt(variance), slope, low, high)
    mean, std, slope, low, high = (np.where(empty, np.float32(np.nan), x).astype(np.float32) for x in found)
    return last, mean, std, slope, low, high, (1 - count / length).astype(np.float32)

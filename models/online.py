"""One window, from the ticks that it reaches back: the bytes that the whole history gives, without the history.

The one idea: a window depends on ``length + carry`` ticks, so those alone are gridded, and may be kept so. Shapes: N
readings, T ticks, S sensors, C channels, W window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.config import Clock, WindowConfig
from models.windows import (
    CONTEXT,
    Channel,
    Float,
    Int,
    MachineEvents,
    carry_within,
    context,
    grid,
    silence,
    span_us,
    tick_of,
)


def ticks_back(time_us: Int, values: Float, *, tick: int, clock: Clock, window: WindowConfig) -> tuple[Float, Int]:
    """Means [T, S] and numbers of rows [T] of the ticks that the window reaches back which ends with ``tick``.

    Rows are sorted by unique time, none later than ``tick``; older ones are not needed and change nothing.
    """
    recent = np.asarray(time_us) > tick * clock.step_us - span_us(clock, window)
    counts = np.zeros(silence(window), np.int64)
    means = np.full((len(counts), values.shape[1]), np.nan, np.float32)
    if recent.any():
        first, found = grid(time_us[recent], values[recent], clock)
        at = len(counts) - 1 - (tick - first)
        means[at : at + len(found)] = found
        np.add.at(counts, at + tick_of(time_us[recent], clock) - first, 1)
    return means, counts


def window_of(
    means: Float, counts: Int, events: MachineEvents, *, tick: int, clock: Clock, window: WindowConfig,
    channels: Sequence[Channel] = CONTEXT,
) -> Float:  # fmt: skip
    """The window [W, C] that ends with ``tick``, of ``ticks_back``; there may be no row in them at all."""
    rows, length, num_sensors = np.flatnonzero(counts), window.length, means.shape[1]
    start = int(rows[0]) if len(rows) else len(means)
    sensors = means[start:].copy()
    carry_within(sensors, rows - start, window)
    out = np.empty((length, num_sensors + len(channels)), np.float32)
    before = max(0, length - len(sensors))
    out[:before, :num_sensors] = np.nan
    out[before:, :num_sensors] = sensors[-length:]
    out[:, num_sensors:] = context(np.arange(tick - length + 1, tick + 1, dtype=np.int64), events, clock, channels)
    return out


def window_at(
    time_us: Int, values: Float, events: MachineEvents, *, tick: int, clock: Clock, window: WindowConfig,
    channels: Sequence[Channel] = CONTEXT,
) -> Float:  # fmt: skip
    """The window [W, C] that ends with ``tick``, from a machine's rows up to then, sorted by unique time."""
    means, counts = ticks_back(time_us, values, tick=tick, clock=clock, window=window)
    return window_of(means, counts, events, tick=tick, clock=clock, window=window, channels=channels)

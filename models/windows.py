"""Windows: irregular readings on the machine type's grid, the same bytes offline and online.

The one idea: everything a window holds follows from the rows of its own ``length + carry`` ticks and
from the events known at each tick, so training on a whole history, batch scoring and the service
cut identical windows from identical rows. Shapes: N readings, T ticks, C channels, W window, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.config import Clock, WindowConfig
from models.errors import InputError

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
MAX_TICKS = 50_000_000  # 200 MB a channel: more means that a clock is wrong, not that a machine is old


@dataclass(frozen=True)
class Channel:
    """One column of a window; ``context`` channels come from the logs, not from sensors."""

    name: str
    kind: str
    unit: str
    role: Literal["sensor", "context"] = "sensor"


CONTEXT: tuple[Channel, ...] = (
    Channel("since_service", "time", "life", "context"),
    Channel("errors_24h", "number", "1", "context"),
)
_NONE: Int = np.empty(0, np.int64)


@dataclass(frozen=True)
class MachineEvents:
    """What a feature may know of a machine's log, in microseconds UTC.

    ``renewed_us[i]`` (end of a repair or replacement) is known from ``renewed_known_us[i]`` on;
    ``errors_known_us`` is sorted. ``installed_us`` is None for a machine that no list names. ``parts`` holds the same
    two of each component that the log names, its installation among them; ``codes`` the errors of each code.
    """

    installed_us: int | None = None
    renewed_us: Int = field(default_factory=lambda: _NONE)
    renewed_known_us: Int = field(default_factory=lambda: _NONE)
    errors_known_us: Int = field(default_factory=lambda: _NONE)
    parts: Mapping[str, tuple[Int, Int]] = field(default_factory=dict)
    codes: Mapping[str, Int] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """A machine's gridded history, ``values`` [T, C] float32, NaN = no value.

    The first ``lead`` ticks precede the first reading, so that every window lies inside.
    """

    machine: str
    first_tick: int
    lead: int
    values: Float

    @property
    def ticks(self) -> Int:
        return np.arange(self.first_tick, self.first_tick + len(self.values), dtype=np.int64)

    @property
    def last_tick(self) -> int:
        return self.first_tick + len(self.values) - 1


def tick_of(time_us: Int, clock: Clock) -> Int:
    """The tick that covers each time: ``ceil(time / step)``, so that a reading on the boundary closes its tick."""
    return -(-np.asarray(time_us, np.int64) // clock.step_us)


def grid(time_us: Int, values: Float, clock: Clock) -> tuple[int, Float]:
    """Mean of each tick's finite readings, NaN where there is none.

    ``time_us`` [N] sorted and unique, ``values`` [N, C]. Returns the first tick and [T, C].
    Raises InputError where the times span more ticks than any machine has.
    """
    if len(time_us) == 0:
        return 0, np.empty((0, values.shape[1]), np.float32)
    ticks = tick_of(time_us, clock)
    out = np.empty((_span(ticks, clock), values.shape[1]), np.float32)
    _grid_into(out, ticks, values)
    return int(ticks[0]), out


def _span(ticks: Int, clock: Clock) -> int:
    found = int(ticks[-1]) - int(ticks[0]) + 1
    if found > MAX_TICKS:
        raise InputError(
            "Readings span too much time", expected=f"at most {MAX_TICKS} ticks of {clock.step_s:g} s", found=found,
            do="Correct the times, or the clock's step in the source description",
        )  # fmt: skip
    return found


def _grid_into(out: Float, ticks: Int, values: Float) -> Int:
    """Fill ``out`` [T, C] from rows [N, C] of sorted ticks; returns the ticks that have a row, from 0."""
    rows = ticks - ticks[0]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    present = np.isfinite(values)
    whole = bool(present.all())  # what most sensors send most of the time
    if len(starts) == len(rows):  # a reading a tick is its own mean
        means = values if whole else np.where(present, values, np.float32(np.nan))
    # float64 sums over each tick's own rows, in time order: the same bytes whatever surrounds them.
    elif whole:
        sums = np.add.reduceat(values, starts, axis=0, dtype=np.float64)
        means = sums / np.diff(np.r_[starts, len(values)])[:, None]
    else:
        sums = np.add.reduceat(np.where(present, values, np.float32(0)), starts, axis=0, dtype=np.float64)
        counts = np.add.reduceat(present, starts, axis=0, dtype=np.int64)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)  # one NaN, whatever its sign would be
    if len(starts) == len(out):
        out[:] = means
    else:
        out[:] = np.nan
        out[rows[starts]] = means
    found: Int = rows[starts]
    return found


def carry_forward(values: Float, limit: int) -> None:
    """Fill gaps of [T, C] in place with the last value, for at most ``limit`` ticks."""
    missing = np.isnan(values)
    if limit == 0 or not missing.any():
        return
    rows, columns = np.nonzero(missing[1:] & ~missing[:-1])
    rows += 1
    for _ in range(limit):
        values[rows, columns] = values[rows - 1, columns]
        rows += 1
        inside = rows < len(values)
        rows, columns = rows[inside], columns[inside]
        still = missing[rows, columns]
        rows, columns = rows[still], columns[still]
        if not len(rows):
            return


def context(ticks: Int, events: MachineEvents, clock: Clock, channels: Sequence[Channel] = CONTEXT) -> Float:
    """The context channels [T, C] at each tick's end, from what was recorded by then.

    ``since_service`` is NaN before the installation and where nothing is known. ``since_service.<component>`` and
    ``errors_24h.<code>`` are the same of one component and of one code. Raises InputError for any other name.
    """
    now = np.asarray(ticks, np.int64) * clock.step_us
    found = np.empty((len(now), len(channels)), np.float32)
    for column, channel in enumerate(channels):
        what, _, which = channel.name.partition(".")
        if what == "since_service":
            found[:, column] = _age(now, events, which, clock)
        elif what == "errors_24h":
            found[:, column] = _errors(now, events.codes.get(which, _NONE) if which else events.errors_known_us, clock)
        else:
            raise InputError(
                "Unknown context channel", expected="since_service or errors_24h, of a component or code or of all",
                found=repr(channel.name), do="Train the model again with this version",
            )  # fmt: skip
    return found


def _age(now: Int, events: MachineEvents, component: str, clock: Clock) -> Float:
    """Life units since the newest renewal that is known at each moment [T], of the machine or of a component."""
    renewed, known, installed = events.renewed_us, events.renewed_known_us, events.installed_us
    if component:
        renewed, known = events.parts.get(component, (_NONE, _NONE))
        installed = None if component in events.parts else installed
    if installed is not None:
        renewed, known = np.append(renewed, installed), np.append(known, installed)
    if not len(renewed):
        return np.full(len(now), np.nan, np.float32)
    visible = np.maximum(renewed, known)
    order = np.argsort(visible, kind="stable")
    num_known = np.searchsorted(visible[order], now, side="right")
    newest = np.maximum.accumulate(renewed[order])[num_known[num_known > 0] - 1]
    age = np.full(len(now), np.nan, np.float32)
    age[num_known > 0] = (now[num_known > 0] - newest) / clock.step_us * clock.life_per_step
    return age


def _errors(now: Int, known: Int, clock: Clock) -> Float:
    """Errors that became known in the day before each moment [T]; a day is 24 cycles where life is counted in them."""
    if not len(known):
        return np.zeros(len(now), np.float32)
    day_us = 86_400_000_000 if clock.life_unit == "h" else 24 * clock.step_us
    seen = np.searchsorted(known, now, side="right") - np.searchsorted(known, now - day_us, side="right")
    return seen.astype(np.float32)


def series_of(
    machine: str, time_us: Int, values: Float, events: MachineEvents, *, clock: Clock, window: WindowConfig,
    channels: Sequence[Channel] = CONTEXT,
) -> Series:  # fmt: skip
    """A machine's rows, sorted by unique time, as a gridded series with context channels.

    ``values`` [N, S] holds the plant's sensors in canonical units; the result has the context ``channels`` after
    them. Nothing is carried into a silence of more than ``silence`` ticks, so that no window ends in one.
    """
    ticks = tick_of(np.asarray(time_us, np.int64), clock)
    lead, num_sensors = window.length - 1, values.shape[1]
    length = _span(ticks, clock) if len(ticks) else 0
    out = np.empty((lead + length, num_sensors + len(channels)), np.float32)
    out[:lead, :num_sensors] = np.nan
    first = int(ticks[0]) if len(ticks) else 0
    if length:
        sensors = out[lead:, :num_sensors]
        seen = _grid_into(sensors, ticks, np.asarray(values, np.float32))
        carry_within(sensors, seen, window)
    all_ticks = np.arange(first - lead, first + length, dtype=np.int64)
    out[:, num_sensors:] = context(all_ticks, events, clock, channels)
    return Series(machine, first - lead, lead, out)


def carry_within(sensors: Float, seen: Int, window: WindowConfig) -> None:
    """Carry values of [T, S] forward in place, not into a silence; ``seen`` are the ticks that have a row, from 0."""
    carry_forward(sensors, window.carry)
    for row in seen[np.flatnonzero(np.diff(seen) > silence(window))].tolist():
        sensors[row + 1 : row + 1 + window.carry] = np.nan


def silence(window: WindowConfig) -> int:
    """Ticks from one reading to the next after which the second is a new beginning: a window and what it carries."""
    return window.length + window.carry


def span_us(clock: Clock, window: WindowConfig) -> int:
    """How far back a window's rows reach: its length and the carry-forward before it."""
    return (window.length + window.carry) * clock.step_us


def window_ending(series: Series, tick: int, length: int) -> Float:
    """The window [W, C] that a tick owns. Raises IndexError outside the series."""
    end = tick - series.first_tick + 1
    if end < length or end > len(series.values):
        raise IndexError(f"no window of {length} ticks ends at tick {tick} of {series.machine}")
    return np.ascontiguousarray(series.values[end - length : end])


def windows_ending(values: Float, ends: Int, length: int) -> Float:
    """Windows [N, W, C] that end at the rows ``ends`` of ``values`` [T, C]; every end must be >= length - 1."""
    num_channels = values.shape[1]
    if len(ends) == 0:
        return np.empty((0, length, num_channels), np.float32)
    values = np.ascontiguousarray(values, np.float32)
    first, last = int(np.min(ends)), int(np.max(ends))
    if first < length - 1 or last >= len(values):
        raise IndexError(f"windows of {length} rows that end at {first} to {last}, of {len(values)} rows")
    row = values.strides[0]
    views = np.lib.stride_tricks.as_strided(
        values, (len(values) - length + 1, length, num_channels), (row, row, values.strides[1]), writeable=False
    )
    if last - first == len(ends) - 1 and bool((np.diff(ends) == 1).all()):
        found: Float = views[first - length + 1 : last - length + 2].copy()
    else:
        found = views[np.asarray(ends) - (length - 1)]
    return found


def channels_of(sensors: Sequence[tuple[str, str, str]], context: Sequence[Channel] = CONTEXT) -> tuple[Channel, ...]:
    """Channels of a plant's windows from its (name, kind, unit), in the order of names, context last."""
    return tuple(Channel(*sensor) for sensor in sorted(sensors)) + tuple(context)


def context_of(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """The context channels among a model's channels."""
    return tuple(channel for channel in channels if channel.role == "context")

"""What the machines are asked to do: a weekly plan in local time, weather, and what really happened on top.

The one idea: the *plan* is known ahead and drives wear; the *load* that a sensor feels is the plan disturbed, and
carries no news about wear.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from jobs.fleet.physics import Floats
from jobs.fleet.plants import Pattern, Plant

WEEK_H = 168
_FIRST_DAY = datetime(2025, 1, 1)


@dataclass(frozen=True)
class Calendar:
    """Hours of a plant. ``T`` simulated hours start at local midnight of 2025-01-01; a week of plan follows them."""

    start_s: int  # epoch seconds of hour 0
    num_hours: int
    offset_s: NDArray[np.int64]  # local minus UTC at each hour, [T + WEEK_H]

    @property
    def hour_of_week(self) -> NDArray[np.int64]:
        """0 is Monday 00:00 local, [T + WEEK_H]."""
        local_h = (self.start_s + 3600 * np.arange(len(self.offset_s)) + self.offset_s) // 3600
        return (local_h + 3 * 24) % WEEK_H  # the epoch was a Thursday

    def local_s(self, time_s: NDArray[np.int64]) -> NDArray[np.int64]:
        """Local wall-clock seconds of UTC seconds. Before and after the hours known here, the offset is held."""
        hour = np.clip((time_s - self.start_s) // 3600, 0, len(self.offset_s) - 1)
        return time_s + self.offset_s[hour]

    def offset_at(self, time_s: int) -> int:
        return int(self.local_s(np.array([time_s], dtype=np.int64))[0]) - time_s


def calendar_of(plant: Plant, days: int) -> Calendar:
    zone = ZoneInfo(plant.zone)
    start = _FIRST_DAY.replace(tzinfo=zone).astimezone(UTC)
    hours = [start + timedelta(hours=k) for k in range(days * 24 + WEEK_H)]
    offsets = [int((h.astimezone(zone).utcoffset() or timedelta()).total_seconds()) for h in hours]
    return Calendar(int(start.timestamp()), days * 24, np.array(offsets, dtype=np.int64))


def weekly_plan(pattern: Pattern) -> Floats:
    """Planned load by hour of the week, [168], from 0 (stands still) to 1."""
    hour, day = np.arange(WEEK_H) % 24, np.arange(WEEK_H) // 24
    shift, weekday = (hour >= 6) & (hour < 22), day < 5
    if pattern == "steady":
        return np.full(WEEK_H, 0.85)
    if pattern == "day_night":
        return np.where(day == 6, 0.5, np.where(shift, 0.95, 0.6))
    if pattern == "swing":
        return np.where(weekday, np.where(shift, 1.0, 0.75), 0.55)
    if pattern == "two_shift":
        return np.where((day < 6) & shift, 1.0, 0.0)
    return np.where(day < 6, 1.0, 0.0)  # three shifts, Sunday off


def pattern_of(plant: Plant, machine: int) -> Pattern:
    return plant.patterns[machine % len(plant.patterns)]


def planned(plant: Plant, machines: int, calendar: Calendar) -> Floats:
    """Planned load of every machine and hour, [N, T + WEEK_H]."""
    hour = calendar.hour_of_week
    return np.stack([weekly_plan(pattern_of(plant, n))[hour] for n in range(machines)])


def ambient(plant: Plant, calendar: Calendar, rng: np.random.Generator) -> Floats:
    """Temperature in degC by hour, [T]: season, day, and weather that lasts for days."""
    hours = np.arange(calendar.num_hours)
    weather = plant.weather
    season = -weather.season * np.cos(2 * np.pi * (hours / 24 - 15) / 365.25)
    daily = -weather.day * np.cos(2 * np.pi * (hours - 3) / 24)
    return weather.mean + season + daily + memory(rng, calendar.num_hours, keep=0.99) * 0.25 * weather.season


def memory(rng: np.random.Generator, length: int, *, keep: float) -> Floats:
    """A stationary first-order autoregression of unit variance, [length]."""
    shocks = rng.standard_normal(length) * np.sqrt(1 - keep**2)
    shocks[0] /= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], shocks))


def actual(plant: Plant, plan: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Load, speed and whether it runs, of one machine at every reading, each [T * steps_per_hour]."""
    steps = len(plan) * plant.steps_per_hour
    demand = np.repeat(plan, plant.steps_per_hour)
    running = demand > 0
    if not plant.recipes:
        load = np.clip(demand + 0.06 * memory(rng, steps, keep=0.9), 0.2, 1.15)
        return load, np.clip(0.75 + 0.25 * load, 0, 1), running
    # A job lasts 1 to 6 hours; every machine has its own mix of work.
    lengths = rng.integers(plant.steps_per_hour, 6 * plant.steps_per_hour, size=steps // plant.steps_per_hour + 1)
    mix = rng.dirichlet(np.full(len(plant.recipes), 2.0))
    jobs = np.repeat(rng.choice(len(plant.recipes), size=len(lengths), p=mix), lengths)[:steps]
    recipe = np.array(plant.recipes)[jobs]
    load = np.clip(recipe[:, 0] * (1 + 0.08 * memory(rng, steps, keep=0.7)), 0.05, 1.15)
    return load, recipe[:, 1], running

"""What instruments read: level + load + speed + weather + the signature of wear + noise.

The one idea: a reading at time t shows the state at the start of t's hour, never later, so nothing leaks back from a
failure. Nothing here is faulty yet; ``faults.py`` spoils it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from jobs.fleet.life import Lives
from jobs.fleet.operation import actual, memory
from jobs.fleet.physics import Floats, severity
from jobs.fleet.plants import Plant, Sensor

AMBIENT_REFERENCE = 15.0  # degC


@dataclass(frozen=True)
class Measured:
    time_s: NDArray[np.int64]  # [S] UTC epoch seconds, S = T * steps_per_hour
    delay_s: NDArray[np.int64] | None  # [N, S, C] by which a scattered tag is read after the grid
    values: Floats  # [N, S, C] NaN where a machine that is down sends nothing


def measure(plant: Plant, lives: Lives, ambient: Floats, rngs: list[np.random.Generator]) -> Measured:
    """Readings of every machine, without measurement faults."""
    T = lives.calendar.num_hours
    time_s = lives.calendar.start_s + 3600 // plant.steps_per_hour * np.arange(T * plant.steps_per_hour)
    shape = (len(rngs), len(time_s), len(plant.sensors))
    values, delay_s = np.empty(shape), np.zeros(shape, np.int64) if plant.scattered else None
    up = np.ones(shape[:2], bool)
    for n, started_s, ended_s in lives.stops():
        first, last = np.searchsorted(time_s, [started_s, ended_s])
        up[n, first:last] = False
    for n, rng in enumerate(rngs):
        load, speed, planned = actual(plant, lives.plan[n, :T], rng)
        drive = _Drive(load, speed, planned & up[n], np.repeat(ambient, plant.steps_per_hour))
        for c, sensor in enumerate(plant.sensors):
            worn = signature(plant, sensor, lives, n)
            values[n, :, c] = _read(sensor, drive, worn=worn, renewals=lives.renewals[n], rng=rng)
        if delay_s is not None:
            delay_s[n] = rng.integers(40, 3560, size=shape[2]) + rng.integers(-30, 31, size=shape[1:])
    if not plant.off_values:
        values[~up] = np.nan
    if delay_s is not None:
        _silence(values, time_s[:, None] + delay_s, lives)
    return Measured(time_s, delay_s, values)


def _silence(values: Floats, read_s: NDArray[np.int64], lives: Lives) -> None:
    """A tag that is read between the failure and the next full hour is silent too."""
    for n, started_s, ended_s in lives.stops():
        values[n][(read_s[n] >= started_s) & (read_s[n] < ended_s)] = np.nan


def signature(plant: Plant, sensor: Sensor, lives: Lives, machine: int) -> Floats:
    """What wear adds to a sensor at full load, by hour, [T], in the sensor's unit."""
    total = np.zeros(lives.calendar.num_hours)
    for m, mode in enumerate(plant.modes):
        if mode.name in sensor.effects:
            wear, strength = lives.wear[machine, :, m], lives.strength[machine, :, m]
            total += sensor.effects[mode.name] * strength * severity(np.minimum(wear, 1.0), mode.growth)
    return total


@dataclass(frozen=True)
class _Drive:
    load: Floats
    speed: Floats
    running: NDArray[np.bool_]
    ambient: Floats


def _read(sensor: Sensor, drive: _Drive, *, worn: Floats, renewals: list[int], rng: np.random.Generator) -> Floats:
    load, speed, steps = drive.load, drive.speed, len(drive.load) // len(worn)
    level = rng.normal(1.0, 0.04) + np.repeat(_renewed_level(len(worn), renewals, rng), steps)
    driven = sensor.base + sensor.load * load + sensor.speed * speed + sensor.product * load * speed
    driven = drive.running * (driven * level + np.repeat(worn, steps) * (0.55 + 0.5 * load))
    if sensor.lag_h:
        keep = np.exp(-1 / (sensor.lag_h * steps))
        driven = lfilter([1 - keep], [1.0, -keep], driven, zi=[keep * driven[0]])[0]
    value = sensor.rest + driven + sensor.ambient * (drive.ambient - AMBIENT_REFERENCE)
    white, slow = rng.standard_normal(len(value)), memory(rng, len(value), keep=0.97 ** (1 / steps))
    unrest = drive.running * (0.35 + 0.65 * load) + ~drive.running * 0.05
    value = value + sensor.noise * unrest * (0.85 * white + 0.5 * slow)
    return np.clip(value, sensor.low, sensor.high)


def _renewed_level(num_hours: int, renewals: list[int], rng: np.random.Generator) -> Floats:
    """A renewed machine sits at a slightly other level: a step at each renewal, [T]."""
    level = np.zeros(num_hours)
    for hour in sorted(renewals):
        level[hour:] = rng.normal(0.0, 0.02)
    return level

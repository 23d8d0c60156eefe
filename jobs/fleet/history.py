"""One plant from its seed to its files.

The one idea: every machine, and the plant's office, has random streams of its own, named by (plant, machine, purpose),
so that readings can be left unwritten or a purpose redrawn without moving anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from jobs.fleet.bookings import Bookings, book
from jobs.fleet.faults import spoil
from jobs.fleet.life import Lives, Policy, draw_frailty, live
from jobs.fleet.logs import write_logs
from jobs.fleet.operation import ambient, calendar_of, planned
from jobs.fleet.plants import PLANTS, Plant
from jobs.fleet.sensors import measure
from jobs.fleet.truth import failures_table, oracle_table, state_table
from jobs.fleet.writers import Readings, Written, write_readings

# Part of every stream's name: another number is another fleet from the same seed. Picked from 1 to 6 by looking at
# seed 0 alone: each plant's default fleet then keeps to the shares that other seeds keep to on average (60 to 90
# failures, 20-40 % of them sudden, a third of the machines without any). No model was looked at. Frozen.
MODEL = 5
_LIFE, _SENSORS, _FAULTS, _ERRORS, _FRAILTY, _WEATHER, _OFFICE, _DELIVERY = range(8)


@dataclass(frozen=True)
class History:
    """What happened in a plant and what was booked of it; readings follow on demand."""

    plant: Plant
    seed: int
    names: list[str]
    lives: Lives
    bookings: Bookings


def stream(seed: int, plant: Plant, purpose: int, machine: int | None = None) -> np.random.Generator:
    """The generator of one purpose of one machine, or of the plant."""
    key = (MODEL, list(PLANTS).index(plant.name), purpose, 0 if machine is None else machine + 1)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def simulate_plant(plant: Plant, *, machines: int, days: int, seed: int, policy: Policy | None = None) -> History:
    """Live and book a plant's machines, without readings."""
    calendar = calendar_of(plant, days)
    plan = planned(plant, machines, calendar)
    frailty = draw_frailty(machines, stream(seed, plant, _FRAILTY))
    rngs = _streams(seed, plant, _LIFE, machines)
    lives = live(plant, calendar, plan=plan, frailty=frailty, rngs=rngs, policy=policy or Policy())
    office = stream(seed, plant, _OFFICE)
    bookings = book(plant, lives, office, _streams(seed, plant, _ERRORS, machines))
    digits = max(2, len(str(machines)))
    return History(plant, seed, [f"{plant.prefix}{n + 1:0{digits}d}" for n in range(machines)], lives, bookings)


def readings_of(history: History) -> Readings:
    """What the instruments of a plant deliver, faults included."""
    plant, lives, seed = history.plant, history.lives, history.seed
    machines, air = len(history.names), ambient(plant, lives.calendar, stream(seed, plant, _WEATHER))
    measured = measure(plant, lives, air, _streams(seed, plant, _SENSORS, machines))
    faulty = _streams(seed, plant, _FAULTS, machines)
    spoiled = spoil(measured.values, steps_per_day=24 * plant.steps_per_hour, rngs=faulty)
    delivery = stream(seed, plant, _DELIVERY)
    return Readings(plant, lives.calendar, history.names, measured.time_s, measured.delay_s, spoiled, delivery)


def write_plant(history: History, folder: Path, truth: Path) -> Iterator[Written]:
    """Write a plant's truth, logs and readings; yields each file of readings when it is there."""
    plant, lives, names = history.plant, history.lives, history.names
    folder.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    pq.write_table(failures_table(plant, lives, history.bookings.coded_as, names), truth / "failures.parquet")
    pq.write_table(state_table(plant, lives, names), truth / "state.parquet", compression="zstd")
    pq.write_table(oracle_table(plant, lives, names), truth / "oracle.parquet", compression="zstd")
    write_logs(plant, lives.calendar, history.bookings, names, folder)
    yield from write_readings(readings_of(history), folder)


def _streams(seed: int, plant: Plant, purpose: int, machines: int) -> list[np.random.Generator]:
    return [stream(seed, plant, purpose, n) for n in range(machines)]

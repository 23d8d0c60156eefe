"""What people write down: failures, maintenance and errors as the plant's logs carry them, with their flaws.

The one idea: the logs are exported days after the last reading, so every booking that was ever made is in them;
``recorded_s`` says when it was made, 0 to 72 h after the event began and never before it ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.fleet.life import Failure, Lives, Visit
from jobs.fleet.plants import Plant

UNLOGGED = 0.1
MISCODED = 0.1  # of the logged
LATEST_S = 72 * 3600
_CODE_PER_DAY = 0.05  # of a healthy machine
_CODE_FROM, _CODE_RATE = 0.6, 0.02  # wear from which a machine complains, and how often in an hour at wear 1
_FIRST_CODE = 101


@dataclass(frozen=True)
class FailureRow:
    failure: Failure
    component: str
    mode: str  # as coded
    recorded_s: int
    cost: float
    order: str


@dataclass(frozen=True)
class VisitRow:
    visit: Visit
    recorded_s: int
    finding: str
    cost: float
    order: str


@dataclass(frozen=True)
class ErrorRow:
    machine: int
    time_s: int
    recorded_s: int
    code: str


@dataclass(frozen=True)
class Asset:
    machine: int
    location: str
    equipment: str
    criticality: str
    valid_from_s: int


@dataclass(frozen=True)
class Bookings:
    failures: list[FailureRow]
    coded_as: list[str | None]  # by true failure; None where nobody logged it
    visits: list[VisitRow]
    errors: list[ErrorRow]
    assets: list[Asset]


def book(plant: Plant, lives: Lives, rng: np.random.Generator, rngs: list[np.random.Generator]) -> Bookings:
    """Book a plant's events. ``rng`` is the office's, ``rngs`` are the machines' own."""
    coded = _coded(plant, lives.failures, rng)
    failures = [_failure_row(plant, f, mode, rng) for f, mode in zip(lives.failures, coded, strict=True) if mode]
    visits = [_visit_row(v, rng) for v in lives.visits]
    errors = [row for n, own in enumerate(rngs) for row in _errors(plant, lives, n, own)]
    assets = [_asset(plant, lives, n, own) for n, own in enumerate(rngs)]
    return Bookings(
        sorted(failures, key=lambda r: (r.recorded_s, r.order)),
        coded,
        sorted(visits, key=lambda r: (r.recorded_s, r.order)),
        sorted(errors, key=lambda r: (r.time_s, r.machine)),
        assets,
    )


def _coded(plant: Plant, failures: list[Failure], rng: np.random.Generator) -> list[str | None]:
    """The mode under which each failure is logged. Exactly a tenth are not, and a tenth of the rest are wrong."""
    coded: list[str | None] = [f.mode for f in failures]
    order = rng.permutation(len(failures))
    unlogged = round(UNLOGGED * len(failures))
    wrong = round(MISCODED * (len(failures) - unlogged))
    for i in order[:unlogged]:
        coded[i] = None
    for i in order[unlogged : unlogged + wrong]:
        coded[i] = str(rng.choice([m for m in plant.mode_names() if m != failures[i].mode]))
    return coded


def _recorded(started_s: int, ended_s: int, rng: np.random.Generator) -> int:
    """Most bookings are made within a day of the end, all within 72 h of the start."""
    spare = max(0, started_s + LATEST_S - ended_s)
    return ended_s + 60 * int(spare * rng.beta(0.8, 2.0) / 60)


def _order(rng: np.random.Generator) -> str:
    return f"WO-{rng.integers(10**7, 10**8)}"


def _failure_row(plant: Plant, failure: Failure, mode: str, rng: np.random.Generator) -> FailureRow:
    component = dict(plant.sudden) | {m.name: m.component for m in plant.modes}
    hours = (failure.ended_s - failure.started_s) / 3600
    cost = round(float(rng.lognormal(np.log(4000), 0.4)) + 350 * hours, 2)
    recorded = _recorded(failure.started_s, failure.ended_s, rng)
    return FailureRow(failure, component[mode], mode, recorded, cost, _order(rng))


def _visit_row(visit: Visit, rng: np.random.Generator) -> VisitRow:
    cost = round(float(rng.lognormal(np.log(250 if visit.effect == "inspected" else 1400), 0.3)), 2)
    finding = f"signs of {visit.noticed.replace('_', ' ')}" if visit.noticed else "none"
    return VisitRow(visit, _recorded(visit.started_s, visit.ended_s, rng), finding, cost, _order(rng))


def _errors(plant: Plant, lives: Lives, machine: int, rng: np.random.Generator) -> list[ErrorRow]:
    """Codes of the controller: some for no reason, more as a defect grows. Code E1xx tells the mode, E9xx nothing."""
    running = lives.running[machine]
    idle = np.flatnonzero(rng.random(len(running)) < _CODE_PER_DAY / 24)
    rows = [(int(hour), f"E{rng.integers(901, 906)}") for hour in idle]
    for m in range(len(plant.modes)):
        wear = lives.wear[machine, :, m]
        chance = _CODE_RATE * np.clip((wear - _CODE_FROM) / (1 - _CODE_FROM), 0, 1)
        rows += [(int(hour), f"E{_FIRST_CODE + m}") for hour in np.flatnonzero(rng.random(len(wear)) < chance)]
    found = []
    for hour, code in sorted(rows):
        time_s = lives.calendar.start_s + 3600 * hour
        if running[hour]:
            found.append(ErrorRow(machine, time_s, time_s + int(rng.integers(1, 900)), code))
    return found


def _asset(plant: Plant, lives: Lives, machine: int, rng: np.random.Generator) -> Asset:
    valid_from = lives.calendar.start_s - 86400 * int(rng.integers(200, 4000))
    location = f"{plant.name.upper()}-{rng.integers(1, 5)}0-{machine + 1:03d}"
    criticality = str(rng.choice(["A", "B", "C"], p=[0.25, 0.5, 0.25]))
    return Asset(machine, location, f"EQ{rng.integers(10**6, 10**7)}", criticality, valid_from)

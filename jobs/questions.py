"""What the demo asks the service: held-out readings of a machine about to fail, and of a healthy one.

The one idea: machines and moments are chosen by the log and the simulator's truth, never by what a
model says of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cluster.home import Home
from cluster.storage import read_readings
from jobs.dataset import PlantData, load_plant
from jobs.evaluation.truth import Truth
from models.labels import MachineLog
from models.windows import span_us

LEAD_H = 24  # how long before the failure the service is asked


@dataclass(frozen=True)
class Asked:
    """What to send: rows of one machine up to ``as_of_us``, the last of them one by one."""

    machine: str
    about: str
    outcome: str
    as_of_us: int
    rows: list[dict[str, Any]]


def questions_for(home: Home, plant: str, truth: Truth) -> list[Asked]:
    """The first failure of test time that had a precursor, a day before it; and a machine that stayed healthy.

    Chosen by the log and the simulator's truth, never by what the model says. Unseen machines first.
    """
    data = load_plant(home, plant)
    split = data.split_in_time(home.settings.split, home.settings.model)
    low, high = split.bounds_us["test"]
    lead_us = LEAD_H * 3_600_000_000
    failing: list[tuple[bool, int, str]] = []
    for machine, log in data.logs.items():
        for at in log.failed_us.tolist():
            known = truth.of(machine, at)
            if low + lead_us < at <= high and machine in data.series and known is not None and not known.sudden:
                failing.append((machine not in split.unseen, at, machine))
    found = []
    if failing:
        _, at, machine = min(failing)
        outcome = f"failed {LEAD_H} h later"
        found.append(_asked(home, data, machine, at - lead_us, about="about to fail", outcome=outcome))
    quiet = [
        (machine not in split.unseen, machine)
        for machine in data.series
        if not any(low < at <= high for at in data.logs.get(machine, MachineLog()).failed_us.tolist())
        and not truth.hidden(machine, low, high)
    ]
    if quiet:
        _, machine = min(quiet)
        middle = (low + high) // 2
        found.append(_asked(home, data, machine, middle, about="healthy", outcome="stayed healthy"))
    return found


def _asked(home: Home, data: PlantData, machine: str, as_of_us: int, *, about: str, outcome: str) -> Asked:
    reach = span_us(data.clock, home.settings.model.window)
    table = read_readings(home, data.plant, machines=[machine], since_us=as_of_us - reach, until_us=as_of_us)
    rows = [
        {name: value for name, value in row.items() if value is not None and not _is_nan(value)}
        | {"time": row["time"].isoformat()}
        for row in table.drop_columns(["machine"]).to_pylist()
    ]
    return Asked(machine, about, outcome, as_of_us, rows)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)



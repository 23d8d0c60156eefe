"""Every event accounted for: failure, censored, excluded or context, and why; and what is too little to learn from.

The one idea: the account is read off the very labels and parts that training uses, before anything is
trained. A number that surprises here would have surprised in the model, later and unexplained.

Writes ``reports/labels/<plant>.csv``: every event with its verdict, reason and the part that uses it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.home import Home
from cluster.logs import machine_logs
from cluster.report import Progress, Report
from cluster.storage import data_version, read_events, read_machines, sensors
from jobs.dataset import PlantData, load_plant, named_plants
from jobs.labelling.counts import Delay, PlantLabels, detail, summary
from jobs.labelling.counts import Group as Failures
from jobs.labelling.verdicts import account
from jobs.labelling.words import COMPETING, ENDED, NOT_USED
from models.config import Clock
from models.errors import InputError
from models.split import Split

BLIND_LIFE = 48.0  # life units before a failure without any reading: the horizon that is asked for most


class LabelsReport(Report):
    """``plants`` holds every count, ``files`` what was written."""

    plants: list[PlantLabels] = Field(default_factory=list)
    files: list[str] = Field(default_factory=list)

    def render(self) -> RenderableType:
        parts: list[RenderableType] = []
        for plant in self.plants:
            parts += [_table(plant), *(Text(f"  {line}") for line in _lines(plant)), ""]
        return Group(*parts, *(f"Every event: {file}" for file in self.files))


def run(home: Home, *, progress: Progress, plants: str = "all", plant: str | None = None) -> LabelsReport:
    """Account for the events of the plants named (``plant``, or comma-separated ``plants``, or ``all``).

    A plant without events or readings is reported as such. Raises NotFoundError for one that is unknown.
    """
    if plant and plants != "all":
        raise InputError("Two choices of plants", expected="--plant or --plants", found="both", do="Give one of them")
    began = time.monotonic()
    report = LabelsReport()
    for name in named_plants(home, plant or plants):
        progress.step(f"Account for the events of {name}")
        found, rows = labels_of(home, name, now_us=int(datetime.now(UTC).timestamp() * 1_000_000))
        report.plants.append(found)
        report.files.append(str(_write(home.path / "reports" / "labels" / f"{name}.csv", rows)))
    report.seconds = time.monotonic() - began
    return report


def labels_of(home: Home, plant: str, *, now_us: int) -> tuple[PlantLabels, pa.Table]:
    """The plant's account, and every event with its verdict."""
    events = read_events(home, plant)
    data, split = _history(home, plant, events)
    blind_us = round(BLIND_LIFE / data.clock.life_per_step) * data.clock.step_us
    found = account(data, events, split, now_us=now_us, blind_us=blind_us)
    return summary(data, events, found, split, blind_h=BLIND_LIFE), detail(events, found)


def _history(home: Home, plant: str, events: pa.Table) -> tuple[PlantData, Split | None]:
    """What training would load; logs alone where there are no readings yet."""
    if sensors(home, plant):
        data = load_plant(home, plant)
        return data, data.split_in_time(home.settings.split, home.settings.model) if data.series else None
    machines = read_machines(home, plant)
    types = dict(zip(machines["machine"].to_pylist(), machines["machine_type"].to_pylist(), strict=True))
    clock: Clock = home.source(plant).clock
    return PlantData(plant, clock, (), {}, {}, machine_logs(events), types, data_version(home, plant), {}), None


def _write(path: Path, rows: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(rows, path)
    return path


def _table(plant: PlantLabels) -> Table:
    title = f"{plant.name}: {plant.events:,} events" if plant.events else f"{plant.name}: no events"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("verdict", "kind", "events", "why"):
        table.add_column(column, justify="right" if column == "events" else "left")
    for reason in plant.reasons:
        table.add_row(reason.verdict, reason.kind.replace("_", " "), f"{reason.count:,}", reason.why)
    return table


def _lines(plant: PlantLabels) -> list[str]:
    said = []
    if sum(plant.lives.values()):
        lives = ", ".join(f"{plant.lives[cause]:,} {words}" for cause, words in ENDED.items())
        said.append(f"Lives observed: {sum(plant.lives.values()):,} on {_num_observed(plant)} machines: {lives}.")
    else:
        said.append("No life is observed: the plant has no readings, or none on a machine of the logs.")
    if plant.censored_by:
        said.append(f"Maintenance that cut a life short, by trigger: {_listed(plant.censored_by)}.")
    if any(plant.maintenance.values()):
        kinds = ", ".join(f"{plant.maintenance[kind]} {words}" for kind, words in COMPETING.items())
        said.append(f"Of them {kinds}.")
    if plant.parts:
        used = ", ".join(f"{p.name} {p.failures}" + _unseen(p.on_unseen_machines) for p in plant.parts)
        said.append(f"Failures by part: {used}.")
    said += [f"Labels that no part uses: {number} {NOT_USED[reason]}." for reason, number in plant.not_used.items()]
    if plant.modes:
        said.append("Failures by mode (labels of booked): " + _groups(plant.modes) + ".")
        said.append("Failures by component: " + _groups(plant.components) + ".")
        worst = sorted(plant.machines, key=lambda m: -m.labels)[:5]
        said.append("Most failures: " + ", ".join(f"{m.name} {m.labels}" for m in worst if m.labels) + ".")
    said += [_delay(d) for d in plant.delays]
    if plant.held_back_h:
        said.append(f"Nothing is claimed of the last {plant.held_back_h:.0f} h: their failures may not be booked yet.")
    return [line for line in said if not line.endswith(": .")] + [f"Too little: {line}." for line in plant.too_little]


def _num_observed(plant: PlantLabels) -> int:
    return sum(sum(machine.ended_by.values()) > 0 for machine in plant.machines)


def _unseen(number: int) -> str:
    return f" ({number} on machines that training never sees)" if number else ""


def _groups(groups: list[Failures]) -> str:
    return ", ".join(f"{g.name} {g.labels} of {g.booked}" for g in groups[:8])


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())


def _delay(delay: Delay) -> str:
    name = delay.kind.replace("_", " ")
    odd = f"; {delay.booked_before_start} booked before they began" if delay.booked_before_start else ""
    if not delay.late:
        return f"Booking of {name}: no time of its own, so how late it comes is not known."
    late = f"half within {delay.p50_h:.1f} h, 95 % within {delay.p95_h:.1f} h, the latest {delay.worst_h:.1f} h"
    return f"Booking of {name}: {late}{odd}."

"""What `tune` says at its end: each plant's best beside its baselines, and what became of every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, computed_field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.report import Report
from jobs.tuning.journal import IN_WORDS, Journal, Trial


class PlantStudy(BaseModel):
    """One plant's outcome; ``best`` holds the champion, what it was compared with and, under ``against``, by how much.

    ``finished`` counts trials that trained to their end or were stopped by comparison; ``stopped`` why others, and
    those stopped, ended sooner; ``outcomes`` every trial: state, reason, epochs, loss, seconds. ``epochs_run`` is what
    this call trained, which a resumed study does not repeat. ``core_hours`` and ``gpu_hours`` are the whole study's, of
    every call, for the plant's ``owner``.
    """

    name: str
    trials: int
    finished: int
    resumed: bool
    best: dict[str, Any]
    stopped: dict[str, int] = {}
    outcomes: list[dict[str, Any]] = []
    budget_ended: bool = False
    epochs_run: int = 0
    study: str = ""
    owner: str | None = None
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    fleet: str | None = None  # the fleet's network that the plant could start from, or that answers for it


class OwnerCost(BaseModel):
    plants: int = 0
    core_hours: float = 0.0
    gpu_hours: float = 0.0


class TuneReport(Report):
    plants: list[PlantStudy] = []
    budget: str | None = None
    files: list[str] = []
    budget_ended: bool = False
    space: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def owners(self) -> dict[str, OwnerCost]:
        """Each owner's plants and what their studies cost; nobody's are under ``""``."""
        found: dict[str, OwnerCost] = {}
        for plant in self.plants:
            own = found.setdefault(plant.owner or "", OwnerCost())
            own.plants += 1
            own.core_hours = round(own.core_hours + plant.core_hours, 6)
            own.gpu_hours = round(own.gpu_hours + plant.gpu_hours, 6)
        return dict(sorted(found.items()))

    def render(self) -> RenderableType:
        table = Table(title="Tuned: the best candidate of each plant, by log-likelihood on later time")
        for column in ("plant", "trials", "failures", "network", "trees", "no sensor", "champion", "version"):
            table.add_column(column, justify="right" if column in ("trials", "failures") else "left")
        for plant in self.plants:
            scores = plant.best["log_likelihood"]
            table.add_row(
                plant.name, f"{plant.finished}/{plant.trials}", str(plant.best["num_failures"]),
                *(f"{scores[k]:.4f}" if k in scores else "-" for k in ("network", "trees", "no_sensor")),
                plant.best["kind"], plant.best["version"],
            )  # fmt: skip
        told = [
            f"{plant.name}: " + ", ".join(f"{count} {why}" for why, count in plant.stopped.items())
            for plant in self.plants if plant.stopped
        ]  # fmt: skip
        if self.budget_ended:
            told.append(f"The budget of {self.budget} ended the search: the same command goes on with it.")
        if any(self.owners):
            told.append("Cost: " + "; ".join(by_owner(self)))
        return Group(table, *(Text(line) for line in told))


def by_owner(report: TuneReport) -> list[str]:
    """``anna 0.120 core-hours, 0.000 GPU-hours (3 plants)`` for each owner."""
    return [
        f"{owner or 'nobody'} {cost.core_hours:.3f} core-hours, {cost.gpu_hours:.3f} GPU-hours "
        f"({cost.plants} plant{'' if cost.plants == 1 else 's'})"
        for owner, cost in report.owners.items()
    ]


def hours(trials: Sequence[Trial], seconds: Mapping[str, float]) -> tuple[float, float]:
    """Core-hours and GPU-hours: one core a trial and a candidate of these ``seconds``, and a trial's share of a GPU."""
    baselines = sum(value for name, value in seconds.items() if name != "network")
    return (sum(t.seconds for t in trials) + baselines) / 3600, sum(t.seconds * t.gpu for t in trials) / 3600


def counted(trials: Sequence[Trial], *states: str) -> int:
    return sum(trial.state in states for trial in trials)


def outcomes(journal: Journal) -> dict[str, int]:
    """How many trials ended sooner than by themselves, for each reason."""
    found = Counter(IN_WORDS[trial.state] for trial in journal.trials if trial.state != "finished")
    unseen = journal.facts.trials - len(journal.trials)
    if unseen:
        found[IN_WORDS["waiting"]] += unseen
    return dict(found)

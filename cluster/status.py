"""What is connected, registered and running: read from files alone, so it answers at once."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table

from cluster import dossiers
from cluster.config import PlantSettings
from cluster.home import Home
from cluster.received import State
from cluster.registry import champion
from cluster.report import Progress, Report
from cluster.running import alive, records
from cluster.storage import read_machines
from models.errors import InputError


class ChampionStatus(BaseModel):
    kind: str
    version: str
    path: str


class PromotionStatus(BaseModel):
    """The champion's last promotion, as its dossier tells it. ``problem``: why that cannot be read."""

    verdict: str | None = None
    at: str | None = None
    forced: bool = False
    who: str | None = None
    problem: str | None = None


class PlantStatus(BaseModel):
    name: str
    machines: int
    champion: ChampionStatus | None
    promotion: PromotionStatus | None
    owner: str | None
    waiting: int | None = 0  # readings that the service received and no `ingest` has taken; None: unreadable


class Running(BaseModel):
    name: str
    pid: int
    ports: dict[str, int]


class StatusReport(Report):
    home: str
    plants: list[PlantStatus]
    running: list[Running]

    def render(self) -> RenderableType:
        columns = ("plant", "machines", "champion", "version", "promoted", "verdict", "owner")
        table = Table(*columns, box=None, pad_edge=False)
        for plant in self.plants:
            best = plant.champion
            table.add_row(
                plant.name, str(plant.machines), best.kind if best else "none yet", best.version if best else "",
                *_promoted(plant.promotion), plant.owner or "",
            )  # fmt: skip
        what = [f"{r.name} runs (pid {r.pid}{_ports(r.ports)})" for r in _by_process(self.running)] or ["Nothing runs."]
        first = table if self.plants else "No plant is connected. Run `millwright connect PATH --plant NAME`."
        waiting = [_told(p) for p in self.plants if p.waiting != 0]
        problems = [f"{p.name}: {p.promotion.problem}" for p in self.plants if p.promotion and p.promotion.problem]
        return Group(f"Home {self.home}", first, *problems, *waiting, *what)


def run(home: Home, *, progress: Progress) -> StatusReport:
    began = time.monotonic()
    plants = [
        PlantStatus(
            name=name, machines=_num_machines(home, name), **_champion(home, name),
            owner=home.settings.plants.get(name, PlantSettings()).owner, waiting=_waiting(home, name),
        )
        for name in home.plants()
    ]  # fmt: skip
    running = [Running(name=r.name, pid=r.pid, ports=r.ports) for r in records(home) if alive(home, r.name)]
    return StatusReport(home=str(home.path), plants=plants, running=running, seconds=time.monotonic() - began)


def _champion(home: Home, plant: str) -> dict[str, Any]:
    found = champion(home, plant)
    if found is None:
        return {"champion": None, "promotion": None}
    standing = ChampionStatus(kind=found.kind, version=found.version, path=str(found.path))
    return {"champion": standing, "promotion": _promotion(home, plant, found.dossier) if found.dossier else None}


def _promotion(home: Home, plant: str, name: str) -> PromotionStatus:
    """A damaged dossier is told and does not hide what runs."""
    try:
        found = dossiers.read(home, plant, name)
    except InputError as error:
        return PromotionStatus(problem=str(error))
    return PromotionStatus(verdict=found.verdict, at=found.at, forced=found.forced, who=found.who)


def _promoted(found: PromotionStatus | None) -> tuple[str, str]:
    if found is None or found.at is None:
        return "", "damaged dossier" if found else ""
    return found.at[:16].replace("T", " "), f"{found.verdict}{', forced' if found.forced else ''}"


def _num_machines(home: Home, plant: str) -> int:
    return len(set(read_machines(home, plant)["machine"].to_pylist()))


def _waiting(home: Home, plant: str) -> int | None:
    if not home.of(plant).state.is_file():
        return 0
    try:
        with closing(State(home.of(plant).state)) as state:
            return state.num_pending()
    except InputError:
        return None


def _told(plant: PlantStatus) -> str:
    if plant.waiting is None:
        return f"{plant.name}: the service's store of readings cannot be read"
    return f"{plant.name}: {plant.waiting:,} readings that the service received wait for `millwright ingest`"


def _by_process(running: list[Running]) -> list[Running]:
    """One a process: its own name, and a Ray session's only where it has no other."""
    return list({r.pid: r for r in sorted(running, key=lambda r: not r.name.startswith("ray-"))}.values())


def _ports(ports: dict[str, int]) -> str:
    return "".join(f", {name} {port}" for name, port in ports.items())

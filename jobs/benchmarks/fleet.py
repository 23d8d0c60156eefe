"""The simulated fleet: plants that never were, of seeds that nothing was developed on, with the oracle as the ceiling.

The one idea: beating a baseline on a simulator of one's own proves little, so what counts is how far the network comes
from the better baseline to the oracle, which knows every machine's true state: in failures caught, at equal false
alarms.

The generator was frozen before the default network and its settings were chosen, and nothing was developed on these
seeds: 0 is the demo's and the generator's own, small ones are those of tests and of decisions on the way. ``generator``
is a digest of its source, so that figures of another one can be told apart. Models are the configured ones, the same
for every plant and seed; champion, thresholds and calibration come from validation. Test parts are opened here, by the
code of ``evaluate``: whoever changes a model by these figures needs other seeds for the next.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.bundles import load
from cluster.files import write_atomically
from cluster.home import Home
from cluster.places import place_of
from cluster.registry import bundle_folder
from cluster.report import Progress, Report
from jobs import connect, ingest, simulate
from jobs import fleet as generator_package
from jobs.benchmarks.shares import Case, Caught, Shares, case_of, shares
from jobs.candidates import choose, studies_of
from jobs.dataset import load_plant
from jobs.evaluation.judging import judge_plant
from jobs.evaluation.results import Figure
from jobs.evaluation.truth import read_truth
from jobs.fleet.plants import PLANTS
from jobs.fleet.truth import HORIZONS_H
from jobs.study import Candidate, Study
from jobs.train import start
from models.errors import InputError

FIRST_SEED = 301
MACHINES, DAYS = 40, 210  # as the demo


class FleetPart(Shares):
    """One plant of one seed, or of all (``seed`` null); ``champions`` is what validation chose, in the seeds' order."""

    plant: str
    seed: int | None
    champions: list[str]


class FleetReport(Shares, Report):
    """Figures over all plants and seeds together; ``parts`` has each plant of each seed, ``plants`` each plant."""

    name: str = "fleet"
    simulated: bool = True
    generator: str
    machines: int
    days: int
    seeds: list[int]
    parts: list[FleetPart]
    plants: list[FleetPart]
    steps: dict[str, float]

    def render(self) -> RenderableType:
        table = Table(
            title=f"fleet: {self.machines} machines and {self.days} days a plant, generator {self.generator}; failures "
            "caught at the network's false alarms"
        )
        for column in ("plant", "seed", "failures", "false\nalarms", "network", "trees", "no\nsensor", "oracle",
                       "share of\nthe way", "champion", "champion's\nshare"):  # fmt: skip
            table.add_column(column)
        for plant in self.plants:
            own = [part for part in self.parts if part.plant == plant.plant]
            for part in own:
                table.add_row(part.plant, str(part.seed), *_cells(part, ", ".join(part.champions)))
            if len(own) > 1:
                table.add_row(plant.plant, "all", *_cells(plant, ""))
            table.add_section()
        table.add_row("all", "all", *_cells(self, ""))
        took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.steps.items())
        return Group(table, _at_rates(self), _verdict(self), f"{self.seconds:.0f} s in all: {took}.")


def run(home: Home, *, progress: Progress, subset: str | None = None, seeds: int = 3) -> FleetReport:
    """All plants of the simulator or the one named, from ``seeds`` seeds on.

    Raises InputError for an unknown plant, a horizon that the oracle lacks, a home that holds another fleet of these
    seeds, or a batch that is held.
    """
    began = time.monotonic()
    if subset is not None and subset not in PLANTS:
        raise InputError("Unknown subset", expected=f"one of {', '.join(PLANTS)}", found=repr(subset))
    hazard = home.settings.model.hazard
    if hazard.alarm_within not in HORIZONS_H:
        raise InputError(
            "The oracle knows no such horizon", expected=f"an alarm within one of {HORIZONS_H} hours",
            found=hazard.alarm_horizon, where="model.hazard.horizons", do="Set one of them there",
        )  # fmt: skip
    plants = list(PLANTS) if subset is None else [subset]
    numbers = [FIRST_SEED + number for number in range(seeds)]
    steps: dict[str, float] = {}
    entries = [_ready(home, plant, seed, progress=progress, steps=steps) for plant in plants for seed in numbers]
    with _timed(steps, "train"):
        trained = _train(home, entries, progress)
    with _timed(steps, "judge"):
        cases = _judge(home, entries, trained, progress)
    progress.step("Draw machines for the intervals")
    return FleetReport(
        **shares(cases).model_dump(), generator=generator(), machines=MACHINES, days=DAYS, seeds=numbers,
        parts=[_part([case]) for case in cases],
        plants=[_part([case for case in cases if case.plant == plant]) for plant in plants],
        steps={name: round(seconds, 1) for name, seconds in steps.items()}, seconds=time.monotonic() - began,
    )  # fmt: skip


def generator() -> str:
    """A digest of the generator's source."""
    assert generator_package.__file__, "a package with a module of its own has a file"
    files = sorted(Path(generator_package.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@dataclass(frozen=True)
class _Entry:
    """One plant of one seed, ready to be learned from; ``raw`` holds its files and its truth."""

    plant: str
    seed: int
    raw: Path
    study: Study


def _ready(home: Home, plant: str, seed: int, *, progress: Progress, steps: dict[str, float]) -> _Entry:
    name = f"fleet-{plant}-{seed}"
    with _timed(steps, "simulate"):
        raw = _simulated(home, plant, seed, progress)
    with _timed(steps, "ingest"):
        connect.run(home, path=raw / plant, plant=name, progress=progress)
        _ingest(home, name, progress)
        (study,) = studies_of(home, name, progress=progress)
    return _Entry(plant, seed, raw, study)


def _train(home: Home, entries: Sequence[_Entry], progress: Progress) -> list[list[Candidate]]:
    """The candidates of each entry: a network, trees and the no-sensor baseline, as many at once as there are cores."""
    progress.step(f"Train the models of {len(entries)} plants")
    tasks = [start(e.study, bundle_folder(home, e.study.plant, "x").parent, [{}]) for e in entries]
    waiting = [task for own in tasks for task in own]
    total = len(waiting)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        ray.get(done)  # a failure ends the benchmark here
        progress.update(total - len(waiting), total, "models")
    return [ray.get(own) for own in tasks]


def _judge(home: Home, entries: Sequence[_Entry], trained: Sequence[list[Candidate]], progress: Progress) -> list[Case]:
    """The counts of each entry. The network comes first, since its false alarms are what is allowed."""
    progress.step(f"Judge {len(entries)} plants on later time and unseen machines")
    task, waiting = ray.remote(num_cpus=1)(judge_plant), []
    for entry, candidates in zip(entries, trained, strict=True):
        name, config = entry.study.plant, entry.study.config
        bundles = {candidate.kind: load(home, name, place_of(candidate.folder)) for candidate in candidates}
        data = load_plant(home, name, config=config)
        truth = read_truth(entry.raw / ".truth", entry.plant)
        waiting.append(task.remote(data, data.split_in_time(home.settings.split, config), bundles, truth))
    cases: list[Case] = []
    for entry, candidates, reference in zip(entries, trained, waiting, strict=True):
        cases.append(case_of(entry.plant, entry.seed, ray.get(reference), choose(candidates).kind))
        progress.update(len(cases), len(entries), "plants")
    return cases


def _simulated(home: Home, plant: str, seed: int, progress: Progress) -> Path:
    """The raw files and the truth; a fleet that is whole, as its record says, is not made again."""
    folder = home.path / "fleet" / f"{plant}-{seed}"
    record = folder.with_name(f"{folder.name}.json")
    wanted = {"machines": MACHINES, "days": DAYS, "generator": generator()}
    if record.is_file():
        found = json.loads(record.read_text("utf-8"))
        if found != wanted:  # its history is in the lake: both together would be no plant
            raise InputError(
                "This home holds another fleet of this seed", expected=json.dumps(wanted), found=json.dumps(found),
                where=record, do="Choose another --home",
            )  # fmt: skip
        return folder
    simulate.run(home, out=folder, progress=progress, machines=MACHINES, days=DAYS, seed=seed, plants=[plant])
    write_atomically(record, json.dumps(wanted))
    return folder


def _ingest(home: Home, name: str, progress: Progress) -> None:
    found = ingest.run(home, plant=name, progress=progress)
    if any(plant.held or plant.refused for plant in found.plants):
        why = next(plant.held or plant.refused for plant in found.plants)
        raise InputError(
            "A simulated plant is not whole in history", expected="every batch", found=f"one held or refused: {why}",
            where=name, do=f"See `millwright quality --plant {name}`",
        )  # fmt: skip


def _part(cases: Sequence[Case]) -> FleetPart:
    seed = cases[0].seed if len(cases) == 1 else None
    champions = [case.champion for case in cases]
    return FleetPart(**shares(cases).model_dump(), plant=cases[0].plant, seed=seed, champions=champions)


@contextmanager
def _timed(steps: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    steps[name] = steps.get(name, 0.0) + time.monotonic() - began


def _cells(found: Shares, champion: str) -> list[str]:
    candidates = (found.model, found.baseline, found.no_sensor, found.oracle)
    kind = f"{found.champion.num_caught} {champion}".strip()
    return [
        str(found.num_failures), f"{found.false_alarms} ({found.false_alarms / found.machine_months:.2f})",
        *(str(one.num_caught) for one in candidates), _written(found.share), kind, _written(found.champion_share),
    ]  # fmt: skip


def _verdict(found: Shares) -> str:
    def told(one: Caught) -> str:
        return f"{one.num_caught} ({_written(one.caught)})"

    rate = found.false_alarms / found.machine_months
    return (
        f"Simulated data. Of {found.num_failures} failures that an alarm could have announced, at the network's "
        f"{rate:.2f} false alarms a machine-month it caught {told(found.model)}, the better baseline of each plant "
        f"{told(found.better)}, the oracle {told(found.oracle)}: {_written(found.share)} of the way, the champions "
        f"{_written(found.champion_share)}. 95 % intervals over machines, drawn within each plant and seed; thresholds "
        "are retuned on the judged ticks, for all alike and in every draw."
    )


def _at_rates(found: Shares) -> Table:
    table = Table(title="All plants and seeds, each plant at the same rate of false alarms")
    columns = ("a machine-month", "network", "trees", "no sensor", "better of each plant", "oracle", "share of the way")
    for column in columns:
        table.add_column(column)
    for one in found.at_rates:
        counts = (one.model, one.baseline, one.no_sensor, one.better, one.oracle)
        table.add_row(f"{one.rate:g}", *map(str, counts), _written(one.share))
    return table


def _written(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    interval = "" if figure.low is None else f" ({figure.low:.2f} to {figure.high:.2f})"
    return f"{figure.value:.2f}{interval}"

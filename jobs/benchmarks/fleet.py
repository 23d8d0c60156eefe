"""The simulated fleet: plants that never were, of seeds that nothing was developed on, with the oracle as the ceiling.

The one idea: beating a baseline on a simulator of one's own proves little, so what counts is how far the network comes
from the better baseline to the oracle, which knows every machine's true state: in failures caught, at equal false
alarms.

Models are the configured ones, the same for every plant and seed; champion, thresholds and calibration come from
validation. Test parts are opened here, by the code of ``evaluate``: whoever changes a model by these figures needs
other seeds for the next.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import ray
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.bundles import load
from cluster.home import Home
from cluster.places import place_of
from cluster.report import Progress, Report
from jobs.benchmarks import simulated
from jobs.benchmarks.shares import Case, Caught, Shares, case_of, shares
from jobs.benchmarks.simulated import Entry
from jobs.candidates import choose
from jobs.dataset import load_plant
from jobs.evaluation.judging import judge_plant
from jobs.evaluation.truth import read_truth
from jobs.study import Candidate


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
    steps: dict[str, float] = {}
    plants, numbers = simulated.asked(home, subset, seeds)
    entries = [
        simulated.ready(home, plant, seed, progress=progress, steps=steps) for plant in plants for seed in numbers
    ]
    with simulated.timed(steps, "train"):
        trained = simulated.train(home, entries, progress)
    with simulated.timed(steps, "judge"):
        cases = _judge(home, entries, trained, progress)
    progress.step("Draw machines for the intervals")
    return FleetReport(
        **shares(cases).model_dump(), generator=simulated.generator(), machines=simulated.MACHINES,
        days=simulated.DAYS, seeds=numbers,
        parts=[_part([case]) for case in cases],
        plants=[_part([case for case in cases if case.plant == plant]) for plant in plants],
        steps={name: round(seconds, 1) for name, seconds in steps.items()}, seconds=time.monotonic() - began,
    )  # fmt: skip


def _judge(home: Home, entries: Sequence[Entry], trained: Sequence[list[Candidate]], progress: Progress) -> list[Case]:
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


def _part(cases: Sequence[Case]) -> FleetPart:
    seed = cases[0].seed if len(cases) == 1 else None
    champions = [case.champion for case in cases]
    return FleetPart(**shares(cases).model_dump(), plant=cases[0].plant, seed=seed, champions=champions)


def _cells(found: Shares, champion: str) -> list[str]:
    candidates = (found.model, found.baseline, found.no_sensor, found.oracle)
    kind = f"{found.champion.num_caught} {champion}".strip()
    return [
        str(found.num_failures), f"{found.false_alarms} ({found.false_alarms / found.machine_months:.2f})",
        *(str(one.num_caught) for one in candidates), str(found.share), kind, str(found.champion_share),
    ]  # fmt: skip


def _verdict(found: Shares) -> str:
    def told(one: Caught) -> str:
        return f"{one.num_caught} ({one.caught})"

    rate = found.false_alarms / found.machine_months
    return (
        f"Simulated data. Of {found.num_failures} failures that an alarm could have announced, at the network's "
        f"{rate:.2f} false alarms a machine-month it caught {told(found.model)}, the better baseline of each plant "
        f"{told(found.better)}, the oracle {told(found.oracle)}: {found.share} of the way, the champions "
        f"{found.champion_share}. 95 % intervals over machines, drawn within each plant and seed; thresholds "
        "are retuned on the judged ticks, for all alike and in every draw."
    )


def _at_rates(found: Shares) -> Table:
    table = Table(title="All plants and seeds, each plant at the same rate of false alarms")
    columns = ("a machine-month", "network", "trees", "no sensor", "better of each plant", "oracle", "share of the way")
    for column in columns:
        table.add_column(column)
    for one in found.at_rates:
        counts = (one.model, one.baseline, one.no_sensor, one.better, one.oracle)
        table.add_row(f"{one.rate:g}", *map(str, counts), str(one.share))
    return table

"""Plants that the fleet's network never saw: how much of the recall of each plant's own network it keeps.

The one idea: the simulated fleet is left out in two ways. By plant: all plants of a seed at once, so that the fleet
still knows other plants with the same machines. By type: all plants of a machine type, so that it knows only others.
Nothing of what is left out is read but its readings, which scale them.

The same plants and seeds as the benchmark ``fleet``, judged by the same code on the same ticks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import ray
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.bundles import load
from cluster.home import Home
from cluster.places import place_of
from cluster.report import Progress, Report
from jobs.benchmarks import simulated
from jobs.benchmarks.simulated import Entry
from jobs.dataset import load_plant
from jobs.evaluation.allowed import Counts, counts_of
from jobs.evaluation.as_new import left_out
from jobs.evaluation.judging import judge_plant
from jobs.evaluation.kept import Kept, kept
from jobs.evaluation.truth import read_truth
from jobs.study import Candidate
from models.bundle import Bundle
from models.errors import InputError

WAYS = {"plant": "as_new", "type": "as_new_type"}  # what is left out -> the candidate's name
CANDIDATES = ("network", "trees", "no_sensor", "oracle")


class UnseenReport(Report):
    """``plants`` by machine type, all seeds together, then all; see ``jobs.evaluation.kept``."""

    name: str = "unseen"
    simulated: bool = True
    generator: str
    machines: int
    days: int
    seeds: list[int]
    plants: list[Kept]
    steps: dict[str, float]

    def render(self) -> RenderableType:
        ways = {way: kind for way, kind in WAYS.items() if kind in self.plants[0].at[0].kept}
        table = Table(title=f"Failures caught by the fleet's network, which never saw the plant; {self.machines} "
                      f"machines and {self.days} days a plant, seeds {', '.join(map(str, self.seeds))}")  # fmt: skip
        own = ("plant", "failures", "false alarms\na machine-month", "own\nnetwork", "trees", "no\nsensor", "oracle")
        for column in (*own, *(text for way in ways for text in (f"{way}\nunseen", "kept"))):
            table.add_column(column)
        for plant in self.plants:
            for one in plant.at:
                rate = f"own network's, {one.false_alarms}" if one.rate is None else f"{one.rate:g}"
                cells = [str(one.caught[kind]) for kind in CANDIDATES]
                for kind in ways.values():
                    cells += [str(one.caught[kind]), str(one.kept[kind])]
                table.add_row(plant.name, str(plant.num_failures), rate, *cells, end_section=one is plant.at[-1])
        took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.steps.items())
        words = (
            "Simulated data. «Plant unseen»: learned from the plants of the other seeds, the same machine types among "
            "them; «type unseen»: from the plants of the other types. All at equal false alarms, each under its best "
            "threshold on the judged ticks; 95 % intervals over machines."
        )
        return Group(table, words, f"{self.seconds:.0f} s in all: {took}.")


def run(home: Home, *, progress: Progress, subset: str | None = None, seeds: int = 3) -> UnseenReport:
    """Leave out by ``subset``, plant or type; both where none is named.

    Raises InputError for an unknown one, for a single seed where plants are left out, and as ``fleet`` does.
    """
    began = time.monotonic()
    if subset is not None and subset not in WAYS:
        raise InputError("Unknown subset", expected=f"one of {', '.join(WAYS)}", found=repr(subset))
    ways = list(WAYS) if subset is None else [subset]
    if "plant" in ways and seeds < 2:
        raise InputError(
            "Nobody is left to learn from", expected="--seeds 2 or more: each seed's plants learn from the others'",
            found=f"--seeds {seeds}", do="Ask for more, or for --subset type",
        )  # fmt: skip
    steps: dict[str, float] = {}
    plants, numbers = simulated.asked(home, None, seeds)
    entries = [
        simulated.ready(home, plant, seed, progress=progress, steps=steps) for plant in plants for seed in numbers
    ]
    with simulated.timed(steps, "train each plant's own"):
        trained = simulated.train(home, entries, progress)
    newcomers: dict[str, dict[str, Bundle]] = {}
    for way in ways:
        groups = {e.study.plant: str(e.seed) if way == "plant" else e.plant for e in entries}
        with simulated.timed(steps, f"train fleets without the {way}"):
            newcomers[WAYS[way]] = left_out(home, [e.study for e in entries], groups, progress=progress)
    with simulated.timed(steps, "judge"):
        counts = _judge(home, entries, trained, newcomers, progress)
    found = {plant: [counts[e.study.plant] for e in entries if e.plant == plant] for plant in plants}
    return UnseenReport(
        generator=simulated.generator(), machines=simulated.MACHINES, days=simulated.DAYS, seeds=numbers,
        plants=kept(found, full="network", newcomers=list(newcomers)),
        steps={name: round(seconds, 1) for name, seconds in steps.items()}, seconds=time.monotonic() - began,
    )  # fmt: skip


def _judge(
    home: Home, entries: Sequence[Entry], trained: Sequence[list[Candidate]],
    newcomers: Mapping[str, Mapping[str, Bundle]], progress: Progress,
) -> dict[str, Counts]:  # fmt: skip
    progress.step(f"Judge {len(entries)} plants on later time and unseen machines")
    task, waiting = ray.remote(num_cpus=1)(judge_plant), {}
    for entry, candidates in zip(entries, trained, strict=True):
        name, config = entry.study.plant, entry.study.config
        bundles = {candidate.kind: load(home, name, place_of(candidate.folder)) for candidate in candidates}
        bundles |= {kind: found[name] for kind, found in newcomers.items() if name in found}
        data = load_plant(home, name, config=config)
        truth = read_truth(entry.raw / ".truth", entry.plant)
        split = data.split_in_time(home.settings.split, config)
        waiting[name] = (task.remote(data, split, bundles, truth), [*bundles, "oracle"])
    found = {}
    for name, (reference, kinds) in waiting.items():
        found[name] = counts_of(ray.get(reference), kinds)
        progress.update(len(found), len(waiting), "plants")
    return found

"""The simulated fleet, ready to be learned from: raw files made, connected, ingested, models trained as any plant's.

The one idea: the generator was frozen before the default network and its settings were chosen, and nothing was
developed on these seeds: 0 is the demo's and the generator's own, small ones are those of tests and of decisions on the
way. ``generator`` is a digest of its source, so that figures of another one can be told apart.
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

from cluster.files import write_atomically
from cluster.home import Home
from cluster.registry import bundle_folder
from cluster.report import Progress
from jobs import connect, ingest, simulate
from jobs import fleet as generator_package
from jobs.candidates import studies_of
from jobs.fleet.plants import PLANTS
from jobs.fleet.truth import HORIZONS_H
from jobs.study import Candidate, Study
from jobs.train import start
from models.errors import InputError

FIRST_SEED = 301
MACHINES, DAYS = 40, 210  # as the demo


def asked(home: Home, subset: str | None, seeds: int) -> tuple[list[str], list[int]]:
    """One plant or all, and the seeds. Raises InputError for an unknown plant, or a horizon that the oracle lacks."""
    if subset is not None and subset not in PLANTS:
        raise InputError("Unknown subset", expected=f"one of {', '.join(PLANTS)}", found=repr(subset))
    hazard = home.settings.model.hazard
    if hazard.alarm_within not in HORIZONS_H:
        raise InputError(
            "The oracle knows no such horizon", expected=f"an alarm within one of {HORIZONS_H} hours",
            found=hazard.alarm_horizon, where="model.hazard.horizons", do="Set one of them there",
        )  # fmt: skip
    return list(PLANTS) if subset is None else [subset], [FIRST_SEED + number for number in range(seeds)]


def generator() -> str:
    """A digest of the generator's source."""
    assert generator_package.__file__, "a package with a module of its own has a file"
    files = sorted(Path(generator_package.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@dataclass(frozen=True)
class Entry:
    """One plant of one seed, ready to be learned from; ``raw`` holds its files and its truth."""

    plant: str
    seed: int
    raw: Path
    study: Study


def ready(home: Home, plant: str, seed: int, *, progress: Progress, steps: dict[str, float]) -> Entry:
    name = f"fleet-{plant}-{seed}"
    with timed(steps, "simulate"):
        raw = _simulated(home, plant, seed, progress)
    with timed(steps, "ingest"):
        connect.run(home, path=raw / plant, plant=name, progress=progress)
        _ingest(home, name, progress)
        (study,) = studies_of(home, name, progress=progress)
    return Entry(plant, seed, raw, study)


def train(home: Home, entries: Sequence[Entry], progress: Progress) -> list[list[Candidate]]:
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


@contextmanager
def timed(steps: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    steps[name] = steps.get(name, 0.0) + time.monotonic() - began


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

"""A small simulated plant, ingested once and tuned once, for the tests that look at what follows."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.tune import TuneReport

PLANT = "harbor"
SMALL = [
    "model.network.epochs=2", "model.network.hidden=16", "model.trees.rounds=20", "tune.trials=2",
    "split.unseen_machines=0.25",
]  # fmt: skip


@dataclass(frozen=True)
class Tuned:
    """``fresh`` is a copy of the home as tuning left it: tests that change what answers change ``home``."""

    home: Home
    fresh: Path
    raw: Path
    report: TuneReport


@pytest.fixture(scope="session")
def plant_home(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Home:
    """The history of one simulated plant: 12 pumps, 100 days."""
    from jobs import connect, ingest, simulate

    folder = tmp_path_factory.mktemp("plant")
    home = open_home(folder / "home", create=True, environment={}, assignments=SMALL)
    simulate.run(home, out=folder / "raw", progress=Silent(), machines=12, days=100, seed=1, plants=[PLANT])
    connect.run(home, path=folder / "raw" / PLANT, plant=PLANT, progress=Silent())
    ingest.run(home, progress=Silent())
    return home


@pytest.fixture(scope="session")
def tuned(plant_home: Home) -> Tuned:
    from jobs import tune

    report, folder = tune.run(plant_home, progress=Silent()), plant_home.path.parent
    shutil.copytree(plant_home.path, folder / "fresh", ignore=shutil.ignore_patterns("lineage", "logs"))
    return Tuned(plant_home, folder / "fresh", folder / "raw", report)

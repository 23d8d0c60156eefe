"""Exactly once, in one process: whatever is delivered, history is the model's, at every version once."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from cluster.home import open_home
from cluster.report import Silent
from jobs.ingest import run
from tests.jobs.once_checker import check_every_version, check_model
from tests.jobs.once_model import History
from tests.jobs.once_plants import RawFile, connect, hostile, put


def follow(folder: Path, rng: Random, *, runs: int) -> None:
    """Ingest hostile deliveries, comparing with the model after each run."""
    home = open_home(folder / "home", create=True, environment={})
    connect(home, folder / "raw")
    model, present = History(), dict[str, RawFile]()
    for delivery in hostile(rng, runs=runs):
        put(folder / "raw", delivery)
        present = {path: file for path, file in (present | delivery).items() if file is not None}
        model.run(present)
        report = run(home, progress=Silent(), spread=map)
        assert (report.rows_ingested, report.rows_quarantined) == (model.rows - model.quarantined, model.quarantined)
        check_model(home, model)
        assert run(home, progress=Silent(), spread=map).files == 0
    check_every_version(home)


@pytest.mark.parametrize("seed", range(2))
def test_some_deliveries_end_as_the_model_says(tmp_path: Path, seed: int) -> None:
    follow(tmp_path, Random(seed), runs=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_deliveries_end_as_the_model_says(tmp_path: Path, seed: int) -> None:
    follow(tmp_path, Random(seed), runs=5)

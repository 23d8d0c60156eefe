"""Exactly once, in one process: whatever is delivered, history is the model's, at every version once."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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


@settings(
    max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.randoms(use_true_random=False))
def test_any_deliveries_end_as_the_model_says(tmp_path_factory: pytest.TempPathFactory, rng: Random) -> None:
    follow(tmp_path_factory.mktemp("hostile"), rng, runs=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_many_deliveries_end_as_the_model_says(tmp_path: Path, seed: int) -> None:
    follow(tmp_path, Random(seed), runs=5)

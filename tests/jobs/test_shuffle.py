"""Mixing pieces within groups of histories teaches what mixing all of them does."""

from __future__ import annotations

import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from cluster.config import SplitSettings
from cluster.home import open_home
from cluster.report import Silent
from models.config import ModelConfig
from models.features import Sequence
from models.fit import NetworkFit
from models.pieces import shuffled_groups
from models.windows import Channel

DATA = Path(__file__).parents[3] / "shared" / "data" / "cmapss"


def history(machine: str, length: int) -> Sequence:
    flags = np.ones(length, bool)
    return Sequence(machine, np.zeros((length, 2), np.float32), np.ones(length, np.float32), flags, flags)


def test_histories_that_fit_are_one_group_in_order_and_draw_nothing() -> None:
    sequences = [history(f"m{i}", 10) for i in range(5)]
    rng = np.random.default_rng(0)
    assert shuffled_groups(sequences, 5 * 80, rng=rng) == [[0, 1, 2, 3, 4]]
    assert rng.integers(2**62) == np.random.default_rng(0).integers(2**62)


def test_groups_hold_every_history_once_and_no_more_than_fits() -> None:
    sequences = [history(f"m{i}", 10 + i) for i in range(20)]
    first, second = (shuffled_groups(sequences, 400, rng=np.random.default_rng(seed)) for seed in (1, 2))
    for groups in (first, second):
        assert sorted(index for group in groups for index in group) == list(range(20))
        assert all(sum(sequences[index].values.nbytes for index in group) <= 400 for group in groups)
        assert len(groups) > 8
    assert first != second
    assert shuffled_groups(sequences, 1, rng=np.random.default_rng(1))[0] != []  # one larger than the limit is alone


def fit_loss(
    train: list[Sequence], validate: list[Sequence], config: ModelConfig, channels: tuple[Channel, ...], share: float
) -> float:
    """The best validation loss where a share of the training histories is mixed at a time."""
    import torch

    torch.set_num_threads(1)
    most = round(share * sum(s.values.nbytes for s in train)) + 1
    fit = NetworkFit(train, validate, config, channels, shuffle_bytes=most)
    while not fit.done:
        fit.epoch()
    return fit.best_loss


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs NASA's C-MAPSS files beside the repository, in shared/data/cmapss")
def test_mixing_a_twelfth_at_a_time_learns_fd001_as_mixing_all_does(tmp_path: Path, ray_cluster: None) -> None:
    """FD001's training engines, five seeds each; validation engines alone are looked at."""
    from jobs import ingest
    from jobs.benchmarks import cmapss
    from jobs.candidates import study_of
    from jobs.dataset import load_plant

    home = open_home(tmp_path / "home", create=True, environment={})
    source = cmapss.description(DATA, "FD001")
    home.sources.mkdir(parents=True)
    cmapss.write_source(home.of(source.plant).source, source)
    ingest.run(home, plant=source.plant, progress=Silent())
    data = load_plant(home, source.plant, config=cmapss.CONFIG)
    test = frozenset(machine for machine in data.series if machine.startswith("test-"))
    study = study_of(data, data.split_in_machines(SplitSettings(), test), cmapss.CONFIG)
    network = cmapss.CONFIG.network.model_copy(update={"epochs": 30, "train_steps": 0, "folds": 1})
    losses: dict[float, list[float]] = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        waiting = {
            (share, seed): pool.submit(
                fit_loss, list(study.train), list(study.validate),
                study.config.model_copy(update={"network": network.model_copy(update={"seed": seed})}), study.channels,
                share,
            )
            for seed in range(int(os.environ.get("MILLWRIGHT_SHUFFLE_SEEDS", "5")))
            for share in (1.0, 1 / 12)
        }  # fmt: skip
        for (share, _), future in waiting.items():
            losses.setdefault(share, []).append(future.result())
    mean = {share: statistics.mean(found) for share, found in losses.items()}
    spread = statistics.stdev(losses[1.0])
    print(f"\nvalidation loss: all mixed {mean[1.0]:.4f} (seeds differ by {spread:.4f}), a twelfth {mean[1 / 12]:.4f}")
    assert mean[1 / 12] - mean[1.0] < max(2 * spread, 0.02 * mean[1.0])

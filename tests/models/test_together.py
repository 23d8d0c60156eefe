"""Two workers that train one network: the mean of their gradients, equal weights, and no worse than one alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import InputError
from models.pooled import PooledFit
from models.together import ALONE
from tests.models.test_pooled import CONFIG, plants

ROOT = Path(__file__).parents[2]


def train(folder: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    folder.mkdir()
    module = ["-m", "tests.models.together_worker"]
    workers = [
        subprocess.Popen(
            [sys.executable, *module, str(rank), str(folder / "store"), str(folder)],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        ) for rank in range(2)
    ]  # fmt: skip
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    told = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return told, [(folder / f"{rank}.safetensors").read_bytes() for rank in range(2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[bytes]]:
    return train(tmp_path_factory.mktemp("together") / "once")


def test_gradients_are_the_mean_of_those_who_had_work(trained: tuple[list[dict[str, Any]], list[bytes]]) -> None:
    for told in trained[0]:
        assert told["counts"] == [2.0, 30.0]  # both worked; 10 + 20
        assert told["used"] == [1.5, 4.5]  # (1 + 2) / 2 and (3 + 6) / 2
        assert told["one"] == [2.0, 4.0]  # only the first had one, of two who worked
        assert told["unused"] is None
        assert told["working"] == [1.0, 0.0] and told["idle"] == [2.0, 4.0]  # one worked: its own, undiluted


def test_workers_end_with_equal_weights_and_learn(trained: tuple[list[dict[str, Any]], list[bytes]]) -> None:
    (first, second), (weights, others) = trained
    assert weights == others and first["losses"] == second["losses"]
    assert min(first["losses"]) < 0.9 * first["losses"][0]


def test_equal_seeds_and_workers_give_equal_weights(
    trained: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path
) -> None:
    assert train(tmp_path / "again")[1] == trained[1]


def test_alone_nothing_is_summed() -> None:
    one = torch.nn.Parameter(torch.zeros(2))
    one.grad = torch.tensor([1.0, 3.0])
    assert ALONE.mean_gradients([one], (0.0, 7.0)) == [0.0, 7.0] and one.grad.tolist() == [1.0, 3.0]
    assert ALONE.sum([2.0]) == [2.0]


@pytest.mark.usefixtures("one_thread")
def test_a_training_that_was_killed_goes_on_as_if_it_never_had_been() -> None:
    whole, begun = PooledFit(plants(), CONFIG), PooledFit(plants(), CONFIG)
    for _ in range(4):
        whole.epoch()
    for _ in range(2):
        begun.epoch()
    again = PooledFit(plants(), CONFIG)
    again.restore(begun.state())
    for _ in range(2):
        again.epoch()
    assert again.epochs_done == 4 and again.shared() == whole.shared() and again.state() == whole.state()


def test_a_state_of_other_plants_is_refused() -> None:
    found = plants()
    state = PooledFit(found, CONFIG).state()
    with pytest.raises(InputError, match=r"State of another fit: expected configuration \w+ of b, found \w+ of a, b"):
        PooledFit({"b": found["b"]}, CONFIG).restore(state)

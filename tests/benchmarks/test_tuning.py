"""Ten plants' studies on two cores, as a ratio to the same trainings in two plain processes; `make bench` runs it.

Peer: two Python processes that take one training after the other, with no Ray, no journal, no MLflow, nothing kept.
Starting Ray is not counted; starting Tune's workers, and the peer's processes, is.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import pytest

from tests.benchmarks.children import child
from tests.benchmarks.tuning_steps import PLANTS, TRIALS

pytestmark = pytest.mark.slow
ROUNDS = int(os.environ.get("MILLWRIGHT_BENCH_ROUNDS", "3"))
MOST = 1.25


def test_ten_studies_take_no_more_than_their_trainings(tmp_path: Path) -> None:
    home, ratios = tmp_path / "home", []
    found, _ = child("tuning_steps.py", "prepare", home)
    assert found["plants"] == PLANTS
    for number in range(ROUNDS):
        folder = tmp_path / f"round-{number}"
        ours, _ = child("tuning_steps.py", "ours", home, folder)
        plain, _ = child("tuning_steps.py", "plain", home, folder)
        assert ours["trials"] == PLANTS * TRIALS and plain["off"] < 1e-3  # it is the same training
        ratios.append(ours["seconds"] / plain["seconds"])
        print(f"\n{ours['trials']} trials, {ours['epochs']} epochs: ours {ours['seconds']:.1f} s, two plain processes "
              f"{plain['seconds']:.1f} s, ratio {ratios[-1]:.2f}", flush=True)  # fmt: skip
    print(f"median of {ROUNDS}: {statistics.median(ratios):.2f}, at most {MOST}")
    assert statistics.median(ratios) <= MOST

"""What reasons cost, in plain predictions of the same model in the same run; prints a line, `make bench` runs it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.calibration import Calibration
from models.config import HazardConfig, ModelConfig, TreesConfig
from models.explain import allocate, explain, in_batch
from models.features import Sequence
from models.predictor import Predictor
from models.spec import BundleSpec, Lineage, Usual
from models.trees import fit_trees
from models.windows import channels_of

pytestmark = pytest.mark.slow
ROUNDS = 200
NUM_SENSORS = 24


def machine(number: int, *, hours: int = 400) -> Sequence:
    """Twenty-four sensors that all tell of wear a little, and a failure at the end."""
    rng = np.random.default_rng(number)
    left = np.arange(hours, 0, -1).astype(np.float32)
    wear = np.maximum(0.0, 120 - left)[:, None] / 60
    sensors = wear * rng.uniform(0.5, 1, NUM_SENSORS) + rng.normal(0, 1, (hours, NUM_SENSORS))
    context = np.column_stack([400 - left, np.zeros(hours)])
    values = np.column_stack([sensors, context]).astype(np.float32)
    return Sequence(f"m{number}", values, left, np.ones(hours, bool), np.arange(hours) >= 63)


@pytest.fixture(scope="module")
def trees() -> Predictor:
    channels = channels_of([(f"s{i}", "number", "1") for i in range(NUM_SENSORS)])
    config = ModelConfig(hazard=HazardConfig(), trees=TreesConfig(rounds=200))
    model = fit_trees([machine(i) for i in range(20)], [machine(i) for i in range(30, 36)], config, channels)
    spec = BundleSpec(
        plant="p", kind="trees", name="p", version="1", config=config, channels=channels,
        calibration=Calibration(), usual=Usual(window=(0.5,) * NUM_SENSORS + (200.0, 0.0)),
        lineage=Lineage(data_version="", code_version=""),
    )  # fmt: skip
    return Predictor(Bundle(Path("nowhere"), spec, model.to_text().encode(), None, ""))


def milliseconds(*functions: Callable[[], object]) -> list[float]:
    """Medians, the functions taking turns, so that a busy machine slows all of them alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, found in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            found.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(found[10:]) for found in times]


def test_reasons_of_trees_cost_at_most_three_plain_predictions(trees: Predictor) -> None:
    window = machine(50).values[-80:-16]
    plain, told, batch = milliseconds(
        lambda: trees.risk(window[None]), lambda: explain(trees, window),
        lambda: allocate(0.5, 0.1, in_batch(trees, window)[2]),
    )  # fmt: skip
    print(
        f"\ntrees, 64 x {NUM_SENSORS + 2}: a prediction {plain:.2f} ms, its reasons {told:.2f} ms, ratio "
        f"{told / plain:.1f}; windows in one batch {batch:.2f} ms, ratio {batch / plain:.1f}"
    )
    assert told / plain <= 3.0

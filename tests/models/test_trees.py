"""The baseline answers with the same curve, survives its text form, and without sensors reads the logs alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.config import HazardConfig, ModelConfig, TreesConfig, WindowConfig
from models.errors import InputError
from models.features import Sequence
from models.hazard import probability_within, sigmoid, usual_hazard
from models.trees import MAX_STEP, TreesModel, choose_steps, fit_trees
from models.windows import Channel, channels_of, windows_ending

EDGES = (12.0, 24.0, 48.0)
CHANNELS = (Channel("wear", "vibration", "mm/s"), Channel("since_service", "time", "life", "context"))
CONFIG = ModelConfig(
    window=WindowConfig(length=16),
    hazard=HazardConfig(horizons={"24h": 24}, edges=EDGES),
    trees=TreesConfig(rounds=30, leaves=4, min_rows=5, learning_rate=0.2),
)


def machine(seed: int, *, fails: bool, steps: int = 200) -> Sequence:
    rng = np.random.default_rng(seed)
    time = np.arange(steps, 0, -1, dtype=np.float32)
    wear = np.clip(1 - time / 60, 0, 1) * 5 if fails else np.zeros(steps)
    values = np.stack([wear + rng.normal(0, 0.3, steps), np.arange(steps)], axis=1).astype(np.float32)
    return Sequence(f"m{seed}", values, time, np.full(steps, fails), np.ones(steps, bool))


@pytest.fixture(scope="module")
def sequences() -> list[Sequence]:
    return [machine(i, fails=i % 2 == 0) for i in range(8)]


@pytest.fixture(scope="module")
def model(sequences: list[Sequence]) -> TreesModel:
    return fit_trees(sequences, sequences[:4], CONFIG, CHANNELS)


def test_wear_raises_the_risk(model: TreesModel, sequences: list[Sequence]) -> None:
    worn, new = sequences[0].values[-17:-1], sequences[0].values[:16]
    risk = probability_within(sigmoid(model.logits(np.stack([new, worn]))), EDGES, 24)
    assert risk[1] > 0.7
    assert risk[0] < 0.2


def test_text_and_back_gives_the_same_answers(model: TreesModel, sequences: list[Sequence]) -> None:
    windows = np.stack([sequences[0].values[i : i + 16] for i in range(50)])
    again = TreesModel.from_text(model.to_text())
    np.testing.assert_array_equal(again.logits(windows), model.logits(windows))
    assert again.kind == "trees"


def test_answers_have_a_hazard_for_each_bin_and_do_not_depend_on_the_batch(
    model: TreesModel, sequences: list[Sequence]
) -> None:
    windows = np.stack([sequences[2].values[i : i + 16] for i in range(9)])
    together = model.logits(windows)
    assert together.shape == (9, 4)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(model.logits(windows[4:5])[0], together[4])
    assert model.logits(windows[:0]).shape == (0, 4)
    assert np.isfinite(model.logits(np.full((1, 16, 2), np.nan, np.float32))).all()


def test_without_sensors_no_sensor_changes_the_answer(sequences: list[Sequence]) -> None:
    blind = fit_trees(sequences, sequences[:4], CONFIG, CHANNELS, sensors=False)
    windows = np.stack([sequences[0].values[i : i + 16] for i in range(20)])
    changed = windows.copy()
    changed[:, :, 0] = 99
    np.testing.assert_array_equal(blind.logits(windows), blind.logits(changed))
    assert blind.kind == "no_sensor"


def test_same_seed_same_trees(model: TreesModel, sequences: list[Sequence]) -> None:
    assert fit_trees(sequences, sequences[:4], CONFIG, CHANNELS).to_text() == model.to_text()


def test_machines_that_never_fail_lower_the_hazards() -> None:
    failing = [machine(i, fails=True) for i in range(4)]
    more = failing + [machine(i, fails=False) for i in range(10, 30)]
    blank = np.full((1, 16, 2), np.nan, np.float32)

    def risk(part: list[Sequence]) -> float:
        fitted = fit_trees(part, part, CONFIG, CHANNELS)
        return float(probability_within(sigmoid(fitted.logits(blank)), EDGES, 24)[0])

    assert risk(more) < risk(failing)


def test_machines_without_any_failure_give_the_usual_hazards() -> None:
    healthy = [machine(i, fails=False) for i in range(4)]
    found = sigmoid(fit_trees(healthy, healthy, CONFIG, CHANNELS).logits(healthy[0].values[None, :16]))
    time, event = np.concatenate([s.time for s in healthy]), np.concatenate([s.event for s in healthy])
    np.testing.assert_allclose(found[0], usual_hazard(EDGES, time, event), rtol=0.5)


def test_chosen_steps_stand_for_all_of_them(sequences: list[Sequence]) -> None:
    for room in (100, 400, 10_000):
        chosen = choose_steps(sequences, CONFIG, room, np.random.default_rng(0))
        assert sum(len(steps) for steps, _ in chosen) <= 1.1 * room
        assert sum(weight.sum() for _, weight in chosen) == pytest.approx(1600, rel=0.1)
    assert sum(len(steps) for steps, _ in chosen) == 1600


def test_steps_close_to_failures_are_kept_before_others(sequences: list[Sequence]) -> None:
    chosen = choose_steps(sequences, CONFIG, 400, np.random.default_rng(0))
    kept = np.concatenate([s.time[steps] for s, (steps, _) in zip(sequences[::2], chosen[::2], strict=True)])
    assert (kept <= 24).sum() == 4 * 24


def test_no_usable_step_is_refused(sequences: list[Sequence]) -> None:
    with pytest.raises(InputError, match="at least one usable step"):
        fit_trees([], sequences, CONFIG, CHANNELS)


@pytest.mark.parametrize(
    "changed",
    [
        {"used": [0]}, {"usual": ["x"]}, {"scaling": {"center": [1.0], "scale": [1.0]}},
        {"scaling": {"center": [0, 0], "scale": [1, "x"], "regimes": {"keys": [], "levels": [], "spread": []}}},
        {"scaling": {"center": [0, 0], "scale": [1, 1], "regimes": {"keys": [-1], "levels": [[0]], "spread": [1]}}},
    ],
)  # fmt: skip
def test_our_text_with_other_numbers_is_refused(model: TreesModel, changed: dict[str, object]) -> None:
    head, _, body = model.to_text().partition("\n")
    with pytest.raises(InputError, match=r"Unreadable trees|Regimes are broken|Scaling is broken"):
        TreesModel.from_text(json.dumps(json.loads(head) | changed) + "\n" + body)


@pytest.mark.parametrize(
    "text", ["", "tree", "[" * 100_000, '{"format": "other"}\ntree', '{"format": "millwright-trees/1"}\n']
)
def test_what_is_not_our_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="Unreadable trees"):
        TreesModel.from_text(text)


def test_a_leaf_of_rare_failures_alone_moves_a_logit_by_no_more_than_a_bounded_step() -> None:
    """Newton's step there is one over the hazard: 100 and more, and the first tree made a plant's model useless."""
    rng = np.random.default_rng(0)
    train = []
    for number in range(12):
        time = np.arange(1500, 0, -1).astype(np.float32)
        values = np.zeros((1500, 3), np.float32)
        values[:, 0] = rng.normal(0, 1, 1500) + 4 * (time < 20)
        train.append(Sequence(f"m{number}", values, time, np.full(1500, number < 3), np.ones(1500, bool)))
    config = ModelConfig(window=WindowConfig(length=16), trees=TreesConfig(rounds=1, min_rows=5))
    model = fit_trees(train, train[:4], config, channels_of([("x", "number", "1")]))
    windows = windows_ending(train[0].values, np.array([700, 1495]), 16)
    moved = model.logits(windows) - np.asarray(model.usual, np.float32)
    assert 0 < np.abs(moved).max() <= MAX_STEP * config.trees.learning_rate + 1e-6

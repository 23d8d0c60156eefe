"""Reasons: exact sums, the right sensor first, and plain words."""

from __future__ import annotations

import math
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle import Bundle
from models.calibration import Calibration
from models.config import HazardConfig, ModelConfig, WindowConfig
from models.explain import allocate, explain, in_batch, reasons
from models.features import feature_names, features
from models.predictor import Predictor
from models.spec import BundleSpec, Lineage, Usual
from models.trees import TreesModel
from models.windows import Channel

CHANNELS = (Channel("bearing_temp", "temperature", "degC"), Channel("vibration", "vibration", "mm/s"),
            Channel("since_service", "time", "life", "context"))  # fmt: skip
USUAL = (60.0, 2.4, 500.0)
RISKS = st.floats(1e-6, 1 - 1e-6)


class Additive:
    """Log-odds that add up over channels; batches are counted."""

    def __init__(self, usual: tuple[float | None, ...] = USUAL) -> None:
        self.batches: list[int] = []
        self.spec = BundleSpec(
            plant="harbor", kind="trees", name="harbor", version="1", channels=CHANNELS,
            config=ModelConfig(window=WindowConfig(length=4), hazard=HazardConfig(horizons={"48h": 48.0}, edges=(48,))),
            calibration=Calibration(), usual=Usual(window=usual), lineage=Lineage(data_version="", code_version=""),
        )  # fmt: skip

    def risk(self, values_BWC: np.ndarray) -> np.ndarray:
        self.batches.append(len(values_BWC))
        temperature, vibration, age = np.nan_to_num(np.moveaxis(values_BWC[:, -1].astype(float), -1, 0))
        return np.asarray(1 / (1 + np.exp(-(-5 + 0.1 * (temperature - 60) + (vibration - 2.4) + 0.001 * (age - 500)))))


def _window(temperature: float, vibration: float, age: float) -> np.ndarray:
    return np.tile(np.array([temperature, vibration, age], np.float32), (4, 1))


def test_contributions_sum_exactly_to_the_difference() -> None:
    found = explain(Additive(), _window(75, 7.1, 900))
    total = math.fsum(r["contribution"] for r in found.reasons)
    assert total == pytest.approx(found.risk - found.usual_risk, abs=1e-15)
    assert found.usual_risk == pytest.approx(1 / (1 + math.exp(5)))


def test_where_log_odds_add_up_the_parts_are_exact_and_ranked() -> None:
    found = explain(Additive(), _window(75, 7.1, 900))
    share = [r["contribution"] / (found.risk - found.usual_risk) for r in found.reasons]
    # 4.7 from vibration, 1.5 from temperature, 0.4 from age: 6.6 in all.
    assert [r["sensor"] for r in found.reasons] == ["vibration", "bearing_temp", "since_service"]
    assert share == pytest.approx([4.7 / 6.6, 1.5 / 6.6, 0.4 / 6.6], rel=1e-5)


def test_it_costs_one_batch_of_channels_plus_two() -> None:
    model = Additive()
    reasons(model, _window(75, 7.1, 900))
    assert model.batches == [5]


def test_a_usual_window_has_no_reasons() -> None:
    found = explain(Additive(), _window(*USUAL))
    assert found.risk == pytest.approx(found.usual_risk)
    assert [r["contribution"] for r in found.reasons] == pytest.approx([0, 0, 0], abs=1e-12)


def test_what_lowers_the_risk_counts_against_it() -> None:
    found = {r["sensor"]: r["contribution"] for r in reasons(Additive(), _window(60, 1.0, 500))}
    assert found["vibration"] < 0


def test_reasons_speak_plainly() -> None:
    texts = {r["sensor"]: r["text"] for r in reasons(Additive(), _window(75, 7.1, 900))}
    assert texts == {
        "vibration": "vibration 7.1 mm/s, usual 2.4",
        "bearing_temp": "bearing temp 75.0 degC, usual 60.0",
        "since_service": "time since service 900 h, usual 500",
    }


def test_a_missing_sensor_and_an_unknown_usual_are_said() -> None:
    window = _window(75, 7.1, 900)
    window[:, 1] = np.nan
    found = {r["sensor"]: r for r in reasons(Additive((60.0, 2.4, None)), window)}
    assert found["vibration"]["text"] == "vibration unknown, usual 2.4 mm/s"
    assert found["vibration"]["value"] is None
    window[-3, 1] = 0.0
    again = {r["sensor"]: r for r in reasons(Additive((60.0, 2.4, None)), window)}["vibration"]
    assert (again["value"], again["text"]) == (0.0, "vibration 0.0 mm/s, usual 2.4")  # the newest that is known
    assert found["since_service"]["text"] == "time since service 900 h, usual unknown"


@given(RISKS, RISKS, st.lists(RISKS, min_size=1, max_size=8))
def test_any_risks_are_allocated_without_a_rest(risk: float, usual: float, occluded: list[float]) -> None:
    parts = allocate(risk, usual, np.array(occluded))
    assert np.isfinite(parts).all()
    assert math.fsum(parts) == pytest.approx(risk - usual, abs=1e-12)


def test_channels_that_only_act_together_share_alike() -> None:
    assert allocate(0.5, 0.1, np.array([0.5, 0.5])).tolist() == pytest.approx([0.2, 0.2])


def _fitted(seed: int = 0) -> tuple[TreesModel, Predictor, np.ndarray]:
    """Trees that ask about two of four channels, a predictor of theirs, and windows with gaps."""
    rng = np.random.default_rng(seed)
    channels = (*CHANNELS[:2], Channel("flow", "flow", "m^3/h"), CHANNELS[2])
    windows = rng.normal((60, 2.4, 80, 500), (5, 1, 4, 100), (300, 8, 4)).astype(np.float32)
    windows[rng.random(windows.shape) < 0.1] = np.nan
    found = features(windows)
    names = feature_names([c.name for c in channels])
    asked = [i for i, name in enumerate(names) if name.split(".")[0] in ("vibration", "since_service")]
    x = np.full((300 * 3, found.shape[1] + 1), 0.0, np.float32)
    x[:, asked] = np.repeat(found[:, asked], 3, axis=0)
    x[:, -1] = np.tile(np.arange(3), 300)
    y = (x[:, names.index("vibration.mean")] > 2.4).astype(float) * (rng.random(len(x)) < 0.7)
    data = lightgbm.Dataset(x, y, feature_name=[*names, "bin"], params={"min_data_in_leaf": 5})
    params = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": seed, "deterministic": True}
    booster = lightgbm.train(params, data, 20)
    model = TreesModel(booster, usual=[-3.0, -2.0, -2.5], used=(0, 1, 2, 3), kind="trees")
    spec = BundleSpec(
        plant="harbor", kind="trees", name="harbor", version="1", channels=channels,
        config=ModelConfig(window=WindowConfig(length=8), hazard=HazardConfig(horizons={"48h": 48.0}, edges=(48, 96))),
        calibration=Calibration(1.2, -0.1), usual=Usual(window=(60.0, 2.4, 80.0, None)),
        lineage=Lineage(data_version="", code_version=""),
    )  # fmt: skip
    return model, Predictor(Bundle(Path("nowhere"), spec, model.to_text().encode(), None, "")), windows


def test_trees_say_from_one_windows_features_what_a_batch_of_windows_says() -> None:
    _, predictor, windows = _fitted()
    for window in [*windows[:20], np.full((8, 4), np.nan, np.float32)]:
        risk, usual_risk, occluded = predictor.occluded(window)
        expected = in_batch(predictor, window)
        assert (risk, usual_risk) == pytest.approx(expected[:2], abs=1e-7)
        np.testing.assert_allclose(occluded, expected[2], atol=1e-7)


def test_the_reasons_of_trees_sum_exactly_and_an_unused_sensor_has_none() -> None:
    _, predictor, windows = _fitted()
    for window in windows[:20]:
        found = explain(predictor, window)
        assert math.fsum(r["contribution"] for r in found.reasons) == pytest.approx(
            found.risk - found.usual_risk, abs=1e-15
        )
        parts = {r["sensor"]: r["contribution"] for r in found.reasons}
        assert parts["bearing_temp"] == parts["flow"] == 0.0
        assert found.risk == pytest.approx(float(predictor.risk(window[None])[0]), abs=1e-7)


def test_the_order_of_sensors_changes_no_reason_of_trees() -> None:
    model, predictor, windows = _fitted()
    order = [2, 0, 3, 1]  # the plant's channels arrive in another order; the trees ask for theirs by number
    spec = predictor.spec.model_copy(
        update={
            "channels": tuple(predictor.spec.channels[i] for i in order),
            "usual": Usual(window=tuple(predictor.spec.usual.window[i] for i in order)),
        }
    )
    used = tuple(order.index(i) for i in range(4))
    moved = TreesModel(model.booster, usual=model.usual, used=used, kind="trees")
    other = Predictor(Bundle(Path("nowhere"), spec, moved.to_text().encode(), None, ""))
    for window in windows[:10]:
        expected = {r["sensor"]: r["contribution"] for r in reasons(predictor, window)}
        found = {r["sensor"]: r["contribution"] for r in reasons(other, window[:, order])}
        assert found == pytest.approx(expected, abs=1e-12)


def test_a_usual_value_that_changes_is_not_answered_from_memory() -> None:
    model, _, windows = _fitted()
    one, two = (np.array([60, level, 80, 500], np.float32) for level in (1.0, 4.0))
    first, second = model.occluded(windows[0], one, 2), model.occluded(windows[0], two, 2)
    np.testing.assert_array_equal(model.occluded(windows[0], one, 2), first)
    assert not np.array_equal(first[-1], second[-1])

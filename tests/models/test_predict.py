"""From a bundle to the served answer, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle
from models.calibration import Calibration
from models.config import Clock, HazardConfig, ModelConfig, WindowConfig
from models.errors import InputError, MillwrightError
from models.features import feature_names
from models.predict import (
    answer,
    degradations,
    iso,
    missing_share,
    outlooks,
    prediction_id,
    shown,
    window_digest,
)
from models.predictor import Predictor
from models.spec import BundleSpec, Lineage, Usual
from models.trees import TreesModel
from models.windows import Channel

W, EDGES = 4, (6.0, 24.0, 48.0, 168.0)
CHANNELS = (Channel("flow", "flow", "m^3/h"), Channel("vibration", "vibration", "mm/s"),
            Channel("since_service", "time", "life", "context"))  # fmt: skip
HAZARD = HazardConfig(horizons={"24h": 24.0, "48h": 48.0, "7d": 168.0}, edges=EDGES)
JANUARY = 1_735_689_600_000_000  # 2025-01-01T00:00:00Z


def spec(kind: str = "network", clock: Clock | None = None) -> BundleSpec:
    return BundleSpec(
        plant="harbor", kind=kind, name="harbor", version=f"{kind}-1",
        config=ModelConfig(clock=clock or Clock(), window=WindowConfig(length=W), hazard=HAZARD), channels=CHANNELS,
        calibration=Calibration(2.0, -1.0), usual=Usual(window=(80.0, 2.0, 500.0)),
        ranges={"flow": (60.0, 100.0), "vibration": (0.5, 9.0)}, num_failures_trained_on=41,
        lineage=Lineage(data_version="1", code_version="0.1.0"),
    )  # fmt: skip


def graph(num_channels: int = len(CHANNELS), length: int = W) -> bytes:
    """sigmoid(sum of the window's vibration / 10 - 4) for every bin, NaN as 0."""
    pick = np.zeros((num_channels, len(EDGES) + 1), np.float32)
    pick[min(1, num_channels - 1)] = 0.1
    nodes = [
        helper.make_node("IsNaN", ["values"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "values"], ["known"]),
        helper.make_node("ReduceSum", ["known", "axis"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "pick"], ["raw"]),
        helper.make_node("Add", ["raw", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["hazard"]),
    ]
    constants = {"zero": np.float32(0), "axis": np.array([1]), "pick": pick, "bias": np.float32(-4)}
    made = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [None, length, num_channels])],
        [helper.make_tensor_value_info("hazard", TensorProto.FLOAT, [None, len(EDGES) + 1])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def network() -> Predictor:
    return Predictor(Bundle(Path("nowhere"), spec(), graph(), b"", ""))


def _trees() -> tuple[TreesModel, Predictor]:
    rng = np.random.default_rng(0)
    names = feature_names([c.name for c in CHANNELS])
    x = rng.normal(size=(400, len(names) + 1))
    data = lightgbm.Dataset(x, (x[:, 1] > 0).astype(float), feature_name=[*names, "bin"])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 5)
    model = TreesModel(booster, usual=[-3.0] * (len(EDGES) + 1), used=(0, 1, 2), kind="trees")
    return model, Predictor(Bundle(Path("nowhere"), spec("trees"), model.to_text().encode(), None, ""))


def window(vibration: float = 2.0) -> np.ndarray:
    return np.tile(np.array([80.0, vibration, 500.0], np.float32), (W, 1))


def _answer(hazard: np.ndarray, of: BundleSpec | None = None, **changes: object) -> dict[str, object]:
    known: dict[str, object] = {
        "plant": "harbor", "machine": "P-01", "as_of_us": JANUARY + 90_000_000, "data_until_us": JANUARY,
        "digest": "d", "degraded": [],
    }  # fmt: skip
    return answer(of or spec(), hazard, **(known | changes))  # type: ignore[arg-type]


def test_network_answers_what_its_graph_says() -> None:
    # 4 steps of 10 mm/s: sum 40, times 0.1, minus 4: sigmoid(0).
    found = network().hazard(np.stack([window(10.0), window(0.0)]))
    assert found.dtype == np.float32
    assert found.shape == (2, 5)
    assert found[0].tolist() == pytest.approx([0.5] * 5)
    assert found[1].tolist() == pytest.approx([1 / (1 + np.exp(4))] * 5, rel=1e-5)


def test_one_by_one_and_in_a_batch_are_the_same() -> None:
    batch = np.random.default_rng(0).normal(5, 2, (7, W, 3)).astype(np.float32)
    model = network()
    assert np.array_equal(model.hazard(batch), np.concatenate([model.hazard(batch[i : i + 1]) for i in range(7)]))


def test_trees_are_calibrated_outside_their_text() -> None:
    model, predictor = _trees()
    batch = np.stack([window(1.0), window(8.0)])
    expected = 1 / (1 + np.exp(-(2.0 * model.logits(batch) - 1.0)))
    assert predictor.hazard(batch) == pytest.approx(expected, abs=1e-6)


def test_no_window_gives_no_hazard() -> None:
    assert network().hazard(np.empty((0, W, 3), np.float32)).shape == (0, 5)


def test_a_wrong_shape_is_refused_with_the_right_one() -> None:
    with pytest.raises(InputError, match=r"expected \[-1, 4, 3\], found \[1, 5, 3\]"):
        network().hazard(np.zeros((1, 5, 3), np.float32))


def test_a_graph_that_is_none_or_another_plants_is_refused() -> None:
    with pytest.raises(InputError, match="Unreadable network: expected ONNX"):
        Predictor(Bundle(Path("nowhere"), spec(), b"rubbish", b"", ""))
    with pytest.raises(InputError, match="Wrong input of a network"):
        Predictor(Bundle(Path("nowhere"), spec(), graph(num_channels=2), b"", ""))


def test_an_answer_has_exactly_the_promised_keys() -> None:
    found = _answer(np.full(5, 0.1, np.float32), reasons=[], operating_state="running")
    assert set(found) == {
        "plant", "machine", "failure_probability", "remaining_useful_life", "time_basis", "as_of", "data_until",
        "operating_state", "failure_modes", "model", "degraded", "prediction_id", "reasons",
    }  # fmt: skip
    assert found["failure_probability"].keys() == {"24h", "48h", "7d"}  # type: ignore[attr-defined]
    assert found["remaining_useful_life"].keys() == {"p10", "p50", "p90", "unit", "beyond"}  # type: ignore[attr-defined]
    assert found["model"] == {
        "name": "harbor", "version": "network-1", "scope": "plant", "num_failures_trained_on": 41
    }  # fmt: skip
    assert (found["as_of"], found["data_until"]) == ("2025-01-01T00:01:30Z", "2025-01-01T00:00:00Z")
    assert found["time_basis"] == "calendar"
    assert "reasons" not in _answer(np.full(5, 0.1, np.float32))


def test_probabilities_come_from_the_curve_by_hand() -> None:
    # Bins end at 6, 24, 48, 168, then open: 1 - 0.9 * 0.8, and so on.
    found = _answer(np.array([0.1, 0.2, 0.5, 0.5, 0.5], np.float32))
    assert found["failure_probability"] == pytest.approx({"24h": 0.28, "48h": 0.64, "7d": 0.82}, abs=1e-6)


def test_a_quantile_past_the_last_edge_is_that_edge_and_is_named() -> None:
    calm = _answer(np.full(5, 1e-4, np.float32))["remaining_useful_life"]
    assert calm == {"p10": 168.0, "p50": 168.0, "p90": 168.0, "unit": "h", "beyond": 168.0}
    doomed = _answer(np.full(5, 0.999, np.float32))["remaining_useful_life"]
    assert doomed["beyond"] is None  # type: ignore[index]
    assert doomed["p10"] < doomed["p50"] < doomed["p90"] < 6  # type: ignore[index]


def test_quantiles_of_life_are_read_at_the_bundles_levels() -> None:
    # A fifth of those alive fails in each 6 h: 1 - 0.8 ** 0.5 within 3 h, and 0.36 within 12 h.
    low = 1 - 0.8**0.5
    of = spec().model_copy(update={"life_levels": (low, 0.2, 0.36)})
    (found,) = outlooks(of, np.array([[0.2, 1 - 0.8**3, 0.5, 0.5, 0.5]], np.float32), None, np.zeros(1))
    assert found.remaining_useful_life == {"p10": 3.0, "p50": 6.0, "p90": 12.0, "unit": "h", "beyond": None}


def test_a_missing_sensor_widens_the_interval_and_changes_no_probability() -> None:
    hazard = np.full(5, 0.2, np.float32)
    lives = [_answer(hazard, missing=m)["remaining_useful_life"] for m in (0.0, 0.1, 0.5, 1.0)]
    assert [life["p10"] for life in lives] == sorted((life["p10"] for life in lives), reverse=True)  # type: ignore[index]
    assert [life["p90"] for life in lives] == sorted(life["p90"] for life in lives)  # type: ignore[index]
    assert len({life["p50"] for life in lives}) == 1  # type: ignore[index]
    assert lives[-1] == {"p10": 0.0, "p50": lives[0]["p50"], "p90": 168.0, "unit": "h", "beyond": 168.0}  # type: ignore[index]
    assert _answer(hazard)["failure_probability"] == _answer(hazard, missing=1.0)["failure_probability"]


def test_a_sensor_is_missing_where_windows_usually_hold_it() -> None:
    both, flow, none = window(), window(), window()
    flow[:, 1] = np.nan  # vibration is gone
    none[:, :2] = np.nan
    batch = np.stack([both, flow, none])
    assert missing_share(spec(), batch).tolist() == [0.0, 0.5, 1.0]
    often = spec().model_copy(update={"usual": Usual(window=(80.0, 2.0, 500.0), present=(0.9, 0.1, 1.0))})
    assert missing_share(often, batch) == pytest.approx([0.0, 0.1, 1.0])
    partly = window()
    partly[1:, 1] = np.nan
    assert missing_share(spec(), partly[None]).tolist() == [0.0]


@pytest.mark.parametrize("hazard", [0.0, 1.0, 1e-30])
def test_an_answer_is_always_plain_json(hazard: float) -> None:
    json.dumps(_answer(np.full(5, hazard, np.float32)), allow_nan=False)


def test_a_model_without_an_answer_is_an_error_not_null() -> None:
    with pytest.raises(MillwrightError, match="The model gave no number"):
        _answer(np.full(5, np.nan, np.float32))


def test_cycles_are_an_operating_time() -> None:
    found = _answer(np.full(5, 0.1, np.float32), spec(clock=Clock(step_s=1, life_unit="cycle")))
    assert found["time_basis"] == "operating"
    assert found["remaining_useful_life"]["unit"] == "cycle"  # type: ignore[index]


def test_the_same_question_has_one_id_and_any_change_another() -> None:
    one = prediction_id("v1", "harbor", "P-01", "d", JANUARY)
    assert one == prediction_id("v1", "harbor", "P-01", "d", JANUARY)
    others = {
        prediction_id("v2", "harbor", "P-01", "d", JANUARY), prediction_id("v1", "ridge", "P-01", "d", JANUARY),
        prediction_id("v1", "harbor", "P-02", "d", JANUARY), prediction_id("v1", "harbor", "P-01", "e", JANUARY),
        prediction_id("v1", "harbor", "P-01", "d", JANUARY + 1),
    }  # fmt: skip
    assert len(others | {one}) == 6


def test_the_digest_sees_every_value_and_no_kind_of_nan() -> None:
    plain, strange = window(), window()
    plain[0, 0] = np.nan
    strange[0, 0] = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    assert window_digest(plain) == window_digest(strange)
    assert window_digest(plain) != window_digest(window())
    assert window_digest(window()) != window_digest(window().reshape(W // 2, -1))


def test_a_good_window_is_not_degraded() -> None:
    assert degradations(spec(), window()) == []


def test_each_fault_of_a_window_is_named() -> None:
    bad = window(vibration=12.0)
    bad[:, 0] = np.nan
    bad[:2] = np.nan
    assert degradations(spec(), bad) == [
        {"code": "short_history", "text": "2 of 4 steps of history"},
        {"code": "sensor_missing", "text": "no value of flow within the window"},
        {"code": "out_of_range", "text": "vibration is 12 mm/s; training saw 0.5 to 9"},
    ]
    nothing = np.full((W, 3), np.nan, np.float32)
    assert [cause["code"] for cause in degradations(spec(), nothing)] == ["no_data"]


def test_whatever_is_known_of_a_context_windows_together_are_told_as_each_alone() -> None:
    of, rng = spec().model_copy(update={"ranges": {"since_service": (0.0, 600.0)}}), np.random.default_rng(6)
    windows = np.stack([window() for _ in range(60)])
    windows[:, :, 2] = rng.choice([np.nan, 500.0, 900.0], (60, W))
    for each in [*windows, windows[0] * np.nan]:
        missing, causes = shown(of, each[None])
        assert causes == [degradations(of, each)]
        assert missing.tolist() == missing_share(of, each[None]).tolist()
    assert {len(degradations(of, each)) for each in windows} == {0, 1}


def test_windows_together_are_read_as_each_alone_bit_by_bit() -> None:
    rng = np.random.default_rng(5)
    hazard = rng.uniform(0, 0.6, (40, 5)).astype(np.float32)
    windows = rng.normal([80, 4, 500], [5, 4, 50], (40, W, 3)).astype(np.float32)
    windows[rng.random(windows.shape) < 0.5] = np.nan
    windows[0], missing = np.nan, missing_share(spec(), windows)
    alone = [outlooks(spec(), hazard[[i]], None, missing[[i]])[0] for i in range(40)]
    assert outlooks(spec(), hazard, None, missing) == alone
    for some in (windows, windows[:0], np.stack([window()] * 3), np.stack([window(), window(vibration=12.0)])):
        told, causes = shown(spec(), some)
        assert causes == [degradations(spec(), one) for one in some]
        assert told.tolist() == missing_share(spec(), some).tolist()


def test_a_changed_description_forgets_what_was_worked_out_of_the_old_one() -> None:
    of = spec()
    assert degradations(of, window(vibration=12.0)) != []
    assert degradations(of.model_copy(update={"ranges": {}}), window(vibration=12.0)) == []


def test_time_is_written_in_utc() -> None:
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(1_500_000) == "1970-01-01T00:00:01.500000Z"

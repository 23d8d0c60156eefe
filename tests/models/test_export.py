"""The exported graph answers as torch does, for missing values and any batch, and prints nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from models.bundle import Bundle
from models.calibration import Calibration
from models.config import ModelConfig, NetworkConfig, WindowConfig
from models.export import export_onnx
from models.hazard import sigmoid
from models.networks import NetworkModel, build
from models.predictor import Predictor
from models.scaling import Scaling
from models.spec import BundleSpec, Lineage, Usual
from models.windows import Channel

W, C = 32, 4
CALIBRATION = Calibration(slope=1.3, shift=-0.4)


@pytest.fixture(scope="module", params=[("tcn", 3, 4), ("gru", 2, 4)], ids=["tcn", "gru"])
def exported(request: pytest.FixtureRequest) -> tuple[NetworkModel, bytes]:
    name, layers, kernel = request.param
    config = ModelConfig(
        window=WindowConfig(length=W), network=NetworkConfig(name=name, layers=layers, kernel=kernel, hidden=16)
    )
    torch.manual_seed(0)
    network = build(config, Scaling((20.0, 1.0, 0.0, 5.0), (3.0, 0.1, 1.0, 9.0)), ["number"] * C, used=(0, 1, 3)).eval()
    torch.nn.init.normal_(network.members[0].head.weight)
    return NetworkModel(network), export_onnx(network, CALIBRATION, W, C)


def scored(onnx: bytes, values: np.ndarray) -> np.ndarray:
    found: np.ndarray = ort.InferenceSession(onnx).run(["hazard"], {"values": values})[0]
    return found


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_equals_torch_with_missing_values_and_calibration(exported: tuple[NetworkModel, bytes], batch: int) -> None:
    model, onnx = exported
    rng = np.random.default_rng(batch)
    values = rng.normal(5, 10, (batch, W, C)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[0, : W // 2] = np.nan
    expected = sigmoid(CALIBRATION.apply(model.logits(values)))
    np.testing.assert_allclose(scored(onnx, values), expected, atol=1e-5)


def test_a_window_without_any_value_gives_finite_hazards(exported: tuple[NetworkModel, bytes]) -> None:
    hazard = scored(exported[1], np.full((1, W, C), np.nan, np.float32))
    assert ((hazard > 0) & (hazard < 1)).all()


def test_names_types_and_shapes_are_the_contract(exported: tuple[NetworkModel, bytes]) -> None:
    session = ort.InferenceSession(exported[1])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("values", "tensor(float)", [W, C])
    assert (answer.name, answer.type, answer.shape[1:]) == ("hazard", "tensor(float)", [18])
    assert isinstance(given.shape[0], str)


def test_prints_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    config = ModelConfig(network=NetworkConfig(hidden=4))
    export_onnx(build(config, Scaling((0.0,), (1.0,)), ["number"]), Calibration(), 64, 1)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(("name", "layers", "kernel"), [("channels", 2, 4), ("tcn", 3, 4), ("gru", 1, 4)])
def test_a_predictor_answers_no_windows_with_empty_arrays(name: str, layers: int, kernel: int) -> None:
    # The graphs of `channels` and `gru` cannot: ONNX Runtime refuses to reshape and to join what holds nothing.
    config = ModelConfig(
        window=WindowConfig(length=W), network=NetworkConfig(name=name, layers=layers, kernel=kernel, hidden=16)
    )
    network = build(config, Scaling((0.0,) * C, (1.0,) * C), ["number"] * C, num_modes=2).eval()
    spec = BundleSpec(
        plant="harbor", kind="network", name="harbor", version="n-1", config=config, calibration=CALIBRATION,
        channels=tuple(Channel(f"s{i}", "number", "1") for i in range(C)), failure_modes=("bearing", "seal"),
        usual=Usual(window=(None,) * C, modes=(0.4, 0.6)), lineage=Lineage(data_version="1", code_version="0"),
    )  # fmt: skip
    graph = export_onnx(network, CALIBRATION, W, C, mode_shares=(0.4, 0.6))
    predictor = Predictor(Bundle(Path("nowhere"), spec, graph, b"", ""))
    for batch in (0, 1):
        found = predictor.score(np.zeros((batch, W, C), np.float32))
        assert (found.hazard.shape, found.modes.shape) == ((batch, 18), (batch, 2))
        assert found.hazard.dtype == found.modes.dtype == np.float32
    assert predictor.risk(np.zeros((0, W, C), np.float32)).shape == (0,)

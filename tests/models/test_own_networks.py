"""Own networks by import path: they train like any other, and no bundle of elsewhere can have one imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import load_bundle, save_bundle
from models.calibration import Calibration
from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.networks import HazardNetwork, NetworkModel, build
from models.networks.own import take_up
from models.scaling import Scaling
from models.spec import BundleSpec, Lineage, ScalingNumbers, Usual
from models.windows import Channel
from tests.models import own_networks


def config_of(name: str) -> ModelConfig:
    network = NetworkConfig(name=name, hidden=8, kernel=3)
    return ModelConfig(
        window=WindowConfig(length=4), hazard=HazardConfig(horizons={"48h": 48.0}, edges=(24, 48)), network=network
    )


def network(name: str) -> HazardNetwork:
    scaling = Scaling(np.zeros(2, np.float32), np.ones(2, np.float32))
    torch.manual_seed(0)
    return build(config_of(name), scaling, ["flow", "time"])


def test_an_own_body_answers_windows_as_histories() -> None:
    take_up("own_networks:Last", own_networks.Last)
    model = NetworkModel(network("own_networks:Last"))
    assert model.network.receptive_field == 3
    values = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    windows = np.stack([values[i - 4 : i] for i in range(4, 21)])
    np.testing.assert_allclose(model.sequence_logits(values)[3:], model.logits(windows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (own_networks.Blind, r"does not say how far it looks back: .* found None \(in own_networks:Body\)"),
        (own_networks.Narrow, r"gives another shape: expected \(1, 8, 3\) for 3 steps, found \(1, 1, 3\)"),
    ],
)
def test_a_body_that_keeps_no_contract_is_one_clear_error(body: type, told: str) -> None:
    take_up("own_networks:Body", body)
    with pytest.raises(InputError, match=told):
        network("own_networks:Body")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("own_networks.Last", r"Unknown network: expected one of channels, tcn, gru, found .* import path"),
        ("pathlib:Path", r"code that was not taken up: .*found 'pathlib:Path'.*registry.allowed_networks"),
    ],
)
def test_a_network_that_nobody_took_up_is_refused(path: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        network(path)


@pytest.mark.parametrize(
    ("body", "told"), [(own_networks.not_a_class, "found function"), (Path, "found type"), (3, "found int")]
)
def test_only_torch_modules_are_taken_up(body: object, told: str) -> None:
    with pytest.raises(InputError, match=rf"{told}.*subclass of torch.nn.Module"):
        take_up("own_networks:Wrong", body)


def bundle_naming(path: str, folder: Path) -> Path:
    """A whole bundle, digests and all, such as a stranger might hand on."""
    spec = BundleSpec(
        plant="harbor", kind="network", name="harbor", version="network-1", config=config_of(path),
        channels=(Channel("flow", "flow", "m^3/h"), Channel("hours", "time", "life", "context")),
        calibration=Calibration(1.0, 0.0), usual=Usual(window=(80.0, None), hazard=(0.1, 0.1, 0.2)),
        scaling=ScalingNumbers(center=(1.0, 2.0), scale=(1.0, 1.0)), ranges={},
        lineage=Lineage(data_version="readings/pump@1", code_version="0.1.0"), threshold=0.2,
        num_failures_trained_on=4, metrics={},
    )  # fmt: skip
    save_bundle(folder, spec, weights=b"weights", onnx=b"graph", card="# harbor")
    return folder


def test_a_bundle_with_a_strangers_code_is_refused_and_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "strangers_code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nBody = object\n")
    sys.path.insert(0, str(tmp_path))
    folder = bundle_naming("strangers_code:Body", tmp_path / "bundle")
    try:
        with pytest.raises(
            InputError, match=r"code of its own.*expected a network of Millwright, found 'strangers_code:Body'"
        ):
            load_bundle(folder)
        with pytest.raises(InputError, match=r"expected one of \['own_networks:Last'\], found 'strangers_code:Body'"):
            load_bundle(folder, allowed_networks=("own_networks:Last",))
        assert not (tmp_path / "ran").exists() and "strangers_code" not in sys.modules
        assert load_bundle(folder, allowed_networks=("strangers_code:Body",)).spec.version == "network-1"
    finally:
        sys.path.remove(str(tmp_path))


def test_a_bundle_cannot_allow_its_own_code(tmp_path: Path) -> None:
    folder = bundle_naming("strangers_code:Body", tmp_path / "bundle")
    assert "allowed" not in json.loads((folder / "bundle.json").read_text())["config"]
    assert not any("allowed" in name for name in ModelConfig.model_fields)
    assert not any("allowed" in name for name in NetworkConfig.model_fields)

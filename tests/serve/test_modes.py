"""A model with failure modes, served: the service says what batch scoring says of the same readings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cluster.home import Home
from jobs.score import score_series
from models.bundle import load_bundle, save_bundle
from models.export import export_onnx
from models.networks import build, weights_of
from models.scaling import Scaling
from models.windows import MachineEvents, series_of
from tests.serve.conftest import HOUR_US, LENGTH, NOW_US, make_champion, point_to

NAMES, SHARES, TRUST = ("bearing", "seal", "other"), (0.5, 0.3, 0.2), 0.7


@pytest.fixture
def plant_home(plant_home: Home) -> Home:
    """The plant `mill` with a network that tells three modes apart."""
    plain = load_bundle(make_champion(plant_home, "mill", version="v0")).spec
    network = plain.config.network.model_copy(update={"layers": 2, "kernel": 2, "hidden": 8})
    config = plain.config.model_copy(update={"network": network})
    torch.manual_seed(0)
    made = build(config, Scaling((60.0, 1.0, 0.0, 0.0), (3.0, 1.0, 1.0, 1.0)), ["number"] * 4, num_modes=3).eval()
    torch.nn.init.normal_(made.members[0].head.weight)
    spec = plain.model_copy(update={
        "version": "modes", "config": config, "failure_modes": NAMES, "mode_trust": TRUST,
        "usual": plain.usual.model_copy(update={"modes": SHARES}),
    })  # fmt: skip
    onnx = export_onnx(made, spec.calibration, LENGTH, 4, mode_shares=SHARES, trust=TRUST)
    save_bundle(plant_home.registry / "bundles" / "mill" / "modes", spec, weights=weights_of(made), onnx=onnx)
    point_to(plant_home, "mill", "modes")
    return plant_home


def test_modes_are_served_as_they_are_scored_offline(call: Any, rows: Any, plant_home: Home) -> None:
    sent = rows(20)
    online = call("POST", "/v1/plants/mill/machines/M-1/readings", {"readings": sent}).json
    bundle = load_bundle(plant_home.registry / "bundles" / "mill" / "modes")
    times = np.array([NOW_US - (19 - i) * HOUR_US for i in range(20)])
    values = np.array([[r["oil_temp"], r["vibration"]] for r in sent], np.float32)
    config = bundle.spec.config
    series = series_of("M-1", times, values, MachineEvents(), clock=config.clock, window=config.window)
    (offline,) = score_series(bundle, "mill", series, bundle.spec.channels, since_us=None)
    assert online["failure_modes"] == offline["failure_modes"]
    assert tuple(online["failure_modes"]) == NAMES
    assert sum(online["failure_modes"].values()) == pytest.approx(online["failure_probability"]["48h"], abs=2e-6)
    assert online["failure_probability"] == offline["failure_probability"]


def test_a_champion_without_modes_serves_an_empty_object(call: Any, rows: Any, plant_home: Home) -> None:
    point_to(plant_home, "mill", "v0")
    assert call.service.scorer.refresh() == ["mill"]
    found = call("POST", "/v1/plants/mill/machines/M-1/readings", {"readings": rows(20)}).json
    assert found["failure_modes"] == {} and found["model"]["version"] == "v0"

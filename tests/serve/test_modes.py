"""A model with failure modes, served: the service says what batch scoring says of the same readings."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
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


def test_v2_announces_and_gives_the_outputs_of_the_graph(call: Any, plant_home: Home) -> None:
    about = call("GET", "/v2/models/mill").json
    assert about["failure_modes"] == list(NAMES)
    bundle = load_bundle(plant_home.registry / "bundles" / "mill" / "modes")
    session = onnxruntime.InferenceSession(bundle.model)
    announced = {o["name"]: (o["datatype"], o["shape"]) for o in about["outputs"]}
    assert announced == {o.name: ("FP32", [-1, o.shape[1]]) for o in session.get_outputs()}
    assert announced == {"hazard": ("FP32", [-1, 5]), "modes": ("FP32", [-1, 3])}
    values = np.random.default_rng(1).normal(1, 1, (2, LENGTH, 4)).astype(np.float32)
    expected = dict(zip(announced, session.run(list(announced), {"values": values}), strict=True))
    given = {"name": "values", "datatype": "FP32", "shape": [2, LENGTH, 4], "data": values.tolist()}
    found = call("POST", "/v2/models/mill/infer", {"inputs": [given]}).json["outputs"]
    assert [one["name"] for one in found] == list(announced)
    for one in found:
        assert one["shape"] == list(expected[one["name"]].shape)
        np.testing.assert_array_equal(np.float32(one["data"]), expected[one["name"]].ravel())
    np.testing.assert_allclose(np.reshape(found[1]["data"], (2, 3)).sum(1), 1, atol=1e-6)


def test_v2_gives_the_outputs_that_are_asked_for_and_names_those_it_does_not_have(call: Any) -> None:
    given = {"name": "values", "datatype": "FP32", "shape": [1, LENGTH, 4], "data": [1.0] * 4 * LENGTH}
    asked = {"inputs": [given], "outputs": [{"name": "modes"}]}
    assert [o["name"] for o in call("POST", "/v2/models/mill/infer", asked).json["outputs"]] == ["modes"]
    for outputs in ([{"name": "life"}], ["modes"], {"name": "modes"}, [{"name": ["modes"]}]):
        answer = call("POST", "/v2/models/mill/infer", {"inputs": [given], "outputs": outputs})
        assert answer.status == 422 and "Wrong outputs: expected some of hazard, modes" in answer.json["detail"]


def test_a_champion_without_modes_serves_an_empty_object(call: Any, rows: Any, plant_home: Home) -> None:
    point_to(plant_home, "mill", "v0")
    assert call.service.scorer.refresh() == ["mill"]
    found = call("POST", "/v1/plants/mill/machines/M-1/readings", {"readings": rows(20)}).json
    assert found["failure_modes"] == {} and found["model"]["version"] == "v0"
    about = call("GET", "/v2/models/mill").json
    assert [o["name"] for o in about["outputs"]] == ["hazard"] and about["failure_modes"] == []

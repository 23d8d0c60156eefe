"""The set of channels: their order changes nothing, a missing one is no member, exchanging one costs a pooling."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from models.calibration import Calibration
from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.export import export_reasons
from models.hazard import sigmoid
from models.networks import HazardNetwork, NetworkModel, build
from models.regimes import Regimes
from models.scaling import Scaling

W, C = 16, 5
KINDS = ("temperature", "vibration", "number", "pressure", "speed")
CENTER, SCALE = (1.0, -2.0, 0.0, 4.0, 9.0), (2.0, 1.0, 5.0, 1.0, 3.0)
IN_REGIME = Scaling(
    CENTER, SCALE, regimes=Regimes((4,), ((8.0,), (12.0,)), (4.0,)),
    center_in=((0.0, -2.0, 1.0, 4.0, 9.0), (2.0, 0.0, 0.0, 5.0, 9.0)), scale_in=(SCALE, (1.0, 2.0, 5.0, 2.0, 3.0)),
)  # fmt: skip


RELATIONS = np.eye(C, dtype=np.float32) * 1.5 + np.random.default_rng(5).normal(0, 0.4, (C, C)).astype(np.float32)


def network(
    scaling: Scaling, kinds: tuple[str, ...] = KINDS, used: tuple[int, ...] | None = None,
    relations: np.ndarray | None = None, **more: object,
) -> HazardNetwork:
    fields = {"kernel": 4, "layers": 2, "hidden": 8, "channel_hidden": 8, "members": 2} | more
    config = ModelConfig(
        window=WindowConfig(length=W), hazard=HazardConfig(horizons={"12h": 12}, edges=(6, 12, 24)),
        network=NetworkConfig.model_validate(fields),
    )  # fmt: skip
    torch.manual_seed(0)
    made = build(config, scaling, kinds, used=used, relations=relations)
    for member in made.members:
        torch.nn.init.normal_(member.head.weight)
    return made.eval()


def windows(num: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = (np.array(CENTER) + np.array(SCALE) * rng.normal(0, 1.5, (num, W, C))).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def shuffled(row: tuple[float, ...], order: list[int]) -> tuple[float, ...]:
    return tuple(row[i] for i in order)


def test_the_order_of_sensors_changes_nothing() -> None:
    order = [3, 0, 4, 1, 2]
    assert IN_REGIME.regimes is not None
    regimes = Regimes((order.index(4),), IN_REGIME.regimes.levels, IN_REGIME.regimes.spread)
    other_scaling = Scaling(
        shuffled(CENTER, order), shuffled(SCALE, order), regimes=regimes,
        center_in=tuple(shuffled(r, order) for r in IN_REGIME.center_in),
        scale_in=tuple(shuffled(r, order) for r in IN_REGIME.scale_in),
    )  # fmt: skip
    plain = network(IN_REGIME, relations=RELATIONS)
    other = network(other_scaling, tuple(KINDS[i] for i in order), relations=RELATIONS[np.ix_(order, order)])
    weights = plain.state_dict()
    for member in (0, 1):
        name = f"members.{member}.body.own"
        weights[name] = weights[name][order]
        weights[f"members.{member}.body.kind"] = weights[f"members.{member}.body.kind"][order]
    for name in ("center", "scale", "keys", "relations"):
        weights[name] = other.state_dict()[name]
    other.load_state_dict(weights)
    np.testing.assert_allclose(
        NetworkModel(other).logits(windows()[:, :, order]), NetworkModel(plain).logits(windows()), atol=1e-5
    )


def test_a_channel_without_a_value_is_no_member_of_the_set() -> None:
    net, values = network(IN_REGIME), windows()
    values[:, :, 2] = np.nan
    before = NetworkModel(net).logits(values)
    with torch.no_grad():
        for member in net.members:
            member.body.own[2] += 5
    np.testing.assert_allclose(NetworkModel(net).logits(values), before, atol=1e-6)


def test_members_answer_as_one_by_the_mean_of_their_logits() -> None:
    net, values = network(IN_REGIME), torch.from_numpy(windows())
    with torch.no_grad():
        first, second = net.each(values)
        np.testing.assert_allclose(net.valid(values), (first + second) / 2, atol=1e-6)
    assert (first - second).abs().max() > 1e-3


def test_hidden_channels_are_hidden_in_training_alone() -> None:
    net, values = network(IN_REGIME, hide=0.5), torch.from_numpy(np.nan_to_num(windows(200)))
    num = len(KINDS)
    assert float(net.inputs(values)[:, num : 2 * num].mean()) == 1
    masks = net.train().inputs(values)[:, num : 2 * num]
    assert 0.4 < float(masks.mean()) < 0.6
    assert bool((masks == masks[:, :, :1]).all()), "a channel is hidden throughout a piece"


@pytest.mark.parametrize("scaling", [Scaling(CENTER, SCALE), IN_REGIME], ids=["plain", "regimes"])
@pytest.mark.parametrize("used", [None, (0, 2, 4)])
def test_reasons_from_one_windows_tokens_are_those_of_windows_with_a_channel_exchanged(
    scaling: Scaling, used: tuple[int, ...] | None
) -> None:
    net, calibration = network(scaling, used=used), Calibration(0.8, -0.3)
    graph = export_reasons(net, calibration, W, (1.0,) * C)
    assert graph is not None
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for window in windows():
        window[:, 4] = np.nan_to_num(window[:, 4], nan=9.0)  # the regime stays what it is
        usual = np.broadcast_to(scaling.usual(window), window.shape).copy()
        if scaling.regimes is not None:  # of the key that tells it, the regime's level
            usual[:, [4]] = scaling.regimes.level_of(window)
        batch = np.stack([window] * (C + 2))
        for channel in range(C):
            batch[channel, :, channel] = usual[:, channel]
        batch[-1] = usual
        expected = sigmoid(NetworkModel(net).logits(batch) * 0.8 - 0.3)
        found = session.run(["hazard"], {"values": window[None]})[0]
        assert found.shape == (C + 2, 4)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("scaling", [Scaling(CENTER, SCALE), IN_REGIME], ids=["plain", "regimes"])
def test_a_channel_is_exchanged_with_its_deviation_and_the_others_keep_theirs(scaling: Scaling) -> None:
    net = network(scaling, relations=RELATIONS)
    graph = export_reasons(net, Calibration(), W, (1.0,) * C)
    assert graph is not None
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    window = windows(1)[0]
    window[:, 4] = np.nan_to_num(window[:, 4], nan=9.0)
    found = session.run(["hazard"], {"values": window[None]})[0]
    inputs = net.inputs(torch.from_numpy(window)[None])
    level = net.scaled_levels()
    for channel in range(C):
        given = inputs.clone()
        given[:, channel] = (level[:, channel] @ inputs[0, 3 * C :]) if len(level) else 0.0
        given[:, C + channel], given[:, 2 * C + channel] = 1.0, 0.0
        with torch.inference_mode():
            logits = torch.stack([member.last(given) for member in net.members]).mean(0)
        np.testing.assert_allclose(found[channel], sigmoid(logits.numpy()[0]), atol=1e-5)
    np.testing.assert_allclose(found[C], sigmoid(NetworkModel(net).logits(window[None])[0]), atol=1e-5)


def test_a_network_that_mixes_channels_first_knows_no_cheap_reasons() -> None:
    net = network(Scaling(CENTER, SCALE), name="tcn", kernel=2, layers=3)
    assert export_reasons(net, Calibration(), W, (1.0,) * C) is None


def test_a_usual_value_that_nobody_saw_stays_missing() -> None:
    net = network(Scaling(CENTER, SCALE))
    window = windows(1)[0]
    graph = export_reasons(net, Calibration(), W, (1.0, None, 1.0, 1.0, 1.0))
    assert graph is not None
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(["hazard"], {"values": window[None]})[0]
    window[:, 1] = np.nan
    expected = sigmoid(NetworkModel(net).logits(window[None]))[0]
    np.testing.assert_allclose(found[1], expected, atol=1e-5)

"""Every architecture is causal, sees its window and nothing else, and answers alike in a history and in a window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.config import NETWORKS, HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.networks import BODIES, HazardNetwork, NetworkModel, build
from models.scaling import Scaling

W, C = 16, 3
SETTINGS = {
    "channels": {"kernel": 2, "layers": 4, "channel_hidden": 8, "members": 2},
    "tcn": {"kernel": 2, "layers": 3},
    "gru": {"kernel": 4, "layers": 1},
}


RELATIONS = np.array([[2.0, -1.8, 0.1], [-1.8, 2.0, 0.0], [0.1, 0.0, 1.0]], np.float32)


def config(name: str, **network: object) -> ModelConfig:
    fields = {"name": name, "hidden": 8, "seed": 0} | SETTINGS[name] | network
    return ModelConfig(
        window=WindowConfig(length=W),
        hazard=HazardConfig(horizons={"12h": 12}, edges=(6, 12, 24)),
        network=NetworkConfig.model_validate(fields),
    )


def network(name: str, **kwargs: object) -> HazardNetwork:
    torch.manual_seed(0)
    scaling = Scaling((1.0, -2.0, 0.0), (2.0, 1.0, 5.0))
    built = build(config(name, **kwargs), scaling, ["number"] * C, relations=RELATIONS)
    # The head starts near zero; here differences must be seen.
    for member in built.members:
        torch.nn.init.normal_(member.head.weight)
    return built.eval()


def history(steps: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 3, (steps, C)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    return values


def padded_windows(values: np.ndarray) -> np.ndarray:
    whole = np.concatenate([np.full((W - 1, C), np.nan, np.float32), values])
    return np.stack([whole[t : t + W] for t in range(len(values))])


each = pytest.mark.parametrize("name", sorted(BODIES))


@each
def test_a_step_of_a_history_equals_its_nan_padded_window(name: str) -> None:
    net, values = network(name), history()
    with torch.no_grad():
        sequence = net(torch.from_numpy(values[None]))[0].numpy()
    np.testing.assert_allclose(NetworkModel(net).logits(padded_windows(values)), sequence, atol=1e-5)


@each
def test_nothing_before_the_window_and_nothing_later_changes_a_step(name: str) -> None:
    net, values = network(name), history()
    step = 25
    changed = values.copy()
    changed[: step - W + 1] = 1e3
    changed[step + 1 :] = -1e3
    with torch.no_grad():
        before, after = (net(torch.from_numpy(x[None]))[0, step].numpy() for x in (values, changed))
    np.testing.assert_allclose(before, after, atol=1e-6)


@each
def test_every_step_of_the_receptive_field_is_seen(name: str) -> None:
    net = network(name)
    window = np.zeros((1, W, C), np.float32)
    moved = window.copy()
    moved[0, W - net.receptive_field] = 3
    model = NetworkModel(net)
    assert np.abs(model.logits(window) - model.logits(moved)).max() > 1e-7


@each
def test_a_missing_value_is_not_the_same_as_the_usual_value(name: str) -> None:
    net = network(name)
    usual = np.tile(np.array([1.0, -2.0, 0.0], np.float32), (1, W, 1))
    missing = usual.copy()
    missing[0, :, 1] = np.nan
    assert np.abs(NetworkModel(net).logits(usual) - NetworkModel(net).logits(missing)).max() > 1e-6


@each
def test_a_window_without_any_value_and_a_wild_one_give_finite_answers(name: str) -> None:
    model = NetworkModel(network(name))
    assert np.isfinite(model.logits(np.full((1, W, C), np.nan, np.float32))).all()
    assert np.isfinite(model.logits(np.full((1, W, C), 3e38, np.float32))).all()
    assert model.logits(np.empty((0, W, C), np.float32)).shape == (0, 4)


def test_only_the_set_of_channels_needs_a_width_that_four_seeds_share() -> None:
    assert config("tcn", hidden=18).network.hidden == 18
    with pytest.raises(ValidationError, match="hidden 18 of the network `channels` is no multiple of 4"):
        config("channels", hidden=18)


def test_a_row_without_the_steps_before_it_is_no_question() -> None:
    with pytest.raises(AssertionError, match="without the steps"):
        NetworkModel(network("tcn")).answers_at(history(), np.array([3]))


def test_an_ignored_channel_changes_nothing() -> None:
    torch.manual_seed(0)
    net = build(config("tcn"), Scaling((0.0,) * C, (1.0,) * C), ["number"] * C, used=(0, 2))
    windows = padded_windows(history(5))
    changed = windows.copy()
    changed[:, :, 1] = 7
    np.testing.assert_array_equal(NetworkModel(net).logits(windows), NetworkModel(net).logits(changed))


def test_a_receptive_field_longer_than_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="expected at most 16 steps, found 31"):
        build(config("tcn", layers=4, kernel=3), Scaling((0.0,) * C, (1.0,) * C), ["number"] * C)


def test_an_unknown_network_is_refused() -> None:
    unknown = config("tcn").model_copy(update={"network": NetworkConfig(name="oracle")})
    with pytest.raises(InputError, match="one of channels, tcn, gru, found 'oracle'"):
        build(unknown, Scaling((0.0,) * C, (1.0,) * C), ["number"] * C)


def test_a_scaling_of_other_channels_is_refused() -> None:
    with pytest.raises(InputError, match="3 channels, found 2"):
        build(config("tcn"), Scaling((0.0,) * 2, (1.0,) * 2), ["number"] * C)


def test_a_network_that_ignores_every_channel_is_refused() -> None:
    with pytest.raises(InputError, match="needs a channel"):
        build(config("tcn"), Scaling((0.0,) * C, (1.0,) * C), ["number"] * C, used=())


def test_the_names_that_need_no_torch_are_those_of_the_table() -> None:
    assert tuple(BODIES) == NETWORKS

"""One network of all plants: what is shared is one, what is a plant's own is not, an unseen plant is read by kinds."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

from models.anchor import Anchor
from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.features import Sequence
from models.hazard import probability_within, sigmoid
from models.networks import NetworkModel
from models.pooled import History, PooledFit
from models.sharing import adopted
from models.windows import Channel

pytestmark = pytest.mark.usefixtures("one_thread")

EDGES = (12.0, 24.0, 48.0)
CONFIG = ModelConfig(
    window=WindowConfig(length=16), hazard=HazardConfig(horizons={"24h": 24}, edges=EDGES),
    network=NetworkConfig(
        hidden=16, channel_hidden=8, layers=2, kernel=4, epochs=6, crop=32, batch_size=4, learning_rate=0.02
    ),
)  # fmt: skip
WEAR, LOAD = Channel("wear", "vibration", "mm/s"), Channel("load", "ratio", "1")
HEAT = Channel("heat", "temperature", "degC")


def machine(name: str, seed: int, *, fails: bool, order: tuple[int, ...], level: float) -> Sequence:
    """Vibration rises over the last 60 hours before a failure; load says nothing; heat is around a level of its own."""
    rng = np.random.default_rng(seed)
    time = np.arange(120, 0, -1, dtype=np.float32)
    wear = np.clip(1 - time / 60, 0, 1) * 5 if fails else np.zeros(120)
    columns = [wear + level + rng.normal(0, 0.3, 120), rng.normal(0, 1, 120), 70 + rng.normal(0, 1, 120)]
    values = np.stack([columns[i] for i in order], axis=1).astype(np.float32)
    return Sequence(name, values, time, np.full(120, fails), np.ones(120, bool))


def plant(name: str, channels: tuple[Channel, ...], order: tuple[int, ...], level: float) -> History:
    train = [machine(f"{name}{i}", i, fails=i % 2 == 0, order=order, level=level) for i in range(8)]
    return History(
        channels, train, [machine(f"{name}v{i}", 90 + i, fails=i % 2 == 0, order=order, level=level) for i in range(4)]
    )


def plants() -> dict[str, History]:
    return {"a": plant("a", (WEAR, LOAD), (0, 1), 0.0), "b": plant("b", (HEAT, LOAD, WEAR), (2, 1, 0), 10.0)}


@pytest.fixture(scope="module")
def shared() -> bytes:
    fit = PooledFit(plants(), CONFIG)
    while not fit.done:
        told = fit.epoch()
    assert set(told) >= {"validate_loss", "validate_loss.a", "validate_loss.b"}
    return fit.shared()


def test_what_is_shared_is_one_parameter_and_the_rest_is_each_plants_own() -> None:
    fit = PooledFit(plants(), CONFIG)
    before = {name: t.clone() for name, t in fit.network("a").state_dict().items()}
    fit.epoch()
    first, second = fit.network("a"), fit.network("b")
    assert first.members[0].body.stem.weight is second.members[0].body.stem.weight
    assert first.members[0].head.bias is second.members[0].head.bias
    assert first.members[0].body.own is None and first.members[0].body.table is second.members[0].body.table
    moved = {n for n, t in first.state_dict().items() if t.is_floating_point() and not torch.equal(t, before[n])}
    assert {"members.0.body.table", "members.0.body.stem.weight", "members.0.head.bias"} <= moved
    assert first.center.shape == (1, 2) and second.center.shape == (1, 3)


def test_an_unseen_plant_is_read_by_the_kinds_of_its_sensors(shared: bytes) -> None:
    unseen = plant("c", (LOAD, WEAR), (1, 0), -4.0)  # another order, another level, no label read
    network, _ = adopted(CONFIG, unseen.channels, unseen.train, shared)
    model = NetworkModel(network)
    failing, healthy = (machine("c9", 7, fails=f, order=(1, 0), level=-4.0) for f in (True, False))
    risk = [probability_within(sigmoid(model.sequence_logits(s.values)), EDGES, 24)[-6:].mean()
            for s in (failing, healthy)]  # fmt: skip
    assert risk[0] > 0.6 and risk[1] < 0.25


def test_a_channel_is_known_by_name_and_kind_or_by_kind_alone(shared: bytes) -> None:
    anchor = Anchor.of(shared, 0.0)
    assert sorted(anchor.names) == ["ratio/load", "temperature/heat", "vibration/wear"]
    other = (Channel("wear", "temperature", "degC"), LOAD, Channel("play", "vibration", "mm/s"), HEAT)
    seen = plant("c", other, (0, 1, 0, 2), 0.0).train
    own = adopted(CONFIG, other, seen, shared)[0].members[0].body.own
    assert not own[0].any() and not own[2].any()  # the name of another kind, the kind under another name
    assert torch.equal(own[1], anchor.names["ratio/load"]) and torch.equal(own[3], anchor.names["temperature/heat"])


def test_a_plant_that_starts_from_the_fleet_begins_with_what_its_channels_are_known_by(shared: bytes) -> None:
    from models.fit import NetworkFit

    anchor, known = Anchor.of(shared, 0.0), plants()["b"]
    fit = NetworkFit(known.train, known.validate, CONFIG, known.channels, anchor=anchor)
    own = fit.network.members[0].body.own
    assert torch.equal(own[0], anchor.names["temperature/heat"]) and torch.equal(own[2], anchor.names["vibration/wear"])


def test_weights_of_a_fleet_without_names_are_read_by_kinds(shared: bytes) -> None:
    tensors = safetensors.torch.load(shared)
    del tensors["names"]
    anchor = Anchor.of(safetensors.torch.save(tensors), 0.0)
    assert anchor.names == {}
    own = adopted(CONFIG, (WEAR, LOAD), plants()["a"].train, safetensors.torch.save(tensors))[0].members[0].body.own
    assert not own.any()


def test_the_labels_of_an_adopted_plant_are_not_read(shared: bytes) -> None:
    seen = plant("c", (LOAD, WEAR), (1, 0), -4.0).train
    unlabelled = [Sequence(s.machine, s.values, s.time * 0, ~s.event, s.usable) for s in seen]
    one, other = (adopted(CONFIG, (LOAD, WEAR), part, shared)[0].state_dict() for part in (seen, unlabelled))
    assert all(torch.equal(t, other[name]) for name, t in one.items())


def test_same_seed_same_weights() -> None:
    first, second = (PooledFit(plants(), CONFIG) for _ in range(2))
    for fit in (first, second):
        fit.epoch()
    assert first.shared() == second.shared()


def test_other_sizes_and_other_networks_are_refused(shared: bytes) -> None:
    wide = CONFIG.model_copy(update={"network": CONFIG.network.model_copy(update={"hidden": 32})})
    with pytest.raises(InputError, match="The fleet's weights do not fit"):
        adopted(wide, (WEAR, LOAD), plants()["a"].train, shared)
    bins = CONFIG.model_copy(update={"hazard": HazardConfig(horizons={"24h": 24}, edges=(24.0,))})
    with pytest.raises(InputError, match="do not fit"):
        adopted(bins, (WEAR, LOAD), plants()["a"].train, shared)
    fixed = CONFIG.model_copy(update={"network": CONFIG.network.model_copy(update={"name": "tcn"})})
    with pytest.raises(InputError, match="cannot be shared by plants"):
        PooledFit(plants(), fixed)


def test_a_network_with_failure_modes_starts_from_the_fleet_and_keeps_its_modes(shared: bytes) -> None:
    from models.networks import build
    from models.scaling import fit_scaling

    scaling = fit_scaling([plants()["a"].train[0].values])
    network = build(CONFIG, scaling, ["vibration", "ratio"], num_modes=2, relations=np.eye(2, dtype=np.float32))
    modes = network.members[0].head.weight[4:].detach().clone()
    anchor = Anchor.of(shared, 0.5)
    stem = network.members[0].body.stem.weight
    half = (stem.detach() + anchor.weights["members.0.body.stem.weight"]) / 2
    anchor.pull(network, 1.0)
    torch.testing.assert_close(stem.detach(), half)
    anchor.put(network)
    head = network.members[0].head
    assert torch.equal(head.weight[4:], modes)
    assert torch.equal(head.weight[:4], safetensors.torch.load(shared)["members.0.head.weight"])
    assert "members.0.body.own" not in anchor.weights


def test_the_fewer_failures_the_nearer_a_plant_stays_to_the_fleet(shared: bytes) -> None:
    from models.fit import NetworkFit

    known, away = plants()["a"], {}
    for strength in (0.0, 1.0, 100.0):
        anchor = Anchor.of(shared, strength)
        fit = NetworkFit(known.train, known.validate, CONFIG, known.channels, anchor=anchor)
        fit.epoch()
        fit.epoch()
        state = fit.network.state_dict()
        away[strength] = sum(float((state[n][: len(t)] - t).square().sum()) for n, t in anchor.weights.items())
    assert away[100.0] < 0.2 * away[1.0] < 0.2 * away[0.0]


def test_what_is_no_weights_is_refused() -> None:
    with pytest.raises(InputError, match="Unreadable weights of the fleet"):
        Anchor.of(b"nothing of the kind", 1.0)

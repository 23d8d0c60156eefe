"""Pre-training: what is hidden stays hidden, the answers are right, and only the bodies learn."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.features import Sequence
from models.fit import NetworkFit
from models.networks import HazardNetwork, Member, build
from models.pretrain import HIDDEN, WHOLE, Decoder, Hiding, answers, guesses, hide, pretrain
from models.regimes import Regimes
from models.scaling import Scaling
from models.windows import Channel

pytestmark = pytest.mark.usefixtures("one_thread")

KERNEL, R, T = 2, 8, 23
CHANNELS = tuple(Channel(name, "number", "1") for name in ("one", "twin", "noise"))
PLAIN = Scaling((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
KEYED = Scaling(
    PLAIN.center, PLAIN.scale, regimes=Regimes((2,), ((-1.0,), (1.0,)), (1.0,)),
    center_in=(PLAIN.center, PLAIN.center), scale_in=(PLAIN.scale, PLAIN.scale),
)  # fmt: skip


RELATIONS = ((2.0, -1.8, 0.1), (-1.8, 2.0, 0.0), (0.1, 0.0, 1.0))


def config(**more: object) -> ModelConfig:
    fields = {
        "kernel": KERNEL, "layers": 3, "hidden": 16, "channel_hidden": 8, "members": 2, "dropout": 0.0, "crop": 32,
        "batch_size": 4, "epochs": 2, "pretrain_epochs": 2,
    }  # fmt: skip
    return ModelConfig(
        window=WindowConfig(length=16), hazard=HazardConfig(horizons={"12h": 12}, edges=(6, 12, 24)),
        network=NetworkConfig.model_validate(fields | more),
    )  # fmt: skip


def untrained(scaling: Scaling = PLAIN, **more: object) -> HazardNetwork:
    torch.manual_seed(0)
    kinds = [channel.kind for channel in CHANNELS]
    return build(config(**more), scaling, kinds, relations=np.array(RELATIONS, np.float32))


def machine(seed: int, *, usable: bool = True, steps: int = 100) -> Sequence:
    """Two sensors that read the same slow wave, and one that reads noise; it fails at the end."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(steps) / 7 + rng.uniform(0, 6)) * 1.4
    values = np.stack([wave, wave, rng.normal(0, 1, steps)], axis=1).astype(np.float32)
    time = np.arange(steps, 0, -1, dtype=np.float32)
    return Sequence(f"m{seed}", values, time, np.ones(steps, bool), np.full(steps, usable))


def values(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (5, R - 1 + T, 3)).astype(np.float32))


def drawn(network: HazardNetwork, seed: int) -> Hiding:
    torch.manual_seed(seed)
    return hide(network, 5, R - 1 + T, kernel=KERNEL)


def guessed(network: HazardNetwork, given: torch.Tensor, hiding: Hiding) -> torch.Tensor:
    torch.manual_seed(1)
    decoder, member = Decoder(16), cast(Member, network.members[0])
    with torch.inference_mode():
        return guesses(member, decoder, network.covered(network.eval().inputs(given), hiding.hidden), hiding)


@pytest.mark.parametrize("scaling", [PLAIN, KEYED])
def test_what_is_hidden_changes_no_guess_and_what_is_seen_does(scaling: Scaling) -> None:
    network = untrained(scaling)
    for seed in range(4):
        hiding = drawn(network, seed)
        hidden, given = hiding.hidden.transpose(1, 2), values()
        # Missing values too: whether a hidden sensor read anything is as hidden as what it read.
        spoiled = torch.where(hidden, torch.where(torch.rand(given.shape) < 0.3, torch.nan, given + 9), given)
        assert (spoiled != given).sum() == hidden.sum() > 0
        plain = guessed(network, given, hiding)
        assert torch.equal(guessed(network, spoiled, hiding), plain)
        assert not torch.equal(guessed(network, torch.where(hidden, given, given + 1), hiding), plain)


def test_a_guess_sees_nothing_after_its_patch_and_nothing_beyond_the_receptive_field() -> None:
    network = untrained()
    nothing = torch.zeros(5, 3, R - 1 + T, dtype=torch.bool)
    for offset in range(KERNEL):
        hiding, given = Hiding(nothing, offset, KERNEL), values()
        plain = guessed(network, given, hiding)
        for patch in (0, 4, plain.shape[2] - 1):
            end = R - 1 + offset + patch * KERNEL
            around = given.clone()
            around[:, end + 1 :] += 9
            around[:, : end - R + 1] += 9
            assert torch.equal(guessed(network, around, hiding)[:, :, patch], plain[:, :, patch])
            own = given.clone()
            own[:, end] += 9
            assert not torch.equal(guessed(network, own, hiding)[:, :, patch], plain[:, :, patch])


def test_answers_are_means_over_the_steps_of_a_hidden_patch_that_had_a_value() -> None:
    # One channel, three steps of context, then five steps; patches of two, the first ends at the step 1 of the five.
    scaled = torch.tensor([9.0, 9.0, 9.0, 1.0, 3.0, 5.0, 0.0, 0.0])
    known = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    inputs = torch.stack([scaled, known])[None]
    hidden = torch.tensor([False, False, False, True, True, True, True, True])[None, None]
    truth, counts = answers(inputs, Hiding(hidden, 1, 2), 3)
    assert truth.tolist() == [[[2.0, 5.0]]]
    assert counts.tolist() == [[[True, True]]]
    truth, counts = answers(inputs, Hiding(hidden, 0, 2), 3)
    # Now they end at the steps 0, 2 and 4: the first begins in the context, the last never had a value.
    assert truth.tolist() == [[[5.0, 4.0, 0.0]]]
    assert counts.tolist() == [[[False, True, False]]]


def test_whole_patches_are_hidden_at_their_share_and_a_regimes_key_never() -> None:
    network = untrained(KEYED)
    torch.manual_seed(0)
    hiding = hide(network, 2000, R - 1 + T, kernel=KERNEL)
    patches = hiding.patches(hiding.hidden, R - 1)
    assert bool((patches.all(3) == patches.any(3)).all())
    assert not hiding.hidden[:, 2].any()
    assert hiding.hidden[:, :2].float().mean().item() == pytest.approx(1 - (1 - HIDDEN) * (1 - WHOLE), abs=0.01)
    assert hiding.hidden[:, :2].all(2).float().mean().item() == pytest.approx(WHOLE, abs=0.015)


def test_bodies_learn_what_a_twin_tells_and_heads_are_not_touched() -> None:
    network = untrained()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settings = config(pretrain_epochs=8, learning_rate=0.01)
    losses = pretrain(network, [machine(i, usable=False) for i in range(12)], settings, shuffle_bytes=1 << 30)
    after = network.state_dict()
    assert len(losses) == 8
    assert losses[-1] < 0.75 * losses[0]
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if ".head." in name} <= same
    learned = ("stem.weight", "own", "key.weight", "mix.3.weight")
    moved = {f"members.{m}.body.{name}" for m in (0, 1) for name in learned}
    assert not moved & same
    assert {"center", "scale", "used"} <= same


def test_labels_change_nothing_and_equal_seeds_give_equal_weights() -> None:
    plain = [machine(i) for i in range(6)]
    silent = [replace(s, time=s.time * 0, event=~s.event, usable=~s.usable) for s in plain]
    found = []
    for part, seed in ((plain, 0), (silent, 0), (plain, 1)):
        network = untrained()
        torch.manual_seed(123 + len(found))
        losses = pretrain(network, part, config(seed=seed), shuffle_bytes=1 << 30)
        found.append((losses, network.state_dict()))
    assert found[0][0] == found[1][0] != found[2][0]
    assert all(torch.equal(tensor, found[1][1][name]) for name, tensor in found[0][1].items())


def test_histories_larger_than_memory_come_group_by_group_and_none_is_left_out() -> None:
    read: list[int] = []

    class Counted(list[Sequence]):
        def __getitem__(self, index: int) -> Sequence:  # type: ignore[override]
            read.append(index)
            return super().__getitem__(index)

    part = Counted(machine(i) for i in range(6))
    losses = pretrain(untrained(), part, config(), shuffle_bytes=2 * part[0].values.nbytes)
    assert sorted(read[1:7]) == sorted(read[7:]) == list(range(6))
    assert np.isfinite(losses).all()


def test_a_history_without_any_value_teaches_nothing_and_breaks_nothing() -> None:
    empty = replace(machine(0), values=np.full((100, 3), np.nan, np.float32))
    network = untrained(weight_decay=0.0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert pretrain(network, [empty], config(weight_decay=0.0), shuffle_bytes=1 << 30) == [0.0, 0.0]
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())


@pytest.mark.parametrize("name", ["tcn", "gru"])
def test_a_network_without_a_set_of_channels_is_refused(name: str) -> None:
    part = [machine(i) for i in range(2)]
    with pytest.raises(InputError, match=rf"cannot be pre-trained: expected .* \"channels\", found '{name}'"):
        NetworkFit(part, part, config(name=name), CHANNELS)
    NetworkFit(part, part, config(name=name, pretrain_epochs=0), CHANNELS)


def test_a_pretrained_fit_that_was_stopped_goes_on_exactly() -> None:
    part = [machine(i) for i in range(4)] + [machine(9, usable=False)]
    whole, first, second = (NetworkFit(part, part[:2], config(), CHANNELS) for _ in range(3))
    assert whole.epoch() == first.epoch()
    second.restore(first.state())
    expected = whole.epoch()
    assert second.epoch() == expected
    never = NetworkFit(part, part[:2], config(pretrain_epochs=0), CHANNELS)
    never.epoch()
    assert never.epoch() != expected


def test_a_state_from_before_the_first_epoch_is_pretrained_then() -> None:
    part = [machine(i) for i in range(4)]
    fresh = NetworkFit(part, part[:2], config(), CHANNELS)
    fresh.restore(NetworkFit(part, part[:2], config(), CHANNELS).state())
    assert fresh.epoch() == NetworkFit(part, part[:2], config(), CHANNELS).epoch()

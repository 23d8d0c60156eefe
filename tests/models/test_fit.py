"""Fitting: the loss is the likelihood, pieces lose no step, a stopped fit goes on exactly, and wear is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.fit import NetworkFit, Sequence
from models.hazard import exposure, log_likelihood, probability_within, restricted_mean, sigmoid
from models.loss import RestrictedMean, negative_log_likelihood
from models.networks import NetworkModel
from models.pieces import cut, stack
from models.windows import Channel

pytestmark = pytest.mark.usefixtures("one_thread")

EDGES = (12.0, 24.0, 48.0)
CHANNELS = (Channel("wear", "vibration", "mm/s"), Channel("load", "ratio", "1"))
CONFIG = ModelConfig(
    window=WindowConfig(length=16),
    hazard=HazardConfig(horizons={"24h": 24}, edges=EDGES),
    network=NetworkConfig(hidden=8, layers=3, kernel=2, epochs=8, crop=32, batch_size=4, learning_rate=0.02),
)


def machine(seed: int, *, fails: bool = True, steps: int = 120) -> Sequence:
    """Wear rises over the last 60 hours before a failure; a machine that does not fail is censored at the end."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps, 0, -1, dtype=np.float32)
    wear = np.clip(1 - time / 60, 0, 1) * 5 if fails else np.zeros(steps)
    values = np.stack([wear + rng.normal(0, 0.3, steps), rng.normal(0, 1, steps)], axis=1).astype(np.float32)
    return Sequence(f"m{seed}", values, time, np.full(steps, fails), np.ones(steps, bool))


def parts() -> tuple[list[Sequence], list[Sequence]]:
    train = [machine(i, fails=i % 2 == 0) for i in range(8)]
    return train, [machine(100 + i, fails=i % 2 == 0) for i in range(4)]


def test_the_loss_is_minus_the_log_likelihood() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (50, 4))
    time, event = rng.uniform(0, 100, 50), rng.random(50) < 0.5
    exposed, failed = (torch.from_numpy(x) for x in exposure(EDGES, time, event))
    found = negative_log_likelihood(torch.from_numpy(logits), exposed, failed).numpy()
    np.testing.assert_allclose(found, -log_likelihood(sigmoid(logits), EDGES, time, event), rtol=1e-6)


def test_loss_and_gradient_of_a_failure_in_the_second_bin_by_hand() -> None:
    # Hazards 0.5 and 0.5: the loss is -log(0.5 * 0.5); its gradient is h = 0.5 where it survived, h - 1 where not.
    logits = torch.zeros(1, 4, requires_grad=True)
    exposed, failed = (torch.from_numpy(x) for x in exposure(EDGES, [20.0], [True]))
    loss = negative_log_likelihood(logits, exposed, failed).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(2 * np.log(2))
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), [[0.5, -0.5, 0, 0]])


def test_a_machine_censored_later_asks_for_lower_hazards() -> None:
    def pull(time: float) -> np.ndarray:
        logits = torch.zeros(1, 4, requires_grad=True)
        exposed, failed = (torch.from_numpy(x) for x in exposure(EDGES, [time], [False]))
        negative_log_likelihood(logits, exposed, failed).sum().backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        return logits.grad.numpy()

    early, late = pull(6.0), pull(36.0)
    assert (early >= 0).all()
    assert (late >= early).all()
    assert late.sum() > early.sum()


def test_the_restricted_mean_in_torch_equals_the_one_in_numpy() -> None:
    logits = np.random.default_rng(0).normal(-1, 2, (50, 4))
    for cap in (10.0, 24.0, 100.0):
        found = RestrictedMean(EDGES, cap)(torch.from_numpy(logits)).numpy()
        np.testing.assert_allclose(found, restricted_mean(sigmoid(logits), EDGES, cap), rtol=1e-4)


def test_every_usable_step_is_in_exactly_one_piece() -> None:
    sequence = machine(0, steps=100)
    sequence.usable[[0, 1, 50, 99]] = False
    for rng in (None, np.random.default_rng(0)):
        batch = stack(cut([sequence], 16, rng=rng, random_start=0.5), 15, EDGES, 48)
        assert int(batch.usable.sum()) == 96
        assert float(batch.failed[batch.usable].sum()) == 96


def test_a_piece_carries_the_steps_before_it_and_nan_where_there_are_none() -> None:
    sequence = machine(0, steps=40)
    first, second = cut([sequence], 20)
    values = stack([first, second], 15, EDGES, 48).values.numpy()
    assert np.isnan(values[0, :15]).all()
    np.testing.assert_array_equal(values[0, 15:], sequence.values[:20])
    np.testing.assert_array_equal(values[1], sequence.values[5:40])


def test_a_piece_alone_hides_what_was_before() -> None:
    pieces = cut([machine(0, steps=40)], 20, rng=np.random.default_rng(0), random_start=1.0)
    assert np.isnan(stack(pieces, 15, EDGES, 48).values[:, :15].numpy()).all()


def test_censoring_hides_the_target_unless_it_comes_after_the_cap() -> None:
    batch = stack(cut([machine(1, fails=False, steps=60)], 64), 15, EDGES, 48)
    target = batch.target.numpy()[0]
    assert (target[:13] == 48).all()
    assert np.isnan(target[13:60]).all()


def test_training_learns_that_wear_precedes_failure() -> None:
    train, validate = parts()
    fit = NetworkFit(train, validate, CONFIG, CHANNELS)
    losses = []
    while not fit.done:
        losses.append(fit.epoch()["validate_loss"])
    assert fit.best_loss == min(losses) < 0.85 * losses[0]
    model, new = NetworkModel(fit.best()), validate[0].values[:16]
    worn = np.stack([new + np.array([wear, 0], np.float32) for wear in (0, 1, 2, 3, 4, 4.8)])
    hazard = sigmoid(model.logits(worn.astype(np.float32)))
    risk, life = probability_within(hazard, EDGES, 24), restricted_mean(hazard, EDGES, 48)
    assert risk[0] < 0.3
    assert risk[-1] > 0.8
    assert (np.diff(life) < 0).all(), "more wear never lengthens life"


def test_same_seed_same_weights_and_another_seed_others() -> None:
    def trained(seed: int) -> bytes:
        network = CONFIG.network.model_copy(update={"seed": seed})
        fit = NetworkFit(*parts(), CONFIG.model_copy(update={"network": network}), CHANNELS)
        fit.epoch()
        return fit.state()

    assert trained(0) == trained(0)
    assert trained(0) != trained(1)


def test_a_fit_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    NetworkFit(*parts(), CONFIG, CHANNELS).epoch()
    assert torch.equal(torch.rand(3), expected)


def test_a_restored_fit_goes_on_as_if_it_had_never_stopped() -> None:
    whole, first, second = (NetworkFit(*parts(), CONFIG, CHANNELS) for _ in range(3))
    expected = [whole.epoch() for _ in range(4)]
    found = [first.epoch() for _ in range(2)]
    second.restore(first.state())
    assert second.best_loss == first.best_loss
    found += [second.epoch() for _ in range(2)]
    assert found == expected
    assert second.state() == whole.state()


def test_a_fresh_state_restores_too() -> None:
    fit = NetworkFit(*parts(), CONFIG, CHANNELS)
    fit.restore(NetworkFit(*parts(), CONFIG, CHANNELS).state())
    assert fit.epoch() == NetworkFit(*parts(), CONFIG, CHANNELS).epoch()


def test_a_state_of_another_configuration_is_refused() -> None:
    fit = NetworkFit(*parts(), CONFIG, CHANNELS)
    other = CONFIG.model_copy(update={"network": CONFIG.network.model_copy(update={"noise": 0.5})})
    with pytest.raises(InputError, match="State of another fit"):
        NetworkFit(*parts(), other, CHANNELS).restore(fit.state())


def test_it_stops_when_validation_no_longer_gains() -> None:
    patient = CONFIG.model_copy(
        update={"network": CONFIG.network.model_copy(update={"epochs": 50, "patience": 1, "learning_rate": 1.0})}
    )
    fit = NetworkFit(*parts(), patient, CHANNELS)
    while not fit.done:
        last = fit.epoch()["epoch"]
    assert last < 50


def test_a_training_of_so_many_steps_takes_as_many_epochs_as_its_histories_need() -> None:
    train, validate = parts()  # 8 machines of 120 steps
    for steps, epochs in ((0, 8), (3 * 960, 3), (3 * 960 + 400, 3), (3 * 960 + 500, 4), (100, 1)):
        network = CONFIG.network.model_copy(update={"train_steps": steps})
        fit = NetworkFit(train, validate, CONFIG.model_copy(update={"network": network}), CHANNELS)
        assert fit.epochs == epochs
        while not fit.done:
            last = fit.epoch()
        assert last["epoch"] == epochs


def test_steps_that_are_not_usable_teach_nothing() -> None:
    train, validate = parts()
    spoiled = [
        Sequence(s.machine, s.values, np.where(s.usable, s.time, 1.0).astype(np.float32), s.event, s.usable)
        for s in train
    ]
    for s in (*train, *spoiled):
        s.usable[30:60] = False
    for s in spoiled:
        s.time[30:60] = np.nan
    fits = [NetworkFit(part, validate, CONFIG, CHANNELS) for part in (train, spoiled)]
    assert fits[0].epoch() == fits[1].epoch()


def test_a_fit_that_diverged_hands_out_no_network_as_if_it_had_learned() -> None:
    network = CONFIG.network.model_copy(update={"learning_rate": 1e12})
    fit = NetworkFit(*parts(), CONFIG.model_copy(update={"network": network}), CHANNELS)
    assert np.isnan(fit.epoch()["validate_loss"])
    with pytest.raises(InputError, match=r"diverged.*learning_rate"):
        fit.best()


def test_an_empty_part_is_refused() -> None:
    train, validate = parts()
    with pytest.raises(InputError, match="the training part is empty"):
        NetworkFit([], validate, CONFIG, CHANNELS)
    for s in validate:
        s.usable[:] = False
    with pytest.raises(InputError, match="the validation part is empty"):
        NetworkFit(train, validate, CONFIG, CHANNELS)


def test_more_wear_never_lengthens_life() -> None:
    config = CONFIG.model_copy(update={"network": CONFIG.network.model_copy(update={"members": 2, "epochs": 12})})
    fit = NetworkFit(*parts(), config, CHANNELS)
    while not fit.done:
        fit.epoch()
    model, rng = NetworkModel(fit.best()), np.random.default_rng(0)
    windows = rng.normal(0, 0.3, (30, 1, 16, 2)).astype(np.float32)
    wear = np.linspace(0, 5, 11, dtype=np.float32)[None, :, None]
    windows = np.repeat(windows, 11, axis=1)
    windows[..., 0] += wear
    logits = model.logits(windows.reshape(-1, 16, 2))
    life = restricted_mean(sigmoid(logits), EDGES, EDGES[-1]).reshape(30, 11)
    assert (np.diff(life, axis=1) < 0.05 * EDGES[-1]).all(), "nowhere clearly longer"
    assert (np.diff(life.mean(axis=0)) <= 1e-3).all()

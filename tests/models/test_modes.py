"""Failure modes share one hazard: two factors of the likelihood by hand, modes that sum to the total."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from models.bundle import Bundle
from models.calibration import Calibration
from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.export import export_onnx
from models.features import Sequence
from models.fit import NetworkFit
from models.hazard import exposure, sigmoid
from models.labels import FINDING, UNNAMED
from models.loss import mode_loss, negative_log_likelihood
from models.modes import NO_MODES, Modes, fit_trust, modes_of, shares_of
from models.networks import NetworkModel, build, split_modes
from models.pieces import Piece, stack
from models.predict import answer, outlooks
from models.predictor import Predictor, risk
from models.scaling import Scaling
from models.spec import BundleSpec, Lineage, Usual
from models.windows import Channel

pytestmark = pytest.mark.usefixtures("one_thread")

EDGES = (12.0, 24.0, 48.0)
CHANNELS = (Channel("wear", "vibration", "mm/s"), Channel("heat", "temperature", "degC"))
MODES = Modes(("seal", "shaft"), (0.5, 0.5), (0, 1))
CONFIG = ModelConfig(
    window=WindowConfig(length=16), hazard=HazardConfig(horizons={"24h": 24, "48h": 48}, edges=EDGES),
    network=NetworkConfig(hidden=8, layers=3, kernel=2, epochs=8, crop=32, batch_size=4, learning_rate=0.02),
)  # fmt: skip


def machine(seed: int, mode: int, *, steps: int = 120, named: bool = True) -> Sequence:
    """Wear foretells mode 0, heat mode 1, over the last 60 hours before the failure."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps, 0, -1, dtype=np.float32)
    values = rng.normal(0, 0.3, (steps, 2)).astype(np.float32)
    values[:, mode] += np.clip(1 - time / 60, 0, 1) * 5
    numbers = np.full(steps, mode if named else UNNAMED, np.int8)
    return Sequence(f"m{seed}", values, time, np.ones(steps, bool), np.ones(steps, bool), 0, numbers)


def fitted(modes: Modes, *, named: bool = True, epochs: int = 8) -> NetworkFit:
    train = [machine(i, i % 2, named=named) for i in range(8)]
    network = CONFIG.network.model_copy(update={"epochs": epochs})
    fit = NetworkFit(
        train, [machine(100 + i, i % 2, named=named) for i in range(4)],
        CONFIG.model_copy(update={"network": network}), CHANNELS, modes=modes,
    )  # fmt: skip
    while not fit.done:
        fit.epoch()
    return fit


def test_the_likelihood_of_a_named_failure_is_that_of_the_total_times_its_share_by_hand() -> None:
    # A failure by mode 1 in the second bin; hazards 0.2 and 0.5, shares 0.25 and 0.75. Its cause-specific likelihood
    # is (1 - 0.2) * (0.5 * 0.75): every cause was survived in the first bin, and mode 1 ended the second.
    hazards, logit = torch.tensor([[0.2, 0.5, 0.5, 0.5]]), torch.logit
    exposed, failed = (torch.from_numpy(x) for x in exposure(EDGES, [20.0], [True]))
    of_modes = torch.log(torch.tensor([[0.25, 0.75]]))
    total = negative_log_likelihood(logit(hazards), exposed, failed) + mode_loss(of_modes, torch.tensor([1]))
    assert total.item() == pytest.approx(-np.log(0.8 * 0.5 * 0.75), rel=1e-6)


def test_the_gradient_of_the_mode_is_its_share_less_what_happened_and_none_where_unnamed() -> None:
    logits = torch.log(torch.tensor([[0.25, 0.75], [0.25, 0.75]])).requires_grad_()
    mode_loss(logits, torch.tensor([1, UNNAMED])).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), [[0.25, -0.25], [0.0, 0.0]], atol=1e-7)


def test_rare_modes_are_pooled_in_the_order_of_names_and_other_comes_last() -> None:
    found = modes_of(("bolt", "crack", "leak", "seal"), (2, 5, 8, 1))
    assert found == Modes(("crack", "leak", "other"), (5 / 16, 8 / 16, 3 / 16), (2, 0, 1, 2))
    assert found.classes(np.array([3, 1, UNNAMED], np.int8)).tolist() == [2, 0, UNNAMED]
    assert modes_of(("leak", "other"), (8, 6)) == Modes(("leak", "other"), (8 / 14, 6 / 14), (0, 1))


@pytest.mark.parametrize("failures", [(), (9,), (9, 4), (4, 4), (0, 9)])
def test_fewer_than_two_modes_with_enough_failures_are_none(failures: tuple[int, ...]) -> None:
    assert modes_of(tuple("abcd"[: len(failures)]), failures) == NO_MODES
    assert NO_MODES.classes(np.array([0, 1, -1], np.int8)).tolist() == [UNNAMED] * 3


def test_a_mode_that_training_never_saw_is_unnamed() -> None:
    found = modes_of(("crack", "leak", "new"), (5, 5, 0))
    assert found == Modes(("crack", "leak"), (0.5, 0.5), (0, 1, UNNAMED))


def test_only_steps_within_the_longest_horizon_of_a_named_failure_teach_its_mode() -> None:
    batch = stack([Piece(machine(0, 1), 0, 120)], 15, EDGES, 48.0, modes=MODES, mode_within=48.0)
    assert batch.mode[0].tolist() == [UNNAMED] * 72 + [1] * 48
    assert (stack([Piece(machine(0, 1), 0, 120)], 15, EDGES, 48.0).mode == UNNAMED).all()


def test_a_confirmed_finding_is_half_a_failure_near_it_and_a_censoring_before() -> None:
    s = machine(0, 0, steps=60)
    found = Sequence(
        "m", s.values, s.time, np.zeros(60, bool), s.usable, ended_by=np.full(60, FINDING, np.int8)
    )
    batch = stack([Piece(found, 0, 60)], 15, EDGES, 48.0, finding_within=48.0)
    assert batch.failed[0].sum(-1).tolist() == [0.0] * 12 + [0.5] * 48
    exposed, failed = exposure(EDGES, s.time, np.r_[np.zeros(12, bool), np.ones(48, bool)])
    weight = np.r_[np.ones(12), np.full(48, 0.5)][:, None]
    np.testing.assert_array_equal(batch.exposed[0].numpy(), (exposed * weight).astype(np.float32))
    np.testing.assert_array_equal(batch.failed[0].numpy(), (failed * weight).astype(np.float32))
    assert batch.target[0].isnan().tolist() == [False] * 13 + [True] * 47  # the error of the mean knows no half


def test_a_finding_pulls_the_hazard_up_where_a_censoring_pulls_it_down() -> None:
    def pull(ended_by: int) -> np.ndarray:
        s = machine(0, 0, steps=30)
        s = Sequence("m", s.values, s.time, np.zeros(30, bool), s.usable, ended_by=np.full(30, ended_by, np.int8))
        batch = stack([Piece(s, 29, 30)], 15, EDGES, 48.0, finding_within=48.0)
        logits = torch.zeros(1, 1, 4, requires_grad=True)
        negative_log_likelihood(logits, batch.exposed, batch.failed).sum().backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        return logits.grad.numpy()[0, 0]

    np.testing.assert_allclose(pull(FINDING), [-0.25, 0, 0, 0])  # half of a failure's pull, h - 1 = -0.5
    assert pull(FINDING - 1)[0] > 0  # maintenance on condition without a finding: it was alive until then


def test_unnamed_modes_change_nothing_about_the_total() -> None:
    # With two logits more nothing is learned from them, but the first weights are drawn in another order; so the
    # same network is trained twice, once where every failure has a name and none is asked for, once without names.
    asked, unasked = fitted(NO_MODES, epochs=2), fitted(NO_MODES, named=False, epochs=2)
    assert asked.state() == unasked.state()
    unnamed = fitted(MODES, named=False, epochs=2)
    bias = unnamed.network.members[0].head.bias[len(EDGES) + 1 :].detach().numpy()
    np.testing.assert_allclose(bias, np.log(MODES.shares), atol=0.01)  # weight decay alone


def test_a_network_tells_which_mode_threatens() -> None:
    fit = fitted(MODES)
    model = NetworkModel(fit.best())
    for mode in (0, 1):
        late = machine(200 + mode, mode).values[None, -16:]
        _, of_modes = model.answers(late)
        assert shares_of(of_modes, MODES.shares, 1.0)[0, mode] > 0.8


def test_the_order_in_which_machines_come_does_not_change_the_modes() -> None:
    assert modes_of(("a", "b"), (7, 6)).names == modes_of(("a", "b"), (6, 7)).names == ("a", "b")


def network_of(modes: Modes) -> NetworkModel:
    torch.manual_seed(3)
    made = build(CONFIG, Scaling((0.0, 0.0), (1.0, 1.0)), ["number"] * 2, num_modes=len(modes.names)).eval()
    torch.nn.init.normal_(made.members[0].head.weight)
    return NetworkModel(made)


def test_the_exported_graph_gives_hazards_and_shares_as_torch_does() -> None:
    model, calibration = network_of(MODES), Calibration(1.2, -0.3)
    onnx = export_onnx(model.network, calibration, 16, 2, mode_shares=(0.3, 0.7), trust=0.6)
    values = np.random.default_rng(0).normal(0, 2, (5, 16, 2)).astype(np.float32)
    values[1, :4] = np.nan
    hazard, shares = ort.InferenceSession(onnx).run(["hazard", "modes"], {"values": values})
    logits, of_modes = model.answers(values)
    np.testing.assert_allclose(hazard, sigmoid(calibration.apply(logits)), atol=1e-5)
    np.testing.assert_allclose(shares, shares_of(of_modes, (0.3, 0.7), 0.6), atol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)


def test_one_pass_over_a_history_gives_each_windows_shares() -> None:
    model = network_of(MODES)
    values = np.random.default_rng(1).normal(0, 1, (80, 2)).astype(np.float32)
    rows = np.array([20, 40, 79])
    windows = np.stack([values[row - 15 : row + 1] for row in rows])
    for one, other in zip(model.answers_at(values, rows), model.answers(windows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(model.sequence_answers(values)[1][rows], model.answers(windows)[1], atol=1e-5)
    assert model.logits(windows).shape == (3, 4) and model.answers(windows[:0])[1].shape == (0, 2)


def spec(names: tuple[str, ...] = MODES.names, shares: tuple[float, ...] = MODES.shares) -> BundleSpec:
    return BundleSpec(
        plant="p", kind="network", name="p", version="v1", config=CONFIG, channels=CHANNELS,
        calibration=Calibration(), usual=Usual(window=(0.0, 0.0), modes=shares), failure_modes=names,
        lineage=Lineage(data_version="1", code_version="0"),
    )  # fmt: skip


def test_served_modes_sum_to_the_probability_within_the_alarms_horizon() -> None:
    rng = np.random.default_rng(2)
    hazard = rng.uniform(0, 0.5, (50, 4)).astype(np.float32)
    shares = shares_of(rng.normal(0, 2, (50, 2)), MODES.shares, 0.8)
    totals = [sum(one.failure_modes.values()) for one in outlooks(spec(), hazard, shares, np.zeros(50))]
    np.testing.assert_allclose(totals, risk(spec(), hazard), atol=1.5e-6)
    one = answer(
        spec(), hazard[0], plant="p", machine="m", as_of_us=0, data_until_us=0, digest="d",
        modes_M=np.array([0.25, 0.75], np.float32),
    )  # fmt: skip
    assert list(one["failure_modes"]) == ["seal", "shaft"]
    assert one["failure_modes"]["shaft"] == pytest.approx(0.75 * one["failure_probability"]["48h"], abs=1e-6)


def test_a_bundle_whose_shares_do_not_fit_its_modes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"usual.modes has 1 shares for 2 modes"):
        spec(shares=(1.0,))


def test_a_graph_without_the_modes_that_its_bundle_names_is_refused() -> None:
    plain = export_onnx(network_of(NO_MODES).network, Calibration(), 16, 2)
    with pytest.raises(InputError, match=r"Wrong output of a network: expected modes \[-1, 2\]"):
        Predictor(Bundle(Path("nowhere"), spec(), plain, b"", ""))


def test_a_model_without_modes_has_none_to_serve() -> None:
    logits, of_modes = split_modes(np.zeros((2, 4), np.float32), 4)
    assert shares_of(of_modes, (), 1.0).shape == (2, 0) and logits.shape == (2, 4)
    hazard = np.full((2, 4), 0.1, np.float32)
    found = outlooks(spec((), ()), hazard, np.empty((2, 0), np.float32), np.zeros(2))
    assert [one.failure_modes for one in found] == [{}, {}]


def test_trust_follows_the_evidence_and_counts_failures_not_rows() -> None:
    right = np.log([[0.9, 0.1], [0.1, 0.9]] * 20)
    mode = np.array([0, 1] * 20)
    ones = np.ones(40)
    assert fit_trust(right, mode, ones, (0.5, 0.5)) > 0.9
    assert fit_trust(right, 1 - mode, ones, (0.5, 0.5)) < 0.1
    assert fit_trust(right, np.full(40, UNNAMED), ones, (0.5, 0.5)) == pytest.approx(0.5)
    assert fit_trust(right, mode, ones / 40, (0.5, 0.5)) < 0.75  # forty rows of one failure

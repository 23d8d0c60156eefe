"""Operating regimes: found where sensors jump with them, not where a sensor is coarse or wears in steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import HazardConfig, ModelConfig, NetworkConfig, TreesConfig, WindowConfig
from models.errors import InputError
from models.explain import usual_window
from models.features import Sequence
from models.fit import NetworkFit
from models.networks import build
from models.regimes import Regimes, find_regimes
from models.scaling import Scaling, fit_scaling, moving
from models.spec import ScalingNumbers
from models.trees import TreesModel, fit_trees
from models.windows import Channel

LOADS = (20.0, 50.0, 90.0)
OF_LOAD = np.array([[400.0, 3.0], [520.0, 5.0], [610.0, 9.0]])  # what a temperature and a pressure read at each
CHANNELS = tuple(Channel(name, "number", "1") for name in ("load", "temperature", "pressure", "still"))


def history(seed: int, steps: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Values [T, 4] of a machine that switches its load at random and wears, and the number of each step's load."""
    rng = np.random.default_rng(seed)
    regime = np.repeat(rng.integers(3, size=steps // 5), 5)
    wear = np.linspace(0, 1, steps) ** 3
    temperature = OF_LOAD[regime, 0] + 4 * wear + rng.normal(0, 1, steps)
    pressure = OF_LOAD[regime, 1] - 0.3 * wear + rng.normal(0, 0.05, steps)
    load = np.array(LOADS)[regime] + rng.normal(0, 0.02, steps)
    return np.column_stack([load, temperature, pressure, np.full(steps, 7.0)]).astype(np.float32), regime


def fleet() -> np.ndarray:
    return np.concatenate([history(seed)[0] for seed in range(10)])


def test_the_loads_are_the_regimes_and_one_key_tells_them() -> None:
    found = find_regimes(fleet(), range(4))
    assert found is not None
    assert found.keys == (0,)
    np.testing.assert_allclose(sorted(level[0] for level in found.levels), LOADS, atol=0.1)
    values, regime = history(99)
    order = np.argsort([level[0] for level in found.levels])
    np.testing.assert_array_equal(np.argsort(order)[found.of(values)], regime)


def test_a_coarse_sensor_is_no_regime() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (5000, 3)).astype(np.float32)
    rows[:, 0] = np.round(rows[:, 0])
    assert find_regimes(rows, range(3)) is None


def test_a_stage_of_wear_that_one_sensor_shows_is_no_regime() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (6000, 4)).astype(np.float32)
    rows[:, 0] = np.repeat([0.0, 10.0, 20.0], 2000) + rng.normal(0, 0.1, 6000)
    assert find_regimes(rows, range(4)) is None


def test_a_setting_that_is_silent_in_a_whole_regime_is_no_key() -> None:
    rows = fleet()
    idle = np.random.default_rng(0).random(len(rows)) < 0.5  # half of the time the machine idles, and no load is read
    rows[idle, 1:3] = np.random.default_rng(1).normal((300.0, 1.0), 0.02, (int(idle.sum()), 2))
    running = np.where(idle, 0.0, 100.0).astype(np.float32)
    rows = np.column_stack([np.where(idle, np.nan, rows[:, 0]), rows[:, 1:], running]).astype(np.float32)
    scaling = fit_scaling([rows], regimes_from=range(5))
    assert scaling.regimes is None or 0 not in scaling.regimes.keys
    assert np.isfinite(scaling.apply(rows)[:, 1:]).all()
    ScalingNumbers.of(scaling)  # which takes no NaN


def test_a_few_steps_without_a_load_and_a_sensor_that_never_spoke_change_no_regime() -> None:
    rows = np.column_stack([fleet(), np.full(4000, np.nan)]).astype(np.float32)
    rows[::20, 0] = np.nan
    found = find_regimes(rows, range(5))
    assert found is not None and found.keys == (0,)
    np.testing.assert_allclose(sorted(level[0] for level in found.levels), LOADS, atol=0.1)


def test_a_machine_at_one_load_has_no_regimes_and_only_candidates_may_tell_one() -> None:
    at_one = np.concatenate([history(seed)[0] for seed in range(4)])
    at_one = at_one[np.abs(at_one[:, 0] - 50) < 1]
    assert find_regimes(at_one, range(4)) is None
    assert find_regimes(fleet(), []) is None


def test_within_its_regime_every_sensor_is_about_zero_and_the_key_keeps_its_scale() -> None:
    scaling = fit_scaling([fleet()], regimes_from=range(4))
    values, regime = history(50)
    scaled = scaling.apply(values)
    for number in range(3):
        early = scaled[:200][regime[:200] == number]
        assert np.abs(np.median(early[:, 1:3], axis=0)).max() < 0.8
    assert np.ptp(scaled[:, 0]) > 1
    np.testing.assert_allclose(scaled[:, 3], 0)
    assert moving(scaling, [sequence(0)]) == [0, 1, 2]


def test_without_the_key_the_overall_scale_holds() -> None:
    scaling = fit_scaling([fleet()], regimes_from=range(4))
    values = history(50)[0][:5]
    values[:, 0] = np.nan
    plain = Scaling(scaling.center, scaling.scale)
    np.testing.assert_array_equal(scaling.apply(values), plain.apply(values))


def test_the_networks_graph_scales_as_numpy_does() -> None:
    scaling = fit_scaling([fleet()], regimes_from=range(4))
    config = ModelConfig(window=WindowConfig(length=16), network=NetworkConfig(kernel=4, layers=2))
    net = build(config, scaling, ["number"] * 4).eval()
    values = history(3)[0][:60]
    values[7, 0], values[9, 1] = np.nan, np.nan
    with torch.no_grad():
        inputs = net.inputs(torch.from_numpy(values[None]))[0].T.numpy()
    np.testing.assert_allclose(inputs[:, :4], np.nan_to_num(scaling.apply(values)), atol=1e-4)
    assert scaling.regimes is not None
    expected = np.eye(4)[scaling.regimes.of(values)][:, :3]
    np.testing.assert_array_equal(inputs[:, 8:], expected)


def test_scaling_survives_the_bundle() -> None:
    scaling = fit_scaling([fleet()], regimes_from=range(4))
    text = ScalingNumbers.of(scaling).model_dump_json()
    assert ScalingNumbers.model_validate_json(text).scaling == scaling
    plain = Scaling((1.0,), (2.0,))
    assert ScalingNumbers.of(plain).scaling == plain


def test_a_sensor_that_the_network_ignores_tells_it_no_regime() -> None:
    config = ModelConfig(network=NetworkConfig(ignore=("load",)))
    fit = NetworkFit([sequence(seed) for seed in range(6)], [sequence(9)], config, CHANNELS)
    values = torch.from_numpy(history(3)[0][None, :64])
    moved = values.clone()
    moved[:, :, 0] = 20.0
    torch.nn.init.normal_(fit.network.members[0].head.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(fit.network.eval().last(values), fit.network.last(moved))


@pytest.mark.parametrize(
    "wrong",
    [{"keys": (-1,)}, {"spread": (0.0,)}, {"spread": ()}, {"levels": ((1.0, 2.0),)}, {"levels": ((1.0,),) * 17}],
)
def test_broken_regimes_are_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(InputError, match="Regimes are broken"):
        Regimes(**({"keys": (0,), "levels": ((1.0,), (2.0,)), "spread": (1.0,)} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("center", "scale"), [(1e300, 1.0), (float("nan"), 1.0), (1.0, 1e-60), (1.0, float("inf")), (1.0, -1.0)]
)
def test_a_scaling_that_float32_cannot_hold_is_refused(center: float, scale: float) -> None:
    with pytest.raises(InputError, match="Scaling is broken"):
        Scaling((0.0, center), (1.0, scale))


def test_a_scaling_that_lacks_a_regime_is_refused() -> None:
    with pytest.raises(InputError, match=r"and in each regime, found 1 centres.*0 of 2 regimes"):
        Scaling((1.0,), (2.0,), regimes=Regimes((0,), ((1.0,), (2.0,)), (1.0,)))


def sequence(seed: int) -> Sequence:
    values = history(seed)[0]
    left = np.arange(len(values), 0, -1).astype(np.float32)
    return Sequence(f"m{seed}", values, left, np.ones(len(values), bool), np.ones(len(values), bool))


def test_trees_see_wear_within_a_regime_and_survive_text() -> None:
    config = ModelConfig(
        window=WindowConfig(length=8), hazard=HazardConfig(horizons={"24h": 24}, edges=(24, 48, 96)),
        trees=TreesConfig(rounds=60),
    )  # fmt: skip
    model = fit_trees([sequence(i) for i in range(8)], [sequence(i) for i in range(8, 11)], config, CHANNELS)
    assert model.scaling is not None
    values = history(40)[0]
    windows = np.stack([values[end - 8 : end] for end in range(100, 400, 20)])
    logits = model.logits(windows)
    assert logits[-1, 0] > logits[:10, 0].max()
    np.testing.assert_array_equal(TreesModel.from_text(model.to_text()).logits(windows), logits)
    usual = np.array([50.0, 520.0, 5.0, 7.0], np.float32)
    told = model.occluded(windows[-1], usual, 1)
    assert told[-1, 0] < told[-2, 0], "a window at the centre of its regimes is healthier"
    assert model.scaling.regimes is not None
    level = model.scaling.usual(np.array([LOADS[0], 0, 0, 0], np.float32))
    level[0] = model.scaling.regimes.level_of(np.array([LOADS[0], 0, 0, 0], np.float32))[0]
    steady = np.repeat(level[None], 8, axis=0)  # as usual as can be, at the lowest load
    for row in model.occluded(steady, level, 3):
        np.testing.assert_allclose(row, model.logits(steady[None])[0, :3], atol=1e-6)


def test_what_is_usual_is_said_in_the_regime_of_each_step() -> None:
    class Spec:
        scaling = ScalingNumbers.of(fit_scaling([fleet()], regimes_from=range(4)))
        usual = type("Usual", (), {"window": (50.0, 520.0, 5.0, None)})

    values, regime = history(5)
    found = usual_window(Spec(), values)  # type: ignore[arg-type]
    np.testing.assert_allclose(found[:, 1], OF_LOAD[regime, 0], atol=3)
    np.testing.assert_allclose(found[:, 0], np.array(LOADS)[regime], atol=0.1)
    assert np.isnan(found[:, 3]).all()

"""Intervals of remaining life cover what they say, by lives and not by ticks, also under censoring."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Bundle
from models.calibration import Calibration
from models.config import ModelConfig, TreesConfig, WindowConfig
from models.conformal import NOMINAL, fit_levels, interval_figures, level_curve, levels_of
from models.episodes import Ticks
from models.features import Sequence
from models.hazard import quantiles, sigmoid
from models.predict import missing_share, outlooks
from models.predictor import Predictor
from models.spec import BundleSpec, Lineage, Usual
from models.trees import fit_trees
from models.windows import channels_of, windows_ending

EDGES = tuple(float(edge) for edge in range(10, 401, 10))


def ticks_of(machine: np.ndarray, now: np.ndarray, time: np.ndarray, event: np.ndarray) -> Ticks:
    return Ticks(machine, now, time, event, int(machine.max()) + 1, 1.0)


def exponential(mean: np.ndarray) -> np.ndarray:
    """Hazards [N, K1] of exponential lives with these means."""
    chance = -np.expm1(-10.0 / np.asarray(mean, float))
    return np.repeat(chance[:, None], len(EDGES) + 1, axis=1).astype(np.float32)


def one_window_a_life(
    rng: np.random.Generator, num: int, *, claimed: float = 1.0, leaving: float = math.inf
) -> tuple[np.ndarray, Ticks, np.ndarray]:
    """Lives of known means, told with means ``claimed`` times as long; also the lives themselves."""
    mean = rng.uniform(30, 120, num)
    life = rng.exponential(mean)
    until = rng.exponential(leaving, num) if math.isfinite(leaving) else np.full(num, np.inf)
    ticks = ticks_of(np.arange(num), np.zeros(num), np.minimum(life, until), life <= until)
    return exponential(mean * claimed), ticks, life


def covered(hazard: np.ndarray, levels: tuple[float, float, float], life: np.ndarray) -> float:
    return interval_figures(hazard, EDGES, levels, life, draws=2).coverage.value


def test_a_true_curve_keeps_its_levels() -> None:
    hazard, ticks, _ = one_window_a_life(np.random.default_rng(0), 5000)
    assert fit_levels(hazard, EDGES, ticks) == pytest.approx(NOMINAL, abs=0.015)


@pytest.mark.parametrize("claimed", [0.6, 1.7])
def test_intervals_of_a_wrong_curve_cover_four_fifths_of_new_lives(claimed: float) -> None:
    rng = np.random.default_rng(1)
    hazard, ticks, _ = one_window_a_life(rng, 4000, claimed=claimed)
    fresh, _, life = one_window_a_life(rng, 4000, claimed=claimed)
    levels = fit_levels(hazard, EDGES, ticks)
    assert covered(fresh, levels, life) == pytest.approx(0.8, abs=0.015)
    assert abs((life < quantiles(fresh, EDGES, (0.1,))[:, 0]).mean() - 0.1) > 0.03
    ends = quantiles(fresh, EDGES, levels)
    assert (life < ends[:, 0]).mean() == pytest.approx(0.1, abs=0.015)  # both ends, each on its own
    assert (life > ends[:, 2]).mean() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("claimed", [0.6, 1.0, 1.7])
def test_censored_lives_do_not_shorten_the_interval(claimed: float) -> None:
    rng = np.random.default_rng(2)
    hazard, ticks, _ = one_window_a_life(rng, 6000, claimed=claimed, leaving=100.0)
    assert 0.3 < ticks.event.mean() < 0.7
    fresh, _, life = one_window_a_life(rng, 6000, claimed=claimed)
    assert covered(fresh, fit_levels(hazard, EDGES, ticks), life) == pytest.approx(0.8, abs=0.03)
    only_failed = ticks.take(ticks.event)
    assert abs(covered(fresh, fit_levels(hazard[ticks.event], EDGES, only_failed), life) - 0.8) > 0.04


def test_a_life_has_one_vote_however_many_its_ticks() -> None:
    # Thirty lives at level 0.2 with one tick each, ten at level 0.8 with a hundred each: three quarters lie at 0.2.
    lives = np.concatenate([np.arange(30), np.repeat(np.arange(30, 40), 100)])
    level = np.where(lives < 30, 0.2, 0.8)
    curve = level_curve(level, np.ones(len(level), bool), lives)
    assert np.interp(0.5, curve.level, curve.share) == pytest.approx(0.75, abs=0.02)


def test_a_censored_life_gives_its_vote_to_those_above() -> None:
    # By hand: of four lives one is censored at 0.3, so those seen at 0.5 and 0.8 share its vote: 1/4, then 3/8 each.
    curve = level_curve(np.array([0.2, 0.3, 0.5, 0.8]), np.array([1, 0, 1, 1], bool), np.arange(4))
    assert curve.level.tolist() == [0.0, 0.2, 0.5, 0.8, 1.0]
    assert curve.share == pytest.approx([0, 1 / 8, 1 / 4 + 3 / 16, 1 / 4 + 3 / 8 + 3 / 16, 1])


def test_a_failure_past_the_last_edge_is_known_to_lie_above_it() -> None:
    level, seen = levels_of(exponential(np.array([500.0, 500.0])), EDGES, [900.0, 300.0], [True, True])
    assert seen.tolist() == [False, True]
    assert level == pytest.approx([1 - math.exp(-400 / 500), 1 - math.exp(-300 / 500)], abs=1e-5)


def test_levels_of_a_few_failures_are_never_inside_nominal_and_lean_on_the_fleets() -> None:
    rng = np.random.default_rng(3)
    hazard, ticks, _ = one_window_a_life(rng, 8)
    timid = exponential(np.full(8, 70.0))
    near = ticks_of(np.arange(8), np.zeros(8), np.linspace(45, 52, 8), np.ones(8, bool))  # all near the middle
    low, _, high = fit_levels(timid, EDGES, near)
    assert low <= 0.1 and high >= 0.9
    fleet = (0.04, 0.5, 0.97)
    low, _, high = fit_levels(hazard, EDGES, ticks, toward=fleet)
    plain = fit_levels(hazard, EDGES, ticks)
    assert abs(low - 0.04) < abs(plain[0] - 0.04) and abs(high - 0.97) < abs(plain[2] - 0.97)


def test_without_a_failure_the_levels_are_the_fleets() -> None:
    ticks = ticks_of(np.arange(5), np.zeros(5), np.full(5, 50.0), np.zeros(5, bool))
    assert fit_levels(exponential(np.full(5, 100.0)), EDGES, ticks) == NOMINAL
    assert fit_levels(exponential(np.full(5, 100.0)), EDGES, ticks, toward=(0.05, 0.4, 0.96)) == (0.05, 0.4, 0.96)


def test_the_more_lives_the_further_from_nominal() -> None:
    rng = np.random.default_rng(4)
    hazard, ticks, _ = one_window_a_life(rng, 2000, claimed=2.0)  # lives are half as long as told
    # Nine tenths of lives that are half as long lie below the curve's level 1 - 0.1 ** 0.5.
    highs = [fit_levels(hazard[:num], EDGES, ticks.take(np.arange(num)))[2] for num in (25, 200, 2000)]
    assert 0.9 > highs[0] > highs[1] > highs[2] == pytest.approx(1 - 0.1**0.5, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(-8, 3), st.floats(0, 1),
)  # fmt: skip
def test_any_slice_gives_levels_that_rise(seed: int, num: int, shift: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    hazard = sigmoid(rng.normal(shift, 2, (num, len(EDGES) + 1))).astype(np.float32)
    ticks = ticks_of(
        np.sort(rng.integers(0, max(1, num // 2), num)), np.arange(num, dtype=float), rng.uniform(0, 600, num),
        rng.random(num) < share,
    )  # fmt: skip
    low, middle, high = fit_levels(hazard, EDGES, ticks)
    assert 0 < low < middle < high < 1


def test_interval_figures_by_hand() -> None:
    # Half of those alive fail every 10: F is 0.5 at 10, 0.75 at 20. Levels 0.5 and 0.75 give [10, 20], and a calm
    # machine's 0.5 lies past the last edge.
    edges, levels = (10.0, 20.0, 40.0), (0.5, 0.6, 0.75)
    hazard = np.array([[0.5, 0.5, 0.75, 0.75]] * 4 + [[0.01] * 4], np.float32)
    found = interval_figures(hazard, edges, levels, [5, 15, 30, 50, 900])
    assert found.coverage.value == pytest.approx(2 / 5)  # the second, and the fifth, which goes on
    assert (found.below, found.above, found.beyond, found.count) == pytest.approx((0.2, 0.4, 0.2, 5))
    assert found.width == 10.0
    # Past the edge at 40 a calm machine is alive with 0.99 ** 3; from 0.5 to 0.75 lies a quarter of all lives.
    assert found.counted.value == pytest.approx((1 + 0.25 / 0.99**3) / 5, abs=1e-6)


def test_rows_of_one_machine_are_drawn_together() -> None:
    hazard, _, life = one_window_a_life(np.random.default_rng(6), 60)
    alone = interval_figures(hazard, EDGES, NOMINAL, life)
    thrice = interval_figures(
        np.tile(hazard, (3, 1)), EDGES, np.tile(NOMINAL, (180, 1)), np.tile(life, 3), machine=np.tile(np.arange(60), 3)
    )
    assert thrice == alone  # three models that agree are no more machines


def test_what_is_counted_does_not_depend_on_where_the_curve_ends() -> None:
    """As served, an early end covers more than is claimed; counted, a true curve covers its level."""
    hazard, _, life = one_window_a_life(np.random.default_rng(5), 8000)
    whole = interval_figures(hazard, EDGES, NOMINAL, life, draws=2)
    cut = interval_figures(hazard[:, :11], EDGES[:10], NOMINAL, life, draws=2)
    assert whole.coverage.value == pytest.approx(0.8, abs=0.015) and cut.coverage.value > 0.85
    assert whole.counted.value == pytest.approx(0.8, abs=0.015) and cut.counted.value == pytest.approx(0.8, abs=0.015)


def _wearing(number: int, *, hours: int = 220) -> Sequence:
    """Three sensors that tell of wear, each with its own noise, and one that tells of nothing; fails at the end."""
    rng = np.random.default_rng(number)
    left = np.arange(hours, 0, -1).astype(np.float32)
    wear = np.maximum(0.0, 90 - left)[:, None] / 10
    values = np.column_stack([wear + rng.normal(0, 1.0, (hours, 3)), rng.normal(0, 1, hours)]).astype(np.float32)
    return Sequence(f"m{number}", values, left, np.ones(hours, bool), np.arange(hours) >= 15)


def test_without_a_sensor_the_interval_is_no_narrower_over_many_windows() -> None:
    """Of trees that never learned without one: the curve alone may be surer, the interval as served is not."""
    channels = channels_of([(name, "number", "1") for name in ("a", "b", "c", "d")])[:4]
    config = ModelConfig(window=WindowConfig(length=16), trees=TreesConfig(rounds=60))
    model = fit_trees([_wearing(i) for i in range(16)], [_wearing(i) for i in range(20, 26)], config, channels)
    spec = BundleSpec(
        plant="p", kind="trees", name="p", version="1", config=config, channels=channels, calibration=Calibration(),
        usual=Usual(window=(0.0,) * 4), lineage=Lineage(data_version="", code_version=""),
    )  # fmt: skip
    predictor = Predictor(Bundle(Path("nowhere"), spec, model.to_text().encode(), None, ""))
    history = [_wearing(i) for i in range(30, 40)]
    windows = np.concatenate([windows_ending(s.values, np.arange(15, 220, 3), 16) for s in history])

    def width(values: np.ndarray) -> float:
        found = outlooks(spec, predictor.hazard(values), None, missing_share(spec, values))
        return float(np.mean([o.remaining_useful_life["p90"] - o.remaining_useful_life["p10"] for o in found]))

    whole = width(windows)
    assert whole > 10
    widths = []
    for gone in ((0,), (1,), (2,), (3,), (0, 1), (0, 1, 2), (0, 1, 2, 3)):
        values = windows.copy()
        values[:, :, gone] = np.nan
        widths.append(width(values))
    assert min(widths) >= whole
    assert widths[-1] == config.hazard.edges[-1]  # with nothing known, every life is covered

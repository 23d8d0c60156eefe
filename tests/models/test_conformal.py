"""Intervals of remaining life cover what they say, by lives and not by ticks, also under censoring."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.conformal import NOMINAL, fit_levels, interval_figures, level_curve, levels_of
from models.episodes import Ticks
from models.hazard import quantiles, sigmoid

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
    return interval_figures(quantiles(hazard, EDGES, levels)[:, [0, 2]], EDGES[-1], life).coverage


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
    # Lives 5, 20, 90 and 130 against [10, 30] (below), [10, 30], [10, 30] (above), [80, past the last edge].
    ends = np.array([[10, 30], [10, 30], [10, 30], [80, np.inf]], float)
    found = interval_figures(ends, 100.0, [5, 20, 90, 130])
    assert (found.coverage, found.below, found.above, found.beyond, found.count) == (0.5, 0.25, 0.25, 0.25, 4)
    assert found.width == 20.0 and found.low <= 0.5 <= found.high

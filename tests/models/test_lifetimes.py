"""Remaining life judged: one bin of constant hazard, whose quantiles and means are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.config import HazardConfig
from models.episodes import Ticks
from models.lifetimes import LifeFigures, life_bands, life_figures, life_rows
from models.metrics import Draws, asymmetric_penalty

CONFIG = HazardConfig(horizons={"10": 10, "20": 20}, edges=(10, 20, 40))


def _ticks(time: list[float], event: list[bool], machine: list[int] | None = None) -> Ticks:
    """Each row a machine of its own, and a life of its own."""
    who = np.arange(len(time)) if machine is None else np.array(machine)
    now = np.arange(len(time), dtype=float) * 1000
    return Ticks(who, now, np.array(time, float), np.array(event), int(who.max()) + 1, 1.0)


def _hazard(*per_ten: float) -> np.ndarray:
    """Each row's chance to fail in ten units, the same for ever; the bin from 20 to 40 is twice as wide."""
    h = np.array(per_ten)
    twice = 1 - (1 - h) ** 2
    return np.stack([h, h, twice, twice], axis=1).astype(np.float32)


def _judge(ticks: Ticks, hazard: np.ndarray, *, bands: bool = False, **options: object) -> LifeFigures:
    draws = Draws.of(ticks.num_machines, rng=np.random.default_rng(0), draws=50)
    levels = options.pop("levels", (0.1, 0.5, 0.9))
    rows = life_rows(ticks, hazard, config=CONFIG, levels=levels)  # type: ignore[arg-type]
    return life_figures(ticks, rows, draws=draws, bands=life_bands(CONFIG) if bands else (), **options)  # type: ignore[arg-type]


def test_errors_count_failures_within_the_longest_horizon_alone() -> None:
    # A rate of ln 2 / 10: median 10, mean up to 20 of 0.75 * 10 / ln 2 = 10.82.
    mean = 7.5 / math.log(2)
    found = _judge(_ticks([4, 20, 30, 15], [True, True, True, False]), _hazard(0.5, 0.5, 0.5, 0.5))
    assert found.num_failures == 2  # 30 is past the longest horizon, 15 was censored
    assert found.median_error.value == pytest.approx(6.0, abs=1e-5)
    assert found.rmse.value == pytest.approx(math.sqrt(((mean - 4) ** 2 + (mean - 20) ** 2) / 2), rel=1e-6)
    late = 125 / 20 * (np.array([mean, mean]) - [4, 20])
    assert found.asymmetric.value == pytest.approx(asymmetric_penalty(late, [0, 0]).mean(), rel=1e-5)
    assert found.limit == 20


def test_without_a_failure_there_is_no_error_but_there_is_coverage() -> None:
    found = _judge(_ticks([0.0, 0.0], [False, False]), _hazard(0.5, 0.5))
    assert math.isnan(found.rmse.value) and math.isnan(found.median_error.value)
    assert found.num_failures == 0
    assert found.coverage_80.value == pytest.approx(0.8)  # nothing is known of either life
    assert found.settled_80 == 0.0


def test_the_width_is_that_of_the_served_interval_held_at_the_last_edge() -> None:
    # p10 and p90 of a rate of ln 2 / 10: 1.52 and 33.2; of a rate seven times lower p90 is past 40.
    slow = 1 - 0.5 ** (1 / 7)
    p10, p90 = -10 * math.log2(0.9), 10 * math.log2(10)
    ticks = _ticks([5, 5, 5], [True] * 3)
    assert _judge(ticks, _hazard(0.5, 0.5, 0.5)).width_80 == pytest.approx(p90 - p10, rel=1e-5)
    held = _judge(ticks, _hazard(slow, slow, slow))
    assert held.width_80 == pytest.approx(40 - 7 * p10, rel=1e-5)
    assert held.beyond_80 == 1.0


def test_other_levels_widen_the_interval_and_what_it_holds() -> None:
    # F(0.8) = 0.054: below p10 at the usual levels, inside where 0.05 is what is served as p10.
    ticks = _ticks([0.8, 0.8], [True, True])
    usual, wide = _judge(ticks, _hazard(0.5, 0.5)), _judge(ticks, _hazard(0.5, 0.5), levels=(0.05, 0.5, 0.95))
    assert (usual.coverage_80.value, wide.coverage_80.value) == (0.0, 1.0)
    assert wide.width_80 > usual.width_80


def test_bands_follow_the_median_that_is_predicted_and_the_life_that_came() -> None:
    # Medians just over 10, 3.01, and 70, which is past the last edge; lives 4, 12 and one that is censored at 100.
    ticks = _ticks([4, 12, 100], [True, True, False])
    found = _judge(ticks, _hazard(0.49999, 0.9, 1 - 0.5 ** (1 / 7)), bands=True)
    assert [(b.low, b.high, b.num_ticks, b.num_failures) for b in found.by_predicted] == [
        (0.0, 10.0, 1, 1), (10.0, 20.0, 1, 1), (40.0, math.inf, 1, 0),
    ]  # fmt: skip
    assert [(b.low, b.high, b.num_failures) for b in found.by_true] == [(0.0, 10.0, 1), (10.0, 20.0, 1)]
    # 12 with a chance of 0.9 in ten is F = 0.937, outside; 4 with a half in ten is F = 0.24, inside.
    assert [b.coverage.value for b in found.by_true] == [1.0, 0.0]
    assert [b.settled for b in found.by_true] == [1.0, 1.0]


def test_of_a_true_model_bands_of_predicted_life_are_covered_and_bands_of_true_life_are_not() -> None:
    rng = np.random.default_rng(7)
    per_ten = rng.choice([0.2, 0.5, 0.8], 12_000)
    life = rng.exponential(-10 / np.log1p(-per_ten))
    ticks = _ticks(life.tolist(), [True] * len(life), machine=(np.arange(len(life)) % 40).tolist())
    found = _judge(ticks, _hazard(*per_ten), bands=True)
    assert found.coverage_80.value == pytest.approx(0.8, abs=0.015)
    assert [b.coverage.value for b in found.by_predicted] == pytest.approx([0.8] * len(found.by_predicted), abs=0.02)
    assert found.by_true[-1].coverage.value < 0.7  # lives that turned out long lie above any honest p90
    for band in found.by_predicted:
        assert band.coverage.low <= band.coverage.value <= band.coverage.high


def test_some_failures_of_many_have_errors_and_an_order_but_no_coverage() -> None:
    found = _judge(_ticks([4, 20], [True, False]), _hazard(0.5, 0.4), all_causes=False)
    assert math.isnan(found.coverage_80.value) and math.isnan(found.settled_80)
    assert found.concordance.value == 1.0
    assert found.num_failures == 1


def test_concordance_has_an_interval_by_machine() -> None:
    rng = np.random.default_rng(0)
    per_ten = rng.uniform(0.1, 0.9, 60)
    life = rng.exponential(-10 / np.log1p(-per_ten))
    found = _judge(_ticks(life.tolist(), [True] * 60), _hazard(*per_ten)).concordance
    assert 0.5 < found.low < found.value < found.high < 1.0


def test_bands_end_at_every_horizon_and_at_the_last_edge() -> None:
    assert life_bands(CONFIG) == (10.0, 20.0, 40.0)

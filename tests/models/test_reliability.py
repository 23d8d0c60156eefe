"""Probabilities against outcomes under censoring, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.hazard import survival_at
from models.metrics import Draws
from models.reliability import (
    as_served,
    brier,
    calibration_error,
    coverage,
    inside_interval,
    kaplan_meier,
    known_outcomes,
    reliability,
    settled,
    skill,
)


def test_kaplan_meier_by_hand() -> None:
    # Deaths at 1 and 3 of four machines, one censored at 2: 3/4, then 3/4 * 1/2.
    curve = kaplan_meier([1, 2, 3, 4], [True, False, True, False])
    assert curve.at([0.5, 1, 2.9, 3, 9]).tolist() == [1.0, 0.75, 0.75, 0.375, 0.375]
    assert curve.before([1, 3]).tolist() == [1.0, 0.75]


def test_kaplan_meier_of_survivors_is_one() -> None:
    assert kaplan_meier([5, 6], [False, False]).at([100]).tolist() == [1.0]


def test_outcomes_censored_before_the_horizon_are_unknown() -> None:
    failed, known, weight = known_outcomes([10, 20, 60, 30], [True, False, False, True], 48)
    assert failed.tolist() == [True, False, False, True]
    assert known.tolist() == [True, False, True, True]
    # One of the three still there is censored at 20: whoever is seen later stands for 1.5 machines.
    assert weight.tolist() == pytest.approx([1.0, 0.0, 1.5, 1.5])


def test_censoring_after_the_horizon_changes_nothing() -> None:
    _, known, weight = known_outcomes([10, 50, 60], [True, False, False], 48)
    assert known.all()
    assert weight.tolist() == [1.0, 1.0, 1.0]


def test_brier_and_skill_by_hand() -> None:
    assert brier([1.0, 0.0], [True, False], [1, 1]) == 0.0
    assert brier([0.5, 0.5], [True, False], [1, 1]) == 0.25
    assert brier([0.5, 0.5], [True, False], [1, 0]) == 0.125  # Graf et al. divide by all rows
    assert skill(0.05, 0.2) == 0.75
    assert math.isnan(skill(0.1, 0.0))


def test_weighting_recovers_the_brier_score_that_censoring_hides() -> None:
    rng = np.random.default_rng(1)
    life, leaving = rng.exponential(100, 40_000), rng.exponential(80, 40_000)
    risk = np.full(40_000, 1 - math.exp(-0.48))
    truth = brier(risk, life <= 48, np.ones(40_000))
    failed, _, weight = known_outcomes(np.minimum(life, leaving), life <= leaving, 48)
    assert brier(risk, failed, weight) == pytest.approx(truth, abs=0.004)


def test_reliability_of_true_probabilities_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(2)
    risk = rng.uniform(0, 1, 50_000)
    failed = rng.random(50_000) < risk
    bins = reliability(risk, failed, np.ones(50_000), life=np.arange(50_000))
    assert sum(b.count for b in bins) == 50_000
    assert calibration_error(bins) < 0.02
    assert all(b.predicted == pytest.approx(b.observed, abs=0.06) for b in bins)


def test_reliability_counts_failures_not_rows() -> None:
    bins = reliability([0.3] * 6, [True] * 4 + [False] * 2, [1] * 6, life=[0, 0, 0, 1, 2, 2])
    assert [(b.count, b.num_failures, b.predicted) for b in bins] == [(6, 2, pytest.approx(0.3))]
    assert bins[0].observed == pytest.approx(4 / 6)


def test_reliability_of_nothing_is_nothing() -> None:
    assert reliability([], [], [], life=[]) == []
    assert math.isnan(calibration_error([]))


def test_coverage_counts_a_censored_life_by_what_it_may_still_reach() -> None:
    assert coverage([0.5], [True]) == 1.0
    assert coverage([0.05], [True]) == 0.0
    assert coverage([0.95], [True]) == 0.0
    assert coverage([0.0], [False]) == pytest.approx(0.8)  # nothing known: the whole interval is ahead
    assert coverage([0.5], [False]) == pytest.approx(0.4 / 0.5)
    assert coverage([0.95], [False]) == 0.0


def test_coverage_of_a_true_model_is_its_level_whatever_the_censoring() -> None:
    rng = np.random.default_rng(3)
    edges, hazard = (10.0, 20.0, 40.0), np.full((30_000, 4), 0.3, np.float32)
    rate = -math.log(0.7)
    # Lives drawn from the curve itself: 10, 10 and 20 wide bins, the last one repeated.
    steps = rng.exponential(1 / rate, 30_000)
    life = np.where(steps < 2, steps * 10, 20 + (steps - 2) * 20)
    leaving = rng.exponential(30, 30_000)
    seen, event = np.minimum(life, leaving), life <= leaving
    cdf = 1 - survival_at(hazard, edges, seen)
    assert coverage(cdf, event) == pytest.approx(0.8, abs=0.01)


def test_a_served_level_counts_as_the_level_that_it_claims() -> None:
    served = as_served([0.0, 0.05, 0.275, 0.5, 0.97, 1.0], (0.05, 0.5, 0.97))
    assert served.tolist() == pytest.approx([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
    assert as_served([0.3], (0.1, 0.5, 0.9)).tolist() == pytest.approx([0.3])


def test_a_life_is_settled_by_its_failure_or_by_outliving_the_interval() -> None:
    assert settled([0.5, 0.5, 0.95], [True, False, False]).tolist() == [True, False, True]
    assert inside_interval([0.5, 0.5, 0.95], [True, False, False]).tolist() == pytest.approx([1.0, 0.8, 0.0])


def test_a_bin_has_an_interval_by_machine() -> None:
    draws = Draws(np.array([[2.0, 0.0], [0.0, 2.0]] * 20))
    found = reliability([0.3] * 4, [True, True, False, True], [1, 1, 1, 1], life=[0, 0, 1, 2], machine=[0, 0, 1, 1],
                        draws=draws)  # fmt: skip
    # The first machine failed in both of its rows, the second in one of two.
    assert [(b.observed, b.low, b.high, b.count, b.num_failures) for b in found] == [(0.75, 0.5, 1.0, 4, 2)]


def test_the_weight_of_a_row_is_bounded() -> None:
    # 99 of 100 leave at once: the one that stays would stand for 100, and is held at 20.
    _, _, weight = known_outcomes([1.0] * 99 + [60.0], [False] * 100, 48)
    assert weight.max() == pytest.approx(20.0)

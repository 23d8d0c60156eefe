"""Calibration moves risks to what happened, keeps their order, and does nothing where little happened."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration import Calibration, fit_calibration
from models.hazard import log_likelihood, sigmoid

EDGES = (10.0, 20.0)


def drawn(true_logits: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Times to failure that follow the hazards, censored at 20."""
    rng = np.random.default_rng(seed)
    fails = rng.random((len(true_logits), 2)) < sigmoid(true_logits[:, :2])
    time = np.where(fails[:, 0], 5.0, np.where(fails[:, 1], 15.0, 20.0))
    return time, fails.any(axis=1)


def logits(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(-2, 1, (rows, 3)).astype(np.float32)


def test_finds_the_slope_and_shift_that_made_the_failures() -> None:
    z = logits(20_000)
    time, event = drawn(0.7 * z + 0.4)
    found = fit_calibration(z, EDGES, time, event)
    assert found.slope == pytest.approx(0.7, abs=0.05)
    assert found.shift == pytest.approx(0.4, abs=0.1)


def test_raises_the_likelihood_of_the_slice_it_was_fitted_on() -> None:
    z = logits(2000)
    time, event = drawn(0.5 * z - 0.5)
    found = fit_calibration(z, EDGES, time, event)
    before = log_likelihood(sigmoid(z), EDGES, time, event).mean()
    assert log_likelihood(found.hazard(z), EDGES, time, event).mean() > before


def test_fewer_than_five_failures_change_nothing() -> None:
    z = logits(1000)
    time, event = drawn(z + 3)
    assert fit_calibration(z, EDGES, time, event, num_failures=4) == Calibration()
    assert fit_calibration(z, EDGES, np.full(1000, 20.0), np.zeros(1000, bool)) == Calibration()


def test_few_failures_behind_many_ticks_move_less_than_many_failures() -> None:
    z = logits(5000)
    time, event = drawn(z + 1.0)
    few = fit_calibration(z, EDGES, time, event, num_failures=6)
    many = fit_calibration(z, EDGES, time, event)
    assert 0 < few.shift < many.shift
    assert many.shift == pytest.approx(1.0, abs=0.15)


def test_keeps_the_order_of_risks() -> None:
    z = logits(3000)
    time, event = drawn(-z)
    found = fit_calibration(z, EDGES, time, event)
    assert found.slope > 0


def test_the_identity_leaves_logits_as_they_are() -> None:
    z = logits(10)
    np.testing.assert_array_equal(Calibration().apply(z), z)

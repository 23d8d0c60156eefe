"""Scaling: robust, finite for constant channels, and the same inside a network's graph."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import InputError
from models.scaling import Scaling, fit_scaling


def test_centre_is_the_median_and_scale_the_standard_deviation_of_a_normal_channel() -> None:
    values = np.random.default_rng(0).normal(50, 4, (20_000, 1)).astype(np.float32)
    scaling = fit_scaling([values])
    assert scaling.center[0] == pytest.approx(50, abs=0.1)
    assert scaling.scale[0] == pytest.approx(4, rel=0.03)


def test_a_few_spikes_do_not_set_the_scale() -> None:
    values = np.random.default_rng(0).normal(0, 1, (1000, 1)).astype(np.float32)
    values[::50] = 1e6
    assert fit_scaling([values]).scale[0] == pytest.approx(1, rel=0.1)


def test_a_channel_that_never_moves_keeps_scale_one() -> None:
    constant = np.full((100, 1), 518.67, np.float32)
    scaling = fit_scaling([constant])
    assert scaling.scale == (1.0,)
    np.testing.assert_allclose(scaling.apply(constant), 0, atol=1e-4)


def test_a_channel_that_moves_in_under_a_tenth_of_its_rows_takes_its_standard_deviation() -> None:
    values = np.zeros((100, 1), np.float32)
    values[:3] = 10
    assert fit_scaling([values]).scale[0] == pytest.approx(float(values.std()))


def test_a_channel_without_any_value_is_left_alone() -> None:
    empty = np.full((5, 1), np.nan, np.float32)
    assert fit_scaling([empty]) == Scaling((0.0,), (1.0,))


def test_values_far_out_are_clipped_and_nan_stays_nan() -> None:
    scaled = Scaling((10.0,), (2.0,), clip=8.0).apply(np.array([[12.0], [1e9], [-1e9], [np.nan]], np.float32))
    np.testing.assert_array_equal(scaled, [[1.0], [8.0], [-8.0], [np.nan]])


def test_no_training_series_is_refused() -> None:
    with pytest.raises(InputError, match="at least one training series"):
        fit_scaling([])


def test_a_scale_that_is_not_positive_is_refused() -> None:
    with pytest.raises(InputError, match="positive scale"):
        Scaling((0.0,), (0.0,))

"""One curve answers everything: exact values worked by hand, and laws that hold for every curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.hazard import (
    exposure,
    log_likelihood,
    probability_within,
    quantiles,
    restricted_mean,
    sigmoid,
    survival,
    survival_at,
    usual_hazard,
    widths,
)

EDGES = (10.0, 20.0, 40.0)
# Lives past 10 with 0.5, past 20 with 0.25, past 40 with 0.125.
HALVES = np.full((1, 4), 0.5)

hazards = st.lists(st.floats(0.001, 0.95), min_size=4, max_size=4).map(lambda h: np.array([h]))


def test_survival_is_the_product_of_what_each_bin_leaves() -> None:
    np.testing.assert_allclose(survival([[0.1, 0.5, 0.2, 0.9]], EDGES), [[0.9, 0.45, 0.36]])


def test_the_open_bin_is_as_wide_as_the_one_before_it() -> None:
    np.testing.assert_array_equal(widths(EDGES), [10, 10, 20, 20])
    np.testing.assert_array_equal(widths((5.0,)), [5, 5])


def test_probability_at_an_edge_is_exact_and_between_edges_exponential() -> None:
    assert probability_within(HALVES, EDGES, 20)[0] == pytest.approx(0.75)
    assert probability_within(HALVES, EDGES, 5)[0] == pytest.approx(1 - 0.5**0.5)
    assert probability_within(HALVES, EDGES, 0)[0] == 0


def test_beyond_the_last_edge_survival_falls_on_with_the_last_hazard() -> None:
    assert survival_at(HALVES, EDGES, 60)[0] == pytest.approx(0.125 * 0.5)
    assert survival_at(HALVES, EDGES, 80)[0] == pytest.approx(0.125 * 0.25)


def test_median_of_halving_bins_is_the_first_edge_and_later_quantiles_lie_inside_theirs() -> None:
    found = quantiles(HALVES, EDGES, (0.5, 0.75, 0.875))
    np.testing.assert_allclose(found, [[10, 20, 40]])
    # 1 - 0.5**1.5 is reached half way through the second bin.
    np.testing.assert_allclose(quantiles(HALVES, EDGES, (1 - 0.5**1.5,)), [[15]])


def test_a_quantile_beyond_the_last_edge_is_infinite() -> None:
    np.testing.assert_array_equal(quantiles(HALVES, EDGES, (0.88,)), [[np.inf]])
    np.testing.assert_array_equal(quantiles([[0.01] * 4], EDGES), [[np.inf] * 3])


def test_restricted_mean_of_one_bin_is_the_area_under_its_exponential() -> None:
    # Integral of 2^(-t/10) from 0 to 10 is 10 (1 - 1/2) / ln 2.
    assert restricted_mean(HALVES, EDGES, 10)[0] == pytest.approx(10 * 0.5 / np.log(2))
    assert restricted_mean(HALVES, EDGES, 20)[0] == pytest.approx(10 * 0.75 / np.log(2))


def test_restricted_mean_of_a_machine_that_never_fails_is_the_cap() -> None:
    assert restricted_mean([[0.0] * 4], EDGES, 35)[0] == pytest.approx(35, rel=1e-5)
    assert restricted_mean([[0.0] * 4], EDGES, 100)[0] == pytest.approx(100, rel=1e-5)


def test_a_certain_failure_in_the_first_bin_gives_finite_answers() -> None:
    sure = [[1.0, 0.5, 0.5, 0.5]]
    assert np.isfinite(log_likelihood(sure, EDGES, [15.0], [True])).all()
    assert probability_within(sure, EDGES, 10)[0] == pytest.approx(1)
    assert quantiles(sure, EDGES)[0, 2] <= 10


def test_likelihood_of_a_failure_and_of_a_censored_machine_by_hand() -> None:
    hazard = [[0.1, 0.2, 0.3, 0.4]] * 5
    time = [5.0, 15.0, 15.0, 20.0, 20.0]
    event = [True, True, False, True, False]
    expected = [
        np.log(0.1),  # fails in the first bin
        np.log(0.9 * 0.2),  # survives the first, fails in the second
        np.log(0.9) + 0.5 * np.log(0.8),  # half of the second bin was lived through
        np.log(0.9 * 0.2),  # an edge belongs to the bin that ends there
        np.log(0.9 * 0.8),
    ]
    np.testing.assert_allclose(log_likelihood(hazard, EDGES, time, event), expected)


def test_the_open_bin_counts_every_repetition_that_was_lived_through() -> None:
    exposed, failed = exposure(EDGES, [50.0, 50.0, 70.0], [True, False, True])
    np.testing.assert_allclose(exposed, [[1, 1, 1, 1], [1, 1, 1, 0.5], [1, 1, 1, 2]])
    np.testing.assert_allclose(failed, [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]])


def test_a_failure_at_time_zero_falls_into_the_first_bin_and_censoring_there_says_nothing() -> None:
    exposed, failed = exposure(EDGES, [0.0, 0.0, -1.0], [True, False, True])
    np.testing.assert_allclose(exposed, [[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(failed.sum(axis=1), [1, 0, 1])


def test_no_rows_give_no_answers() -> None:
    none = np.empty((0, 4))
    assert survival(none, EDGES).shape == (0, 3)
    assert quantiles(none, EDGES).shape == (0, 3)
    assert log_likelihood(none, EDGES, [], []).shape == (0,)


def test_usual_hazard_is_failures_over_exposures_pulled_to_the_common_rate() -> None:
    time = np.full(1000, 5.0)
    usual = usual_hazard((10.0, 20.0), time, np.arange(1000) < 200)
    # 200 failures (exposed fully) and 800 machines through half the bin: 200 / 600.
    assert usual[0] == pytest.approx(1 / 3, rel=0.01)
    assert ((usual > 0) & (usual < 1)).all()


def test_usual_hazard_without_any_row_is_still_a_number() -> None:
    usual = usual_hazard(EDGES, [], [])
    assert ((usual > 0) & (usual < 1)).all()


def test_sigmoid_does_not_overflow() -> None:
    np.testing.assert_array_equal(sigmoid([-1e4, 0.0, 1e4]), [0.0, 0.5, 1.0])


@given(hazards, st.floats(0.5, 120), st.floats(0.5, 120))
def test_risk_never_falls_with_the_horizon(hazard: np.ndarray, first: float, second: float) -> None:
    near, far = sorted((first, second))
    assert probability_within(hazard, EDGES, near)[0] <= probability_within(hazard, EDGES, far)[0] + 1e-12


@given(hazards, st.floats(0.01, 0.99))
def test_quantile_and_probability_undo_each_other(hazard: np.ndarray, q: float) -> None:
    found = quantiles(hazard, EDGES, (q,))[0, 0]
    if np.isinf(found):
        assert probability_within(hazard, EDGES, EDGES[-1])[0] <= q + 1e-9
    else:
        assert probability_within(hazard, EDGES, found)[0] == pytest.approx(q, abs=1e-9)


@given(hazards)
def test_quantiles_are_ordered(hazard: np.ndarray) -> None:
    p10, p50, p90 = quantiles(hazard, EDGES)[0]
    assert p10 <= p50 <= p90


@given(hazards, st.floats(1, 100))
def test_restricted_mean_is_the_area_under_survival(hazard: np.ndarray, cap: float) -> None:
    grid = np.linspace(0, cap, 4001)
    curve = survival_at(np.repeat(hazard, len(grid), axis=0), EDGES, grid)
    assert restricted_mean(hazard, EDGES, cap)[0] == pytest.approx(np.trapezoid(curve, grid), rel=1e-3)

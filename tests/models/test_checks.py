"""Findings as numbers: conversions by hand, levels that a conversion explains, and those that none does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checks import USUAL, changes, explain, lasting_limit_us, unusual
from models.units import conversion

TEMPERATURES = changes("temperature", "degC")
HOUR_US = 3_600_000_000


def levels(*rows):
    return np.array(rows, float)


def test_celsius_read_as_fahrenheit_is_nine_fifths_and_32():
    change = next(c for c in TEMPERATURES if c.text == "degC had become degF")
    assert (change.factor, change.offset) == pytest.approx((1.8, 32.0))
    back = next(c for c in TEMPERATURES if c.text == "degF had become degC")
    assert back.factor * 104 + back.offset == pytest.approx(40.0)


def test_a_fahrenheit_sensor_that_writes_celsius_shows_values_near_freezing():
    """The file writes 40 for 40 degC, and the description reads it as degF: 4.44 degC."""
    change = next(c for c in changes("temperature", "degF") if c.text == "degF had become degC")
    assert 40 * change.factor + change.offset == pytest.approx((40 - 32) / 1.8)


def test_bar_read_as_psi_is_a_factor_of_14_5():
    change = next(c for c in changes("pressure", "bar") if c.text == "bar had become psi")
    assert (change.factor, change.offset) == pytest.approx((14.5038, 0.0), rel=1e-4)


def test_decimal_points_are_looked_for_whatever_is_measured():
    assert {c.factor for c in changes("number", "1")} == {10, 100, 1000, 0.1, 0.01, 0.001}


@pytest.mark.parametrize(("kind", "unit"), [(kind, unit) for kind in USUAL for unit in USUAL[kind][:1]])
def test_every_change_is_what_the_units_say(kind, unit):
    own = conversion(unit, kind)
    for change in changes(kind, unit):
        if change.text.startswith(f"{unit} had become"):
            said = change.text.removeprefix(f"{unit} had become ")
            name = "1" if said == "a share of 1" else next(u for u in USUAL[kind] if u.replace("^", "") == said)
            other = conversion(name, kind)
            true = 37.0
            assert true * change.factor + change.offset == pytest.approx(
                (true - other.offset) / other.factor * own.factor + own.offset, rel=1e-6
            )
        assert change.offset or abs(np.log(change.factor)) > np.log(1.19)


def test_a_level_far_from_all_before_it_is_unusual_and_one_like_any_of_them_is_not():
    series = levels([36, 38, 41], [56, 58, 61], [97, 101, 105], [36, 39, 41])[None]
    assert unusual(series, np.ones((1, 4), bool)).tolist() == [[False, True, True, False]]


def test_a_slice_with_too_few_values_says_nothing():
    series = levels([36, 38, 41], [97, 101, 105])[None]
    assert not unusual(series, np.array([[True, False]])).any()
    assert not unusual(series, np.array([[False, True]])).any()


def test_the_first_level_is_never_unusual():
    assert not unusual(levels([1, 2, 3])[None], np.ones((1, 1), bool)).any()


def test_fahrenheit_explains_97_to_105_after_36_to_41():
    found = explain(levels([97, 100.5, 105])[0], levels([36, 38, 41], [36, 38, 40.5]), TEMPERATURES)
    assert found is not None
    assert found.change.text == "degC had become degF"
    assert found.before == (36.0, 40.75)


@pytest.mark.parametrize("level", [[60, 63, 66], [97, 100, 140], [300, 301, 306], [0, 0, 0]])
def test_no_conversion_explains_another_load_a_mixture_or_a_standstill(level):
    assert explain(levels(level)[0], levels([36, 38, 41], [36, 38, 41]), TEMPERATURES) is None


@given(st.floats(0.5, 500), st.floats(0.02, 0.3), st.sampled_from([10.0, 100.0, 1000.0, 0.1, 0.01, 0.001]))
def test_every_moved_decimal_point_is_found_and_named(level, spread, factor):
    before = level * np.array([1 - spread, 1, 1 + spread])
    found = explain(before * factor, np.tile(before, (4, 1)), changes("number", "1"))
    assert found is not None
    assert found.change.factor == pytest.approx(factor)


@given(st.floats(0.5, 500), st.floats(0.02, 0.3), st.floats(0.65, 1.6))
def test_no_change_of_load_is_a_moved_decimal_point(level, spread, factor):
    before = level * np.array([1 - spread, 1, 1 + spread])
    assert explain(before * factor, np.tile(before, (4, 1)), changes("number", "1")) is None


def test_stuck_is_four_times_the_usual_and_a_day_at_least():
    usual = np.array([2, 10, 12]) * HOUR_US
    assert lasting_limit_us(usual, np.zeros(3), stuck_h=None) == 40 * HOUR_US
    assert lasting_limit_us(usual // 10, np.zeros(3), stuck_h=None) == 24 * HOUR_US


def test_what_the_description_says_about_stuck_counts():
    assert lasting_limit_us(np.array([10 * HOUR_US]), np.ones(1), stuck_h=6) == 6 * HOUR_US


def test_a_sensor_that_repeats_itself_by_nature_is_never_stuck():
    assert lasting_limit_us(np.array([HOUR_US]), np.array([0.6]), stuck_h=None) == float("inf")

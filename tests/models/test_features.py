"""Features of a window: exact by hand, blind to missing values, the same alone as among many."""

from __future__ import annotations

import time

import numpy as np
import pytest

from models.features import CHUNK, feature_names, features


def named(windows: np.ndarray, row: int = 0) -> dict[str, float]:
    names = feature_names([f"c{i}" for i in range(windows.shape[2])])
    return dict(zip(names, features(windows)[row].tolist(), strict=True))


def test_statistics_of_a_ramp_by_hand() -> None:
    window = np.arange(8, dtype=np.float32).reshape(1, 8, 1) * 2 + 1
    found = named(window)
    assert found["c0.last"] == 15
    assert found["c0.mean"] == 8
    assert found["c0.slope"] == pytest.approx(2)
    assert (found["c0.min"], found["c0.max"], found["c0.missing"]) == (1, 15, 0)
    assert found["c0.std"] == pytest.approx(float(window.std()), rel=1e-6)
    assert (found["c0.recent_mean"], found["c0.recent_slope"]) == (14, 2)


def test_missing_values_are_left_out_of_every_statistic() -> None:
    window = np.array([1, np.nan, 5, np.nan, 9, np.nan, np.nan, np.nan], np.float32).reshape(1, 8, 1)
    found = named(window)
    assert (found["c0.last"], found["c0.mean"], found["c0.missing"]) == (9, 5, 0.625)
    assert found["c0.slope"] == pytest.approx(2)
    assert np.isnan(found["c0.recent_mean"])


def test_a_channel_without_values_gives_nan_and_says_that_all_is_missing() -> None:
    found = named(np.full((1, 8, 1), np.nan, np.float32))
    assert found.pop("c0.missing") == 1
    assert np.isnan(list(found.values())).all()


def test_one_value_has_no_slope_and_no_spread() -> None:
    window = np.full((1, 8, 1), np.nan, np.float32)
    window[0, 3, 0] = 7
    found = named(window)
    assert (found["c0.last"], found["c0.slope"], found["c0.std"]) == (7, 0, 0)


def test_large_steady_values_keep_their_small_spread() -> None:
    window = (1e6 + np.array([0, 1] * 8, np.float32)).reshape(1, 16, 1).astype(np.float32)
    assert named(window)["c0.std"] == pytest.approx(0.5, rel=1e-3)


def test_a_window_has_the_same_features_alone_as_among_many() -> None:
    windows = np.random.default_rng(0).normal(size=(CHUNK + 5, 8, 2)).astype(np.float32)
    np.testing.assert_array_equal(features(windows)[CHUNK + 3], features(windows[CHUNK + 3 : CHUNK + 4])[0])


def test_no_windows_give_no_rows_of_the_right_width() -> None:
    assert features(np.empty((0, 8, 3), np.float32)).shape == (0, len(feature_names("abc")))


def test_ten_thousand_windows_of_eight_channels_take_less_than_two_seconds() -> None:
    windows = np.random.default_rng(0).normal(size=(10_000, 64, 8)).astype(np.float32)
    began = time.perf_counter()
    features(windows)
    assert time.perf_counter() - began < 2  # 0.4 s when nothing else runs

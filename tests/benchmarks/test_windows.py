"""How fast windows are made, against named peers in the same run; prints a table, `make bench` runs it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from models.config import Clock, WindowConfig
from models.windows import MachineEvents, grid, series_of, windows_ending

pytestmark = pytest.mark.slow
ROUNDS = 7
HOUR = 3_600_000_000


def seconds(function: Callable[[], object]) -> float:
    """Median of several runs, after one that warms up."""
    function()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def test_cutting_windows_is_as_fast_as_numpy_copies_them() -> None:
    """Peer: one thread of NumPy, a sliding view copied batch by batch, which is the fastest known way."""
    values = np.random.default_rng(0).normal(size=(20_000, 24)).astype(np.float32)
    ends = np.arange(63, 20_000)

    def numpy_alone() -> None:
        views = np.lib.stride_tricks.sliding_window_view(values, 64, axis=0)
        for start in range(0, len(views), 1024):
            np.ascontiguousarray(views[start : start + 1024].transpose(0, 2, 1))

    def ours() -> None:
        for start in range(0, len(ends), 1024):
            windows_ending(values, ends[start : start + 1024], 64)

    peer, own = seconds(numpy_alone), seconds(ours)
    print(f"\nwindows 64x24: numpy {len(ends) / peer:,.0f}/s, ours {len(ends) / own:,.0f}/s, ratio {peer / own:.2f}")
    assert peer / own > 0.5


def test_gridding_is_faster_than_pandas_resamples() -> None:
    """Peer: pandas' resample().mean() with the same closed end, the way most people put readings on a grid."""
    rng = np.random.default_rng(0)
    times = np.unique(rng.integers(0, 4000 * HOUR, 100_000))
    values = rng.normal(size=(len(times), 8)).astype(np.float32)
    frame = pd.DataFrame(values, index=pd.to_datetime(times, unit="us", utc=True))

    def pandas_alone() -> pd.DataFrame:
        return frame.resample("1h", closed="right", label="right").mean()

    peer, own = seconds(pandas_alone), seconds(lambda: grid(times, values, Clock()))
    np.testing.assert_allclose(grid(times, values, Clock())[1], pandas_alone().to_numpy(), rtol=1e-5, atol=1e-6)
    print(f"\ngrid 100,000 x 8 to 1 h: pandas {peer * 1e3:.1f} ms, ours {own * 1e3:.1f} ms, ratio {peer / own:.2f}")
    assert peer / own > 0.8


def test_a_series_costs_little_more_than_its_grid() -> None:
    """Peer: our own grid alone; what is left is carry-forward and context."""
    rng = np.random.default_rng(0)
    times = np.unique(rng.integers(0, 4000 * HOUR, 100_000))
    values = rng.normal(size=(len(times), 8)).astype(np.float32)
    events = MachineEvents(0, *(np.sort(rng.integers(0, 4000 * HOUR, 20)) for _ in range(3)))
    alone = seconds(lambda: grid(times, values, Clock()))
    whole = seconds(lambda: series_of("m", times, values, events, clock=Clock(), window=WindowConfig()))
    print(f"\nseries of 100,000 rows: grid {alone * 1e3:.1f} ms, whole {whole * 1e3:.1f} ms, ratio {alone / whole:.2f}")
    assert alone / whole > 0.4

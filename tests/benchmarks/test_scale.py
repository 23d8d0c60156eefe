"""Windows, batch scoring and ten times the history, each as a ratio in one run; prints tables, `make bench` runs it.

Peers: NumPy cutting the same windows from an array in memory, on one thread; ONNX Runtime alone on windows in memory,
on as many cores; the same step over a tenth of the history.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.commit import write_part
from cluster.home import Home, open_home
from cluster.manifest import Unit
from cluster.registry import standing_champion
from cluster.report import Silent
from cluster.storage import TIME
from jobs import connect, ingest, promote, simulate, train
from jobs.series.cache import num_channels_of, store
from jobs.series.stream import Shape, stream
from models.bundle import load_bundle
from models.config import Clock, WindowConfig
from models.windows import windows_ending
from tests.benchmarks.children import child

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("MILLWRIGHT_BENCH_ROUNDS", "3"))
PLANT, CORES = "harbor", 2
HOUR, SENSORS, MACHINES, MONTHS = 3_600_000_000, 24, 100, 6
SMALL, LARGE = 40, 400  # machines: a tenth of the history, and all of it
SINCE = "2025-01-01T00:00Z"  # all of it: a tenth of less would keep one worker busy, and each holds torch


def rate(function: Callable[[], int]) -> float:
    function()
    found = []
    for _ in range(2 * ROUNDS + 1):
        began = time.perf_counter()
        found.append(function() / (time.perf_counter() - began))
    return statistics.median(found)


def test_windows_of_a_history_are_cut_as_fast_as_numpy_cuts_an_array(tmp_path: Path) -> None:
    """64 x 24 and context, hourly readings of 100 machines; files from the page cache, one core."""
    names, rng, files = [f"s{i:02d}" for i in range(SENSORS)], np.random.default_rng(0), []
    for month in range(MONTHS):
        times = (np.arange(720) + 720 * month + 400_000) * HOUR
        count = MACHINES * 720
        walk = np.round(rng.normal(size=(count, SENSORS)).cumsum(axis=0) * 0.01 + 50, 2).astype(np.float32)
        table = pa.table(
            {"machine": np.repeat([f"M-{m:03d}" for m in range(MACHINES)], 720),
             "time": pa.array(np.tile(times, MACHINES)).cast(TIME),
             **{name: pa.array(walk[:, i]) for i, name in enumerate(names)}}
        )  # fmt: skip
        files.append(str(tmp_path / write_part(tmp_path, table, stem=f"{month}").path))
    shape = Shape(tuple(names), Clock(), WindowConfig())
    unit = Unit("pump", None, None, None, None, tuple(files), 0)
    kept = store(tmp_path / "cache", "unit", stream(unit, shape, {}), num_channels=num_channels_of(shape))
    array = rng.normal(size=(43_200, SENSORS + 2)).astype(np.float32)

    def numpy_alone() -> int:
        views, done = np.lib.stride_tricks.sliding_window_view(array, 64, axis=0), 0
        for start in range(0, len(views), 1024):
            done += len(np.ascontiguousarray(views[start : start + 1024].transpose(0, 2, 1)))
        return done

    def cut(values: Any, lead: int) -> int:
        ends = np.arange(lead, len(values))
        return sum(len(windows_ending(values, ends[at : at + 1024], 64)) for at in range(0, len(ends), 1024))

    def first_reading() -> int:
        return sum(cut(s.values, s.lead) for s in stream(unit, shape, {}))

    def later_reading() -> int:
        values = kept.values()
        return sum(cut(values[c.row : c.row + c.num_ticks], c.lead) for c in kept.chunks)

    peer, first, later = rate(numpy_alone), rate(first_reading), rate(later_reading)
    print(f"\nwindows 64 x 24: numpy {peer:,.0f}/s, out of the cache {later:,.0f}/s ({later / peer:.2f}), "
          f"out of Parquet {first:,.0f}/s ({first / peer:.2f})")  # fmt: skip
    assert later / peer >= 0.6
    assert first / peer >= 0.15


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Home]:
    """A year of a tenth of the machines and of all of them, each with the same network of the default size."""
    from cluster.session import ray_session

    folder, found = tmp_path_factory.mktemp("scale"), {}
    for machines in (SMALL, LARGE):
        assignments = ["model.network.epochs=1", "model.trees.rounds=2"]
        home = open_home(folder / f"home-{machines}", create=True, environment={}, assignments=assignments)
        raw = folder / f"raw-{machines}"
        simulate.run(home, out=raw, progress=Silent(), machines=machines, days=365, plants=[PLANT])
        connect.run(home, path=raw / PLANT, plant=PLANT, progress=Silent())
        with ray_session(home):
            ingest.run(home, progress=Silent())
            train.run(home, progress=Silent())
            network = next(home.of(PLANT).bundles.glob("network-*"))
            promote.run(home, progress=Silent(), plant=PLANT, version=network.name, force=True, reason="measured here")
        found[machines] = home
    return found


def test_batch_scoring_keeps_up_with_onnx_runtime_alone(homes: dict[int, Home], tmp_path: Path) -> None:
    """The verb on two cores (Ray's start not counted) against two processes of ONNX Runtime, one thread each."""
    home = homes[LARGE]
    bundle = load_bundle(standing_champion(home, PLANT).path)
    shape = (20_000, bundle.spec.config.window.length, len(bundle.spec.channels))
    np.save(tmp_path / "windows.npy", np.random.default_rng(0).normal(50, 5, shape).astype(np.float32))
    ours, peers = [], []
    for _ in range(ROUNDS):
        found, _ = child("scale_ours.py", home.path, "score", SINCE, mapped=False)
        ours.append(found["done"] / found["seconds"])
        started = [
            subprocess.Popen(
                [sys.executable, str(HERE / "scale_peer.py"), str(bundle.folder), str(tmp_path / "windows.npy")],
                stdout=subprocess.PIPE, text=True,
            )
            for _ in range(CORES)
        ]  # fmt: skip
        peers.append(sum(json.loads(process.communicate()[0])["rate"] for process in started))
    own, peer = statistics.median(ours), statistics.median(peers)
    print(f"\nbatch scoring of {found['done']:,} windows: onnxruntime alone {peer:,.0f}/s, ours {own:,.0f}/s, "
          f"ratio {own / peer:.2f}")  # fmt: skip
    assert own / peer >= 0.7


@pytest.mark.parametrize("what", ["grid", "score"])
def test_ten_times_the_history_takes_ten_times_as_long(homes: dict[int, Home], what: str) -> None:
    seconds: dict[int, list[float]] = {machines: [] for machines in homes}
    memory: dict[int, list[float]] = {machines: [] for machines in homes}
    for _ in range(ROUNDS):
        for machines, home in homes.items():
            found, most = child("scale_ours.py", home.path, what, SINCE, mapped=False)
            seconds[machines].append(found["seconds"])
            memory[machines].append(most)
    time_ratio = statistics.median(seconds[LARGE]) / statistics.median(seconds[SMALL])
    memory_ratio = statistics.median(memory[LARGE]) / statistics.median(memory[SMALL])
    print(f"\n{what}: {statistics.median(seconds[SMALL]):.1f} s and {statistics.median(seconds[LARGE]):.1f} s, "
          f"{time_ratio:.2f} times; memory {statistics.median(memory[SMALL]):,.0f} and "
          f"{statistics.median(memory[LARGE]):,.0f} MiB, {memory_ratio:.2f} times")  # fmt: skip
    assert time_ratio <= 10.5
    assert memory_ratio <= 1.15

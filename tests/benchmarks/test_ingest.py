"""Ingest against DuckDB and Polars in one run, on two cores against one, and with ten times the data.

Prints its tables; `make bench` runs it. Every process that is timed is a child of its own, and times
are medians. Peers write the same rows (see `ingest_peers`) and keep nothing of what was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.home import open_home
from cluster.report import Silent
from jobs import connect, simulate
from models.quality import scale_of
from tests.benchmarks.children import child

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
PLANTS = ("harbor", "ridge", "summit")  # CSV, JSON lines (gzip), Parquet
PEERS = ("duckdb", "polars")
ROUNDS = int(os.environ.get("MILLWRIGHT_BENCH_ROUNDS", "3"))
LARGE, SMALL = 640, 64  # machines a plant


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("fleet")
    home = open_home(folder / "home", create=True, environment={})
    for machines in (SMALL, LARGE):
        simulate.run(home, out=folder / str(machines), progress=Silent(), machines=machines, days=365)
    return {machines: folder / str(machines) for machines in (SMALL, LARGE)}


def ours(raw: Path, folder: Path, *, cpus: int = 2) -> tuple[dict[str, Any], float]:
    shutil.rmtree(folder, ignore_errors=True)
    home = open_home(folder, create=True, environment={})
    for plant in PLANTS:
        connect.run(home, path=raw / plant, plant=plant, progress=Silent())
    return child("ingest_ours.py", folder, cpus)


def peer(name: str, plant: str, raw: Path, described: Path, folder: Path) -> dict[str, Any]:
    """``described``: a home in which the plant is connected: names, units and ranges are taken from there."""
    shutil.rmtree(folder, ignore_errors=True)
    sensors = []
    for stream in open_home(described, environment={}).source(plant).streams:
        if stream.role == "readings":
            for column, sensor in stream.sensors.items():
                scale = scale_of(sensor)
                sensors.append(
                    {"raw": column, "sensor": sensor.sensor, "factor": scale.factor, "offset": scale.offset,
                     "low": scale.low, "high": scale.high}
                )  # fmt: skip
    description = folder.with_suffix(".json")
    description.write_text(json.dumps({"plant": plant, "raw": str(raw / plant), "sensors": sensors}))
    found: dict[str, Any] = child("ingest_peers.py", name, description, folder, 2)[0]
    return found


def test_ingest_keeps_up_with_duckdb_and_polars(raw: dict[int, Path], tmp_path: Path) -> None:
    """Peers: DuckDB and Polars on two threads, the same files to the same sorted, partitioned zstd Parquet."""
    files = [path for plant in PLANTS for path in (raw[LARGE] / plant / "readings").iterdir()]
    size = sum(path.stat().st_size for path in files)
    assert size >= 1e9
    times: dict[str, dict[str, list[float]]] = {name: {p: [] for p in PLANTS} for name in ("ours", *PEERS)}
    rows: dict[str, int] = {}
    for _ in range(ROUNDS):
        found, _ = ours(raw[LARGE], tmp_path / "home")
        for plant in PLANTS:
            times["ours"][plant].append(found[plant]["seconds"])
            rows[plant] = found[plant]["rows"]
            for name in PEERS:
                theirs = peer(name, plant, raw[LARGE], tmp_path / "home", tmp_path / "peer")
                assert theirs["rows"] == pytest.approx(rows[plant], rel=2e-3)  # a doubled hour, impossible values
                times[name][plant].append(theirs["seconds"])
    median = {name: {p: statistics.median(found) for p, found in own.items()} for name, own in times.items()}
    total = {name: sum(own.values()) for name, own in median.items()}
    print(f"\ningest of {size / 1e9:.2f} GB, {sum(rows.values()):,} rows, two cores, median of {ROUNDS}")
    for plant in PLANTS:
        each = ", ".join(f"{name} {rows[plant] / median[name][plant]:,.0f}/s" for name in median)
        ratios = ", ".join(f"{median[name][plant] / median['ours'][plant]:.2f} of {name}" for name in PEERS)
        print(f"  {plant:7} {each}: {ratios}")
    whole = ", ".join(f"{total[name] / total['ours']:.2f} of {name} ({total[name]:.1f} s)" for name in total)
    print(f"  all     {whole}")
    for name in PEERS:
        assert total[name] / total["ours"] >= 0.8
        for plant in PLANTS:
            assert median[name][plant] / median["ours"][plant] >= 0.5


def test_two_cores_and_ten_times_the_data(raw: dict[int, Path], tmp_path: Path) -> None:
    """Peers: the same ingest on one core, and of a tenth of the data on two."""
    seconds: dict[str, list[float]] = {"a tenth": [], "all": [], "all, one core": []}
    memory: dict[str, list[float]] = {name: [] for name in seconds}
    for _ in range(ROUNDS):
        for name, machines, cpus in (("a tenth", SMALL, 2), ("all", LARGE, 2), ("all, one core", LARGE, 1)):
            found, most = ours(raw[machines], tmp_path / "home", cpus=cpus)
            seconds[name].append(sum(own["seconds"] for own in found.values()))
            memory[name].append(most)
            time.sleep(1)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    peak = {name: statistics.median(found) for name, found in memory.items()}
    speedup, growth = median["all, one core"] / median["all"], median["all"] / median["a tenth"]
    swell = peak["all"] / peak["a tenth"]
    print(f"\ningest: {', '.join(f'{name} {found:.1f} s' for name, found in median.items())}")
    print(f"  two cores against one {speedup:.2f}, ten times the data {growth:.2f} times the time")
    print(f"  memory {peak['a tenth']:,.0f} and {peak['all']:,.0f} MiB, {swell:.2f} times")
    assert speedup >= 1.7
    assert growth <= 10.5
    assert swell <= 1.15

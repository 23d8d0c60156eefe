"""How history's files should be written: row groups, file sizes, compression and encodings, measured by reading units.

Every figure is the median CPU time of rounds that take all variants in turn: a busy machine is busy for each of them.
Prints its tables; `make bench` runs it. The choice is in `cluster/commit.py`, its reason in `docs/decisions.md`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.commit import PARQUET, ROW_GROUP, write_part
from cluster.manifest import Unit
from cluster.storage import TIME
from jobs.series.stream import Shape, stream
from models.config import Clock, WindowConfig

pytestmark = pytest.mark.slow
ROUNDS = int(os.environ.get("MILLWRIGHT_BENCH_ROUNDS", "5"))
SENSORS = tuple(f"s{number:02d}" for number in range(24))
HOUR, SECOND = 3_600_000_000, 1_000_000
START_US = 1_735_689_600_000_000  # 2025-01-01
ROW_GROUPS = (16_384, 32_768, 65_536, 131_072, 262_144)


def readings(machines: int, rows: int, step_us: int) -> pa.Table:
    """A level, a day's swing, slow drift and noise, in steps of a sensor's resolution; one cell in fifty is empty.

    Half of the sensors resolve a thousandth of their range (most transmitters), the other half store all of a float.
    """
    rng = np.random.default_rng(0)
    times = START_US + np.arange(rows, dtype=np.int64) * step_us
    columns: dict[str, pa.Array] = {}
    for number, name in enumerate(SENSORS):
        level = rng.uniform(20, 80, (machines, 1))
        drift = np.cumsum(rng.normal(0, 0.02, (machines, rows)), axis=1)
        swing = 3 * np.sin(2 * np.pi * times / (24 * HOUR) + number)
        values = (level + drift + swing + rng.normal(0, 0.3, (machines, rows))).astype(np.float32).ravel()
        values = np.round(values, 1) if number % 2 else values
        columns[name] = pa.array(values, mask=rng.random(len(values)) < 0.02)
    names = pa.array([f"M-{number:05d}" for number in range(machines)])
    return pa.table(
        {
            "machine": names.take(pa.array(np.repeat(np.arange(machines), rows))),
            "time": pa.array(np.tile(times, machines)).cast(TIME), **columns,
            "ingested_at": pa.array(np.full(machines * rows, START_US)).cast(TIME),
            "source_id": pa.array(["000001-0123456789ab"]).take(pa.array(np.zeros(machines * rows, np.int64))),
        }
    )  # fmt: skip


PLANTS: dict[str, tuple[pa.Table, Clock]] = {}


def plant(name: str) -> tuple[pa.Table, Clock]:
    """500 machines an hour for six weeks and one machine a second for six days: half a million rows each."""
    if name not in PLANTS:
        PLANTS[name] = (
            (readings(500, 1_000, HOUR), Clock())
            if name == "hourly"
            else (readings(1, 500_000, SECOND), Clock(step_s=60))
        )
    return PLANTS[name]


def write(table: pa.Table, folder: Path, *, files: int = 1, **options: Any) -> tuple[str, ...]:
    """The table in so many files of equal rows, written as `write_part` writes but for ``options``."""
    folder.mkdir()
    settings = dict(PARQUET) | {"row_group_size": ROW_GROUP, "use_dictionary": ["machine", "source_id"]} | options
    if settings.pop("split", False):
        settings["use_byte_stream_split"] = list(SENSORS)
    bounds = np.linspace(0, table.num_rows, files + 1).astype(int)
    paths = []
    for number in range(files):
        paths.append(str(folder / f"{number}.parquet"))
        own = table.slice(bounds[number], bounds[number + 1] - bounds[number])
        pq.write_table(own, paths[-1], write_statistics=["machine", "time"], **settings)
    return tuple(paths)


def read(paths: tuple[str, ...], name: str, part: str) -> int:
    """Ticks of a unit of everything or of a tenth: of the machines, or of the time where there is one machine."""
    table, clock = plant(name)
    low, high, since, until = None, None, None, None
    if part == "tenth" and name == "hourly":
        low, high = "M-00200", "M-00250"
    elif part == "tenth":
        first, span = START_US // clock.step_us, table.num_rows * SECOND // clock.step_us
        since, until = first + span * 4 // 10, first + span * 5 // 10
    unit = Unit("pump", low, high, since, until, paths, 0)
    return sum(len(series.values) for series in stream(unit, Shape(SENSORS, clock, WindowConfig()), {}))


def seconds(tasks: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds of each, every round in another order."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for name in rng.permutation(list(tasks)).tolist():
            began = time.process_time()
            tasks[name]()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(found) for name, found in times.items()}


def compare(variants: Mapping[str, dict[str, Any]], folder: Path, name: str) -> dict[str, tuple[float, float, float]]:
    """Bytes a row, and seconds of reading everything and a tenth; prints a line a variant."""
    table, _ = plant(name)
    files = {v: write(table, folder / f"{name}-{n}", **o) for n, (v, o) in enumerate(variants.items())}
    whole = seconds({v: lambda paths=paths: read(paths, name, "whole") for v, paths in files.items()})
    tenth = seconds({v: lambda paths=paths: read(paths, name, "tenth") for v, paths in files.items()})
    found = {}
    for variant, paths in files.items():
        size = sum(Path(path).stat().st_size for path in paths) / table.num_rows
        found[variant] = (size, whole[variant], tenth[variant])
        speed = table.num_rows / whole[variant] / 1e6
        print(
            f"{name:>7} {variant:>22}: {size:6.1f} B a row, whole {whole[variant]:6.3f} s ({speed:.2f} M rows/s), "
            f"a tenth {tenth[variant]:6.3f} s"
        )
    return found


@pytest.mark.parametrize("name", ["hourly", "second"])
def test_a_tenth_of_a_file_costs_less_than_half_of_all_of_it(name: str, tmp_path: Path) -> None:
    print()
    found = compare({f"groups of {rows:,}": {"row_group_size": rows} for rows in ROW_GROUPS}, tmp_path, name)
    _, whole, tenth = found[f"groups of {ROW_GROUP:,}"]
    assert tenth < whole / 2
    assert whole < 1.5 * min(entry[1] for entry in found.values())


@pytest.mark.parametrize("name", ["hourly", "second"])
def test_fewer_files_are_read_as_fast_as_many(name: str, tmp_path: Path) -> None:
    print()
    found = compare({f"{files} files": {"files": files} for files in (1, 4, 16, 64)}, tmp_path, name)
    assert found["1 files"][1] < 1.3 * found["64 files"][1]


@pytest.mark.parametrize("name", ["hourly", "second"])
def test_the_compression_that_is_written_is_no_larger_than_what_it_was_chosen_over(name: str, tmp_path: Path) -> None:
    print()
    plain = {"compression_level": None, "use_byte_stream_split": False}
    variants = {
        "zstd 1": plain | {"compression": "zstd", "compression_level": 1},
        "zstd 3": plain | {"compression": "zstd", "compression_level": 3},
        "lz4": plain | {"compression": "lz4"},
        "zstd 1, split": plain | {"compression": "zstd", "compression_level": 1, "split": True},
        "zstd 3, split": plain | {"compression": "zstd", "compression_level": 3, "split": True},
        "zstd 1, dictionary": plain | {"compression": "zstd", "compression_level": 1, "use_dictionary": True},
        "lz4, split": plain | {"compression": "lz4", "split": True},
    }
    table, _ = plant(name)
    cost = seconds({v: lambda o=o, v=v: _rewrite(table, tmp_path / v, o) for v, o in variants.items()})
    found = compare(variants, tmp_path, name)
    print("   to write:", ", ".join(f"{v} {cost[v]:.2f} s" for v in variants))
    written = write_part(tmp_path, table, stem="ours").size / table.num_rows
    print(f"   write_part: {written:.1f} B a row")
    assert written <= found["lz4"][0]


def _rewrite(table: pa.Table, folder: Path, options: dict[str, Any]) -> None:
    for path in write(table, folder, **options):
        Path(path).unlink()
    folder.rmdir()

"""Training reads more than it may hold, and learns the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.series.cache import IN_USE_S, StoredUnit, prune, store, stored
from jobs.series.sequences import StoredSequence, StoredSequences, store_labels
from models.features import Sequence
from models.windows import Series

ROOT = Path(__file__).parents[2]
WIDTH, LEAD, MIB = 26, 15, 1 << 20


def unit_of(folder: Path, number: int, *, machines: int, ticks: int) -> StoredUnit:
    rng = np.random.default_rng(number)

    def series() -> Any:
        for m in range(machines):
            values = rng.normal(size=(LEAD + ticks, WIDTH)).astype(np.float32)
            yield Series(f"M-{number:02d}-{m:02d}", 400_000, LEAD, values)

    return store(folder, f"unit-{number}", series(), num_channels=WIDTH)


def places_of(folder: Path, *, units: int, machines: int, ticks: int) -> list[dict[str, Any]]:
    """Histories on disk whose machines fail at their end."""
    places = []
    left = np.r_[np.arange(LEAD + ticks, 0, -1)].astype(np.float32)
    for number in range(units):
        unit = unit_of(folder, number, machines=machines, ticks=ticks)
        usable = np.arange(LEAD + ticks) >= LEAD
        found = [
            (chunk.row, Sequence(chunk.machine, unit.values()[chunk.row : chunk.row + chunk.num_ticks],
                                 left, np.ones(LEAD + ticks, bool), usable, chunk.first_tick))
            for chunk in unit.chunks
        ]  # fmt: skip
        places += [asdict(place) for place in store_labels(unit, found)]
    return places


def fit(places: list[dict[str, Any]], folder: Path, *, limit: int, how: str) -> subprocess.CompletedProcess[str]:
    path = folder / "places.json"
    path.write_text(json.dumps(places))
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("limited_fit.py")), str(path), str(limit), how],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"}, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_history_larger_than_memory_trains_to_the_same_losses_as_in_memory(tmp_path: Path) -> None:
    """720 MiB of history within 300 MiB of the process's own memory; held in memory it does not fit."""
    places = places_of(tmp_path, units=12, machines=10, ticks=60_000)
    size = sum(path.stat().st_size for path in tmp_path.glob("*.f32"))
    assert size > 700 * MIB
    limited = fit(places, tmp_path, limit=300 * MIB, how="disk")
    assert limited.returncode == 0, limited.stderr[-2000:]
    assert fit(places, tmp_path, limit=300 * MIB, how="memory").returncode != 0
    free = fit(places, tmp_path, limit=0, how="memory")
    assert json.loads(limited.stdout) == json.loads(free.stdout)  # to the last bit
    assert len(json.loads(free.stdout)) == 2


def test_what_is_stored_twice_is_written_once_and_found_whole(tmp_path: Path) -> None:
    unit = unit_of(tmp_path, 1, machines=2, ticks=50)
    assert stored(tmp_path, "unit-1") == unit and unit.size_bytes == 2 * 65 * WIDTH * 4
    assert [c.machine for c in unit.chunks] == ["M-01-00", "M-01-01"]
    path = Path(unit.path)
    path.write_bytes(path.read_bytes()[:-1])  # cut short, by a full disk say
    assert stored(tmp_path, "unit-1") is None
    (tmp_path / "unit-1.json").write_text("{")
    assert stored(tmp_path, "unit-1") is None and stored(tmp_path, "unit-2") is None


def test_labels_are_named_by_what_is_in_them(tmp_path: Path) -> None:
    places_of(tmp_path, units=1, machines=1, ticks=20)
    places_of(tmp_path, units=1, machines=1, ticks=20)
    assert len(list(tmp_path.glob("*.labels"))) == 1
    places_of(tmp_path, units=1, machines=1, ticks=21)
    assert len(list(tmp_path.glob("*.labels"))) == 2


def test_the_cache_drops_what_was_used_least_and_never_what_is_in_use(tmp_path: Path) -> None:
    for number in range(4):
        unit_of(tmp_path, number, machines=1, ticks=100)
        old = 1_000_000 + number
        for path in tmp_path.glob(f"unit-{number}*"):
            os.utime(path, (old, old))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert prune(tmp_path, most_bytes=size, now_s=2_000_000) == 0
    assert prune(tmp_path, most_bytes=size // 2, now_s=1_000_000 + IN_USE_S - 1) == 0  # used within a day
    assert prune(tmp_path, most_bytes=size // 2, now_s=2_000_000) >= size // 2 - 1000
    assert stored(tmp_path, "unit-3") is not None and stored(tmp_path, "unit-0") is None


def test_pruning_beside_a_writer_harms_neither(tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            store(tmp_path, "unit", [Series("m", 0, LEAD, np.zeros((20, WIDTH), np.float32))], num_channels=WIDTH)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert [prune(tmp_path, most_bytes=1 << 30) for _ in range(300)] == [0] * 300
    finally:
        done.set()
        writer.join()
    assert stored(tmp_path, "unit") is not None


def test_what_a_trial_maps_counts_as_in_use(tmp_path: Path) -> None:
    places = places_of(tmp_path, units=1, machines=1, ticks=100)
    for path in tmp_path.iterdir():
        os.utime(path, (1_000_000, 1_000_000))
    StoredSequences(tuple(StoredSequence(**place) for place in places))[0]
    prune(tmp_path, most_bytes=1)
    assert {path.suffix for path in tmp_path.iterdir()} >= {".f32", ".labels"}

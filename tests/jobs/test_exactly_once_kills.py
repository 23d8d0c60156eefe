"""`kill -9` of workers, of the driver, of everything, while `millwright ingest` runs over Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil
import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.ingest import run
from tests.jobs.once_checker import State, check_every_version, state
from tests.jobs.once_plants import PLANT, WIDE, RawFile, connect, hostile, put

ROOT = Path(__file__).parents[2]
LONGEST_S = 240
ROWS = 30_000


def start(home: Home) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cluster.cli", "ingest", "--home", str(home.path), "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def begun(home: Home, process: subprocess.Popen[str], plans: int) -> bool:
    """Wait until the run has its plan, so that a random moment after it is one of its work; False if it ended first."""
    end = time.monotonic() + LONGEST_S
    while process.poll() is None and time.monotonic() < end:
        if len(list((home.plans / PLANT).glob("0*.json"))) >= plans:
            return True
        time.sleep(0.02)
    return False


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(processes: list[psutil.Process]) -> int:
    killed = 0
    for process in processes:
        try:
            process.kill()
            killed += 1
        except psutil.NoSuchProcess:
            continue
    return killed


@pytest.mark.slow
def test_kill_9_of_the_driver_or_of_all_leaves_the_rows_of_a_clean_run(home: Home, tmp_path: Path) -> None:
    clean = open_home(tmp_path / "clean", create=True, environment={})
    for each in (home, clean):
        connect(each, tmp_path / "raw")
    rng, earlier, kills = Random(3), state(clean), 0
    for number, delivery in enumerate(hostile(rng, runs=2, rows=60), 1):
        put(tmp_path / "raw", delivery)
        run(clean, progress=Silent(), spread=map)
        later = state(clean)
        for what in ("all", "driver"):
            kills += _one_kill(home, rng, what, number)
            assert state(home) in (earlier, later)
            check_every_version(home)
        _finish(home, later)
        earlier = later
    assert kills >= 2


def _one_kill(home: Home, rng: Random, what: str, plans: int) -> bool:
    process = start(home)
    alive = False
    if begun(home, process, plans):
        time.sleep(rng.uniform(0, 3))
        running, alive = tree(process), process.poll() is None
        process.kill()
        if what == "all":
            kill(running)
    process.communicate(timeout=LONGEST_S)
    if what == "driver":
        time.sleep(1)  # what it leaves behind ends by itself
    return alive


@pytest.mark.slow
def test_kill_9_of_workers_in_the_middle_of_a_task_leaves_the_rows_of_a_clean_run(home: Home, tmp_path: Path) -> None:
    raw, clean = tmp_path / "raw", open_home(tmp_path / "clean", create=True, environment={})
    for each in (home, clean):
        connect(each, raw)
    put(raw, {f"readings/wide/{number}.csv": _large(number) for number in range(8)})
    run(clean, progress=Silent(), spread=map)
    process = start(home)
    killed = [task for task in ("parse_units", "rewrite_tile") if _kill_at_work(process, task)]
    printed, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, printed  # Ray did their tasks again
    assert killed == ["parse_units", "rewrite_tile"]
    assert json.loads(printed)["rows_ingested"] == 8 * ROWS
    assert state(home) == state(clean)
    check_every_version(home)


def _large(number: int) -> RawFile:
    """Half of its rows are the file's before; large enough to be a task of its own."""
    rows = [
        {"m": f"M{row % 3}", "ts": (number * ROWS // 6 + row // 3) / 60, "temp_degF": 32 + row % 90, "p_bar": number}
        for row in range(ROWS)
    ]
    return RawFile(WIDE, ("m", "ts", "temp_degF", "p_bar"), tuple(rows))


def _kill_at_work(process: subprocess.Popen[str], task: str) -> bool:
    """Stop a worker that has this task, see that it still has it, and kill it."""
    title, end = f"ray::{task}".encode(), time.monotonic() + LONGEST_S
    while process.poll() is None and time.monotonic() < end:
        for worker in tree(process):
            if title not in _title(worker.pid):
                continue
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
                if title in _title(worker.pid):
                    worker.kill()
                    return True
                worker.resume()
    return False


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _finish(home: Home, later: State) -> None:
    process = start(home)
    printed, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, printed
    assert json.loads(printed)["plants"][0]["name"] == PLANT
    assert state(home) == later
    check_every_version(home)

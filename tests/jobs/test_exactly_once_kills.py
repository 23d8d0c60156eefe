"""`kill -9` of workers, of the driver, of everything, while `millwright ingest` runs over Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import psutil
import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.ingest import run
from tests.jobs.once_checker import State, check_every_version, state
from tests.jobs.once_plants import PLANT, connect, hostile, put

ROOT = Path(__file__).parents[2]
LONGEST_S = 240


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


def workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            found += [process] if process.name().startswith("ray::") and "IDLE" not in process.name() else []
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.slow
def test_kill_9_of_workers_driver_or_all_leaves_the_rows_of_a_clean_run(home: Home, tmp_path: Path) -> None:
    clean = open_home(tmp_path / "clean", create=True, environment={})
    for each in (home, clean):
        connect(each, tmp_path / "raw")
    rng, earlier, kills = Random(3), state(clean), {"worker": 0, "driver": 0, "all": 0}
    for number, delivery in enumerate(hostile(rng, runs=3, rows=60), 1):
        put(tmp_path / "raw", delivery)
        run(clean, progress=Silent(), spread=map)
        later = state(clean)
        for what in ("all", "driver", "worker"):
            kills[what] += _one_kill(home, rng, what, number)
            assert state(home) in (earlier, later)
            check_every_version(home)
        _finish(home, later)
        earlier = later
    print(kills)
    assert sum(kills.values()) >= 4


def _one_kill(home: Home, rng: Random, what: str, plans: int) -> int:
    process = start(home)
    killed = 0
    if begun(home, process, plans):
        time.sleep(rng.uniform(0, 8))
        running = tree(process)
        chosen = {"all": running, "driver": [], "worker": workers(running)[:1]}[what]
        if process.poll() is None:
            if what == "worker":
                killed = kill(chosen)
            else:
                process.kill()
                killed = 1 + kill(chosen)
    process.communicate(timeout=LONGEST_S)
    if what == "worker" and killed:
        assert process.returncode == 0  # Ray does the task again
    if what == "driver":
        time.sleep(1)  # what it leaves behind ends by itself
    return int(killed > 0)


def _finish(home: Home, later: State) -> None:
    process = start(home)
    printed, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, printed
    assert json.loads(printed)["plants"][0]["name"] == PLANT
    assert state(home) == later
    check_every_version(home)

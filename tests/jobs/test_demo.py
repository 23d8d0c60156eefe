"""The demo as a person runs it: whole, interrupted, and never leaving anything behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

COMMAND = [sys.executable, "-m", "cluster.cli", "demo", "--machines", "12", "--days", "120", "--trials", "1"]
LIMIT_S = 400


def processes_of(home: Path) -> list[psutil.Process]:
    """Whatever names this home in its command line, or was started by something that does."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        mark = (process.info["environ"] or {}).get("MILLWRIGHT_TEST", "")
        if str(home) in " ".join([*(process.info["cmdline"] or []), mark]) and process.pid != os.getpid():
            found.append(process)
    return found


def started(home: Path, *options: str) -> subprocess.Popen[str]:
    # Marked through the environment, which every child of the demo inherits.
    environment = os.environ | {"MILLWRIGHT_TEST": str(home)}
    return subprocess.Popen(
        [*COMMAND, "--home", str(home), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def assert_nothing_is_left(home: Path) -> None:
    until = time.monotonic() + 20
    while (left := processes_of(home)) and time.monotonic() < until:
        time.sleep(0.5)
    assert [p.cmdline() for p in left if p.is_running()] == []


@pytest.mark.slow
def test_the_demo_ends_with_served_predictions_and_a_report_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    child = started(home, "--json")
    out, log = child.communicate(timeout=LIMIT_S)
    assert child.returncode == 0, log
    found = json.loads(out)
    assert [plant["name"] for plant in found["plants"]] == ["harbor", "ridge", "summit"]
    for plant in found["plants"]:
        assert plant["champion"] and plant["latency_ms"]["p50"] > 0
        for question in plant["questions"]:
            chances = list(question["prediction"]["failure_probability"].values())
            assert chances == sorted(chances) and all(0 <= chance <= 1 for chance in chances)
            assert question["prediction"]["reasons"]
    page = Path(found["report"]).read_text("utf-8")
    assert "http://" not in page and "https://" not in page and len(page) > 50_000
    assert_nothing_is_left(home)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["Reading", "Tune", "Serve on"])
def test_ctrl_c_ends_everything_at_any_step(tmp_path: Path, step: str) -> None:
    home = tmp_path / "home"
    child = started(home)
    assert child.stderr is not None
    for line in child.stderr:
        if step in line:
            break
    time.sleep(3)
    child.send_signal(signal.SIGINT)
    _, log = child.communicate(timeout=60)
    assert child.returncode == 130, log
    assert "stopped; what was started has been ended" in log
    assert_nothing_is_left(home)

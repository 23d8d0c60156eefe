"""A study that was killed goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.home import Home

OPTIONS = ["--trials", "2", "--json", "--set", "model.network.epochs=40", "--set", "model.network.patience=40",
           "--set", "model.trees.rounds=20", "--set", "split.unseen_machines=0.25"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_study_resumes_with_its_trials_and_its_runs(tmp_path: Path, plant_home: Home) -> None:
    home = tmp_path / "home"
    shutil.copytree(plant_home.path, home)
    shutil.rmtree(home / "studies", ignore_errors=True)
    command = [sys.executable, "-m", "cluster.cli", "tune", "--home", str(home), *OPTIONS]
    # Not the cluster of this test run: the study starts and loses its own.
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=own_ray())
    until = time.monotonic() + 120
    while not list(home.glob("studies/harbor/*/Network_*/checkpoint_000003")) and time.monotonic() < until:
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.2)
    child.kill()
    child.communicate()
    runs = json.loads(next(home.glob("studies/harbor/*/runs.json")).read_text())
    again = subprocess.run(command, capture_output=True, text=True, env=own_ray(), timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    (plant,) = json.loads(again.stdout)["plants"]
    assert plant["resumed"] and plant["finished"] == 2
    after = json.loads(next(home.glob("studies/harbor/*/runs.json")).read_text())
    assert after.items() >= runs.items()


def own_ray() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

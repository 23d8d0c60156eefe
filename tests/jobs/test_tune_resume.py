"""A study killed by SIGKILL, and one that loses a node, end as one that was left in peace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.home import Home, open_home
from cluster.registry import Tracking, studies
from cluster.running import reap
from jobs.tuning.journal import Journal, facts_at
from models.saved import about

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
SETTINGS = ["model.network.name=tcn", "model.network.hidden=32", "model.network.epochs=14", "model.trees.rounds=20",
            "model.network.patience=14", "split.unseen_machines=0.25", "tune.trials=5", "ray.num_cpus=2"]  # fmt: skip


@pytest.fixture(scope="module")
def homes(plant_home: Home, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("resume")
    found = [folder / name for name in ("killed", "peaceful", "lost")]
    for path in found:
        shutil.copytree(plant_home.path, path, ignore=shutil.ignore_patterns("registry", "studies", "run"))
    return found


@pytest.fixture(scope="module")
def peaceful(homes: list[Path]) -> dict[str, Any]:
    return finished(homes[1])


@contextmanager
def tuning(home: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The verb as a process of its own; what it leaves behind is ended."""
    command = [sys.executable, "-m", "cluster.cli", "tune", "--home", str(home), "--json", *options]
    command += [part for text in SETTINGS for part in ("--set", text)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            reap(open_home(home, environment={}))


def finished(home: Path, *options: str) -> dict[str, Any]:
    with tuning(home, *options) as process:
        out, told = process.communicate(timeout=400)
        assert process.returncode == 0, told
    found: dict[str, Any] = json.loads(out)["plants"][0]
    return found


def journal_in(home: Path) -> Journal | None:
    for path in (home / "studies" / "harbor").glob("*/study.json"):
        facts = facts_at(path.parent)
        assert facts is not None
        return Journal(path.parent, "harbor", facts)
    return None


def kept_epochs(journal: Journal) -> dict[int, int]:
    """How far each trial is by what lies on disk."""
    places = {trial.number: journal.state_of(trial.number) for trial in journal.trials}
    return {number: about(place.read_bytes())["epoch"] for number, place in places.items() if place.is_file()}


def curves(outcomes: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(t["settings"], t["state"], t["epochs"], t["loss"]) for t in outcomes]


def test_a_study_that_is_killed_goes_on_and_ends_as_one_that_was_not(
    homes: list[Path], peaceful: dict[str, Any]
) -> None:
    home = homes[0]
    with tuning(home) as process:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            assert process.poll() is None, process.communicate()[1]
            journal = journal_in(home)
            if journal and any(t.over for t in journal.trials) and len(kept_epochs(journal)) > 2:
                break
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
    before = journal_in(home)
    assert before is not None
    over = [trial for trial in before.trials if trial.over]
    kept = kept_epochs(before)
    assert over and len(kept) > len(over), "it was killed in the middle"
    after = finished(home, "--resume")
    assert after["resumed"] and curves(after["outcomes"]) == curves(peaceful["outcomes"])
    assert after["best"]["version"] == peaceful["best"]["version"]
    for trial in over:
        now = after["outcomes"][trial.number]
        assert (now["epochs"], now["seconds"], now["run_id"]) == (trial.epochs, trial.seconds, trial.run_id)
    total = sum(trial["epochs"] for trial in after["outcomes"])
    assert after["epochs_run"] == total - sum(kept.values()), "whatever was on disk is not trained again"
    frame = studies(open_home(home, environment={}), "harbor")
    assert len(frame) == len(after["outcomes"]) and set(frame["status"]) == {"FINISHED"}
    known = {trial.number: trial.run_id for trial in before.trials if trial.run_id}
    assert all(after["outcomes"][number]["run_id"] == run_id for number, run_id in known.items())
    client = Tracking(open_home(home, environment={}))._client
    tags = client.get_run(after["outcomes"][0]["run_id"]).data.tags
    assert tags["data_version"].startswith("readings/pump@") and tags["code_version"] and tags["state"] == "finished"
    assert finished(home)["epochs_run"] == 0, "asked again, it answers from what it has"


def test_a_node_lost_in_the_middle_changes_nothing_but_time(homes: list[Path], peaceful: dict[str, Any]) -> None:
    home = homes[2]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray stays on loopback
    done = subprocess.run(
        [sys.executable, "-m", "tests.jobs.lost_node", str(home), *SETTINGS], cwd=ROOT, env=environment,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads(done.stdout.strip().splitlines()[-1])["plants"]
    assert curves(found["outcomes"]) == curves(peaceful["outcomes"])
    assert found["best"]["version"] == peaceful["best"]["version"]

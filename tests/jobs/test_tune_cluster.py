"""Two sweeps at once, submitted to a cluster of two nodes: each as if alone, its cost under its owner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.home import Home, open_home
from cluster.registry import Tracking, champion, studies
from cluster.report import Silent
from jobs import connect, ingest, simulate
from tests.cluster.test_submit import Cluster, clean
from tests.jobs.conftest import SMALL
from tests.jobs.nodes import several

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
OWNERS = {"harbor": "anna", "ridge": "bo"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> list[Path]:
    """Two copies of a home with two plants, in a folder that all nodes see."""
    folder = tmp_path_factory.mktemp("shared")
    home = open_home(folder / "together", create=True, environment={}, assignments=SMALL)
    simulate.run(home, out=folder / "raw", progress=Silent(), machines=12, days=100, seed=1, plants=list(OWNERS))
    for plant in OWNERS:
        connect.run(home, path=folder / "raw" / plant, plant=plant, progress=Silent())
    ingest.run(home, progress=Silent())
    with (home.path / "millwright.toml").open("a") as file:
        file.writelines(f'\n[plants.{plant}]\nowner = "{owner}"\n' for plant, owner in OWNERS.items())
    shutil.copytree(home.path, folder / "alone", ignore=shutil.ignore_patterns("run"))
    return [folder / "together", folder / "alone"]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    with several(2) as found:
        yield found


def submitted(cluster: Cluster, home: Path, plant: str, **settings: object) -> subprocess.Popen[str]:
    options = {"ray.token_path": cluster.token, "tune.trials": 4, "model.network.epochs": 24} | settings
    assignments = [*SMALL, *(f"{key.replace('__', '.')}={value}" for key, value in options.items())]
    command = [sys.executable, "-m", "cluster.cli", "submit", "--address", cluster.address, "--home", str(home),
               "--set", f"ray.token_path={cluster.token}", "tune", "--plants", plant, "--json"]  # fmt: skip
    command += [part for text in assignments for part in ("--set", text)]
    return subprocess.Popen(
        command, cwd=ROOT, env=clean(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, told = process.communicate(timeout=400)
    assert process.returncode == 0, told
    found: dict[str, Any] = json.loads(out)["report"]
    return found


def curves(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(t["settings"], t["state"], t["epochs"], t["loss"]) for t in report["plants"][0]["outcomes"]]


def test_two_sweeps_share_a_cluster_and_each_ends_as_if_it_were_alone(two_nodes: Cluster, shared: list[Path]) -> None:
    together, alone = shared
    running = {plant: submitted(two_nodes, together, plant, tune__concurrent=1) for plant in OWNERS}
    at_once = threading.Event()
    watch = threading.Thread(target=_watch, args=(open_home(together, environment={}), at_once), daemon=True)
    watch.start()
    found = {plant: report_of(process) for plant, process in running.items()}
    watch.join(timeout=5)
    assert at_once.is_set(), "both had a trial at the same time, on nodes of one core each"
    for plant, owner in OWNERS.items():
        peaceful = report_of(submitted(two_nodes, alone, plant))
        assert curves(found[plant]) == curves(peaceful) and len(curves(peaceful)) == 4
        best, own = (report["plants"][0]["best"] for report in (found[plant], peaceful))
        assert (best["version"], best["config"]) == (own["version"], own["config"])
        cost = found[plant]["owners"]
        assert list(cost) == [owner] and cost[owner]["plants"] == 1 and cost[owner]["core_hours"] > 0
        _kept(open_home(together, environment={}), plant, owner, found[plant])


def _watch(home: Home, at_once: threading.Event) -> None:
    """Whether both plants' journals have a trial under way, seen from outside."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and not at_once.is_set():
        texts = [path.read_text("utf-8") for path in (home.path / "studies").glob("*/*/study.json")]
        if len(texts) == 2 and all('"running"' in text for text in texts):
            at_once.set()
        time.sleep(0.1)


def _kept(home: Home, plant: str, owner: str, report: dict[str, Any]) -> None:
    """Results lie in the shared home, the owner and the cost with the study's run."""
    now = champion(home, plant)
    assert now is not None and now.version == report["plants"][0]["best"]["version"]
    frame = studies(home, plant)
    assert len(frame) == 4
    client = Tracking(home)._client
    run = client.get_run(client.get_run(report["plants"][0]["outcomes"][0]["run_id"]).data.tags["mlflow.parentRunId"])
    assert run.data.tags["owner"] == owner and run.data.metrics["core_hours"] > 0 == run.data.metrics["gpu_hours"]

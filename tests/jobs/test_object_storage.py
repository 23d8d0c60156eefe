"""The whole spine with lake, bundles, studies and artifacts on an S3-compatible server that checks every key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import fs

from cluster.home import Home, open_home
from cluster.invocation import explain
from cluster.registry import champion
from cluster.report import Silent
from cluster.storage import read_readings
from jobs import connect, evaluate, ingest, score, simulate, tune
from jobs.versions.compact import compact
from jobs.versions.retain import retain
from models.errors import AccessError, InputError, MillwrightError
from serve.metrics import Metrics
from serve.scorer import Scorer
from tests.jobs.conftest import SMALL
from tests.store_server import Server, running

ROOT = Path(__file__).parents[2]
PLANTS = ("harbor", "ridge")


@dataclass(frozen=True)
class Deployed:
    home: Home
    server: Server
    raw: Path
    secrets: tuple[str, ...]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Two connected plants, each with a bucket and a file of keys of its own; harbor's are in variables, too."""
    folder = tmp_path_factory.mktemp("objects")
    with running() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server.bucket("artifacts")
        own = {name: server.bucket(name) and server.keys(name) for name in PLANTS}
        shared = server.keys("artifacts")
        server.enforce()
        for name, value in own["harbor"].items():
            patch.setenv(f"HARBOR_{name}", value)
        for name, value in shared.items():
            patch.setenv(name, value)
        settings = [
            *SMALL, "storage.root=s3://artifacts/millwright",
            'plants.harbor={"root": "s3://harbor/millwright", "credentials": "harbor.env"}',
            'plants.ridge={"root": "s3://ridge/millwright", "credentials": "ridge.env"}',
        ]  # fmt: skip
        home = open_home(folder / "home", create=True, environment={}, assignments=settings)
        for plant in PLANTS:
            file = home.path / f"{plant}.env"
            file.write_text("".join(f"{name}={value}\n" for name, value in own[plant].items()))
            file.chmod(0o600)
        simulate.run(
            home, out=folder / "raw", progress=Silent(), machines=12, days=100, seed=1, plants=list(PLANTS)
        )  # fmt: skip
        for name in PLANTS:
            connect.run(home, path=folder / "raw" / name, plant=name, progress=Silent())
        secrets = tuple(v for keys in (*own.values(), shared) for n, v in keys.items() if n.endswith(("_ID", "_KEY")))
        yield Deployed(home, server, folder / "raw", secrets)


def local(home: Home) -> list[str]:
    """Files in the home that would be in the object store."""
    folders = [home.path / "lake", home.registry / "bundles", home.path / "studies", home.registry / "artifacts"]
    return [str(path) for folder in folders for path in folder.rglob("*")]


@pytest.mark.slow
@pytest.mark.ray
def test_the_whole_spine_runs_on_object_storage(deployed: Deployed, ray_cluster: None) -> None:
    home = deployed.home
    report = ingest.run(home, progress=Silent())
    assert report.exit_code == 0, report
    assert {p.name: p.rows_ingested > 1000 for p in report.plants} == {"harbor": True, "ridge": True}
    rows = {name: read_readings(home, name).num_rows for name in PLANTS}
    assert ingest.run(home, progress=Silent()).rows_ingested == 0, "the same files again are nothing new"
    assert {name: read_readings(home, name).num_rows for name in PLANTS} == rows
    assert home.readings("harbor").count() == rows["harbor"]

    tuned = tune.run(home, progress=Silent(), plants="harbor")
    assert (tuned.plants[0].trials, tuned.plants[0].finished, tuned.plants[0].resumed) == (2, 2, False)
    again = tune.run(home, progress=Silent(), plants="harbor")
    assert again.plants[0].resumed, "a study in the object store is found again"
    assert again.plants[0].best["version"] == tuned.plants[0].best["version"]
    best = champion(home, "harbor")
    assert best is not None
    assert str(best.path).startswith("s3://harbor/millwright/bundles/")

    judged = evaluate.run(home, progress=Silent(), plants="harbor")
    assert judged.plants[0].name == "harbor"
    first, second = (score.run(home, progress=Silent(), plant="harbor") for _ in range(2))
    assert first.predictions_written == first.predictions_total == 12
    assert second.predictions_written == 0

    scorer = Scorer(home, Metrics())
    assert scorer.refresh() == ["harbor"]
    assert scorer.model("harbor").spec.version == best.version
    scorer.close()
    assert local(home) == []
    keys = deployed.server.client(keys=deployed.secrets[-2:])
    kept = [entry["Key"] for entry in keys.list_objects_v2(Bucket="artifacts")["Contents"]]
    assert any(key.endswith("/card.md") for key in kept), "MLflow's artifacts are in their bucket"

    months = compact(home, "harbor", progress=Silent(), most_rows=5_000)
    assert read_readings(home, "harbor").num_rows == rows["harbor"]
    assert [month.rows for month in months if month.files_after >= month.files_before] == []
    assert retain(home, "harbor", days=0, dry_run=True, progress=Silent()).files == [], "nothing is a day old"
    told = [path for path in home.path.rglob("*") if path.is_file() and path.suffix != ".env"]
    found = [str(path) for path in told for secret in deployed.secrets if secret.encode() in path.read_bytes()]
    assert found == [], "no secret is written anywhere in the home"
    pickled = deployed.home.of("harbor").studies
    assert not isinstance(pickled, Path)
    files = pickled.filesystem
    for info in files.get_file_info(fs.FileSelector(pickled.inner, recursive=True)):
        if info.is_file:
            data = files.open_input_file(info.path).read()
            assert not any(secret.encode() in data for secret in deployed.secrets), info.path


# Never ends by itself: whatever the machine's speed, it is killed before a batch is done.
INGEST = """
import sys, time
from cluster.home import open_home
from cluster.report import Silent
from jobs import ingest
home = open_home(sys.argv[1], environment={}, assignments=sys.argv[2:])
ingest.tables.commit_events = lambda *batch: time.sleep(600)
print("begin", flush=True)
ingest.run(home, progress=Silent(), spread=lambda function, items: map(function, items))
"""


def fresh(deployed: Deployed, tmp_path: Path, lake: str, **more: str) -> tuple[Home, list[str]]:
    """A home with harbor connected, its tables alone at ``lake``."""
    plant = {"lake": lake, "credentials": "HARBOR_"} | more
    settings = [f"plants.harbor={str(plant).replace(chr(39), chr(34))}"]
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=settings)
    connect.run(home, path=deployed.raw / "harbor", plant="harbor", progress=Silent())
    return home, settings


def serially(function: object, items: list[object]) -> object:
    return map(function, items)  # type: ignore[call-overload]


def interrupt(*arguments: object) -> int:
    raise KeyboardInterrupt


def test_a_killed_ingest_is_finished_with_the_same_rows(deployed: Deployed, tmp_path: Path) -> None:
    whole, _ = fresh(deployed, tmp_path / "a", "s3://harbor/whole")
    expected = ingest.run(whole, progress=Silent(), spread=serially).rows_ingested
    home, settings = fresh(deployed, tmp_path / "b", "s3://harbor/killed")
    for pause in (0.2, 0.6, 1.0):
        process = subprocess.Popen(
            [sys.executable, "-c", INGEST, str(home.path), *settings], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.ingest.tables.commit_events", interrupt)  # readings are committed, nothing else is
        with pytest.raises(KeyboardInterrupt):
            ingest.run(home, progress=Silent(), spread=serially)
    assert ingest.run(home, progress=Silent(), spread=serially).rows_ingested == expected
    assert expected > 1000
    assert read_readings(home, "harbor").equals(read_readings(whole, "harbor"))
    assert home.events("harbor").drop_columns(["source_id"]).equals(whole.events("harbor").drop_columns(["source_id"]))


@pytest.mark.parametrize(
    ("lake", "change", "kind", "match"),
    [
        ("s3://ridge/taken", {}, AccessError, "The object store refuses these keys"),
        ("s3://harbor/x", {"HARBOR_AWS_SECRET_ACCESS_KEY": "wrong"}, AccessError, "refuses these keys"),
        ("s3://harbor/x", {"HARBOR_AWS_ACCESS_KEY_ID": ""}, InputError, "expected HARBOR_AWS_ACCESS_KEY_ID"),
        ("s3://harbor/x", {"AWS_SESSION_TOKEN": "other"}, InputError, "would be mixed with a plant's"),
        ("s3://harbor/x", {"HARBOR_AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, MillwrightError, "does not answer"),
    ],
)
def test_what_a_store_refuses_is_one_clear_error_and_costs_nothing(
    deployed: Deployed, tmp_path: Path, *, lake: str, change: dict[str, str], kind: type[MillwrightError], match: str
) -> None:
    home, _ = fresh(deployed, tmp_path, lake)
    with pytest.MonkeyPatch.context() as wrong:
        for name, value in change.items():
            wrong.setenv(name, value)
        with pytest.raises(kind, match=match) as error:
            ingest.run(home, progress=Silent(), spread=serially)
    assert not any(secret in explain(error.value, home)[0] for secret in deployed.secrets)
    if lake.startswith("s3://harbor"):
        fixed, _ = fresh(deployed, tmp_path, f"s3://harbor/{tmp_path.name}")
        assert ingest.run(fixed, progress=Silent(), spread=serially).rows_ingested > 1000

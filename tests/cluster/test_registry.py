"""Champions, their pointer, and runs in MLflow on SQLite."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from cluster.home import Home, open_home
from cluster.registry import Step, Tracking, bundle_folder, champion, register, studies
from models.errors import InputError


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: two seconds."""
    home = open_home(tmp_path_factory.mktemp("registry") / "home", create=True, environment={})
    Tracking(home)
    return home.registry / "mlflow.db"


@pytest.fixture
def home(home: Home, database: Path) -> Home:
    home.registry.mkdir()
    shutil.copy(database, home.registry)
    return home


def bundle(home: Home, version: str) -> Path:
    folder = bundle_folder(home, "harbor", version)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def promote(home: Home, version: str, run_id: str | None = None, reason: str = "better") -> None:
    register(
        home, "harbor", version=version, kind="trees", folder=bundle_folder(home, "harbor", version), run_id=run_id,
        reason=reason,
    )  # fmt: skip


def test_before_any_promotion_there_is_no_champion(home: Home) -> None:
    assert champion(home, "harbor") is None


def test_a_damaged_pointer_is_an_error_and_not_a_missing_champion(home: Home) -> None:
    path = home.registry / "champions" / "harbor.json"
    path.parent.mkdir(parents=True)
    for text in ('{"kind": "tr', "[]", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(InputError, match=r"Damaged pointer.*harbor\.json"):
            champion(home, "harbor")
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"Damaged pointer.*harbor\.json"):
        champion(home, "harbor")


def test_a_folder_without_manifest_is_never_registered(home: Home) -> None:
    with pytest.raises(InputError, match=r"Not a bundle: expected a folder with manifest\.json"):
        promote(home, "v1")
    assert champion(home, "harbor") is None


@pytest.mark.parametrize("version", ["../x", "a/b", ""])
def test_a_version_never_leaves_the_registry(home: Home, version: str) -> None:
    with pytest.raises(InputError, match="Not a version name"):
        bundle_folder(home, "harbor", version)


def test_the_champion_is_the_last_promoted_and_mlflow_says_the_same(home: Home) -> None:
    from mlflow import MlflowClient

    for version in ("v1", "v2"):
        bundle(home, version)
        promote(home, version)
    promote(home, "v1", reason="v2 drifts")
    found = champion(home, "harbor")
    assert found is not None
    assert (found.kind, found.version, found.path) == ("trees", "v1", bundle_folder(home, "harbor", "v1"))
    client = MlflowClient(f"sqlite:///{home.registry / 'mlflow.db'}")
    alias = client.get_model_version_by_alias("harbor", "champion")
    assert alias.tags["millwright.version"] == "v1"
    assert alias.tags["reason"] == "v2 drifts"
    assert len(client.search_model_versions("name = 'harbor'")) == 2, "promoting again makes no third version"


def test_a_moved_home_keeps_its_champions(home: Home, tmp_path: Path) -> None:
    bundle(home, "v1")
    promote(home, "v1")
    moved = open_home(shutil.move(home.path, tmp_path / "moved"), environment={})
    found = champion(moved, "harbor")
    assert found is not None
    assert found.path == tmp_path / "moved" / "registry" / "bundles" / "harbor" / "v1"


def test_trials_belong_to_their_study_and_keep_parameters_and_metrics(home: Home) -> None:
    with Tracking(home) as tracking:
        study = tracking.start("harbor", "study-1", tags={"plant": "harbor"})
        trial = tracking.start("harbor", "trial-1", parent=study)
        tracking.log(trial, params={"hidden": 32}, steps=[Step(0, {"loss": 0.5}, 1.0)])
        tracking.log(trial, steps=[Step(1, {"loss": 0.25}, 2.0)])
        tracking.end(trial)
        tracking.end(study)
    frame = studies(home, "harbor")
    assert frame[["study", "trial", "status", "hidden", "loss"]].to_dict("records") == [
        {"study": "study-1", "trial": "trial-1", "status": "FINISHED", "hidden": 32, "loss": 0.25}
    ]
    assert len(studies(home, "ridge")) == 0


def test_more_parameters_than_mlflow_takes_at_once_are_all_kept(home: Home) -> None:
    with Tracking(home) as tracking:
        study = tracking.start("harbor", "study")
        trial = tracking.start("harbor", "trial", parent=study)
        tracking.log(trial, params={f"p{n:03d}": n for n in range(250)})
    assert {f"p{n:03d}" for n in range(250)} <= set(studies(home, "harbor").columns)


def test_more_metrics_than_mlflow_takes_at_once_keep_their_steps_and_times(home: Home) -> None:
    with Tracking(home) as tracking:
        run = tracking.start("harbor", "trial")
        tracking.log(run, steps=[Step(number, {"loss": 1 / (1 + number)}, 60.0 + number) for number in range(1500)])
        found = tracking._client.get_metric_history(run, "loss")
    assert sorted((m.step, m.timestamp, m.value) for m in found) == [
        (number, 60_000 + 1000 * number, 1 / (1 + number)) for number in range(1500)
    ]  # fmt: skip


def test_a_run_that_was_left_open_ends_as_failed(home: Home) -> None:
    def interrupted() -> None:
        with Tracking(home) as tracking:
            tracking.start("harbor", "trial", parent=tracking.start("harbor", "study"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert studies(home, "harbor")["status"].tolist() == ["FAILED"]


def test_reading_the_champion_imports_no_mlflow(home: Home) -> None:
    import subprocess

    bundle(home, "v1")
    promote(home, "v1")
    code = (
        "import sys; from cluster.home import open_home; from cluster.registry import champion;"
        "print(champion(open_home(sys.argv[1]), 'harbor').version, 'mlflow' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", code, str(home.path)], capture_output=True, text=True, cwd=root, check=True
    )
    assert out.stdout.split() == ["v1", "False"]

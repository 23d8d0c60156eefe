"""What is a home, what is refused, and what is never touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.home import MARK, Home, open_home, resolve
from models.errors import InputError, NotFoundError

ROOT = Path(__file__).parents[2]


def test_a_missing_folder_becomes_a_home_where_asked(tmp_path: Path) -> None:
    home = open_home(tmp_path / "a" / "b", create=True, environment={})
    assert (home.path / MARK).is_file()
    assert open_home(home.path, environment={}).path == home.path


def test_a_missing_folder_is_an_error_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No home here"):
        open_home(tmp_path / "none", environment={})
    assert not (tmp_path / "none").exists()


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"Not a Millwright home.*found a folder that holds photo\.jpg"):
        open_home(tmp_path, create=True, environment={})
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="Not a home: expected a folder, found a file"):
        open_home(tmp_path / "file", create=True, environment={})


def test_the_argument_wins_over_the_environment_and_that_over_the_default(tmp_path: Path) -> None:
    environment = {"MILLWRIGHT_HOME": str(tmp_path / "env")}
    assert resolve(tmp_path / "argument", environment) == tmp_path / "argument"
    assert resolve(None, environment) == tmp_path / "env"
    assert resolve(None, {}) == Path("millwright-home").resolve()


def test_plants_are_those_with_a_source_description(home: Home) -> None:
    assert home.plants() == []
    home.sources.mkdir()
    for name in ("ridge", "harbor"):
        (home.sources / f"{name}.toml").write_text("")
    assert home.plants() == ["harbor", "ridge"]


def test_an_unknown_plant_says_which_there_are_and_what_to_do(home: Home) -> None:
    with pytest.raises(NotFoundError, match=r"\(none yet\), found 'harbor'.*millwright connect PATH --plant harbor"):
        home.source("harbor")


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".hidden", "x" * 65, "a..b"])
def test_a_plant_name_never_leaves_the_home(home: Home, name: str) -> None:
    with pytest.raises(InputError, match="Not a plant name"):
        home.table(name, "events")


def test_launch_runs_a_verb_as_the_command_line_would(home: Home) -> None:
    report = home.launch("config")
    assert {"key": "serve.port", "value": 8000, "origin": "default"} in report.settings


def test_launch_of_an_unknown_verb_is_refused(home: Home) -> None:
    with pytest.raises(InputError, match="Unknown verb"):
        home.launch("dance")


@pytest.mark.ray
def test_a_plain_script_reads_with_a_quiet_ray_that_ends_with_it(tmp_path: Path) -> None:
    script = (
        "from cluster.home import open_home\n"
        f"home = open_home({str(tmp_path / 'home')!r}, create=True, assignments=['ray.num_cpus=1'])\n"
        "from cluster.session import keep_ray\n"
        "keep_ray(home)\n"
        "keep_ray(home)\n"
        "import ray; print(ray.is_initialized(), ray.cluster_resources()['CPU'])\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True 1.0\n"), done.stderr
    assert list((tmp_path / "home" / "run").glob("*.json")) == []

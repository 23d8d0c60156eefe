"""A job given one plant can read no other: one gate in `Home`, roots and secrets of each plant's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from cluster import predictions, registry, storage
from cluster.credentials import from_files, prefixed, session_environment
from cluster.files import write_atomically
from cluster.home import Home, open_home
from cluster.report import Report
from cluster.submit import job_environment
from cluster.verbs import VERBS, Verb, target
from jobs import dataset, frames
from jobs.ingesting.plan import Known, new_files, plans
from models.errors import AccessError, InputError, NotFoundError

ROOT = Path(__file__).parents[2]
OTHER = "ridge"  # connected, with a champion; never the job's
PLANTS = ['plants.harbor={"credentials": "HARBOR_"}', 'plants.ridge={"owner": "Kim", "credentials": "RIDGE_"}']
WAYS: dict[str, Callable[[Home, str], Any]] = {
    "home.of": lambda home, plant: home.of(plant),
    "home.only": lambda home, plant: home.only(plant),
    "home.table": lambda home, plant: home.table(plant, "events"),
    "home.source": lambda home, plant: home.source(plant),
    "home.events": lambda home, plant: home.events(plant),
    "home.studies": lambda home, plant: home.studies(plant),
    "home.launch": lambda home, plant: home.launch("promote", plant=plant, version="v"),
    "storage.visible_versions": storage.visible_versions,
    "storage.show_versions": lambda home, plant: storage.show_versions(home, plant, {}),
    "storage.machine_types": storage.machine_types,
    "storage.visible_table": lambda home, plant: storage.visible_table(home, plant, "events"),
    "storage.data_version": storage.data_version,
    "storage.sensors": storage.sensors,
    "storage.read_events": storage.read_events,
    "storage.read_machines": storage.read_machines,
    "storage.read_quarantine": storage.read_quarantine,
    "storage.reading_files": storage.reading_files,
    "storage.read_readings": storage.read_readings,
    "registry.champion": registry.champion,
    "registry.standing_champion": registry.standing_champion,
    "registry.bundle_folder": lambda home, plant: registry.bundle_folder(home, plant, "v"),
    "registry.register": lambda home, plant: registry.register(
        home, plant, version="v", kind="trees", folder=home.path, run_id=None, reason="r"
    ),
    "registry.studies": registry.studies,
    "predictions.JournalFiles": predictions.JournalFiles,
    "predictions.append_predictions": lambda home, plant: predictions.append_predictions(
        home, plant, pa.table({}), app_id="a", version=1
    ),
    "dataset.load_plant": dataset.load_plant,
    "home.readings": lambda home, plant: home.readings(plant, machines="P-01"),
    "home.windows": lambda home, plant: home.windows(plant, machines="P-01"),
    "home.candidates": lambda home, plant: home.candidates(plant),
    "home.score": lambda home, plant: home.score(plant, pd.DataFrame({"machine": [], "time": []})),
    "home.reasons": lambda home, plant: home.reasons(plant, pd.DataFrame({"machine": [], "time": []})),
    "frames.grid_dataset": frames.grid_dataset,
    "dataset.readings_dataset": dataset.readings_dataset,
    "dataset.named_plants": dataset.named_plants,
    "plan.plans": plans,
}  # fmt: skip


@pytest.fixture
def two(tmp_path: Path) -> Home:
    """Harbor and ridge, both connected, ridge with a champion and a list of visible tables."""
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=PLANTS)
    (home.path / "manifest.json").write_text("{}")
    for name in ("harbor", OTHER):
        raw = tmp_path / "raw" / name
        raw.mkdir(parents=True)
        stream = '[[streams]]\nname = "x"\nrole = "readings"\nfiles = "*.csv"\n'
        write_atomically(home.of(name).source, f'plant = "{name}"\nroot = "{raw}"\n{stream}')
        storage.show_versions(home, name, {})
        write_atomically(home.of(name).champion, '{"kind": "trees", "version": "v", "path": "x"}')
    return home


@pytest.mark.parametrize("way", WAYS)
def test_a_home_of_one_plant_knows_no_other_by_any_way(two: Home, way: str) -> None:
    scoped = two.only("harbor")
    said = []
    for plant in (OTHER, "nowhere"):
        with pytest.raises(NotFoundError, match=r"Unknown plant: expected a connected plant \(harbor\)") as error:
            WAYS[way](scoped, plant)
        said.append(str(error.value).replace(plant, "PLANT"))
    assert said[0] == said[1], "an answer that differs tells that the plant exists"


def test_the_plants_own_ways_stay_open(two: Home) -> None:
    scoped = two.only("harbor")
    assert scoped.plants() == ["harbor"] == dataset.named_plants(scoped, "all")
    assert scoped.source("harbor").plant == "harbor"
    assert registry.standing_champion(scoped, "harbor").version == "v"
    assert storage.read_events(scoped, "harbor").num_rows == 0


def test_a_scoped_home_says_nothing_of_other_plants_settings(two: Home) -> None:
    scoped = two.only("harbor")
    assert set(scoped.settings.plants) == {"harbor"}
    assert not any(OTHER in key for key in scoped.origins)
    assert set(two.settings.plants) == {"harbor", OTHER}, "the home that it came from is as it was"


def spy(home: Home, *, progress: object, plant: str | None = None, plants: str = "all") -> Report:
    SEEN.append(home)
    return Report()


SEEN: list[Home] = []


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"plant": "harbor"}, ["harbor"]), ({"plants": "ridge"}, ["ridge"]), ({"plants": " harbor, ridge"}, None),
        ({"plants": "all"}, None), ({}, None),
    ],
)  # fmt: skip
def test_every_verb_that_is_given_plants_gets_a_home_of_them(
    two: Home, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], known: list[str] | None
) -> None:
    monkeypatch.setitem(sys.modules, "spy", sys.modules[__name__])
    monkeypatch.setitem(VERBS, "spy", Verb("spy:spy", "Keeps its home."))
    target("spy")(two, **options)
    assert SEEN.pop().plants() == (known or ["harbor", OTHER])


def test_an_unknown_plant_is_said_with_all_that_there_are(two: Home) -> None:
    with pytest.raises(NotFoundError, match=r"\(harbor, ridge\), found 'harbour'"):
        two.launch("promote", plant="harbour", version="v")


def test_a_plant_has_a_root_of_its_own(tmp_path: Path) -> None:
    own = f'plants.harbor={{"lake": "{tmp_path}/own"}}'
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=[own])
    assert home.table("harbor", "events") == tmp_path / "own" / "events"
    assert home.table(OTHER, "events") == home.path / "lake" / OTHER / "events"


@pytest.mark.parametrize("lake", ["home", "home/lake/ridge", "shared/inside"])
def test_a_root_inside_another_plants_or_the_home_is_refused(tmp_path: Path, lake: str) -> None:
    settings = [f'plants.a={{"lake": "{tmp_path}/{lake}"}}', f'plants.b={{"lake": "{tmp_path}/shared"}}']
    with pytest.raises(InputError, match=r"Wrong setting 'plants\.a\.lake': expected a folder of this plant alone"):
        open_home(tmp_path / "home", create=True, environment={}, assignments=settings)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ('plants={"a": {"lake": "/x"}, "b": {"lake": "/x"}}', "lake of its own for each plant; '/x' comes twice"),
        ('plants={"a": {"lake": "x"}}', "lake an absolute folder"),
        ('plants={"a": {"credentials": "secret"}}', r"a prefix of variables such as HARBOR_, or a file"),
        ('plants={"a": {"credentials": "MILLWRIGHT__"}}', r"a prefix of variables such as HARBOR_, or a file"),
        ('plants={"a": {"key": "hunter2"}}', r"'plants\.a\.key': expected one of owner, lake, credentials"),
        ('plants={"../a": {"owner": "Kim"}}', "Not a plant name"),
    ],
)
def test_a_wrong_setting_of_a_plant_says_what_is_right(home: Home, setting: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        open_home(home.path, environment={}, assignments=[setting])


def test_a_plants_folders_are_its_owners_alone(two: Home) -> None:
    paths = two.of("summit")
    paths.make()
    paths.make()
    for folder in (paths.tables, paths.plans, paths.bundles, paths.studies):
        assert folder.stat().st_mode & 0o777 == 0o700, folder


def test_a_link_into_another_plants_raw_folder_is_not_followed(two: Home) -> None:
    harbor, ridge = (Path(two.source(name).root) for name in ("harbor", OTHER))
    (harbor / "own.csv").write_text("time,x\n")
    (ridge / "secret.csv").write_text("time,x\n")
    (harbor / "link.csv").symlink_to(ridge / "secret.csv")
    (harbor / "inside.csv").symlink_to(harbor / "own.csv")
    files = new_files(two.source("harbor"), Known())
    assert [file.path for file in files] == ["inside.csv", "own.csv"]


def test_only_a_plants_own_variables_stay(two: Home) -> None:
    environment = {"HARBOR_KEY": "h", "RIDGE_KEY": "r", "PATH": "/bin"}
    assert session_environment(two.only("harbor"), environment) == {"RIDGE_KEY": None}
    assert session_environment(two, environment) == {}, "a job for all plants needs all secrets"
    assert prefixed(two.only("harbor"), environment) == {"HARBOR_KEY": "h"}


def test_of_two_prefixes_the_longer_owns(home: Home) -> None:
    both = ['plants.a={"credentials": "SITE_"}', 'plants.b={"credentials": "SITE_B_"}']
    two = open_home(home.path, environment={}, assignments=both)
    environment = {"SITE_KEY": "a", "SITE_B_KEY": "b"}
    assert session_environment(two.only("a"), environment) == {"SITE_B_KEY": None}
    assert session_environment(two.only("b"), environment) == {"SITE_KEY": None}


def test_secrets_in_a_file_are_read_for_its_plant_alone_and_must_be_closed(home: Home) -> None:
    both = ['plants.a={"credentials": "a.env"}', 'plants.b={"credentials": "b.env"}']
    two = open_home(home.path, environment={}, assignments=both)
    for name in "ab":
        write_atomically(home.path / f"{name}.env", f"# of {name}\nKEY={name}=1\n", private=True)
    assert from_files(two.only("a")) == {"KEY": "a=1"}
    with pytest.raises(InputError, match="Two values for KEY: expected one plant, or equal values, found a and b"):
        from_files(two)
    (home.path / "a.env").chmod(0o640)
    with pytest.raises(AccessError, match="Credentials that others may read: expected mode 600, found 640"):
        from_files(two.only("a"))
    write_atomically(home.path / "a.env", "KEY\n", private=True)
    with pytest.raises(InputError, match="Wrong credentials: expected NAME=value on each line, found entry 1"):
        from_files(two.only("a"))


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["ingest", "--plant", "harbor"], {"HARBOR_KEY"}), (["tune", "--plants=ridge"], {"RIDGE_KEY"}),
        (["tune", "--plants", "harbor,ridge"], {"HARBOR_KEY", "RIDGE_KEY"}),
        (["tune"], {"HARBOR_KEY", "RIDGE_KEY"}), (["tune", "--plants", "all"], {"HARBOR_KEY", "RIDGE_KEY"}),
    ],
)  # fmt: skip
def test_a_submitted_job_gets_the_secrets_of_its_plants(two: Home, arguments: list[str], sent: set[str]) -> None:
    environment = {"HARBOR_KEY": "h", "RIDGE_KEY": "r", "HOME": "/", "MILLWRIGHT__TUNE__TRIALS": "2"}
    assert set(job_environment(two, arguments, environment)) == sent | {"MILLWRIGHT__TUNE__TRIALS"}


def test_every_path_of_a_plant_comes_through_the_gate() -> None:
    """Composed elsewhere, a path would pass by the scope."""
    around = re.compile(r"home\.(sources|lake|plans)\s*/|home\.(state|registry) / \"(plants|bundles|champions)")
    for folder in ("cluster", "jobs", "serve"):
        for path in (ROOT / folder).rglob("*.py"):
            if path != ROOT / "cluster" / "home.py":
                assert not around.search(path.read_text("utf-8")), f"{path}: use Home.of(plant)"


WORKER = """
import os, sys
from cluster.home import open_home
from cluster.session import ray_session
home = open_home(sys.argv[1]).only("harbor")
with ray_session(home):
    import ray

    @ray.remote
    def seen():
        from models.errors import NotFoundError
        try:
            home.table("ridge", "events")
        except NotFoundError:
            return [os.environ.get(name, "-") for name in ("HARBOR_KEY", "RIDGE_KEY", "FROM_FILE")]

    print(*ray.get(seen.remote()), os.environ.get("RIDGE_KEY", "-"))
print(os.environ["RIDGE_KEY"], os.environ.get("FROM_FILE", "-"))
"""


@pytest.mark.ray
def test_a_worker_of_one_plants_session_has_no_other_plants_secret(home: Home) -> None:
    write_atomically(home.path / "x.env", "FROM_FILE=f\n", private=True)
    write_atomically(
        home.path / "millwright.toml",
        '[plants.harbor]\ncredentials = "HARBOR_"\n[plants.ridge]\ncredentials = "RIDGE_"\n'
        '[plants.summit]\ncredentials = "x.env"\n[ray]\nnum_cpus = 1\n',
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(home.path)], cwd=ROOT, timeout=120, check=False, text=True,
        env=kept | {"HARBOR_KEY": "h", "RIDGE_KEY": "r"}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["h - - -", "r -", ""]

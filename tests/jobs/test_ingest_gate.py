"""A batch that a check stops is held: nothing of it is in history until a person says so, or it is corrected."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from cluster.home import Home, open_home
from cluster.report import Silent
from cluster.storage import data_version, read_quarantine, read_readings
from jobs.ingest import run
from jobs.ingesting.plan import plans
from jobs.ingesting.report import IngestReport
from models.errors import InputError, MillwrightError
from models.source import Checks
from tests.jobs.once_held import T0, deliver, describe
from tests.jobs.once_plants import PLANT


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def ingest(home: Home, **options: str) -> IngestReport:
    return run(home, plant=PLANT, progress=Silent(), spread=map, **options)


def home_of(tmp_path: Path, raw: Path, **checks: str) -> Home:
    home = open_home(tmp_path / "home", create=True, environment={})
    describe(home, raw, Checks.model_validate(checks))
    deliver(raw, "a.csv", first_day=0, days=14)
    assert ingest(home).exit_code == 0
    return home


def test_a_change_of_unit_holds_the_batch_and_leaves_history_as_it_was(tmp_path: Path, raw: Path) -> None:
    home = home_of(tmp_path, raw)
    before, version = read_readings(home, PLANT), data_version(home, PLANT)
    deliver(raw, "b.csv", first_day=14, days=10, fahrenheit=True)
    report = ingest(home)
    assert report.exit_code == 3
    (plant,) = report.plants
    assert plant.held == plans(home, PLANT)[1].batch
    assert report.rows_ingested == 0
    assert any("degF" in note and f"--accept {plant.held}" in note for note in plant.notes)
    assert read_readings(home, PLANT).equals(before)
    assert data_version(home, PLANT) == version
    table = DeltaTable(str(home.table(PLANT, "readings/pump")))
    assert {Path(file).name for file in table.file_uris()} == {
        path.name for path in home.table(PLANT, "readings/pump").rglob("*.parquet")
    }
    assert not list((home.plans / PLANT).glob("*.work"))
    # Nothing new: it stays held, and later files go in without it.
    again = ingest(home)
    assert (again.exit_code, again.files) == (0, 0)
    assert f"the batch {plant.held} is still held" in again.plants[0].notes
    deliver(raw, "c.csv", first_day=24, days=2)
    assert ingest(home).rows_ingested == 2 * 24 * 6
    assert read_readings(home, PLANT).num_rows == before.num_rows + 2 * 24 * 6


def test_a_held_batch_goes_in_when_a_person_accepts_it(tmp_path: Path, raw: Path) -> None:
    home = home_of(tmp_path, raw)
    deliver(raw, "b.csv", first_day=14, days=10, fahrenheit=True)
    held = ingest(home).plants[0].held
    assert held
    report = ingest(home, accept=held)
    assert (report.exit_code, report.files, report.rows_ingested) == (0, 1, 10 * 24 * 6)
    assert plans(home, PLANT)[-1].accepts == held
    late = read_readings(home, PLANT, since_us=round((T0 + timedelta(days=15)).timestamp() * 1e6))
    assert np.median(late["temp"].to_numpy()) > 100
    with pytest.raises(InputError, match="No such held batch: expected none is held"):
        ingest(home, accept=held)


def test_a_corrected_file_is_a_new_delivery_and_ends_the_hold(tmp_path: Path, raw: Path) -> None:
    home = home_of(tmp_path, raw)
    deliver(raw, "b.csv", first_day=14, days=10, fahrenheit=True)
    held = ingest(home).plants[0].held
    assert held
    deliver(raw, "b.csv", first_day=14, days=10)
    with pytest.raises(InputError, match="A file of the held batch has changed"):
        ingest(home, accept=held)
    report = ingest(home)
    assert (report.exit_code, report.rows_ingested) == (0, 10 * 24 * 6)
    assert read_readings(home, PLANT)["temp"].to_numpy().max() < 60
    assert not any("still held" in note for note in ingest(home).plants[0].notes)


def test_cells_of_a_changed_unit_go_to_quarantine_where_the_plant_says_so(tmp_path: Path, raw: Path) -> None:
    home = home_of(tmp_path, raw, unit_jump="quarantine")
    deliver(raw, "b.csv", first_day=14, days=10, fahrenheit=True)
    report = ingest(home)
    assert (report.exit_code, report.rows_ingested) == (0, 10 * 24 * 6)
    late = read_readings(home, PLANT, since_us=round((T0 + timedelta(days=14)).timestamp() * 1e6))
    assert late.num_rows == 10 * 24 * 6
    assert late["load"].null_count == 0
    emptied = late["temp"].null_count
    assert emptied > 0.9 * late.num_rows
    wrong = read_quarantine(home, PLANT).to_pylist()
    assert report.cells_quarantined == emptied == len(wrong)
    assert {(row["reason"], row["file"], row["stream"]) for row in wrong} == {("unit_jump", "b.csv", "pumps")}
    assert wrong[0]["raw"].startswith("P")
    assert "temp = 1" in wrong[0]["raw"]


def test_a_check_that_is_off_holds_nothing(tmp_path: Path, raw: Path) -> None:
    home = home_of(tmp_path, raw, unit_jump="off")
    deliver(raw, "b.csv", first_day=14, days=10, fahrenheit=True)
    assert ingest(home).exit_code == 0


def test_cells_for_quarantine_are_found_again_where_a_run_died_behind_the_readings(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_of(tmp_path, raw, unit_jump="quarantine")
    deliver(raw, "b.csv", first_day=14, days=10, fahrenheit=True)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jobs.ingest.tables.commit_events", die)
        with pytest.raises(KeyboardInterrupt):
            ingest(home)
    report = ingest(home)
    late = read_readings(home, PLANT, since_us=round((T0 + timedelta(days=14)).timestamp() * 1e6))
    assert report.cells_quarantined == late["temp"].null_count == 10 * 24 * 6
    assert read_quarantine(home, PLANT).num_rows == 10 * 24 * 6


def test_a_plant_that_is_described_wrongly_does_not_stop_the_others(tmp_path: Path, raw: Path) -> None:
    home = home_of(tmp_path, raw)
    text = (home.sources / f"{PLANT}.toml").read_text()
    other = text.replace(f'plant = "{PLANT}"', 'plant = "other"').replace("*.csv", "*.x")
    (home.sources / "other.toml").write_text(other)
    deliver(raw, "b.csv", first_day=14, days=1)
    report = run(home, progress=Silent(), spread=map)
    assert (report.exit_code, report.rows_ingested) == (2, 24 * 6)
    refused = {plant.name: plant.refused for plant in report.plants}
    assert refused[PLANT] is None
    assert "No file to ingest" in (refused["other"] or "")


def test_a_plan_that_names_another_plant_is_refused(tmp_path: Path, raw: Path) -> None:
    home = home_of(tmp_path, raw)
    (path,) = [path for path in (home.plans / PLANT).glob("0*.json") if "quality" not in path.name]
    path.write_text(path.read_text().replace(f'"plant": "{PLANT}"', '"plant": "other"', 1))
    with pytest.raises(MillwrightError, match="another plant's or batch's name in it"):
        ingest(home)

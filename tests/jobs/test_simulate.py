"""The raw files of the simulated fleet: their bytes, formats and dirt, and where they may be written."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs import simulate
from models.errors import InputError

MACHINES, DAYS = 3, 33  # over the end of January


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("home"), create=True, environment={})


@pytest.fixture(scope="module")
def fleet(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fleet")
    simulate.run(home, out=out, progress=Silent(), machines=MACHINES, days=DAYS, seed=4)
    return out


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_writes_the_same_bytes_and_another_seed_does_not(home: Home, fleet: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"progress": Silent(), "machines": MACHINES, "days": DAYS, "plants": ["harbor", "summit"]}
    simulate.run(home, out=tmp_path / "same", seed=4, **options)
    simulate.run(home, out=tmp_path / "other", seed=5, **options)
    first, same, other = digests(fleet), digests(tmp_path / "same"), digests(tmp_path / "other")
    del same[".truth/fleet.json"]  # names its plants
    assert {name: first[name] for name in same} == same
    readings = [name for name in same if "readings" in name]
    assert readings
    assert all(other[name] != same[name] for name in readings)


def test_report_counts_what_was_written(home: Home, tmp_path: Path) -> None:
    report = simulate.run(home, out=tmp_path / "f", progress=Silent(), machines=2, days=5, plants=["ridge"])
    (plant,) = report.plants
    assert (plant.name, plant.machine_type, plant.machines, plant.files) == ("ridge", "compressor", 2, 5)
    with gzip.open(tmp_path / "f" / "ridge" / "readings" / "export_2025-01.jsonl.gz") as file:
        assert plant.rows == report.rows == len(file.read().splitlines())
    assert report.as_json()["plants"][0]["rows"] == plant.rows
    assert report.render() is not None


def test_without_a_folder_the_fleet_goes_into_the_home(home: Home) -> None:
    report = simulate.run(home, progress=Silent(), machines=1, days=1, plants=["harbor"])
    assert Path(report.out) == home.path / "raw"
    assert (home.path / "raw" / "harbor" / "equipment.csv").is_file()


def test_harbor_writes_german_csv_in_local_time(fleet: Path) -> None:
    lines = (fleet / "harbor" / "readings" / "pumps_2025-01.csv").read_text("utf-8").splitlines()
    assert lines[0] == "# timezone: Europe/Berlin"
    assert lines[1] == (
        "Zeit;Pumpe;Lagertemperatur_degC;Foerderdruck_bar;Durchfluss_m3/h;Schwingung_mm/s;Motorstrom_A;Drehzahl_rpm"
    )
    assert lines[2].startswith("01.01.2025 00:00:00;P-01;")
    rows = [line.split(";") for line in lines[2:]]
    assert {len(row) for row in rows} == {8}
    assert not any("." in cell for row in rows for cell in row[2:])
    good = [row for row in rows if row[0].startswith("15.01.2025") and row[2] and row[2] != "#WERT!"]
    assert all(10 < float(row[2].replace(",", ".")) < 80 for row in good)
    failures = (fleet / "harbor" / "failures.csv").read_text("utf-8").splitlines()
    assert failures[1] == "Maschine;Bauteil;Schadensart;Beginn;Ende;Gebucht_am;Ausfall_h;Kosten;Auftrag"


def test_ridge_writes_an_export_of_tags_with_offsets(fleet: Path) -> None:
    with gzip.open(fleet / "ridge" / "readings" / "export_2025-01.jsonl.gz", "rt") as file:
        lines = file.read().splitlines()
    rows, cut = [], 0
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            cut += 1
    assert cut < 0.001 * len(lines)
    assert set(rows[0]) == {"tag", "time", "value", "quality"}
    assert {row["quality"] for row in rows} == {"Good", "Bad"}
    assert len({row["tag"] for row in rows if row["tag"]}) == MACHINES * 6
    times = [datetime.fromisoformat(row["time"]) for row in rows]
    assert {str(time.utcoffset()) for time in times} == {"-1 day, 17:00:00"}
    assert times == sorted(times)
    assert any(time.minute for time in times)


def test_ridge_changes_its_offset_with_the_clocks(home: Home, tmp_path: Path) -> None:
    simulate.run(home, out=tmp_path / "f", progress=Silent(), machines=1, days=75, plants=["ridge"])
    with gzip.open(tmp_path / "f" / "ridge" / "readings" / "export_2025-03.jsonl.gz", "rt") as file:
        text = file.read()
    assert "2025-03-09T01:" in text
    assert "2025-03-09T02:" not in text
    assert "2025-03-09T03:" in text
    assert "2025-03-08T12:" in text.split("-06:00")[0]


def test_summit_writes_typed_parquet_every_ten_minutes(fleet: Path) -> None:
    table = pq.read_table(fleet / "summit" / "readings" / "spindles_2025-01.parquet")
    assert table.schema.field("machine_id").type == "string"
    assert str(table.schema.field("ts").type) == "timestamp[ms, tz=UTC]"
    assert table.column_names[2:] == [
        "spindle_temp_degC", "vibration_mm/s", "torque_Nm", "spindle_speed_rpm", "coolant_flow_L/min", "power_kW",
    ]  # fmt: skip
    one = table.filter(pc.equal(table["machine_id"], "SP-01"))["ts"].cast("int64").to_numpy()
    assert set((one[1:] - one[:-1]) // 60_000) >= {10}
    assert (one % 600_000 == 0).all()


@pytest.mark.parametrize(("plant", "time"), [("ridge", "start"), ("summit", "started_utc")])
def test_logs_name_machines_of_the_equipment_list(fleet: Path, plant: str, time: str) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with (fleet / plant / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    machine = "asset_id" if plant == "ridge" else "machine_id"
    known = {row[machine] for row in rows("equipment")}
    assert len(known) == MACHINES
    assert {row[machine] for name in ("failures", "maintenance", "errors") for row in rows(name)} <= known
    assert all(datetime.fromisoformat(row[time]) for row in rows("failures"))


def test_few_rows_are_wrong_and_some_come_twice_and_late(fleet: Path) -> None:
    tables = [pq.read_table(fleet / "summit" / "readings" / f"spindles_2025-0{m}.parquet") for m in (1, 2)]
    for table in tables:
        values = [table[name].to_numpy() for name in table.column_names[2:]]
        absurd = sum(int(((v == -9999) | (v == 99999) | (abs(v) == float("inf"))).sum()) for v in values)
        assert 0 < absurd + table["machine_id"].null_count < 0.005 * len(table)
    start = pa.scalar(datetime.fromisoformat("2025-02-01T00:00:00+00:00"))
    assert pc.sum(pc.less(tables[1]["ts"], start)).as_py() > 0  # rows of January, repeated or late
    keys = [tuple(row.values()) for table in tables for row in table.select(["machine_id", "ts"]).to_pylist()]
    assert 0 < len(keys) - len(set(keys)) < 0.02 * len(keys)


def test_a_folder_with_other_files_is_refused_and_kept(home: Home, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        simulate.run(home, out=tmp_path, progress=Silent(), machines=1, days=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_fleet_is_replaced_but_not_what_others_put_beside_it(home: Home, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path, "progress": Silent(), "machines": 1, "days": 2}
    simulate.run(home, plants=["harbor", "summit"], **options)
    simulate.run(home, plants=["harbor"], **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".truth", "harbor"]
    note = tmp_path / "harbor" / "readings" / "note.txt"
    note.write_text("mine")
    with pytest.raises(InputError, match=r"harbor/readings/note\.txt"):
        simulate.run(home, plants=["harbor"], **options)
    assert note.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"machines": 0}, "expected 1 to 999, found 0"),
        ({"days": -1}, "expected 1 to 3650, found -1"),
        ({"seed": -1}, "Cannot simulate with this seed"),
        ({"plants": ["atlantis"]}, "expected some of harbor, ridge, summit, found 'atlantis'"),
        ({"plants": []}, "found none"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    home: Home, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        simulate.run(home, out=tmp_path / "new", progress=Silent(), **options)
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_way_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        simulate.run(home, out=tmp_path / "fleet", progress=Silent())

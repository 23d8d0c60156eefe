"""Reading and committing tables: statistics prune, versions pin, and a commit happens once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from cluster.commit import WrittenFile, commit_once, is_committed, open_or_create, open_table, write_part
from cluster.home import Home
from cluster.storage import (
    TIME,
    append_once,
    data_version,
    machine_types,
    read_events,
    read_machines,
    read_readings,
    reading_files,
    readings_schema,
    sensors,
    show_versions,
)
from models.errors import NotFoundError

PLANT = "plant"


def part(home: Home, kind: str, machine: str, times: list[int], **columns: list[float | None]) -> WrittenFile:
    table = pa.table(
        {"machine": [machine] * len(times), "time": pa.array(times, TIME)}
        | {name: pa.array(values, pa.float32()) for name, values in columns.items()}
        | {"ingested_at": pa.array([0] * len(times), TIME), "source_id": ["b"] * len(times)}
    )
    return write_part(home.table(PLANT, f"readings/{kind}"), table, stem="part", partition={"month": "1970-01"})


def add(home: Home, kind: str, file: WrittenFile, batch: str, *names: str) -> DeltaTable:
    table = open_or_create(home.table(PLANT, f"readings/{kind}"), readings_schema(names), partition_by=["month"])
    assert commit_once(table, [file], app_id=batch)
    found = open_table(home.table(PLANT, f"readings/{kind}"))
    assert found is not None
    return found


@pytest.fixture
def lake(home: Home) -> Home:
    add(home, "pump", part(home, "pump", "P1", [1, 3], a=[1.0, None]), "b1", "a")
    add(home, "pump", part(home, "pump", "P2", [10, 20], a=[2.0, 3.0], b=[4.0, 5.0]), "b2", "a", "b")
    add(home, "fan", part(home, "fan", "F1", [-7], c=[6.0]), "b1", "c")
    return home


def test_files_carry_machines_and_times_in_their_statistics(lake: Home) -> None:
    found = [
        (f.machine_type, f.first_machine, f.last_machine, f.first_us, f.last_us, f.num_rows)
        for f in reading_files(lake, PLANT)
    ]
    assert found == [("fan", "F1", "F1", -7, -7, 1), ("pump", "P1", "P1", 1, 3, 2), ("pump", "P2", "P2", 10, 20, 2)]


def test_sensors_and_types_are_the_tables_own(lake: Home) -> None:
    assert sensors(lake, PLANT) == ["a", "b", "c"]
    assert machine_types(lake, PLANT) == ["fan", "pump"]
    assert data_version(lake, PLANT) == "readings/fan@1,readings/pump@3"


def test_readings_come_sorted_with_nulls_for_what_a_file_lacks(lake: Home) -> None:
    found = read_readings(lake, PLANT)
    assert found["machine"].to_pylist() == ["F1", "P1", "P1", "P2", "P2"]
    assert found["b"].to_pylist() == [None, None, None, 4.0, 5.0]
    assert found.schema.field("a").type == pa.float32()


def test_readings_are_cut_by_machine_time_and_sensor_ends_included(lake: Home) -> None:
    assert read_readings(lake, PLANT, machines=["P2", "nobody"])["a"].to_pylist() == [2.0, 3.0]
    assert read_readings(lake, PLANT, since_us=3, until_us=10, sensors=["a"])["a"].to_pylist() == [None, 2.0]
    assert read_readings(lake, PLANT, machines=["P1"], sensors=["unknown"]).column_names == [
        "machine",
        "time",
        "unknown",
    ]
    assert read_readings(lake, PLANT, since_us=21).num_rows == 0


def test_readers_see_the_versions_that_are_shown(lake: Home) -> None:
    show_versions(lake, PLANT, {"readings/pump": 1})
    assert machine_types(lake, PLANT) == ["pump"]
    assert sensors(lake, PLANT) == ["a"]
    assert read_readings(lake, PLANT)["machine"].to_pylist() == ["P1", "P1"]
    assert data_version(lake, PLANT) == "readings/pump@1"


def test_a_plant_without_readings_says_what_to_do(home: Home) -> None:
    with pytest.raises(NotFoundError, match="millwright ingest --plant plant"):
        reading_files(home, PLANT)
    assert read_events(home, PLANT).num_rows == 0
    assert read_machines(home, PLANT).num_rows == 0
    assert data_version(home, PLANT) == ""


def test_a_commit_of_one_batch_happens_once(lake: Home) -> None:
    path = lake.table(PLANT, "readings/fan")
    table = DeltaTable(str(path))
    assert is_committed(path, "b1")
    assert not commit_once(table, [part(lake, "fan", "F9", [1], c=[1.0])], app_id="b1")
    assert read_readings(lake, PLANT, machines=["F9"]).num_rows == 0


def test_two_commits_on_one_version_cannot_both_happen(lake: Home) -> None:
    path = lake.table(PLANT, "readings/fan")
    first, second = DeltaTable(str(path)), DeltaTable(str(path))
    assert commit_once(first, [part(lake, "fan", "F2", [1], c=[1.0])], app_id="b3", serial=("ingest", 3))
    with pytest.raises(CommitFailedError):
        commit_once(second, [part(lake, "fan", "F2", [1], c=[2.0])], app_id="b4", serial=("ingest", 4))


def test_appends_that_race_land_once_each(home: Home) -> None:
    path = home.table(PLANT, "predictions")
    table = pa.table({"id": [1, 2, 3]})
    append_once(path, table, app_id="other", version=1)

    def append(version: int) -> bool:
        return append_once(path, table, app_id=f"replica-{version % 2}", version=1 + version // 2)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, [0, 1, 0, 1]))
    assert DeltaTable(str(path)).to_pyarrow_table().num_rows == 9

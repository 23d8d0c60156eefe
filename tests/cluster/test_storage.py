"""Reading and committing tables: statistics prune, versions pin, and a commit happens once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from cluster.commit import WrittenFile, commit_once, is_committed, open_or_create, open_table, write_part
from cluster.home import Home
from cluster.storage import (
    TIME,
    ReadingFile,
    append_once,
    data_version,
    files_of,
    machine_types,
    read_events,
    read_machines,
    read_readings,
    reading_files,
    readings_schema,
    sensors,
    show_versions,
    visible_versions,
    written_files,
)
from cluster.visibility import parse_time, states
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


def test_every_read_may_be_as_of_a_version(lake: Home) -> None:
    assert read_readings(lake, PLANT, as_of="readings/pump@1")["machine"].to_pylist() == ["P1", "P1"]
    assert sensors(lake, PLANT, "readings/pump@1") == ["a"]
    assert machine_types(lake, PLANT, "readings/fan@1,readings/pump@1") == ["fan", "pump"]
    assert read_events(lake, PLANT, as_of="readings/pump@1").num_rows == 0
    assert data_version(lake, PLANT, "readings/pump@2,readings/fan@1") == "readings/fan@1,readings/pump@2"
    with pytest.raises(NotFoundError, match="Version 4 of events can no longer be read"):
        read_events(lake, PLANT, as_of="readings/pump@1,events@4")


def test_what_was_visible_at_a_time_is_what_a_reader_as_of_that_time_sees(lake: Home) -> None:
    assert visible_versions(lake, PLANT, datetime(2020, 1, 1)) == {}
    show_versions(lake, PLANT, {"readings/pump": 1}, cause="000001-0123456789ab", rows={"readings/pump": 2})
    show_versions(lake, PLANT, {"readings/pump": 3})
    first, second = states(lake, PLANT)
    assert (first.cause, first.rows, second.cause) == ("000001-0123456789ab", {"readings/pump": 2}, "")
    assert visible_versions(lake, PLANT, first.at) == {"readings/pump": 1}
    assert visible_versions(lake, PLANT, second.at.isoformat()) == {"readings/pump": 3}
    assert visible_versions(lake, PLANT, second.at - timedelta(microseconds=1)) == {"readings/pump": 1}
    assert visible_versions(lake, PLANT, "000001-0123456789ab") == {"readings/pump": 1}


def test_a_time_without_a_zone_is_utc() -> None:
    assert parse_time("2025-06-01 12:00") == datetime(2025, 6, 1, 12, tzinfo=UTC)
    assert parse_time("2025-06-01T12:00+02:00") == datetime(2025, 6, 1, 10, tzinfo=UTC)


def test_a_state_shown_before_states_were_written_down_is_the_first(lake: Home) -> None:
    show_versions(lake, PLANT, {"readings/pump": 1})
    (lake.of(PLANT).plans / "visible.jsonl").unlink()
    show_versions(lake, PLANT, {"readings/pump": 3}, cause="000002-0123456789ab")
    assert [state.versions for state in states(lake, PLANT)] == [{"readings/pump": 1}, {"readings/pump": 3}]


def test_a_half_written_line_is_passed_over_and_the_next_one_is_whole(lake: Home) -> None:
    record = lake.of(PLANT).plans / "visible.jsonl"
    show_versions(lake, PLANT, {"readings/pump": 1})
    whole = record.read_bytes()
    record.write_bytes(whole + whole[:25])
    show_versions(lake, PLANT, {"readings/pump": 3})
    assert [state.versions["readings/pump"] for state in states(lake, PLANT)] == [1, 3]


def test_a_clock_that_is_set_back_makes_no_history(lake: Home) -> None:
    record = lake.of(PLANT).plans / "visible.jsonl"
    show_versions(lake, PLANT, {"readings/pump": 1})
    ahead = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
    line = json.loads(record.read_text()) | {"at": ahead}
    record.write_text(json.dumps(line) + "\n")
    show_versions(lake, PLANT, {"readings/pump": 3})
    first, second = states(lake, PLANT)
    assert second.at == first.at == datetime.fromisoformat(ahead)
    assert visible_versions(lake, PLANT, ahead) == {"readings/pump": 3}


def test_a_commit_can_say_that_it_changes_no_data(lake: Home) -> None:
    path = lake.table(PLANT, "readings/fan")
    assert commit_once(DeltaTable(str(path)), [part(lake, "fan", "F2", [1], c=[1.0])], app_id="b3", data_change=False)
    assert '"dataChange":false' in (path / "_delta_log" / f"{2:020}.json").read_text()
    assert '"dataChange":true' not in (path / "_delta_log" / f"{2:020}.json").read_text()


def test_a_file_says_what_its_statistics_say_and_without_them_may_hold_anything(home: Home) -> None:
    folder = home.table(PLANT, "readings/pump")
    table = open_or_create(folder, readings_schema(["a"]), partition_by=["month"])
    known = part(home, "pump", "P1", [-3, 7], a=[1.0, 2.0])
    blank = WrittenFile("month=1970-01/a b.parquet", 5, 4, {"month": "1970-01"}, '{"numRecords":4}')
    nothing = WrittenFile("month=1970-02/c.parquet", 6, 0, {"month": "1970-02"}, '{"numRecords":0}')
    (folder / "month=1970-02").mkdir()
    commit_once(table, [known, blank, nothing], app_id="x")
    opened = open_table(folder)
    assert opened is not None
    found = {file.path: file for file in files_of(opened, "pump", folder)}
    ever, last = 2**62, "\U0010ffff"
    assert set(found.values()) == {
        ReadingFile(f"{folder}/{known.path}", "pump", 2, known.size, "P1", "P1", -3, 7),
        ReadingFile(f"{folder}/month=1970-01/a b.parquet", "pump", 4, 5, "", last, -ever, ever),
        ReadingFile(f"{folder}/month=1970-02/c.parquet", "pump", 0, 6, "", last, -ever, ever),
    }
    removable = {file.path: (file.size, file.rows, file.partition) for file in written_files(opened)}
    wanted = {f.path.replace(" ", "%20"): (f.size, f.rows, f.partition) for f in (known, blank, nothing)}
    assert removable == wanted  # as the log has them


def test_a_table_without_files_has_none(home: Home) -> None:
    table = open_or_create(home.table(PLANT, "readings/pump"), readings_schema(["a"]), partition_by=["month"])
    assert files_of(table, "pump", home.table(PLANT, "readings/pump")) == [] == written_files(table)


def test_transactions_that_are_committed_together_are_each_known(home: Home) -> None:
    folder = home.table(PLANT, "readings/pump")
    table = open_or_create(folder, readings_schema(["a"]), partition_by=["month"])
    file = part(home, "pump", "P1", [1], a=[1.0])
    assert commit_once(table, [file], app_id="x", version=3, also={"y": 7})
    assert is_committed(folder, "x", 3) and is_committed(folder, "y", 7) and not is_committed(folder, "y", 8)

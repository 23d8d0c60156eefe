"""Wrong files and descriptions under a plant that already has history: one sentence each, and nothing good lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.home import Home
from cluster.report import Silent
from cluster.sources import write_source
from cluster.storage import read_events, read_quarantine, read_readings
from jobs import connect
from jobs.ingest import IngestReport, Row, run
from jobs.sources.times import to_us
from models.errors import InputError, MillwrightError
from models.labels import MachineLog, at_once
from models.source import SourceDescription, Stream, TimeFormat

PLANT = "plant"
HEAD = "time,machine,temp_degC,p_bar\n"


def here(function: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
    return map(function, items)


def hours(first: str, num: int, tail: str = "M1,20.5,5") -> str:
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    return "".join(f"{(start + timedelta(hours=i)).isoformat()},{tail}\n" for i in range(num))


def ingest(home: Home) -> IngestReport:
    return run(home, plant=PLANT, progress=Silent(), spread=here)


def reasons(home: Home) -> list[tuple[str, int, str]]:
    columns = (read_quarantine(home, PLANT)[name].to_pylist() for name in ("file", "line", "reason"))
    return sorted(zip(*columns, strict=True))


@pytest.fixture
def raw(home: Home, tmp_path: Path) -> Path:
    """Two months, connected and ingested."""
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "r_1.csv").write_text(HEAD + hours("2025-01-01", 50))
    (folder / "r_2.csv").write_text(HEAD + hours("2025-02-01", 50))
    connect.run(home, path=folder, plant=PLANT, progress=Silent())
    assert ingest(home).rows_ingested == 100
    return folder


@pytest.mark.parametrize("text", ["<html>502 Bad gateway</html>\n", "machine,temp_degC,p_bar\nM1,20,3\n",
                                  "time;machine;temp_degC;p_bar\n2025-03-01;M1;20,5;3\n"])  # fmt: skip
def test_a_later_file_without_a_required_column_never_stops_the_plant(home: Home, raw: Path, text: str) -> None:
    (raw / "r_3.csv").write_text(text)
    assert ingest(home).plants[0].files_quarantined == ["r_3.csv"]
    assert reasons(home) == [("r_3.csv", 1, "missing_column")]
    (raw / "r_4.csv").write_text(HEAD + hours("2025-04-01", 5))
    assert ingest(home).rows_ingested == 5
    assert read_readings(home, PLANT).num_rows == 105


def test_a_description_that_is_edited_wrongly_is_refused_though_earlier_files_had_the_column(
    home: Home, raw: Path
) -> None:
    path = home.sources / f"{PLANT}.toml"
    path.write_text(path.read_text().replace('role = "readings"', 'role = "readings"\ncsv = {delimiter = ";"}'))
    with pytest.raises(InputError, match=r"Missing column 'time': expected 'time' in the files of stream 'r'"):
        ingest(home)
    assert reasons(home) == []


def test_a_column_of_a_file_that_goes_to_quarantine_is_still_new_when_it_comes_again(home: Home, raw: Path) -> None:
    (raw / "r_3.csv").write_text("machine,temp_degC,p_bar,oil_bar\nM1,20,3,4\n")
    assert ingest(home).new_sensors == []
    (raw / "r_4.csv").write_text(HEAD.strip() + ",oil_bar\n" + hours("2025-04-01", 5, "M1,20,3,4"))
    assert ingest(home).new_sensors == ["oil"]


def test_a_new_column_that_comes_empty_is_a_sensor_once_it_holds_numbers(home: Home, raw: Path) -> None:
    (raw / "r_3.csv").write_text(HEAD.strip() + ",oil\n" + hours("2025-03-01", 5, "M1,20,3,"))
    assert ingest(home).new_sensors == []
    (raw / "r_4.csv").write_text(HEAD.strip() + ",oil\n" + hours("2025-04-01", 5, "M1,20,3,4"))
    assert ingest(home).new_sensors == ["oil"]


def test_files_that_no_stream_names_and_streams_without_a_file_are_told(home: Home, raw: Path) -> None:
    time.sleep(0.05)  # later than the description
    (raw / "r_3.csv.gz").write_bytes(b"")
    assert ingest(home).plants[0].notes == [
        "not read, since no stream names it: r_3.csv.gz. Run `millwright connect` again, or correct `files`"
    ]
    path = home.sources / f"{PLANT}.toml"
    path.write_text(path.read_text() + '\n[[streams]]\nname = "lost"\nrole = "failures"\nfiles = "gone*"\n'
                    'time = {column = "t"}\nmachine = {column = "m"}\n')  # fmt: skip
    assert ingest(home).plants[0].notes == ["no file for the stream lost (gone*)"]


def test_times_that_no_reading_can_have_cost_their_row(home: Home, raw: Path) -> None:
    wrong = ["1970-01-01T00:00:00Z", "1899-01-01T00:00:00Z", "2199-01-01T00:00:00Z", "2300-01-01T00:00:00Z"]
    (raw / "r_3.csv").write_text(HEAD + "".join(f"{when},M1,20,5\n" for when in wrong) + hours("2025-03-01", 2))
    report = ingest(home)
    assert (report.rows_ingested, report.rows_quarantined) == (2, 4)
    assert [reason for _, _, reason in reasons(home)] == ["bad_time", "bad_time", "future_time", "bad_time"]


def test_whole_numbers_beyond_int64_are_no_times_and_no_crash() -> None:
    texts = ["99999999999999999999", "+1735689600", "9223372036854775807", "-5", "1735689600", "1e400"]
    found = to_us(pa.chunked_array([texts]), TimeFormat(column="t", format="epoch_s"))
    assert found.to_pylist() == [None, 1735689600000000, None, -5000000, 1735689600000000, None]


def test_a_few_wrong_numbers_leave_an_epoch_an_epoch(home: Home, tmp_path: Path) -> None:
    rows = [f"{1735689600 + i * 3600},M1,20.{i}" for i in range(40)] + ["-5,M1,20", "0,M1,20"]
    (tmp_path / "e.csv").write_text("time,machine,temp_degC\n" + "\n".join(rows) + "\n")
    connect.run(home, path=tmp_path / "e.csv", plant=PLANT, progress=Silent())
    (stream,) = home.source(PLANT).streams
    assert stream.time is not None
    assert stream.time.format == "epoch_s"
    report = ingest(home)
    assert (report.rows_ingested, report.rows_quarantined) == (40, 2)


def test_one_wrong_date_in_a_short_log_leaves_it_a_log(home: Home, raw: Path) -> None:
    starts = ["2025-01-01T05:00:00Z", "2025-01-02T05:00:00Z", "soon", "2025-01-03T05:00:00Z"]
    (raw / "failures.csv").write_text("machine,started_at,component\n" + "".join(f"M1,{s},seal\n" for s in starts))
    connect.run(home, path=raw, plant=PLANT, progress=Silent())
    ingest(home)
    assert read_events(home, PLANT).num_rows == 3
    assert reasons(home) == [("failures.csv", 4, "bad_time")]


def test_two_failures_of_one_moment_are_two_events_and_one_failure_of_the_machine(home: Home, raw: Path) -> None:
    rows = [("M1", "2025-01-01T05:00:00Z", "comp1"), ("M1", "2025-01-01T05:00:00Z", "comp2")]
    (raw / "failures.csv").write_text("machine,datetime,failure\n" + "".join(",".join(r) + "\n" for r in rows))
    connect.run(home, path=raw, plant=PLANT, progress=Silent())
    assert ingest(home).rows_superseded == 0
    assert read_events(home, PLANT)["failure_mode"].to_pylist() == ["comp1", "comp2"]


def test_components_that_fail_at_one_moment_are_repaired_when_the_last_one_is() -> None:
    log = MachineLog(*(pa.array(v).to_numpy() for v in ([5, 5, 9], [7, 8, 9], [6, 5, 10])))
    found = at_once(log)
    columns = (found.failed_us, found.repaired_us, found.failed_known_us)
    assert [c.tolist() for c in columns] == [
        [5, 9],
        [8, 9],
        [5, 10],
    ]
    assert at_once(MachineLog()) == MachineLog()


def test_a_file_whose_columns_have_types_that_say_nothing_stops_no_other(home: Home, tmp_path: Path) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    good = {"time": [start + timedelta(hours=i) for i in range(5)], "machine": ["M1"] * 5, "temp_degC": [20.5] * 5}
    for name in ("r_1.parquet", "r_3.parquet"):
        pq.write_table(pa.table(good), tmp_path / name)
    connect.run(home, path=tmp_path, plant=PLANT, progress=Silent())
    pq.write_table(pa.table(good | {"machine": [{"a": 1}] * 5}), tmp_path / "r_2.parquet")
    report = ingest(home)
    assert (report.rows_ingested, report.plants[0].files_quarantined) == (10, ["r_2.parquet"])


def test_torn_files_of_the_home_are_named(home: Home, raw: Path) -> None:
    (plan,) = (path for path in (home.plans / PLANT).glob("0*.json") if path.suffixes == [".json"])
    whole = plan.read_bytes()
    plan.write_bytes(whole[:40])
    with pytest.raises(MillwrightError, match=r"Unreadable plan of a batch: .*000001-.*json"):
        ingest(home)
    plan.write_bytes(whole)
    visible = home.plans / PLANT / "visible.json"
    visible.write_text("{")
    with pytest.raises(MillwrightError, match=r"Unreadable list of visible tables: .* Delete it"):
        read_readings(home, PLANT)
    visible.unlink()
    assert read_readings(home, PLANT).num_rows == 100


def stream(**changes: object) -> dict[str, object]:
    return {"name": "a", "role": "readings", "files": "*.csv", "time": {"column": "t"}, **changes}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"files": "/etc/*"}, r"a glob below the root"),
        ({"files": "../*.csv"}, r"a glob below the root"),
        ({"files": ""}, r"a glob below the root"),
        ({"csv": {"delimiter": ";;"}}, r"pattern"),
        ({"csv": {"skip_rows": -1}}, r"greater than or equal to 0"),
        ({"machine": {"kind": "tag", "pattern": "(["}}, r"a regular expression \(unterminated"),
        ({"machine": {"kind": "tag", "pattern": "x"}}, r"with the group \(\?P<machine>"),
    ],
)
def test_a_description_that_would_crash_a_task_is_no_description(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SourceDescription.model_validate({"plant": PLANT, "root": "/", "streams": [stream(**changes)]})


def test_streams_have_names_of_their_own_and_a_plant_that_of_its_file(home: Home, raw: Path) -> None:
    with pytest.raises(ValueError, match="'a' comes twice"):
        SourceDescription.model_validate({"plant": PLANT, "root": "/", "streams": [stream(), stream()]})
    path = home.sources / f"{PLANT}.toml"
    path.write_text(path.read_text().replace(f'plant = "{PLANT}"', 'plant = "other"'))
    with pytest.raises(InputError, match=r"at 'plant': expected 'plant', as the file is named, found 'other'"):
        ingest(home)
    assert not (home.lake / "other").exists()


def test_an_unknown_field_of_a_log_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("m,t,c\nM1,2025-01-01,seal\n")
    fields = {"started_at": "t", "componnent": "c"}
    log = Stream.model_validate(stream(role="failures", files="f.csv", machine={"column": "m"}, fields=fields))
    write_source(home.sources / f"{PLANT}.toml", SourceDescription(plant=PLANT, root=str(tmp_path), streams=(log,)))
    with pytest.raises(InputError, match=r"Unknown field 'componnent': expected one of code, component, cost"):
        ingest(home)


def test_a_corrected_description_wins_over_the_plan_of_a_run_that_was_killed(home: Home, raw: Path) -> None:
    (raw / "r_3.csv").write_text(HEAD + hours("2025-03-01", 5))

    def killed(function: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(home, plant=PLANT, progress=Silent(), spread=killed)
    path = home.sources / f"{PLANT}.toml"
    path.write_text(path.read_text().replace("low = -273.15, high = 3000.0", "low = -273.15, high = 10.0"))
    report = ingest(home)
    assert not report.plants[0].resumed
    assert report.cells_quarantined == 105  # every file means something else now

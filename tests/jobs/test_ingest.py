"""Ingest as a whole: what is in the tables after deliveries, crashes and bad files."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.home import Home, open_home
from cluster.report import Silent
from cluster.sources import write_source
from cluster.storage import (
    append_once,
    data_version,
    machine_types,
    read_events,
    read_machines,
    read_quarantine,
    read_readings,
    sensors,
)
from jobs.ingest import IngestReport, Row, run
from jobs.ingesting.plan import plans
from models.errors import InputError, MillwrightError
from models.source import Clock, CsvFormat, MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

T0 = datetime(2025, 1, 31, 22, tzinfo=UTC)  # two hours before a month ends
PLANT = "plant"


def here(function: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
    """Tasks in this process."""
    return map(function, items)


def ingest(home: Home, **options: Any) -> IngestReport:
    return run(home, progress=Silent(), **({"spread": here} | options))


def wide(**changes: Any) -> Stream:
    sensors = {
        "temp_degF": SensorColumn(sensor="temp", kind="temperature", unit="degF"),
        "p_bar": SensorColumn(sensor="p", kind="pressure", unit="bar"),
    }
    base = Stream(
        name="pumps", role="readings", files="readings/*.csv", time=TimeFormat(column="ts"), machine_type="Pump",
        machine=MachineFrom(column="m"), sensors=sensors,
    )  # fmt: skip
    return base.model_copy(update=changes)


def connect(home: Home, root: Path, *streams: Stream, clock: Clock | None = None) -> None:
    root.mkdir(parents=True, exist_ok=True)
    description = SourceDescription(plant=PLANT, root=str(root), clock=clock or Clock(), streams=streams or (wide(),))
    write_source(home.sources / f"{PLANT}.toml", description)


def put(path: Path, rows: Iterable[tuple[object, ...]], header: str = "m,ts,temp_degF,p_bar") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join("" if v is None else str(v) for v in row) for row in rows)]) + "\n")


def at(hours: float) -> str:
    return (T0 + timedelta(hours=hours)).isoformat()


def cells(home: Home) -> dict[tuple[str, int], tuple[float | None, ...]]:
    table = read_readings(home, PLANT)
    names = [n for n in table.column_names if n not in ("machine", "time")]
    return {
        (row["machine"], round((row["time"] - T0) / timedelta(hours=1))): tuple(
            None if row[n] is None else round(row[n], 4) for n in names
        )
        for row in table.to_pylist()
    }


def rows_at(path: Path, version: int) -> list[tuple[Any, ...]]:
    table = DeltaTable(str(path), version=version)
    if not table.file_uris():
        return []
    return [tuple(row.items()) for row in table.to_pyarrow_table().to_pylist()]


def no_identity_twice(home: Home) -> None:
    for log in home.table(PLANT, "readings").glob("*/_delta_log"):
        for version in range(DeltaTable(str(log.parent)).version() + 1):
            keys = [(dict(row)["machine"], dict(row)["time"]) for row in rows_at(log.parent, version)]
            assert len(keys) == len(set(keys))


def everything(home: Home) -> dict[str, list[Any]]:
    """The rows of every table, without the time of ingestion."""
    found: dict[str, list[Any]] = {"readings": sorted(cells(home).items())}
    for name, table in (("events", read_events(home, PLANT)), ("machines", read_machines(home, PLANT))):
        found[name] = table.drop_columns(["source_id"]).to_pylist()
    wrong = read_quarantine(home, PLANT).drop_columns(["time", "source_id"]).to_pylist()
    found["quarantine"] = sorted(wrong, key=json.dumps)
    return found


def test_rows_become_canonical_units_utc_and_months(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw")
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1.5), ("M1", at(2), 32, None), ("M2", at(1), None, 2)])
    report = ingest(home)
    assert (report.files, report.rows_ingested, report.rows_superseded, report.rows_quarantined) == (1, 3, 0, 0)
    assert sensors(home, PLANT) == ["p", "temp"]
    assert machine_types(home, PLANT) == ["pump"]
    assert cells(home) == {("M1", 0): (1.5, 100.0), ("M1", 2): (None, 0.0), ("M2", 1): (2.0, None)}
    folders = sorted(p.name for p in home.table(PLANT, "readings/pump").glob("month=*"))
    assert folders == ["month=2025-01", "month=2025-02"]
    raw = DeltaTable(str(home.table(PLANT, "readings/pump"))).to_pyarrow_table()
    assert raw.schema.field("temp").type == pa.float32()
    assert raw.schema.field("time").type == pa.timestamp("us", "UTC")
    assert set(raw["source_id"].to_pylist()) == {report.plants[0].batch}


def test_a_second_ingest_finds_nothing_to_do(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw")
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1)])
    ingest(home)
    before = data_version(home, PLANT)
    report = ingest(home)
    assert (report.files, report.rows_ingested) == (0, 0)
    assert data_version(home, PLANT) == before


def test_late_rows_and_overlapping_exports_merge_by_cell(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw")
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1), ("M1", at(1), 212, None)])
    ingest(home)
    put(tmp_path / "raw/readings/b.csv", [("M1", at(1), None, 5), ("M1", at(0), 212, 1), ("M1", at(-1), 32, 7)])
    report = ingest(home)
    assert (report.rows_ingested, report.rows_superseded) == (3, 1)
    assert cells(home) == {("M1", -1): (7.0, 0.0), ("M1", 0): (1.0, 100.0), ("M1", 1): (5.0, 100.0)}
    no_identity_twice(home)


def test_rows_that_a_batch_does_not_change_stay_the_earlier_batch_s(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw")
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1), ("M1", at(1), 212, 1)])
    first = ingest(home).plants[0].batch
    put(tmp_path / "raw/readings/b.csv", [("M1", at(0), 212, 1), ("M1", at(1), 32, 1)])
    second = ingest(home).plants[0].batch
    raw = DeltaTable(str(home.table(PLANT, "readings/pump"))).to_pyarrow_table().sort_by("time")
    assert raw["source_id"].to_pylist() == [first, second]


def test_a_file_changed_under_its_name_is_delivered_again_and_wins(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw")
    path = tmp_path / "raw/readings/a.csv"
    put(path, [("M1", at(0), 212, 1)])
    put(tmp_path / "raw/readings/b.csv", [("M1", at(0), 32, 2)])
    ingest(home)
    assert cells(home) == {("M1", 0): (2.0, 0.0)}
    put(path, [("M1", at(0), 212, 1), ("M1", at(1), 212, 1)])
    report = ingest(home)
    assert report.files == 1
    assert cells(home) == {("M1", 0): (1.0, 100.0), ("M1", 1): (1.0, 100.0)}


def test_one_file_a_sensor_becomes_one_row_an_instant(home: Home, tmp_path: Path) -> None:
    one = {"value": SensorColumn(sensor="temp", kind="temperature", unit="degF")}
    other = {"value": SensorColumn(sensor="p", kind="pressure", unit="psi")}
    connect(
        home, tmp_path / "raw", wide(name="t", files="readings/temp.csv", sensors=one),
        wide(name="p", files="readings/p.csv", sensors=other),
    )  # fmt: skip
    put(tmp_path / "raw/readings/temp.csv", [("M1", at(0), 212)], "m,ts,value")
    put(tmp_path / "raw/readings/p.csv", [("M1", at(0), 14.503773773)], "m,ts,value")
    report = ingest(home)
    assert (report.rows_ingested, report.rows_superseded) == (2, 0)
    assert cells(home) == {("M1", 0): (1.0, 100.0)}


def test_the_long_layout_counts_readings_and_keeps_bad_quality_out(home: Home, tmp_path: Path) -> None:
    stream = wide(
        files="readings/*.jsonl.gz", format="jsonl", layout="long", tag_column="tag", value_column="value",
        quality_column="quality", quality_good=("Good",), time=TimeFormat(column="time"),
        machine=MachineFrom(kind="tag", pattern=r"^(?P<machine>[^.]+)\.(?P<sensor>.+)$"),
    )  # fmt: skip
    connect(home, tmp_path / "raw", stream)
    good: list[Any] = [
        {"tag": f"M1.{tag}", "time": at(0), "value": value, "quality": "Good"}
        for tag, value in (("temp_degF", 212), ("p_bar", 3), ("speed_rpm", 900))
    ]
    lines = [json.dumps(row) for row in good]
    lines += [json.dumps(good[0] | {"quality": "Bad"}), json.dumps(good[0] | {"value": "n.a."}), '{"tag": "M1.te', ""]
    lines += [json.dumps(good[0] | {"value": None}), json.dumps(good[0] | {"value": -1000}), json.dumps({"tag": "x"})]
    path = tmp_path / "raw/readings/a.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    report = ingest(home)
    assert (report.rows_ingested, report.rows_quarantined, report.cells_quarantined) == (3, 6, 0)
    assert report.new_sensors == ["speed"]
    assert cells(home) == {("M1", 0): (3.0, 900.0, 100.0)}
    wrong = read_quarantine(home, PLANT).to_pylist()
    assert {row["line"]: row["reason"] for row in wrong} == {
        4: "bad_quality", 5: "bad_number", 6: "bad_json", 8: "no_value", 9: "out_of_range", 10: "unknown_tag",
    }  # fmt: skip
    assert next(row["raw"] for row in wrong if row["line"] == 6) == '{"tag": "M1.te'


def test_a_wrong_cell_costs_the_cell_and_a_wrong_row_the_row(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw")
    rows = [
        ("M1", at(0), "abc", 1), ("M1", at(1), 1e9, 1), ("", at(2), 212, 1), ("M1", "yesterday", 212, 1),
        ("M1", at(3), "abc", None), ("M1", at(4), 212, 1, 5),
    ]  # fmt: skip
    put(tmp_path / "raw/readings/a.csv", rows)
    report = ingest(home)
    assert (report.rows_ingested, report.rows_quarantined, report.cells_quarantined) == (2, 4, 2)
    assert cells(home) == {("M1", 0): (1.0, None), ("M1", 1): (1.0, None)}
    wrong = {row["line"]: (row["reason"], row["raw"]) for row in read_quarantine(home, PLANT).to_pylist()}
    assert wrong[2] == ("bad_number", f"M1,{at(0)},abc,1")
    assert [wrong[line][0] for line in (3, 4, 5, 6, 7)] == [
        "out_of_range", "no_machine", "bad_time", "bad_number", "wrong_number_of_columns",
    ]  # fmt: skip


def test_bad_files_go_to_quarantine_and_lose_nothing_good(home: Home, tmp_path: Path) -> None:
    parquet = wide(name="q", files="readings/*.parquet", format="parquet")
    connect(home, tmp_path / "raw", wide(files="readings/*.csv*"), parquet)
    folder = tmp_path / "raw/readings"
    put(folder / "good.csv", [("M1", at(0), 212, 1)])
    (folder / "zero.csv").touch()
    put(folder / "header.csv", [])
    put(folder / "lacks.csv", [("M1", 212)], "m,temp_degF")
    put(folder / "long.csv", [("M2", at(n), 212, n % 7) for n in range(3000)])
    whole = gzip.compress((folder / "long.csv").read_bytes())
    (folder / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "long.csv").write_bytes(
        b"m,ts,temp_degF,p_bar\nM9," + b"x" * (9 << 20) + b"\nM1," + at(1).encode() + b",32,2\n"
    )
    (folder / "nul.csv").write_bytes(
        b"m,ts,temp_degF,p_bar\nM\0,x,1,1\n\xff\xfe,x,1,1\nM1," + at(2).encode() + b",32,2\n"
    )
    (folder / "wide.csv").write_bytes(f"m,ts,temp_degF,p_bar\nM1,{at(3)},32,2\n".encode("utf-16"))
    (folder / "magic.parquet").write_bytes(b"not parquet at all")
    table = pa.table(
        {
            "m": ["M3", None],
            "ts": pa.array([T0, T0], pa.timestamp("ms", "UTC")),
            "temp_degF": [212.0, 1],
            "p_bar": [1, 1],
        }
    )
    pq.write_table(table, folder / "good.parquet")
    report = ingest(home)
    found = cells(home)
    assert {("M1", 0), ("M1", 1), ("M1", 2), ("M1", 3), ("M3", 0)} <= set(found)
    survivors = sum(machine == "M2" for machine, _ in found)
    assert 100 < survivors < 3000
    assert report.rows_ingested == survivors + 5
    files = set(report.plants[0].files_quarantined)
    assert files == {"readings/zero.csv", "readings/lacks.csv", "readings/cut.csv.gz", "readings/magic.parquet"}
    reasons = {(row["file"], row["reason"]) for row in read_quarantine(home, PLANT).to_pylist()}
    assert ("readings/long.csv", "line_too_long") in reasons
    assert ("readings/nul.csv", "bad_encoding") in reasons
    assert ("readings/good.parquet", "no_machine") in reasons
    assert ("readings/magic.parquet", "unreadable_file") in reasons


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        (wide(sensors={"temp_degF": SensorColumn(sensor="t", kind="temperature", unit="furlong")}), "'furlong'"),
        (wide(time=TimeFormat(column="when")), "Missing column 'when'"),
        (wide(sensors={"x": SensorColumn(sensor="x")}), "Missing column 'x'"),
        (wide(time=TimeFormat(column="ts", zone="Europe/Atlantis")), "Unknown time zone"),
        (wide(files="elsewhere/*.csv"), "No file to ingest"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_before_anything_is_written(
    home: Home, tmp_path: Path, stream: Stream, what: str
) -> None:
    connect(home, tmp_path / "raw", stream)
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1)])
    with pytest.raises(InputError, match=what):
        ingest(home)
    assert not [path for path in home.lake.rglob("*") if path.is_file()]
    assert not list(home.plans.rglob("*.json"))


def test_without_a_plant_there_is_nothing_to_ingest(home: Home) -> None:
    with pytest.raises(InputError, match="No plant to ingest"):
        ingest(home)


def test_a_new_column_in_a_later_file_becomes_a_sensor(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw")
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1)])
    ingest(home)
    header = "m,ts,temp_degF,p_bar,oil_temp_degF,remark"
    put(tmp_path / "raw/readings/b.csv", [("M1", at(1), 212, 1, 212, "fine"), ("M1", at(2), 212, 1, 32, "x")], header)
    report = ingest(home)
    assert report.new_sensors == ["oil_temp"]
    assert cells(home)[("M1", 1)] == (100.0, 1.0, 100.0)
    assert cells(home)[("M1", 0)] == (None, 1.0, 100.0)
    put(tmp_path / "raw/readings/c.csv", [("M1", at(3), 212, 1, 50, "y")], header)
    ingest(home)
    assert cells(home)[("M1", 3)] == (10.0, 1.0, 100.0)


def logs() -> tuple[Stream, ...]:
    iso = TimeFormat(column="start")
    fields = {"started_at": "start", "ended_at": "end", "recorded_at": "booked", "external_id": "wo", "cost": "cost"}
    failures = Stream(
        name="failures", role="failures", files="failures.csv", time=iso, machine=MachineFrom(column="m"),
        fields=fields, csv=CsvFormat(delimiter=";", decimal=","),
    )  # fmt: skip
    equipment = Stream(
        name="equipment", role="machines", files="equipment.csv", time=TimeFormat(column="from"),
        machine=MachineFrom(column="m"), fields={"machine_type": "type", "equipment": "eq", "valid_from": "from"},
    )  # fmt: skip
    return wide(machine_type=None), failures, equipment


def test_logs_become_events_and_machines_once(home: Home, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    connect(home, raw, *logs())
    put(raw / "readings/a.csv", [("M1", at(0), 212, 1), ("M2", at(0), 212, 1)])
    put(raw / "equipment.csv", [("M1", "Big Pump", "E1", at(-100))], "m,type,eq,from")
    header = "m;start;end;booked;wo;cost"
    (raw / "failures.csv").write_text(f"{header}\nM1;{at(1)};{at(2)};;W1;12,5\nM1;nonsense;;;W2;1\n")
    report = ingest(home)
    assert (report.rows_ingested, report.rows_quarantined) == (4, 1)
    (event,) = read_events(home, PLANT).to_pylist()
    assert event["kind"] == "failure"
    assert event["cost"] == 12.5
    assert event["recorded_at"] == event["ended_at"] == T0 + timedelta(hours=2)
    machines = {row["machine"]: row for row in read_machines(home, PLANT).to_pylist()}
    assert machines["M1"]["machine_type"] == "big_pump"
    assert machines["M1"]["valid_from"] == T0 - timedelta(hours=100)
    assert machines["M2"]["machine_type"] == "machine"
    assert machines["M2"]["valid_from"] == T0 - timedelta(hours=1)
    assert machine_types(home, PLANT) == ["big_pump", "machine"]
    # The corrected log, exported again: the same event, with its cost corrected and a new one behind it.
    (raw / "failures.csv").write_text(f"{header}\nM1;{at(1)};{at(2)};;W1;13\nM2;{at(3)};;{at(5)};W3;\n")
    ingest(home)
    assert [(e["external_id"], e["cost"]) for e in read_events(home, PLANT).to_pylist()] == [("W1", 13.0), ("W3", None)]


def test_earlier_readings_move_an_inferred_beginning_and_a_list_replaces_it(home: Home, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    connect(home, raw, *logs())
    put(raw / "readings/a.csv", [("M1", at(0), 212, 1)])
    ingest(home)
    put(raw / "readings/b.csv", [("M1", at(-5), 212, 1)])
    ingest(home)
    assert read_machines(home, PLANT)["valid_from"].to_pylist() == [T0 - timedelta(hours=6)]
    put(raw / "equipment.csv", [("M1", "pump", "E1", at(-50)), ("M1", "pump", "E2", at(-20))], "m,type,eq,from")
    ingest(home)
    found = read_machines(home, PLANT).to_pylist()
    assert [(r["equipment"], r["valid_to"]) for r in found] == [("E1", T0 - timedelta(hours=20)), ("E2", None)]
    assert {r["machine_type"] for r in found} == {"machine"}  # its readings are kept under the first type it got


def test_a_run_to_failure_ends_with_a_failure_that_later_readings_move(home: Home, tmp_path: Path) -> None:
    stream = wide(run_to_failure=True, time=TimeFormat(column="ts", format="counter", step_s=3600.0))
    connect(home, tmp_path / "raw", stream)
    put(tmp_path / "raw/readings/a.csv", [("M1", n, 212, 1) for n in range(1, 4)])
    ingest(home)
    (event,) = read_events(home, PLANT).to_pylist()
    assert (event["kind"], event["started_at"]) == ("failure", datetime(1970, 1, 1, 3, tzinfo=UTC))
    assert event["recorded_at"] == event["started_at"]
    assert read_machines(home, PLANT)["valid_from"].to_pylist() == [datetime(1970, 1, 1, tzinfo=UTC)]
    put(tmp_path / "raw/readings/b.csv", [("M1", 5, 212, 1)])
    ingest(home)
    assert [e["started_at"].hour for e in read_events(home, PLANT).to_pylist()] == [5]


hour = st.integers(-3, 3)
value = st.one_of(st.none(), st.sampled_from([1, 2, 3]))
delivery = st.lists(st.tuples(st.sampled_from(["M1", "M2"]), hour, value, value), max_size=8)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(delivery, min_size=1, max_size=2), min_size=1, max_size=3))
def test_any_deliveries_end_as_assignment_in_delivery_order_would(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[list[tuple[str, int, int | None, int | None]]]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    home = open_home(folder / "home", create=True, environment={})
    connect(home, folder / "raw")
    model: dict[tuple[str, int], list[float | None]] = {}
    for number, files in enumerate(batches):
        for part, rows in enumerate(files):
            put(
                folder / f"raw/readings/{number}-{part}.csv",
                [(m, at(h), None if a is None else 32 + 18 * a, b) for m, h, a, b in rows],
            )
            for machine, moment, a, b in rows:
                held = model.setdefault((machine, moment), [None, None])
                held[0] = held[0] if b is None else float(b)
                held[1] = held[1] if a is None else 10.0 * a
        report = ingest(home)
        assert report.rows_ingested == sum(map(len, files))
    if model:
        assert cells(home) == {key: tuple(row) for key, row in model.items()}
        no_identity_twice(home)


def deliver(raw: Path, number: int) -> None:
    """The deliveries of the crash tests: overlapping, late, with wrong rows, and one file that changes."""
    rng = np.random.default_rng(number)
    rows = [
        (f"M{m}", at(int(h)), 32 + int(rng.integers(9)), h % 5) for m in range(3) for h in rng.integers(-40, 40, 30)
    ]
    put(raw / f"readings/{number}.csv", [*rows, ("", at(0), 1, 1), ("M1", at(1), "x", 1)])
    put(raw / "readings/same.csv", rows[::3])
    put(raw / "equipment.csv", [("M1", "pump", f"E{k}", at(-1000 + k)) for k in range(number + 1)], "m,type,eq,from")
    lines = [f"M1;{at(k)};{at(k + 1)};;W{k};{k},5" for k in range(number + 2)]
    (raw / "failures.csv").write_text("\n".join(["m;start;end;booked;wo;cost", *lines, "M1;never;;;W;1"]) + "\n")


class Crash(BaseException):
    """What no handler of the code under test can catch."""


STEPS = [
    "jobs.ingest.new_plan", "jobs.ingest.save", "jobs.ingesting.plan.write_atomically", "jobs.ingest.tables.hide",
    "jobs.ingesting.tables.table_to_build_on", "jobs.ingesting.tables.commit_once", "jobs.ingesting.tables.write_part",
    "jobs.ingesting.rewrite.write_part", "jobs.ingesting.parts.write_ipc", "jobs.ingesting.tables.show_versions",
    "jobs.ingesting.tables.rewrite_events", "jobs.ingesting.tables.updated_machines",
]  # fmt: skip


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, list[Any]]]]:
    """Raw files after one delivery and after two, and what clean runs make of them."""
    folder = tmp_path_factory.mktemp("deliveries")
    clean = open_home(folder / "clean", create=True, environment={})
    connect(clean, folder / "raw", *logs())
    states = []
    for number in range(2):
        deliver(folder / "raw", number)
        shutil.copytree(folder / "raw", folder / f"raw-{number}")
        ingest(clean)
        states.append(everything(clean))
    return folder / "raw-0", folder / "raw-1", states


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_the_same_rows_after_the_next_run(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str,
    deliveries: tuple[Path, Path, list[dict[str, list[Any]]]],
) -> None:  # fmt: skip
    first, second, states = deliveries
    raw = tmp_path / "raw"
    connect(home, raw, *logs())
    module, _, name = step.rpartition(".")
    owner = sys.modules.get(module) or getattr(sys.modules[module.rpartition(".")[0]], module.rpartition(".")[2])
    original = getattr(owner, name)
    crashes = 0
    for folder, state in zip((first, second), states, strict=True):
        shutil.copytree(folder, raw, dirs_exist_ok=True)
        # The first time the step is reached and a later one; before it has done its work, and after.
        for countdown, after in ((0, False), (0, True), (2, False)):
            left = [countdown]

            def failing(*args: Any, _left: list[int] = left, _after: bool = after, **options: Any) -> Any:
                _left[0] -= 1
                if _left[0] == -1 and not _after:
                    raise Crash
                found = original(*args, **options)
                if _left[0] == -1:
                    raise Crash
                return found

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing)
                try:
                    ingest(home)
                except Crash:
                    crashes += 1
        ingest(home)
        assert everything(home) == state
    no_identity_twice(home)
    assert crashes >= 2


def test_readers_see_a_batch_only_when_every_table_has_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(home, tmp_path / "raw", *logs())
    deliver(tmp_path / "raw", 0)
    ingest(home)
    before, rows = data_version(home, PLANT), everything(home)
    deliver(tmp_path / "raw", 1)

    def crash(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("jobs.ingest.tables.commit_events", crash)
        with pytest.raises(Crash):
            ingest(home)
    assert data_version(home, PLANT) == before
    assert everything(home) == rows
    report = ingest(home)
    assert report.plants[0].resumed
    assert report.rows_superseded > 0  # what the committed table said of itself
    assert data_version(home, PLANT) != before


def test_a_file_that_changes_after_a_crash_belongs_to_the_next_batch(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(home, tmp_path / "raw")
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1)])
    put(tmp_path / "raw/readings/b.csv", [("M1", at(1), 212, 1)])

    def crash(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("jobs.ingest.tables.commit_events", crash)
        with pytest.raises(Crash):
            ingest(home)
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 32, 1)])
    first = ingest(home)
    assert first.plants[0].resumed
    assert "readings/a.csv" in first.plants[0].notes[0]
    assert first.files == 2  # the rest of the old batch, then the new one
    assert len(plans(home, PLANT)) == 2
    assert ingest(home).files == 0
    assert cells(home) == {("M1", 0): (1.0, 0.0), ("M1", 1): (1.0, 100.0)}


def test_a_store_that_cannot_be_written_says_so_and_work_goes_on_when_mended(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(home, tmp_path / "raw")
    put(tmp_path / "raw/readings/a.csv", [("M1", at(0), 212, 1)])

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "/full")

    with monkeypatch.context() as patch:
        patch.setattr("jobs.ingesting.rewrite.write_part", full)
        with pytest.raises(MillwrightError, match="No space left on device"):
            ingest(home)
    assert ingest(home).rows_ingested == 1
    assert len(cells(home)) == 1


CHILD = """
import sys
from cluster.home import open_home
from cluster.report import Silent
from jobs.ingest import run
print("started", flush=True)
run(open_home(sys.argv[1], environment={}), progress=Silent(), spread=lambda f, items: map(f, items))
"""


def child(home: Home) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home.path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_ingests_at_once_take_turns(home: Home, tmp_path: Path) -> None:
    connect(home, tmp_path / "raw", *logs())
    deliver(tmp_path / "raw", 0)
    with ThreadPoolExecutor(2) as pool:  # the lock is the open file's, so threads meet it as processes do
        reports = list(pool.map(ingest, [home, home]))
    assert sorted(report.files for report in reports) == [0, 4]
    assert len(plans(home, PLANT)) == 1
    no_identity_twice(home)


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_the_same_rows(home: Home, tmp_path: Path) -> None:
    clean = open_home(tmp_path / "clean", create=True, environment={})
    raw = tmp_path / "raw"
    for each in (home, clean):
        connect(each, raw, *logs())
    rng = np.random.default_rng(0)
    killed = 0
    for number in range(3):
        deliver(raw, number)
        ingest(clean)
        for _ in range(8):
            process = child(home)
            assert process.stdout
            process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.6)))
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            no_identity_twice(home)
        ingest(home)
        assert everything(home) == everything(clean)
    assert killed > 3


@pytest.mark.ray
def test_over_ray_the_rows_are_those_of_one_process(home: Home, tmp_path: Path, ray_cluster: None) -> None:
    clean = open_home(tmp_path / "clean", create=True, environment={})
    for each in (home, clean):
        connect(each, tmp_path / "raw", *logs())
    for number in range(2):
        deliver(tmp_path / "raw", number)
        counts = [
            (r.files, r.rows_ingested, r.rows_superseded, r.rows_quarantined)
            for r in (ingest(clean), run(home, progress=Silent()))
        ]
        assert counts[0] == counts[1]
    assert everything(home) == everything(clean)


def test_append_once_appends_once_and_takes_new_columns(home: Home) -> None:
    path = home.table(PLANT, "predictions")
    table = pa.table({"id": ["a", "b"]})
    assert append_once(path, table, app_id="journal", version=1)
    assert not append_once(path, table, app_id="journal", version=1)
    assert append_once(path, table.append_column("risk", pa.array([0.1, 0.2])), app_id="journal", version=2)
    assert DeltaTable(str(path)).to_pyarrow_table().sort_by("risk")["risk"].to_pylist() == [0.1, 0.2, None, None]

"""Differently shaped plants, written here, and what `connect` must find in each."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.connect import ConnectReport, run
from models.config import Clock
from models.source import MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

START = datetime(2025, 1, 1, tzinfo=UTC)
Connect = Callable[..., tuple[SourceDescription, ConnectReport]]


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def connect(home: Home, plant: Path) -> Connect:
    """Connect the folder and read back what was written."""

    def connected(*assignments: str, path: Path | None = None) -> tuple[SourceDescription, ConnectReport]:
        answered = open_home(home.path, environment={}, assignments=assignments)
        report = run(answered, path=path or plant, plant="alpha", progress=Silent())
        found = answered.source("alpha")
        assert report.doubts == found.doubts
        return found, report

    return connected


def write(folder: Path, name: str, *lines: str, encoding: str = "utf-8") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ("\n".join(lines) + "\n").encode(encoding)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def hours(pattern: str, number: int, first: datetime = START, step_h: float = 1) -> list[str]:
    return [(first + timedelta(hours=step_h * i)).strftime(pattern) for i in range(number)]


def only(found: SourceDescription, role: str = "readings") -> Stream:
    (stream,) = [s for s in found.streams if s.role == role]
    return stream


def logged(folder: Path) -> None:
    """A failure log that leaves nothing open, for tests of other things."""
    write(folder, "failures.csv", "machine,failure_mode,started_at", "M1,wear,2025-01-05T10:00:00Z")


def test_german_wide_csv_with_decimal_comma_and_a_named_zone(plant: Path, connect: Connect) -> None:
    zone = "# Zeitzone: Europe/Berlin"
    rows = [f"{t};P-0{m};61,{m};5,2{m};120,0" for t in hours("%d.%m.%Y %H:%M", 400) for m in (1, 2)]
    head = "Zeit;Pumpe;Lagertemperatur_degC;Förderdruck [bar];Durchfluss (m³/h)"
    write(plant, "messwerte/pumpen_2025-01.csv", zone, head, *rows[:600])
    write(plant, "messwerte/pumpen_2025-02.csv", zone, head, *rows[600:])
    write(
        plant, "stoerungen.csv", zone, "Maschine;Bauteil;Schadensart;Beginn;Ende;Gebucht am;Ausfall_h;Kosten;Auftrag",
        "P-01;Lager;Verschleiß;17.01.2025 13:47;18.01.2025 07:00;18.01.2025 15:58;17,22;10162,61;4711",
    )  # fmt: skip
    write(
        plant, "wartung.csv", zone, "Maschine;Bauteil;Beginn;Ende;Gebucht_am;Anlass;Wirkung;Befund",
        "P-01;Lager;03.01.2025 08:00;03.01.2025 09:00;03.01.2025 10:00;Kalender;getauscht;ohne",
        "P-02;Lager;13.01.2025 08:00;13.01.2025 09:00;13.01.2025 10:00;zustandsorientiert;geprüft;Riefen",
        "P-02;Lager;14.01.2025 08:00;14.01.2025 09:00;14.01.2025 10:00;Gelegenheit;instandgesetzt;ohne",
    )  # fmt: skip
    write(
        plant, "anlagen.csv", zone, "Maschine;Typ;Technischer Platz;Equipment;Kritikalität;Gültig ab",
        "P-01;Kreiselpumpe (groß);H-10;EQ1;A;21.06.2019 00:00", "P-02;Kreiselpumpe (groß);H-11;EQ2;B;08.08.2014 00:00",
    )  # fmt: skip
    found, report = connect()
    stream = only(found)
    assert stream.files == "messwerte/pumpen_*.csv"
    assert (stream.csv.delimiter, stream.csv.decimal, stream.csv.comment) == (";", ",", "#")
    assert stream.time == TimeFormat(column="Zeit", format="%d.%m.%Y %H:%M", zone="Europe/Berlin")
    assert stream.machine == MachineFrom(column="Pumpe")
    assert stream.machine_type == "kreiselpumpe_gross"
    assert stream.sensors == {
        "Lagertemperatur_degC": SensorColumn(
            sensor="lagertemperatur", kind="temperature", unit="degC", low=-273.15, high=3000
        ),
        "Förderdruck [bar]": SensorColumn(sensor="foerderdruck", kind="pressure", unit="bar", low=-1.1, high=10_000),
        "Durchfluss (m³/h)": SensorColumn(sensor="durchfluss", kind="flow", unit="m³/h"),
    }
    assert only(found, "failures").fields == {
        "started_at": "Beginn", "ended_at": "Ende", "recorded_at": "Gebucht am", "failure_mode": "Schadensart",
        "component": "Bauteil", "downtime_h": "Ausfall_h", "cost": "Kosten", "external_id": "Auftrag",
    }  # fmt: skip
    maintenance = only(found, "maintenance")
    assert maintenance.fields["trigger"] == "Anlass"
    assert maintenance.fields["finding"] == "Befund"
    assert maintenance.values == {
        "trigger": {"Kalender": "calendar", "zustandsorientiert": "condition", "Gelegenheit": "opportunistic"},
        "effect": {"getauscht": "replaced", "geprüft": "inspected", "instandgesetzt": "repaired"},
    }
    machines = only(found, "machines")
    assert machines.fields == {
        "machine_type": "Typ", "functional_location": "Technischer Platz", "equipment": "Equipment",
        "criticality": "Kritikalität", "valid_from": "Gültig ab",
    }  # fmt: skip
    assert machines.values == {"machine_type": {"Kreiselpumpe (groß)": "kreiselpumpe_gross"}}
    assert found.doubts == {}
    assert found.clock == Clock(step_s=3600, life_unit="h")
    assert report.streams[0].machines == 2
    assert report.streams[0].num_files == 2


def test_historians_long_export_with_machines_in_the_tag(plant: Path, connect: Connect) -> None:
    rows = [
        json.dumps({"tag": f"CMP-{m}.{s}", "time": t, "value": 100.5, "quality": "Bad" if h % 7 == 0 else "Good"})
        for h, t in enumerate(hours("%Y-%m-%dT%H:%M:%S-07:00", 48))
        for m in (1, 2)
        for s in ("discharge_temp_degF", "vibration_in/s")
    ]
    write(plant, "readings/export_2025-01.jsonl.gz", *rows)
    write(plant, "failures.csv", "asset_id,mode,start", "CMP-1,wear,2025-01-02T00:00:00-07:00")
    found, _ = connect()
    stream = only(found)
    assert (stream.format, stream.layout) == ("jsonl", "long")
    assert stream.files == "readings/export_*.jsonl.gz"
    assert (stream.tag_column, stream.value_column, stream.quality_column) == ("tag", "value", "quality")
    assert stream.quality_good == ("Good",)
    assert stream.machine.kind == "tag"
    assert {name: (s.sensor, s.kind, s.unit) for name, s in stream.sensors.items()} == {
        "discharge_temp_degF": ("discharge_temp", "temperature", "degF"),
        "vibration_in/s": ("vibration", "vibration", "in/s"),
    }
    assert stream.time == TimeFormat(column="time", format="iso")
    assert stream.period_s == 3600
    assert found.doubts == {}


def test_parquet_with_zoned_timestamps_every_ten_minutes(plant: Path, connect: Connect) -> None:
    times = [START + timedelta(minutes=10 * i) for i in range(200) for _ in range(2)]
    table = pa.table(
        {
            "machine_id": ["SP-01", "SP-02"] * 200,
            "ts": pa.array(times, pa.timestamp("ms", "UTC")),
            "spindle_temp_degC": [40.5] * 400,
            "torque_Nm": [12.25] * 400,
        }
    )
    pq.write_table(table, plant / "spindles_2025-01.parquet")
    logged(plant)
    found, _ = connect()
    stream = only(found)
    assert stream.format == "parquet"
    assert stream.time == TimeFormat(column="ts", format="iso")
    assert stream.sensors["torque_Nm"].kind == "torque"
    assert stream.period_s == 600
    assert stream.machine_type == "spindles"
    assert found.clock.step_s == 3600
    assert set(found.doubts) == {"machines"}  # the log names M1 alone


def test_whitespace_without_header_is_machine_counter_and_numbers(plant: Path, connect: Connect) -> None:
    for part in ("train", "test"):
        rows = [f"{u} {c} {0.01 * c:.4f} 518.67 {600 + u}.5  " for u in (1, 2, 3) for c in range(1, 40)]
        write(plant, f"{part}_FD001.txt.gz", *rows)
    found, _ = connect()
    train, test = sorted((s for s in found.streams if s.role == "readings"), key=lambda s: s.name, reverse=True)
    assert (train.name, test.name) == ("train_fd001", "test_fd001")
    assert train.csv.delimiter == "whitespace"
    assert train.csv.columns == ("column_1", "column_2", "column_3", "column_4", "column_5")
    assert train.time == TimeFormat(column="column_2", format="counter", step_s=1)
    assert train.machine == MachineFrom(column="column_1", prefix="train_fd001-")
    assert list(train.sensors) == ["column_3", "column_4", "column_5"]
    assert found.clock == Clock(step_s=1, life_unit="cycle")
    assert set(found.doubts) == {"time.step", "units", "failures"}
    answered, _ = connect("time.step=60")
    assert answered.clock == Clock(step_s=60, life_unit="cycle")
    assert set(answered.doubts) == {"units", "failures"}


def test_one_file_a_machine_with_naive_times_is_utc_until_answered(plant: Path, connect: Connect) -> None:
    for name in ("PRS-01", "PRS-02", "PRS-03"):
        rows = [f"{t},{20 + i % 5}.5" for i, t in enumerate(hours("%Y-%m-%d %H:%M:%S", 50))]
        write(plant, f"data/{name}.csv", "timestamp,oil_temp_C", *rows)
    found, report = connect()
    stream = only(found)
    assert stream.files == "data/PRS-*.csv"
    assert stream.machine.kind == "file_name"
    assert report.streams[0].machines == 3
    assert stream.time == TimeFormat(column="timestamp", format="iso", zone="UTC")
    assert set(found.doubts) == {"time.zone", "failures"}
    assert "data/PRS-*.csv" in found.doubts["time.zone"]
    answered, _ = connect("time.zone=Asia/Kolkata")
    assert set(answered.doubts) == {"failures"}
    assert only(answered).time == TimeFormat(column="timestamp", format="iso", zone="Asia/Kolkata")


def test_one_folder_a_machine_with_epoch_milliseconds_in_json_arrays(plant: Path, connect: Connect) -> None:
    for name in ("north", "south"):
        for month in ("01", "02"):
            first = int(START.timestamp() * 1000) + (int(month) - 1) * 40 * 3_600_000
            rows = [{"ts": first + i * 3_600_000, "pressure_psi": 14.5 + i, "speed_rpm": 900 + i} for i in range(40)]
            path = plant / name / f"2025-{month}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(rows, indent=1))
    found, report = connect()
    stream = only(found)
    assert stream.format == "json"
    assert stream.files == "*/*.json"
    assert stream.time == TimeFormat(column="ts", format="epoch_ms")
    assert stream.machine.kind == "folder"
    assert report.streams[0].machines == 2
    assert {s.kind for s in stream.sensors.values()} == {"pressure", "speed"}
    assert set(found.doubts) == {"failures"}


def test_utf16_with_tabs_and_bracketed_units_is_one_machine(plant: Path, connect: Connect) -> None:
    rows = [f"{t}\t{5 + i % 3}.5\t{80 + i % 9}.25" for i, t in enumerate(hours("%Y-%m-%dT%H:%M:%SZ", 60))]
    write(plant, "trend.txt", "Zeitstempel\tPT-101 [bar]\tTemp (°C)", *rows, encoding="utf-16")
    found, _ = connect()
    stream = only(found)
    assert (stream.csv.encoding, stream.csv.delimiter) == ("utf-16", "\t")
    assert stream.machine == MachineFrom(kind="constant", value="alpha")
    assert {n: (s.sensor, s.kind, s.unit) for n, s in stream.sensors.items()} == {
        "PT-101 [bar]": ("pt_101", "pressure", "bar"),
        "Temp (°C)": ("temp", "temperature", "°C"),
    }
    assert set(found.doubts) == {"machine", "failures"}


def test_a_preamble_a_byte_order_mark_and_a_row_of_units(plant: Path, connect: Connect) -> None:
    rows = [f"{t};M1;{40 + i % 7},5;{3 + i % 2},25" for i, t in enumerate(hours("%Y-%m-%d %H:%M:%S", 50))]
    head = ("Export of the control room", "", "time_utc;machine;bearing;vibration", ";;degC;mm/s")
    write(plant, "export.csv", *head, *rows, encoding="utf-8-sig")
    logged(plant)
    found, _ = connect()
    stream = only(found)
    assert (stream.csv.encoding, stream.csv.decimal) == ("utf-8-sig", ",")
    assert (stream.csv.skip_rows, stream.csv.skip_after_header) == (2, 1)
    assert {n: (s.kind, s.unit) for n, s in stream.sensors.items()} == {
        "bearing": ("temperature", "degC"),
        "vibration": ("vibration", "mm/s"),
    }
    assert stream.time is not None
    assert stream.time.zone == "UTC"
    assert found.doubts == {}


def test_a_sibling_settles_the_order_of_day_and_month(plant: Path, connect: Connect) -> None:
    rows = [f"{t},M1,{50 + i % 5}.5" for i, t in enumerate(hours("%m/%d/%Y %I:%M:%S %p", 24 * 20))]
    write(plant, "readings.csv", "# tz: America/Denver", "time,machine,oil_temp_degF", *rows)
    write(plant, "failures.csv", "machine,failure_mode,started_at", "M1,wear,01/05/2025 10:00:00 AM")
    found, _ = connect()
    stream, log = only(found), only(found, "failures")
    assert stream.time == TimeFormat(column="time", format="%m/%d/%Y %I:%M:%S %p", zone="America/Denver")
    assert log.time == TimeFormat(column="started_at", format="%m/%d/%Y %I:%M:%S %p", zone="America/Denver")
    assert set(found.doubts) == {"time.zone"}
    assert "America/Denver" in found.doubts["time.zone"]


def test_long_csv_with_a_machine_column_and_opc_quality(plant: Path, connect: Connect) -> None:
    rows = [
        f"{1735689600 + 60 * i},M{m},{s},{i}.5,{192 if i % 9 else 0}"
        for i in range(60)
        for m in (1, 2)
        for s in ("Motor current [A]", "Drehzahl U/min")
    ]
    write(plant, "historian.csv", "ts,machine,sensor,value,quality", *rows)
    logged(plant)
    found, _ = connect()
    stream = only(found)
    assert stream.layout == "long"
    assert stream.machine == MachineFrom(column="machine")
    assert stream.time == TimeFormat(column="ts", format="epoch_s")
    assert stream.quality_good == ("192",)
    assert {n: (s.sensor, s.kind) for n, s in stream.sensors.items()} == {
        "Motor current [A]": ("motor_current", "current"),
        "Drehzahl U/min": ("drehzahl", "speed"),
    }
    assert stream.period_s == 60
    assert found.doubts == {}


def test_a_unit_beside_the_value_and_a_status_column_that_is_a_state(plant: Path, connect: Connect) -> None:
    rows = [f"{t},A1,{s},1.5,{u}" for t in hours("%Y-%m-%dT%H:%MZ", 40) for s, u in (("t1", "degC"), ("p1", "psi"))]
    write(plant, "long.csv", "time,asset,signal,value,unit", *rows)
    write(plant, "wide.csv", "time,asset,temp_C,status", *(f"{t},A1,1.5,RUN" for t in hours("%Y-%m-%dT%H:%MZ", 40)))
    write(plant, "failures.csv", "asset,failure_mode,started_at", "A1,wear,2025-01-05T10:00:00Z")
    found, _ = connect()
    long, wide = (s for s in found.streams if s.role == "readings")
    assert {n: (s.kind, s.unit) for n, s in long.sensors.items()} == {
        "t1": ("temperature", "degC"),
        "p1": ("pressure", "psi"),
    }
    assert list(wide.sensors) == ["temp_C", "status"]
    assert wide.sensors["status"].states == {"RUN": 1.0}
    assert found.doubts == {}


@pytest.mark.parametrize("form", ["PRS-0{}_2025-0{}", "2025-0{1}_PRS-0{0}", "PRS-0{}"])
def test_machines_in_file_names_with_dates_before_behind_or_none(plant: Path, connect: Connect, form: str) -> None:
    for machine in (1, 2):
        for month in (1, 2):
            rows = hours("%Y-%m-%dT%H:%MZ", 30, datetime(2025, month, 1, tzinfo=UTC))
            write(plant, form.format(machine, month) + ".csv", "time,power_kW", *(f"{t},1.5" for t in rows))
    write(plant, "failures.csv", "machine,failure_mode,started_at", "PRS-01,wear,2025-01-05T10:00:00Z")
    found, report = connect()
    assert report.streams[0].machines == 2
    pattern = only(found).machine.pattern
    assert pattern is not None
    files = [name.name for name in plant.iterdir() if name.name != "failures.csv"]
    assert {m["machine"] for name in files if (m := re.search(pattern, name))} == {"PRS-01", "PRS-02"}
    assert found.doubts == {}


def test_a_later_file_with_a_new_sensor_stays_in_its_stream(plant: Path, connect: Connect) -> None:
    times = hours("%Y-%m-%dT%H:%M:%SZ", 96)
    write(plant, "fans_2025-01.csv", "time,machine,power_kW", *(f"{t},M1,1.5" for t in times[:48]))
    write(plant, "fans_2025-02.csv", "time,machine,power_kW,flow_l/h", *(f"{t},M1,1.5,70.5" for t in times[48:]))
    logged(plant)
    found, _ = connect()
    assert only(found).files == "fans_*.csv"
    assert list(only(found).sensors) == ["power_kW", "flow_l/h"]


def test_a_counter_with_a_unit_is_no_doubt_and_its_step_is_the_clock(plant: Path, connect: Connect) -> None:
    rows = [f"M{m},{10 * i},{i}.5" for m in (1, 2) for i in range(50)]
    write(plant, "run.csv", "machine,elapsed_s,torque_Nm", *rows)
    logged(plant)
    found, _ = connect()
    assert only(found).time == TimeFormat(column="elapsed_s", format="counter", step_s=1)
    assert found.clock == Clock(step_s=10, life_unit="cycle")
    assert found.doubts == {}


def test_naive_parquet_times_take_the_setting_and_daily_data_a_daily_clock(plant: Path, connect: Connect) -> None:
    times = pa.array([(START + timedelta(days=i)).replace(tzinfo=None) for i in range(60)], pa.timestamp("us"))
    table = pa.table({"machine": ["M1"] * 60, "date_time": times, "level_pct": [50.5] * 60})
    pq.write_table(table, plant / "d.parquet")
    logged(plant)
    found, _ = connect()
    assert set(found.doubts) == {"time.zone"}
    assert found.clock.step_s == 86_400
    answered, _ = connect("time.zone=Europe/Paris")
    assert answered.doubts == {}
    assert only(answered).time == TimeFormat(column="date_time", format="iso", zone="Europe/Paris")


def test_a_log_without_rows_is_read_as_the_plants_other_logs(plant: Path, connect: Connect) -> None:
    rows = [f"{t},M1,1.5" for t in hours("%Y-%m-%dT%H:%M:%SZ", 50)]
    write(plant, "readings.csv", "time,machine,power_kW", *rows)
    write(plant, "failures.csv", "machine,component,failure_mode,started_at,ended_at,recorded_at")
    head = "# timezone: Europe/Berlin"
    write(plant, "alarms.csv", head, "machine;time;code", "M1;31.01.2025 10:00;E1")
    found, _ = connect()
    log = only(found, "failures")
    assert log.time == TimeFormat(column="started_at", format="%d.%m.%Y %H:%M", zone="Europe/Berlin")
    assert log.fields["failure_mode"] == "failure_mode"
    assert only(found, "errors").fields == {"started_at": "time", "code": "code"}


def test_zstd_and_a_log_whose_booking_is_written_differently(plant: Path, connect: Connect) -> None:
    rows = "\n".join(["time,machine,power_kW", *(f"{t},M1,1.5" for t in hours("%Y-%m-%dT%H:%M:%SZ", 50))])
    with pa.CompressedOutputStream(str(plant / "readings.csv.zst"), "zstd") as file:
        file.write(rows.encode())
    write(
        plant, "failures.csv", "machine,failure_mode,started_at,recorded_utc",
        "M1,wear,2025-01-05T10:00:00+01:00,06.01.2025 10:00",
    )  # fmt: skip
    found, _ = connect()
    assert only(found).files == "readings.csv.zst"
    log = only(found, "failures")
    assert log.time == TimeFormat(column="started_at", format="iso")
    assert log.times == {"recorded_at": TimeFormat(column="recorded_utc", format="%d.%m.%Y %H:%M", zone="UTC")}
    assert found.doubts == {}


def test_what_no_role_fits_is_listed_and_asked_about(plant: Path, connect: Connect) -> None:
    rows = [f"{t},M1,1.5,7.5" for t in hours("%Y-%m-%dT%H:%MZ", 50)]
    write(plant, "readings.csv", "time,machine,power_kW,weird", *rows)
    write(plant, "shift_plan.csv", "shift,crew", "early,A", "late,B")
    (plant / "broken.csv.gz").write_bytes(b"\x1f\x8b\x08 this is no gzip")
    (plant / "empty.csv").write_bytes(b"")
    logged(plant)
    found, report = connect()
    assert only(found, "ignored").files == "shift_plan.csv"
    assert set(found.doubts) == {"units", "roles", "files"}
    assert "weird" in found.doubts["units"]
    assert "shift_plan.csv" in found.doubts["roles"]
    assert "broken.csv.gz" in found.doubts["files"]
    assert "empty.csv (empty)" in found.doubts["files"]
    assert "power_kW" in (report.path and Path(report.path).read_text())


def test_a_glob_or_a_single_file_connects_those_files_alone(plant: Path, connect: Connect, home: Home) -> None:
    for name in ("a_2025-01.csv", "a_2025-02.csv", "b_2025-01.csv"):
        write(plant, name, "time,machine,power_kW", *(f"{t},M1,1.5" for t in hours("%Y-%m-%dT%H:%MZ", 20)))
    found, report = connect(path=plant / "a_*.csv")
    assert only(found).files == "a_*.csv"
    assert report.root == str(plant)
    found, _ = connect(path=plant / "b_2025-01.csv")
    assert [s.files for s in found.streams] == ["b_*.csv"]
    found, _ = connect(path=plant / "a_2025-01.csv")  # its sibling was not asked for
    assert [s.files for s in found.streams] == ["a_2025-01.csv"]


def test_the_same_files_give_the_same_text(plant: Path, connect: Connect) -> None:
    rows = [f"{t},M1,{i}.5" for i, t in enumerate(hours("%Y-%m-%dT%H:%MZ", 20))]
    write(plant, "r.csv", "time,machine,power_kW", *rows)
    _, first = connect()
    text = Path(first.path).read_text()
    _, second = connect()
    assert Path(second.path).read_text() == text
    assert "confidence high: the name ends in '_kW'" in text


def test_the_report_reads_on_a_narrow_terminal(plant: Path, connect: Connect) -> None:
    write(plant, "press_lines_2025-01.csv", "time,power_kW,x1", *(f"{t},1.5,2.5" for t in hours("%Y-%m-%dT%H:%MZ", 20)))
    _, report = connect()
    console = Console(width=80, record=True, file=StringIO())
    console.print(report.render())
    text = console.export_text()
    assert "press_lines  readings  press_lines_*.csv  csv     1 press_lines" in text
    assert "Sensors of press_lines: power, x1" in text
    assert "3 to check:\n1. Which machine do the rows of press_lines_*.csv belong to?" in text

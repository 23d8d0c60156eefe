"""However files are cut into pieces and history into tiles, the tables hold the same rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from cluster.home import Home, open_home
from cluster.report import Silent
from cluster.sources import write_source
from cluster.storage import read_events, read_quarantine, read_readings
from jobs.ingest import IngestReport, run
from jobs.ingesting import fingerprint, parse, parts, rewrite
from jobs.ingesting.fingerprint import fingerprints
from jobs.ingesting.parts import Origin, Part, PartWriter
from jobs.sources import reading, text
from models.source import CsvFormat, MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

T0 = datetime(2025, 1, 30, tzinfo=UTC)
SENSORS = {name: SensorColumn(sensor=name.lower()) for name in "AB"}


def describe(home: Home, root: Path, zone: str = "UTC") -> None:
    wide = Stream(
        name="wide", role="readings", files="*.csv", time=TimeFormat(column="t", zone=zone),
        machine=MachineFrom(column="m"), machine_type="pump", sensors=SENSORS, csv=CsvFormat(delimiter=";"),
    )  # fmt: skip
    long = Stream(
        name="long", role="readings", files="*.jsonl", format="jsonl", layout="long",
        time=TimeFormat(column="t", zone=zone),
        machine=MachineFrom(kind="tag"), machine_type="fan", tag_column="tag", value_column="v", sensors=SENSORS,
    )  # fmt: skip
    log = Stream(
        name="log", role="errors", files="log/*.csv", time=TimeFormat(column="t"), machine=MachineFrom(column="m"),
        fields={"started_at": "t", "code": "c"},
    )  # fmt: skip
    description = SourceDescription(plant="plant", root=str(root), streams=(wide, long, log))
    write_source(home.sources / "plant.toml", description)


def deliver(root: Path, seed: int, *, rows: int) -> None:
    """Late, repeated and wrong rows over a month's end, in two formats, and a log with quoted line breaks."""
    rng = random.Random(seed)
    (root / "log").mkdir(parents=True, exist_ok=True)
    lines, objects, log = ["m;t;A;B"], [], ["m,t,c"]
    for number in range(rows):
        machine = f"M{rng.randint(1, 9)}"
        at = (T0 + timedelta(hours=rng.randint(0, 60), minutes=rng.choice((0, 30)))).isoformat()
        a = rng.choice(["", "#ERR", f"{rng.random():.3f}", f"{rng.random():.3f}"])
        lines.append(f'"{machine}";{"never" if rng.random() < 0.02 else at};{a};{number}')
        objects.append(f'{{"tag": "{machine}.{rng.choice("AB")}", "t": "{at}", "v": {rng.random():.4f}}}')
        if number % 7 == 0:
            log.append(f'{machine},{at},"first\nsecond {number}"')
            objects.append('{"tag": "M1.A", "t": ')
    (root / f"wide-{seed}.csv").write_text("\n".join(lines) + "\n")
    (root / f"long-{seed}.jsonl").write_text("\n".join(objects))
    (root / "log" / f"log-{seed}.csv").write_text("\n".join(log) + "\n")


def ingest(home: Home) -> IngestReport:
    return run(home, progress=Silent(), spread=map)


def held(home: Home) -> dict[str, list[Any]]:
    keep = {"events": read_events(home, "plant"), "quarantine": read_quarantine(home, "plant")}
    found = {name: table.drop_columns(["source_id"]).to_pylist() for name, table in keep.items()}
    found["quarantine"] = sorted(({k: v for k, v in r.items() if k != "time"} for r in found["quarantine"]), key=str)
    return found | {"readings": read_readings(home, "plant").to_pylist()}


def counts(report: IngestReport) -> tuple[int, ...]:
    return report.files, report.rows_ingested, report.rows_superseded, report.rows_quarantined, report.cells_quarantined


def twice(folder: Path) -> tuple[list[tuple[int, ...]], dict[str, list[Any]], Home]:
    """Two deliveries, the second late and over the same times."""
    home = open_home(folder / "home", create=True, environment={})
    describe(home, folder / "raw")
    seen = []
    for seed in (1, 2):
        deliver(folder / "raw", seed, rows=400)
        seen.append(counts(ingest(home)))
    return seen, held(home), home


def test_cutting_files_and_history_small_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_counts, whole, _ = twice(tmp_path / "whole")
    monkeypatch.setattr(fingerprint, "SPAN_BYTES", 700)
    monkeypatch.setattr(parts, "FLUSH_CELLS", 150)
    monkeypatch.setattr(parts, "BATCH_ROWS", 5)
    monkeypatch.setattr(rewrite, "TILE_CELLS", 200)
    monkeypatch.setattr(parse, "_WRONG_HELD", 3)
    cut_counts, cut, home = twice(tmp_path / "cut")
    assert cut_counts == whole_counts
    assert cut == whole
    assert whole["readings"]
    assert whole["quarantine"]
    table = DeltaTable(str(home.table("plant", "readings/pump")))
    assert len(table.file_uris()) > 20  # it was cut, also within one machine's month
    for path in table.file_uris():
        found = pq.read_table(path, columns=["machine", "time"]).to_pylist()
        assert found == sorted(found, key=lambda row: (row["machine"], row["time"]))


def test_a_large_file_is_cut_behind_lines_and_outside_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "SPAN_BYTES", 10)
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,"x\ny\nz"\n2,"p\nq"\n3,4\n5,6\n7,8\n9,0\n')
    stream = Stream(name="s", role="readings", files="*.csv")
    found = fingerprints({path: stream})[path]
    data = path.read_bytes()
    assert [data[start:end] for start, end, _ in found.spans] == [
        b'a,b\n1,"x\ny\nz"\n', b'2,"p\nq"\n3,4\n', b"5,6\n7,8\n9,0\n",
    ]  # fmt: skip
    assert [line for _, _, line in found.spans] == [1, 5, 8]
    assert len(found.digest) == 64
    assert fingerprints({path: None})[path].spans == ()


@given(st.lists(st.sampled_from(["1,2\n", '"a\nb",1\n', '"', "\n", "long line without end,"]), max_size=60), st.data())
def test_pieces_of_a_file_follow_each_other_and_count_its_lines(lines: list[str], data: st.DataObject) -> None:
    text = "".join(lines).encode()
    cutter = fingerprint._Cutter(b'"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "SPAN_BYTES", data.draw(st.integers(1, 40)))
        at = 0
        while at < len(text):
            end = at + data.draw(st.integers(1, 30))
            cutter.feed(text[at:end])
            at = end
    spans = cutter.spans() or (((0, len(text), 1),) if text else ())
    assert b"".join(text[start:end] for start, end, _ in spans) == text
    for start, _, line in spans:
        assert line == 1 + text.count(b"\n", 0, start)
        assert start == 0 or text[start - 1 : start] == b"\n"
        assert text.count(b'"', 0, start) % 2 == 0


def test_a_part_gives_the_rows_of_some_machines_and_times_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "BATCH_ROWS", 4)
    writer = PartWriter(tmp_path, Origin("a.csv", "s", 0, 0, {}, "Pump"))
    machines = [f"M{k % 5}" for k in range(30)]
    rows = pa.table({"machine": machines, "time": list(range(29, -1, -1)), "a": pa.array(range(30), pa.float32())})
    writer.add(rows)
    (part,) = writer.finish()
    assert (part.machine_type, part.month, part.rows, part.sensors) == ("pump", "1970-01", 30, ["a"])
    assert part.machines["M2"] == (6, 2, 27)
    assert part.slice("M1", "M3").read()["machine"].to_pylist() == ["M1"] * 6 + ["M2"] * 6
    assert part.slice("M1", "M3").read(3, 14)["time"].to_pylist() == [3, 8, 13, 7, 12]
    assert part.slice("M7", None).rows == 0


def test_rows_of_one_identity_keep_their_order_in_a_part(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, Origin("a.csv", "s", 0, 0, {}, None))
    for number in (1.0, 3.0, 2.0):
        writer.add(pa.table({"machine": ["M"], "time": [5], "a": pa.array([number], pa.float32())}))
    (part,) = writer.finish()
    assert isinstance(part, Part)
    assert part.slice(None, None).read()["a"].to_pylist() == [1.0, 3.0, 2.0]


def deliver_autumn(root: Path, layout: str, *, newest_first: bool) -> dict[tuple[str, datetime], float]:
    """Readings every ten minutes over both changes of Berlin's clocks, in local time; what history must hold."""
    rng, start, zone = random.Random(5), datetime(2025, 10, 25, 20, tzinfo=UTC), ZoneInfo("Europe/Berlin")
    moments = [start + timedelta(minutes=10 * n) for n in range(60)]
    rows = [(f"M{m}", at, rng.random()) for at in moments for m in range(4) if m or at.minute == 0]
    rows = sorted(rows, key=lambda row: row[0]) if layout == "by machine" else rows
    rows = rows[::-1] if newest_first else rows
    if layout == "long":
        lines = [f'{{"tag": "{m}.A", "t": "{at.astimezone(zone):%Y-%m-%d %H:%M}", "v": {v}}}' for m, at, v in rows]
    else:
        lines = ["m;t;A;B", *(f"{m};{at.astimezone(zone):%Y-%m-%d %H:%M};{v};1" for m, at, v in rows)]
    root.mkdir(parents=True)
    (root / ("a.jsonl" if layout == "long" else "a.csv")).write_text("\n".join(lines) + "\n")
    return {(m, at): v for m, at, v in rows}


@pytest.mark.parametrize("span_bytes", [300, 700, 2500, 10**6])
@pytest.mark.parametrize("layout", ["by time", "by machine", "long"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_wherever_a_file_is_cut_a_doubled_hour_keeps_both_its_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, span_bytes: int, layout: str, newest_first: bool
) -> None:
    monkeypatch.setattr(fingerprint, "SPAN_BYTES", span_bytes)
    monkeypatch.setattr(reading, "LOOK_BACK_BYTES", 200)
    monkeypatch.setitem(text.blocks.__kwdefaults__, "size", 400)
    home = open_home(tmp_path / "home", create=True, environment={})
    describe(home, tmp_path / "raw", zone="Europe/Berlin")
    expected = deliver_autumn(tmp_path / "raw", layout, newest_first=newest_first)
    report = ingest(home)
    assert (report.rows_ingested, report.rows_superseded, report.rows_quarantined) == (len(expected), 0, 0)
    held = read_readings(home, "plant").to_pylist()
    assert {(r["machine"], r["time"]): r["a"] for r in held} == pytest.approx(expected, rel=1e-6)

"""History as it was written: listed, compared, followed to its files, kept in shape, and never changed by that."""

from __future__ import annotations

import io
import json
import os
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
from rich.console import Console

from cluster.commit import commit_once, open_or_create, write_part
from cluster.home import Home
from cluster.report import Silent
from cluster.sources import write_source
from cluster.storage import (
    TIME,
    data_version,
    read_events,
    read_machines,
    read_readings,
    reading_files,
    readings_schema,
    show_versions,
)
from cluster.turns import only_one
from cluster.visibility import states
from jobs import ingest
from jobs.ingesting.bounds import Bounds
from jobs.versions import compact as compaction
from jobs.versions.compact import compact
from jobs.versions.difference import TableDifference, difference
from jobs.versions.listing import batch_detail, entries
from jobs.versions.origin import origin
from jobs.versions.retain import retain
from jobs.versions.slices import is_sorted, overlap, read_slice, slices
from models.errors import InputError, MillwrightError, NotFoundError
from models.source import MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

PLANT = "plant"
T0 = datetime(2025, 1, 31, 22, tzinfo=UTC)  # two hours before a month ends
SENSORS = {
    "temp": SensorColumn(sensor="temp", kind="temperature", unit="degC"),
    "p": SensorColumn(sensor="p", kind="pressure", unit="bar"),
}
Row = dict[str, Any]


def wide(**changes: Any) -> Stream:
    base = Stream(
        name="pumps", role="readings", files="readings/*.csv", time=TimeFormat(column="ts"), machine_type="pump",
        machine=MachineFrom(column="m"), sensors=SENSORS,
    )  # fmt: skip
    return base.model_copy(update=changes)


def failures() -> Stream:
    return Stream(
        name="failures", role="failures", files="failures.csv", time=TimeFormat(column="start"),
        machine=MachineFrom(column="m"), fields={"started_at": "start", "external_id": "wo"},
    )  # fmt: skip


def at(hours: float) -> str:
    return (T0 + timedelta(hours=hours)).isoformat()


def put(path: Path, rows: Iterable[tuple[object, ...]], header: str = "m,ts,temp,p") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join("" if v is None else str(v) for v in row) for row in rows)]) + "\n")


@pytest.fixture
def raw(home: Home, tmp_path: Path) -> Path:
    """The folder of a connected plant's raw files."""
    return connect(home, tmp_path / "raw", wide(), failures())


def connect(home: Home, root: Path, *streams: Stream) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_source(home.sources / f"{PLANT}.toml", SourceDescription(plant=PLANT, root=str(root), streams=streams))
    return root


def here(function: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
    return map(function, items)


def deliver(home: Home) -> str:
    """Ingest what is new; the batch's id."""
    report = ingest.run(home, progress=Silent(), spread=here)
    assert report.plants[0].batch is not None
    return report.plants[0].batch


class Crash(BaseException):
    """What no handler of the code under test can catch."""


def kill_a_batch(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings are committed, and the rest is not."""

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("jobs.ingest.tables.commit_events", crash)
        with pytest.raises(Crash):
            deliver(home)


def two_batches(home: Home, raw: Path) -> tuple[str, str]:
    """M1 at -1, 0, 1 h and M2 at 0 h; then M1 at 0 h corrected, at 2 h new, M2's pressure late."""
    own = [("M1", at(-1), 10, 1), ("M1", at(0), 20, 1), ("M1", at(1), 30, 1)]
    put(raw / "readings/a.csv", [*own, ("M2", at(0), 5, None)])
    put(raw / "failures.csv", [("M1", at(1), "W1")], "m,start,wo")
    first = deliver(home)
    own = [("M1", at(0), 21, None), ("M1", at(3), 40, 2)]
    put(raw / "readings/b.csv", [*own, ("M2", at(0), None, 3), ("", at(0), 1, 1)])
    put(raw / "failures.csv", [("M1", at(1), "W1"), ("M2", at(2), "W2")], "m,start,wo")
    return first, deliver(home)


def rows(home: Home, as_of: Any = None) -> list[tuple[Any, ...]]:
    table = read_readings(home, PLANT, as_of=as_of)
    names = sorted(set(table.column_names) - {"machine", "time"})
    return [
        (r["machine"], round((r["time"] - T0) / timedelta(hours=1)), *(r[n] for n in names)) for r in table.to_pylist()
    ]


FIRST = [("M1", -1, 1, 10), ("M1", 0, 1, 20), ("M1", 1, 1, 30), ("M2", 0, None, 5)]
SECOND = [("M1", -1, 1, 10), ("M1", 0, 1, 21), ("M1", 1, 1, 30), ("M1", 3, 2, 40), ("M2", 0, 3, 5)]


def stored(home: Home) -> list[tuple[Any, ...]]:
    """Every row of readings with its bookkeeping, as it is stored."""
    found = [pq.read_table(file.path, partitioning=None) for file in reading_files(home, PLANT)]
    table = pa.concat_tables(found, promote_options="default")
    names = sorted(table.column_names)
    return sorted((tuple(row[name] for name in names) for row in table.to_pylist()), key=str)


# Reads as of a version or time.


def test_a_reader_as_of_a_batch_a_time_or_a_data_version_sees_what_was_visible_then(home: Home, raw: Path) -> None:
    first, second = two_batches(home, raw)
    shown = {state.cause: state for state in states(home, PLANT)}
    for as_of in (first, shown[first].at, shown[first].at.isoformat(), data_version(home, PLANT, first)):
        assert rows(home, as_of) == FIRST
        assert read_events(home, PLANT, as_of=as_of)["external_id"].to_pylist() == ["W1"]
        assert read_machines(home, PLANT, as_of=as_of).num_rows == 2
    for as_of in (second, datetime.now(UTC), data_version(home, PLANT), None):
        assert rows(home, as_of) == SECOND
    just_before = shown[second].at - timedelta(microseconds=1)
    assert rows(home, just_before) == FIRST
    with pytest.raises(NotFoundError, match="Ask for a later time or version"):
        rows(home, shown[first].at - timedelta(microseconds=1))
    assert data_version(home, PLANT, first) == "readings/pump@1,events@1,machines@1"


def test_a_version_that_is_none_is_refused(home: Home, raw: Path) -> None:
    two_batches(home, raw)
    with pytest.raises(InputError, match="Not a version: expected a batch's id, a time"):
        rows(home, "yesterday")
    with pytest.raises(NotFoundError, match="a batch that was visible once"):
        rows(home, "000009-000000000000")
    with pytest.raises(NotFoundError, match="Version 7 of readings/pump can no longer be read"):
        rows(home, "readings/pump@7")


def test_a_state_that_a_killed_run_did_not_write_down_is_known_from_what_is_visible(home: Home, raw: Path) -> None:
    first, second = two_batches(home, raw)
    record = home.of(PLANT).plans / "visible.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])  # killed while it wrote the last line
    shown = states(home, PLANT)[-1]
    assert rows(home, datetime.now(UTC)) == SECOND
    assert rows(home, shown.at - timedelta(milliseconds=1)) == FIRST
    show_versions(home, PLANT, shown.versions, cause=second)
    assert [state.cause for state in states(home, PLANT)] == ["", first, "", second]
    assert [e.id for e in entries(home, PLANT)] == [first, second]
    assert rows(home, second) == SECOND


# Listing.


def test_history_lists_batches_with_what_each_added(home: Home, raw: Path) -> None:
    first, second = two_batches(home, raw)
    old, new = entries(home, PLANT)
    assert (old.id, old.kind, old.files, old.rows_ingested, old.rows_added) == (first, "batch", 2, 5, 4)
    assert old.after == {"events": 1, "machines": 1, "quarantine": 1, "readings/pump": 1}
    assert (new.id, new.files, new.rows_ingested, new.rows_added, new.rows_quarantined) == (second, 2, 5, 1, 1)
    assert (new.before["readings/pump"], new.after["readings/pump"]) == (1, 2)
    assert new.rows_superseded == 1  # the first failure is exported again
    assert new.size_bytes == sum((raw / name).stat().st_size for name in ("readings/b.csv", "failures.csv"))
    assert old.at and new.at and old.at < new.at
    assert old.description == new.description and len(old.description) == 64


def test_a_batch_is_shown_with_its_files_rows_reasons_and_configuration(home: Home, raw: Path) -> None:
    _, second = two_batches(home, raw)
    found = batch_detail(home, PLANT, second)
    assert [(file.path, file.stream, len(file.digest)) for file in found.files] == [
        ("failures.csv", "failures", 64), ("readings/b.csv", "pumps", 64),
    ]  # fmt: skip
    assert found.rows["readings/pump"] == {"M1": 2, "M2": 1}
    assert found.rows["events"] == {"M2": 1}
    assert found.quarantine == {"no_machine": 1}
    assert found.sensors == ["p", "temp"]
    assert found.configuration["streams"][0]["files"] == "readings/*.csv"
    assert found.root == str(raw)
    with pytest.raises(NotFoundError, match="No such batch"):
        batch_detail(home, PLANT, "000009-000000000000")


def test_an_unfinished_batch_comes_last_and_says_so(home: Home, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(raw / "readings/a.csv", [("M1", at(0), 1, 1)])
    first = deliver(home)
    put(raw / "readings/b.csv", [("M1", at(1), 1, 1)])
    kill_a_batch(home, monkeypatch)
    listed = entries(home, PLANT)
    assert [(e.id == first, e.finished) for e in listed] == [(True, True), (False, False)]
    assert listed[1].after == {}


# Differences.


def test_a_difference_counts_rows_machines_sensors_and_shows_examples(home: Home, raw: Path) -> None:
    first, second = two_batches(home, raw)
    found = {table.table: table for table in difference(home, PLANT, first, second, progress=Silent())}
    pump = found["readings/pump"]
    assert pump.rows.model_dump() == {"added": 1, "changed": 2, "removed": 0}
    assert {m: c.model_dump() for m, c in pump.machines.items()} == {
        "M1": {"added": 1, "changed": 1, "removed": 0}, "M2": {"added": 0, "changed": 1, "removed": 0},
    }  # fmt: skip
    assert {s: c.model_dump() for s, c in pump.sensors.items()} == {
        "p": {"added": 2, "changed": 0, "removed": 0}, "temp": {"added": 1, "changed": 1, "removed": 0},
    }  # fmt: skip
    changed = next(e for e in pump.examples if e.kind == "changed" and e.row["machine"] == "M1")
    assert (changed.row["time"], changed.cells) == (at(0), {"temp": (20.0, 21.0)})
    assert found["events"].rows.model_dump() == {"added": 1, "changed": 0, "removed": 0}
    assert found["quarantine"].rows.added == 1
    back = {table.table: table for table in difference(home, PLANT, second, first, progress=Silent())}["readings/pump"]
    assert back.rows.model_dump() == {"added": 0, "changed": 2, "removed": 1}
    assert back.sensors["p"].removed == 2
    (only,) = difference(home, PLANT, second, data_version(home, PLANT, second), progress=Silent())
    assert only.table == "quarantine"  # which a data version does not name


def test_a_difference_is_the_same_in_slices_of_any_size(home: Home, raw: Path) -> None:
    first, second = two_batches(home, raw)

    def without_order(tables: list[TableDifference]) -> list[Any]:
        return [(t.table, t.rows, sorted(t.machines.items()), sorted(t.sensors.items())) for t in tables]

    whole = without_order(difference(home, PLANT, first, second, progress=Silent()))
    for most in (1, 2, 3):
        assert without_order(difference(home, PLANT, first, second, progress=Silent(), most_rows=most)) == whole


def test_files_that_both_versions_hold_are_not_read(home: Home, raw: Path) -> None:
    put(raw / "readings/a.csv", [("M1", at(-1000), 10, 1)])
    first = deliver(home)
    put(raw / "readings/b.csv", [("M1", at(0), 10, 1)])
    second = deliver(home)
    shared = {file.path for file in reading_files(home, PLANT, as_of=first)}
    for path in shared:
        Path(path).write_bytes(b"not to be opened")
    (pump,) = (t for t in difference(home, PLANT, first, second, progress=Silent()) if t.table == "readings/pump")
    assert (pump.rows.added, pump.files_read) == (1, 1)


# Where a row comes from.


def test_a_row_leads_to_each_batch_that_gave_it_a_value_and_to_the_files(home: Home, raw: Path) -> None:
    first, second = two_batches(home, raw)
    found = origin(home, PLANT, "M2", T0, progress=Silent())
    assert found.values == {"p": 3.0, "temp": 5.0}
    new, old = found.deliveries
    assert (new.batch, new.brought, [f.path for f in new.files]) == (second, {"p": 3.0}, ["readings/b.csv"])
    assert (old.batch, old.brought, [f.path for f in old.files]) == (first, {"temp": 5.0}, ["readings/a.csv"])
    assert old.files[0].values == {"temp": 5.0}
    assert found.complete
    only = origin(home, PLANT, "M2", T0, as_of=first, progress=Silent())
    assert [d.batch for d in only.deliveries] == [first]
    with pytest.raises(NotFoundError, match="a reading of that machine at exactly that time"):
        origin(home, PLANT, "M2", T0 + timedelta(seconds=1), progress=Silent())


def test_files_that_cannot_hold_the_machine_are_not_looked_into(home: Home, tmp_path: Path) -> None:
    own = MachineFrom(kind="file_name", pattern=r"^(?P<machine>M\d)")
    raw = connect(home, tmp_path / "raw", wide(machine=own))
    for machine in ("M1", "M2"):
        put(raw / f"readings/{machine}.csv", [(at(0), 1, 2)], "ts,temp,p")
    deliver(home)
    (raw / "readings/M2.csv").unlink()
    found = origin(home, PLANT, "M1", T0, progress=Silent())
    assert [f.path for f in found.deliveries[0].files] == ["readings/M1.csv"]
    assert found.deliveries[0].unreadable == []
    gone = origin(home, PLANT, "M2", T0, progress=Silent()).deliveries[0]
    assert (gone.files, gone.unreadable) == ([], ["readings/M2.csv"])


def test_a_file_that_was_written_to_since_is_marked(home: Home, raw: Path) -> None:
    put(raw / "readings/a.csv", [("M1", at(0), 10, 1)])
    deliver(home)
    put(raw / "readings/a.csv", [("M1", at(0), 11, 1)])
    os.utime(raw / "readings/a.csv", (0, 0))
    (file,) = origin(home, PLANT, "M1", T0, progress=Silent()).deliveries[0].files
    assert file.changed_since
    assert file.values["temp"] == 11.0


def test_random_rows_of_merged_deliveries_lead_to_the_raw_values(home: Home, raw: Path) -> None:
    """Late rows, overlapping exports and corrections in three batches: every value is found in a file it came from."""
    rng = np.random.default_rng(7)
    written: dict[tuple[str, str], dict[tuple[str, str], tuple[Any, Any]]] = {}
    for number in range(3):
        for name in ("x", "y"):
            own: dict[tuple[str, str], tuple[Any, Any]] = {}
            for hour in rng.choice(200, 60, replace=False) - 100:
                values = [int(rng.integers(50)) if rng.random() < 0.8 else None for _ in range(2)]
                if any(value is not None for value in values):
                    own[f"M{rng.integers(3)}", at(int(hour))] = (values[0], values[1])
            path = f"readings/{number}{name}.csv"
            put(raw / path, [(m, t, *values) for (m, t), values in own.items()])
            written[str(number), path] = own
        deliver(home)
    batches = [entry.id for entry in entries(home, PLANT)]
    table = read_readings(home, PLANT).to_pylist()
    compact(home, PLANT, progress=Silent())  # names of files change, rows and their batches do not
    several = 0
    for pick in rng.choice(len(table), 40, replace=False):
        row = table[pick]
        found = origin(home, PLANT, row["machine"], row["time"], progress=Silent())
        assert found.values == {name: row[name] for name in ("p", "temp") if row[name] is not None}
        several += len(found.deliveries) > 1
        brought = {name: value for d in found.deliveries for name, value in d.brought.items()}
        assert brought == found.values
        for d in found.deliveries:
            number = str(batches.index(d.batch))
            for file in d.files:
                temp, p = written[number, file.path][row["machine"], row["time"].isoformat()]
                assert file.values == {k: v for k, v in (("p", p), ("temp", temp)) if v is not None}
            for name, value in d.brought.items():
                assert value in [file.values.get(name) for file in d.files]
    assert several > 3


# Compaction.


def deliver_again(home: Home, raw: Path) -> str:
    put(raw / "readings/again.csv", [("M1", at(-11), 1, 1)])
    return deliver(home)


def many_files(home: Home, raw: Path, batches: int = 4) -> None:
    for n in range(batches):  # each a day of its own, all in one month: no file overlaps another in time
        put(raw / f"readings/{n}.csv", [(f"M{m}", at(-200 + 24 * n + h), n, h) for m in range(3) for h in range(4)])
        deliver(home)


def test_compaction_keeps_every_row_with_its_batch_in_fewer_sorted_files(home: Home, raw: Path) -> None:
    many_files(home, raw)
    before, shown, version = stored(home), rows(home), data_version(home, PLANT)
    assert len(reading_files(home, PLANT)) == 4
    (done,) = compact(home, PLANT, progress=Silent())
    assert (done.files_before, done.files_after, done.rows, done.month) == (4, 1, 48, "2025-01")
    (file,) = reading_files(home, PLANT)
    assert is_sorted(file.path)
    assert stored(home) == before
    assert rows(home) == shown == rows(home, version)
    assert data_version(home, PLANT) != version
    assert compact(home, PLANT, progress=Silent()) == []
    log = home.table(PLANT, "readings/pump") / "_delta_log" / f"{done.version:020}.json"
    assert '"dataChange":true' not in log.read_text()
    entry = entries(home, PLANT)[-1]
    assert (entry.kind, entry.before, entry.after) == ("compact", {"readings/pump": 4}, {"readings/pump": 5})


@pytest.mark.parametrize("most_rows", [1, 5, 16, 17, 100])
def test_files_are_cut_at_machines_or_in_time_and_stay_as_they_are_then(home: Home, raw: Path, most_rows: int) -> None:
    many_files(home, raw)
    before = stored(home)
    done = compact(home, PLANT, progress=Silent(), most_rows=most_rows)
    assert stored(home) == before
    files = reading_files(home, PLANT)
    assert done == [] or not overlap(files)
    assert sum(file.num_rows for file in files) == 48
    if most_rows == 17:
        assert [(f.first_machine, f.num_rows) for f in files] == [("M0", 16), ("M1", 16), ("M2", 16)]
    assert compact(home, PLANT, progress=Silent(), most_rows=most_rows) == []


def test_ingest_goes_on_after_compaction(home: Home, raw: Path) -> None:
    many_files(home, raw)
    compact(home, PLANT, progress=Silent())
    put(raw / "readings/late.csv", [("M1", at(-200), 99, None), ("M1", at(-150.5), 1, 1)])
    deliver(home)
    assert ("M1", -200, 0, 99) in rows(home)
    assert len(rows(home)) == 49
    assert entries(home, PLANT)[-1].rows_added == 1


def test_a_batch_that_commits_meanwhile_makes_compaction_begin_again(
    home: Home, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that does not know the lock, such as one on another node without it."""
    many_files(home, raw)
    path = home.table(PLANT, "readings/pump")
    left, tried = [1], [0]

    def meanwhile(function: Callable[[Row], Row], items: list[Row]) -> Iterable[Row]:
        found = [function(item) for item in items]
        tried[0] += 1
        if left:
            left.pop()
            part = pa.table(
                {"machine": ["M9"], "time": pa.array([0], TIME), "temp": pa.array([1.0], pa.float32()),
                 "ingested_at": pa.array([0], TIME), "source_id": ["b"]}
            )  # fmt: skip
            table = open_or_create(path, readings_schema(["temp"]), partition_by=["month"])
            file = write_part(path, part, stem="part-b", partition={"month": "1970-01"})
            assert commit_once(table, [file], app_id="b", serial=("millwright.ingest", 99))
        return found

    (done,) = compact(home, PLANT, progress=Silent(), spread=meanwhile)
    assert (done.version, tried[0]) == (6, 2)
    assert len(rows(home)) == 49
    assert "M9" in {row[0] for row in rows(home)}


def test_compaction_and_ingest_take_turns(home: Home, raw: Path) -> None:
    many_files(home, raw)
    put(raw / "readings/more.csv", [("M1", at(-10), 1, 1)])
    with ThreadPoolExecutor(2) as pool:
        done = pool.submit(compact, home, PLANT, progress=Silent())
        batch = pool.submit(deliver, home)
        assert batch.result() and isinstance(done.result(), list)
    assert len(rows(home)) == 49
    for work in (lambda: deliver_again(home, raw), lambda: compact(home, PLANT, progress=Silent(), most_rows=7)):
        with ThreadPoolExecutor(1) as pool:
            with only_one(home, PLANT, Silent()):
                before = data_version(home, PLANT)
                waiting = pool.submit(work)
                time.sleep(0.5)
                assert not waiting.done()
                assert data_version(home, PLANT) == before
            assert waiting.result() is not None
    assert len(rows(home)) == 50


def test_a_killed_batch_is_finished_before_anything_is_compacted(
    home: Home, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(home, raw)
    before = rows(home)
    put(raw / "readings/late.csv", [("M1", at(-100), 99, None)])
    kill_a_batch(home, monkeypatch)
    with pytest.raises(MillwrightError, match="millwright ingest --plant plant"):
        compact(home, PLANT, progress=Silent())
    assert rows(home) == before
    deliver(home)
    assert compact(home, PLANT, progress=Silent())
    assert len(rows(home)) == 49


@pytest.mark.parametrize("step", ["write_piece", "commit_once", "show_versions"])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_step_of_compaction_leaves_history_equal(
    home: Home, raw: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    many_files(home, raw)
    before = stored(home)
    original = getattr(compaction, step)

    def failing(*args: Any, **options: Any) -> Any:
        if after:
            original(*args, **options)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(compaction, step, failing)
        with pytest.raises(Crash):
            compact(home, PLANT, progress=Silent())
    assert stored(home) == before
    compact(home, PLANT, progress=Silent())
    assert stored(home) == before
    put(raw / "readings/late.csv", [("M1", at(-100), 99, None)])
    deliver(home)
    assert len(stored(home)) == 49
    assert len(reading_files(home, PLANT)) <= 2


CHILD = """
import sys
from cluster.home import open_home
from cluster.report import Silent
from jobs.versions.compact import compact
home = open_home(sys.argv[1], environment={})
print("started", flush=True)
compact(home, "plant", progress=Silent(), most_rows=int(sys.argv[2]))
"""


@pytest.mark.slow
def test_kill_9_of_compactions_beside_ingests_leaves_every_row_once(home: Home, raw: Path) -> None:
    rng = np.random.default_rng(3)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    expected: dict[tuple[str, int], tuple[float, float]] = {}
    killed = 0
    for number in range(12):
        hours = [*(30 * number - 300 + rng.choice(30, 20, replace=False)), *(rng.choice(300, 2) - 300)]
        cells = {(f"M{h % 3}", int(h)): (float(h % 7), float(20 + (h + number) % 5)) for h in hours}
        put(raw / f"readings/{number}.csv", [(m, at(h), temp, p) for (m, h), (p, temp) in cells.items()])
        expected |= cells
        deliver(home)
        most = str(rng.integers(5, 60))
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(home.path), most], env=environment, stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.15)))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert {(m, h): (p, temp) for m, h, p, temp in rows(home)} == expected
        assert len(rows(home)) == len(expected)
    assert killed > 2


# Slices.


def test_slices_bound_their_rows_and_leave_nothing_out(home: Home, raw: Path) -> None:
    many_files(home, raw)
    files = reading_files(home, PLANT)
    paths = [file.path for file in files]
    for most in (1, 3, 4, 16, 20, 33, 1000):
        cuts = slices(files, most_rows=most)
        parts = [read_slice(paths, cut) for cut in cuts]
        assert sum(part.num_rows for part in parts) == 48
        keys = [(r["machine"], r["time"]) for part in parts for r in part.select(["machine", "time"]).to_pylist()]
        assert keys == sorted(set(keys))
        if most >= 16:
            assert max(part.num_rows for part in parts) <= most
    assert slices(files, most_rows=1000) == [Bounds()]


def test_a_file_out_of_order_is_seen(tmp_path: Path) -> None:
    def file(machines: list[str], times: list[int]) -> str:
        pq.write_table(pa.table({"machine": machines, "time": pa.array(times, TIME)}), tmp_path / "a.parquet")
        return str(tmp_path / "a.parquet")

    assert is_sorted(file(["A", "A", "B"], [1, 2, 1]))
    assert not is_sorted(file(["A", "A", "B"], [2, 1, 1]))
    assert not is_sorted(file(["B", "A"], [1, 2]))
    assert is_sorted(file([], []))


# Retention.


def age(home: Home, days: float) -> None:
    """As if every data file had been written so long ago."""
    moment = time.time() - days * 86400
    for path in home.lake.rglob("*.parquet"):
        os.utime(path, (moment, moment))


def test_retention_removes_what_no_version_of_the_last_days_needs(home: Home, raw: Path) -> None:
    first, second = two_batches(home, raw)
    shown, kept = rows(home), {file.path for file in reading_files(home, PLANT)}
    every = {str(path) for path in home.lake.rglob("*.parquet")}
    orphan = home.table(PLANT, "readings/pump") / "month=2025-01" / "part-killed.parquet"
    orphan.write_bytes(b"x" * 100)
    age(home, 8)
    later = datetime.now(UTC) + timedelta(days=8)
    found = retain(home, PLANT, days=7, dry_run=True, progress=Silent(), now=later)
    assert orphan.is_file() and str(orphan.relative_to(home.path)) in found.files
    removed = retain(home, PLANT, days=7, dry_run=False, progress=Silent(), now=later)
    assert removed.files == found.files
    assert removed.size_bytes == found.size_bytes > 100
    assert not orphan.exists()
    assert rows(home) == shown == rows(home, second)
    gone = every - {str(path) for path in home.lake.rglob("*.parquet")}
    assert gone and not gone & kept
    for as_of in (first, "readings/pump@1"):
        with pytest.raises(NotFoundError, match="removed by retention"):
            rows(home, as_of)
    with pytest.raises(NotFoundError, match="removed by retention"):
        read_events(home, PLANT, as_of=first)
    with pytest.raises(NotFoundError, match="removed by retention"):
        difference(home, PLANT, first, second, progress=Silent())
    assert not batch_detail(home, PLANT, first).from_files
    assert batch_detail(home, PLANT, first).rows["readings/pump"] == {"M1": 2}
    entry = entries(home, PLANT)[-1]
    assert (entry.kind, entry.detail["files"], entry.after) == ("retain", len(found.files), {})
    assert not origin(home, PLANT, "M2", T0, progress=Silent()).complete


def test_versions_that_were_visible_within_the_days_stay_readable(home: Home, raw: Path) -> None:
    first, _ = two_batches(home, raw)
    age(home, 400)
    found = retain(home, PLANT, days=7, dry_run=False, progress=Silent())
    assert found.files == []
    assert rows(home, first) == FIRST


def test_young_files_are_spared_whatever_is_asked_for(home: Home, raw: Path) -> None:
    two_batches(home, raw)
    later = datetime.now(UTC) + timedelta(hours=23)
    assert retain(home, PLANT, days=0, dry_run=False, progress=Silent(), now=later).files == []
    later += timedelta(hours=2)
    assert retain(home, PLANT, days=0, dry_run=False, progress=Silent(), now=later).files != []


def test_what_is_visible_stays_however_old_it_is(home: Home, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch was killed a year ago: tables are ahead of what readers see."""
    put(raw / "readings/a.csv", [("M1", at(0), 1, 1)])
    deliver(home)
    put(raw / "readings/b.csv", [("M1", at(0), 2, 2)])
    kill_a_batch(home, monkeypatch)
    assert DeltaTable(str(home.table(PLANT, "readings/pump"))).version() == 2
    age(home, 365)
    retain(home, PLANT, days=7, dry_run=False, progress=Silent(), now=datetime.now(UTC) + timedelta(days=365))
    assert rows(home) == [("M1", 0, 1, 1)]
    deliver(home)
    assert rows(home) == [("M1", 0, 2, 2)]


def test_retention_leaves_another_plant_alone_and_waits_for_a_running_batch(home: Home, raw: Path) -> None:
    two_batches(home, raw)
    other = home.lake / "other" / "readings" / "pump" / "orphan.parquet"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x")
    age(home, 30)
    later = datetime.now(UTC) + timedelta(days=30)
    with ThreadPoolExecutor(1) as pool:
        with only_one(home, PLANT, Silent()):
            before = len(list(home.lake.rglob("*.parquet")))
            waiting = pool.submit(retain, home, PLANT, days=7, dry_run=False, progress=Silent(), now=later)
            time.sleep(0.3)
            assert not waiting.done()
            assert len(list(home.lake.rglob("*.parquet"))) == before
        assert waiting.result().files
    assert other.is_file()


def test_a_reader_beside_compaction_and_retention_always_sees_the_same_rows(home: Home, raw: Path) -> None:
    many_files(home, raw)
    expected, stop, seen = rows(home), [False], [0]

    def read() -> None:
        while not stop[0]:
            assert rows(home) == expected
            seen[0] += 1

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for most in (1000, 5, 1000, 7):
            compact(home, PLANT, progress=Silent(), most_rows=most)
            age(home, 3)
            retain(home, PLANT, days=2, dry_run=False, progress=Silent())
        time.sleep(0.1)
        stop[0] = True
        reader.result()
    assert seen[0] > 2
    age(home, 30)
    kept = {file.path for file in reading_files(home, PLANT)}
    retain(home, PLANT, days=7, dry_run=False, progress=Silent(), now=datetime.now(UTC) + timedelta(days=30))
    assert {str(path) for path in home.table(PLANT, "readings/pump").rglob("part-*.parquet")} <= kept
    assert rows(home) == expected


def test_the_old_log_goes_and_every_kept_version_still_opens(home: Home, raw: Path) -> None:
    many_files(home, raw, batches=5)
    log = home.table(PLANT, "readings/pump") / "_delta_log"
    age(home, 60)
    old = time.time() - 60 * 86400
    for path in log.iterdir():
        os.utime(path, (old, old))
    shown = rows(home)
    retain(home, PLANT, days=7, dry_run=False, progress=Silent(), now=datetime.now(UTC) + timedelta(days=60))
    assert sorted(path.name[:20] for path in log.glob("*.json")) == [f"{5:020}"]
    assert rows(home) == shown
    many = deliver_again(home, raw)
    assert entries(home, PLANT)[-1].id == many
    assert len(rows(home)) == len(shown) + 1


def test_work_folders_of_batches_that_are_done_are_cleared(home: Home, raw: Path) -> None:
    first, _ = two_batches(home, raw)
    for name in (first, "000009-000000000000"):
        (home.of(PLANT).plans / f"{name}.work").mkdir()
    found = retain(home, PLANT, days=7, dry_run=False, progress=Silent())
    assert len(found.work_folders) == 2
    assert not list(home.of(PLANT).plans.glob("*.work"))


# The verb.


def test_the_verb_answers_each_question(home: Home, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_batches(home, raw)
    monkeypatch.setenv("COLUMNS", "200")

    def said(**options: Any) -> str:
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(home.launch("history", **options).render())
        return console.export_text()

    assert first in said() and "pump 1>2" in said()
    assert "readings/b.csv" in said(action="show", first=second)
    assert "temp 20 to 21" in said(action="diff", first=first, second=second)
    assert "Nothing differs" in said(action="diff", first=second, second=data_version(home, PLANT) + ",quarantine@2")
    row = said(action="row", machine="M2", time=at(0))
    assert f"Batch {second}" in row and f"Batch {first}" in row and "readings/a.csv" in row
    assert "Nothing to compact" in said(action="compact")
    assert "0 files, 0.0 MB would be removed" in said(action="retain", dry_run=True)
    with pytest.raises(InputError, match="`history show` needs more: expected the id of a batch"):
        said(action="show")
    with pytest.raises(InputError, match="expected --machine"):
        said(action="row", time=at(0))


def test_with_several_plants_a_batch_finds_its_own(home: Home, raw: Path) -> None:
    first, _ = two_batches(home, raw)
    description = SourceDescription(plant="other", root=str(raw), streams=(wide(),))
    write_source(home.sources / "other.toml", description)
    assert home.launch("history", action="show", first=first).batch.plant == PLANT
    assert [plant.name for plant in home.launch("history").plants] == ["other", PLANT]
    with pytest.raises(InputError, match="Which plant"):
        home.launch("history", action="row", machine="M1", time=at(0))


def test_compaction_tells_its_lineage_and_listing_does_not(home: Home, raw: Path) -> None:
    many_files(home, raw)
    home.launch("history")
    assert not (home.path / "lineage").exists()
    home.launch("history", action="compact")
    (path,) = (home.path / "lineage").iterdir()
    start, end = map(json.loads, path.read_text().splitlines())
    assert (start["eventType"], end["eventType"], end["job"]["name"]) == ("START", "COMPLETE", "history compact")
    (output,) = end["outputs"]
    assert output["facets"]["version"]["datasetVersion"] == "5"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 48
    assert output["name"] in {dataset["name"]: dataset for dataset in end["inputs"]}

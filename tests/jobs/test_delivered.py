"""What the service received reaches history through `ingest`, once, whatever dies in between."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cluster import status
from cluster.home import Home, open_home
from cluster.received import Rows, State
from cluster.report import Silent
from cluster.sources import write_source
from cluster.storage import read_machines, read_readings
from jobs import history
from jobs.following import batches as batches_module
from jobs.following import commit as commit_module
from jobs.following import delivered
from jobs.ingest import run as ingest
from jobs.ingesting import live
from jobs.ingesting.plan import plans
from jobs.ingesting.report import PlantIngest
from models.source import MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat
from tests.jobs.deaths import death_at
from tests.jobs.live_broker import T0, at

NAN = float("nan")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found, raw = open_home(tmp_path / "home", create=True), tmp_path / "raw"
    raw.mkdir()
    (raw / "a.csv").write_text(f"ts,m,temp_degF\n{at(0)},M1,68\n")
    stream = Stream(
        name="files", role="readings", files="*.csv", time=TimeFormat(column="ts"), machine=MachineFrom(column="m"),
        machine_type="Pump", sensors={"temp_degF": SensorColumn(sensor="temp", kind="temperature", unit="degF")},
    )  # fmt: skip
    write_source(found.of("p").source, SourceDescription(plant="p", root=str(raw), streams=(stream,)))
    ingested(found)
    return found


def ingested(home: Home) -> PlantIngest:
    return ingest(home, plant="p", progress=Silent(), spread=map).plants[0]


def post(home: Home, machine: str, seconds: list[int], temp: list[float], rpm: list[float]) -> None:
    start = round(T0.timestamp() * 1e6)
    times = np.array([start + s * 1_000_000 for s in seconds], np.int64)
    values = np.array([temp, rpm], np.float32).T
    with closing(State(home.of("p").state)) as state:
        state.append(Rows([machine] * len(times), times, ("temp", "rpm"), values))


def waiting(home: Home) -> int:
    with closing(State(home.of("p").state)) as state:
        return state.num_pending()


def rows(home: Home) -> list[tuple[str, float, float | None, float | None]]:
    found = read_readings(home, "p", sensors=["temp", "rpm"]).to_pylist()
    temp = [None if r["temp"] is None else round(r["temp"], 3) for r in found]
    return [(r["machine"], (r["time"] - T0).total_seconds(), t, r["rpm"]) for r, t in zip(found, temp, strict=True)]


def test_what_the_service_received_is_in_history_once_beside_the_files(home: Home, tmp_path: Path) -> None:
    post(home, "M1", [0, 1], [NAN, 21.0], [5.0, 6.0])
    post(home, "M2", [1], [30.0], [NAN])
    assert status.run(home, progress=Silent()).plants[0].waiting == 3
    report = ingested(home)
    assert (report.rows_delivered, report.rows_ingested, report.files) == (3, 3, 0)
    expected = [("M1", 0.0, 20.0, 5.0), ("M1", 1.0, 21.0, 6.0), ("M2", 1.0, 30.0, None)]
    assert rows(home) == expected
    assert waiting(home) == 0
    machines = read_machines(home, "p")
    assert dict(zip(machines["machine"].to_pylist(), machines["machine_type"].to_pylist(), strict=True)) == {
        "M1": "pump", "M2": "pump"
    }  # fmt: skip
    assert ingested(home).rows_ingested == 0
    assert rows(home) == expected
    (tmp_path / "raw" / "b.csv").write_text(f"ts,m,temp_degF\n{at(1)},M2,104\n")
    assert ingested(home).rows_delivered == 0
    assert rows(home)[2] == ("M2", 1.0, 40.0, None)
    assert [plan.sequence for plan in plans(home, "p")] == [1, 3]


def test_a_file_that_comes_with_deliveries_wins(home: Home, tmp_path: Path) -> None:
    post(home, "M1", [1], [21.0], [6.0])
    (tmp_path / "raw" / "b.csv").write_text(f"ts,m,temp_degF\n{at(1)},M1,104\n")
    assert ingested(home).rows_ingested == 2
    assert rows(home)[1] == ("M1", 1.0, 40.0, 6.0)


def test_many_deliveries_become_batches_that_do_not_cut_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivered, "MOST_ROWS", 3)
    for number in range(4):
        post(home, "M1", [2 * number, 2 * number + 1], [1.0, 2.0], [3.0, 4.0])
    assert ingested(home).rows_delivered == 8
    done = list(live.done_batches(home, "p"))
    assert [(batch.ranges, batch.counts["rows_ingested"]) for batch in done] == [
        ({"service": (2, 3)}, 4), ({"service": (4, 5)}, 4)
    ]  # fmt: skip
    assert len(rows(home)) == 8


def test_history_says_that_a_row_came_through_the_service(home: Home) -> None:
    post(home, "M1", [1], [21.0], [6.0])
    ingested(home)
    found = history.run(home, plant="p", action="row", machine="M1", time=at(1), progress=Silent())
    origin = next(part for part in found.model_dump().values() if isinstance(part, dict) and "deliveries" in part)
    told = [message for delivery in origin["deliveries"] for message in delivery["messages"]]
    assert told == [{"topic": "service", "first": 2, "last": 2}]


STEPS = [
    (batches_module, "decode_delivered"), (commit_module, "commit_once"), (commit_module, "commit_machines"),
    (commit_module, "show_versions"), (batches_module.live, "finish"), (batches_module, "taken"),
    (batches_module, "tidy"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "step"), STEPS, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_step_loses_nothing_and_doubles_nothing(
    home: Home, module: object, step: str, after: bool
) -> None:
    post(home, "M1", [1], [21.0], [6.0])
    post(home, "M3", [1], [NAN], [7.0])
    with death_at(module, step, after=after):
        ingested(home)
    post(home, "M1", [1], [NAN], [8.0])  # the same reading again, while nobody ingests
    ingested(home)
    assert rows(home) == [("M1", 0.0, 20.0, None), ("M1", 1.0, 21.0, 8.0), ("M3", 1.0, None, 7.0)]
    assert waiting(home) == 0
    assert live.open_batch(home, "p") is None
    assert read_machines(home, "p")["machine"].to_pylist() == ["M1", "M3"]


def test_what_was_written_down_as_done_is_not_counted_again(home: Home) -> None:
    post(home, "M1", [1], [21.0], [6.0])
    with death_at(batches_module, "taken", after=False):
        ingested(home)
    assert waiting(home) == 1
    assert ingested(home).rows_delivered == 0
    assert waiting(home) == 0


def test_a_broken_store_is_told_and_stops_neither_status_nor_files(home: Home, tmp_path: Path) -> None:
    home.of("p").state.parent.mkdir(parents=True, exist_ok=True)
    home.of("p").state.write_bytes(b"no database " * 100)
    assert status.run(home, progress=Silent()).plants[0].waiting is None
    (tmp_path / "raw" / "b.csv").write_text(f"ts,m,temp_degF\n{at(1)},M1,104\n")
    report = ingested(home)
    assert report.rows_ingested == 1
    assert [note for note in report.notes if "Unreadable state" in note] == report.notes

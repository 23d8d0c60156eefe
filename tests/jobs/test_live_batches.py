"""Live batches and batches of files share one history: one sequence, one merge by cell; any crash is finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from cluster.sources import read_source, write_source
from cluster.storage import read_machines, read_quarantine, read_readings
from cluster.visibility import newest_state, states
from jobs.following import batches as batches_module
from jobs.following import commit as commit_module
from jobs.following import parse as parse_module
from jobs.following.batches import Batches, Done
from jobs.following.decode import Decoder
from jobs.following.parse import spool_folder
from jobs.following.spool import Record, Spool
from jobs.ingest import run as ingest
from jobs.ingesting import live
from jobs.ingesting.plan import plans
from models.source import MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat
from tests.jobs.deaths import death_at
from tests.jobs.live_broker import T0, at, line


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found, raw = open_home(tmp_path / "home", create=True), tmp_path / "raw"
    raw.mkdir()
    stream = Stream(
        name="files", role="readings", files="*.csv", time=TimeFormat(column="ts"), machine=MachineFrom(column="m"),
        sensors={"temp_degF": SensorColumn(sensor="temp", kind="temperature", unit="degF")},
    )  # fmt: skip
    source = SourceDescription(plant="p", root=str(raw), streams=(stream,), live=(line(1),))
    write_source(found.of("p").source, source)
    assert read_source(found.of("p").source) == source
    return found


def spooled(home: Home, *messages: tuple[str, dict[str, object]]) -> Done:
    home.of("p").make()
    spool = Spool(spool_folder(home, "p"), most_bytes=1 << 30, start=live.next_message(home, "p"))
    records = [Record("line", f"line/{machine}/data", json.dumps(body).encode(), 7) for machine, body in messages]
    end = spool.append(records)
    spool.close()
    done = Batches(home, home.source("p"), Silent()).commit_next(most=1000, upto=end)
    assert done is not None
    return done


def rows(home: Home) -> list[tuple[str, float, float | None, float | None]]:
    found = read_readings(home, "p", sensors=["temp", "rpm"]).to_pylist()
    temp = [None if r["temp"] is None else round(r["temp"], 3) for r in found]
    return [(r["machine"], (r["time"] - T0).total_seconds(), t, r["rpm"]) for r, t in zip(found, temp, strict=True)]


def test_files_and_messages_take_turns_in_one_sequence_and_merge_by_cell(home: Home, tmp_path: Path) -> None:
    done = spooled(home, ("M1", {"ts": at(0), "rpm": 5}), ("M2", {"ts": at(0), "temp_degF": 50}))
    assert (done.batch.sequence, done.counts["rows_ingested"]) == (1, 2)
    (tmp_path / "raw" / "a.csv").write_text(f"ts,m,temp_degF\n{at(0)},M1,68\n{at(1)},M1,86\n")
    ingest(home, plant="p", progress=Silent(), spread=map)
    assert [plan.sequence for plan in plans(home, "p")] == [2]
    done = spooled(home, ("M1", {"ts": at(1), "rpm": 6}), ("M1", {"ts": at(1), "temp_degF": 86}))
    assert (done.batch.sequence, done.counts["rows_superseded"]) == (3, 1)
    (tmp_path / "raw" / "b.csv").write_text(f"ts,m,temp_degF\n{at(1)},M1,104\n")
    ingest(home, plant="p", progress=Silent(), spread=map)
    assert [plan.sequence for plan in plans(home, "p")] == [2, 4]
    assert rows(home) == [("M1", 0.0, 20.0, 5.0), ("M1", 1.0, 40.0, 6.0), ("M2", 0.0, 10.0, None)]
    assert [state.cause.partition("-")[0] for state in states(home, "p") if state.cause] == [
        "000001", "000002", "000003", "000004"
    ]  # fmt: skip
    state = newest_state(home, "p")
    assert state is not None and state == states(home, "p")[-1]
    assert state.rows["readings/machine"] == 3


STEPS = [
    (batches_module, "decode"), (commit_module, "write_part"), (commit_module, "commit_once"),
    (commit_module, "commit_machines"), (commit_module, "_commit_quarantine"), (commit_module, "_show"),
    (commit_module, "show_versions"), (batches_module.live, "finish"), (batches_module, "tidy"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "step"), STEPS, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_step_is_finished_with_the_same_rows(
    home: Home, module: object, step: str, after: bool
) -> None:
    spooled(home, ("M1", {"ts": at(0), "rpm": 1}))
    messages = [("M1", {"ts": at(1), "rpm": 2}), ("M3", {"ts": at(1), "rpm": 3}), ("M1", {"ts": "never"}),
                ("M1", {"ts": at(0), "rpm": 9})]  # fmt: skip
    with death_at(module, step, after=after):
        spooled(home, *messages)  # type: ignore[arg-type]
    again = Batches(home, home.source("p"), Silent())
    again.commit_next(most=1000, upto=again.next)
    assert rows(home) == [("M1", 0.0, None, 9.0), ("M1", 1.0, None, 2.0), ("M3", 1.0, None, 3.0)]
    assert read_quarantine(home, "p")["line"].to_pylist() == [3]
    assert read_machines(home, "p")["machine"].to_pylist() == ["M1", "M3"]
    done = list(live.done_batches(home, "p"))
    assert [(batch.sequence, batch.first, batch.last) for batch in done] == [(1, 0, 1), (2, 1, 5)]
    assert live.open_batch(home, "p") is None
    state = newest_state(home, "p")
    assert state is not None
    assert (state.rows["readings/machine"], state.rows["quarantine"], state.rows["machines"]) == (3, 1, 2)


def test_a_message_that_breaks_the_code_for_rows_is_told_and_the_others_go_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Decoder._wide

    def strange(self: Decoder, number: int, record: Record, row: dict[str, object], flat: dict[str, object]) -> object:
        if flat.get("rpm") == 13:
            raise OverflowError("thirteen")
        return real(self, number, record, row, flat)

    monkeypatch.setattr(parse_module.Decoder, "_wide", strange)
    spooled(home, *(("M1", {"ts": at(k), "rpm": k}) for k in range(12, 15)))
    assert [row[3] for row in rows(home)] == [12.0, 14.0]
    (wrong,) = read_quarantine(home, "p").to_pylist()
    assert (wrong["reason"], wrong["line"], wrong["detail"]) == ("bad_json", 1, "OverflowError: thirteen")


def test_a_batch_of_files_that_was_left_unfinished_is_waited_for(home: Home, tmp_path: Path) -> None:
    (tmp_path / "raw" / "a.csv").write_text(f"ts,m,temp_degF\n{at(0)},M1,68\n")
    ingest(home, plant="p", progress=Silent(), spread=map)
    path = next(home.of("p").plans.glob("000001-*[0-9a-f].json"))
    whole = path.read_text()
    path.write_text(whole.replace('"done": true', '"done": false'))
    spool = Spool(spool_folder(home, "p"), most_bytes=1 << 30)
    spool.append([Record("line", "line/M1/data", json.dumps({"ts": at(5), "rpm": 1}).encode(), 7)])
    waiting = Batches(home, home.source("p"), Silent())
    assert waiting.commit_next(most=10, upto=1) is None
    assert waiting.unfinished_plan() == path.stem
    path.write_text(whole)
    assert waiting.commit_next(most=10, upto=1) is not None

"""`follow` against a real broker: exactly the rows that were published, whatever is killed or away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from cluster.home import Home
from cluster.report import Silent
from cluster.storage import TIME, read_machines, read_quarantine, read_readings, reading_files
from cluster.visibility import states
from jobs import history
from jobs.ingest import run as ingest
from jobs.ingesting import live
from jobs.versions.reports import ListReport, RowReport, ShowReport
from models.errors import InputError
from tests.jobs.live_broker import T0, Broker, Follow, Publisher, at, connected, eventually, line

MACHINES = [f"M{number:02d}" for number in range(20)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path / "broker").start()
    yield found
    found.stop()


def readings(home: Home, plant: str = "p") -> list[tuple[str, float, float | None, float | None]]:
    if not (home.table(plant, "readings")).is_dir():
        return []
    try:
        rows = read_readings(home, plant).to_pylist()
    except InputError:  # none visible yet
        return []
    return [(r["machine"], (r["time"] - T0).total_seconds(), r.get("temp"), r.get("rpm")) for r in rows]


def publish(publisher: Publisher, seconds: range, *, name: str = "line", pause_s: float = 0.0) -> None:
    for second in seconds:
        for number, machine in enumerate(MACHINES):
            body = {"ts": at(second), "temp_degF": 32 + 1.8 * number, "rpm": second}
            publisher.publish(f"{name}/{machine}/data", body)
        time.sleep(pause_s)


def expected(seconds: range) -> list[tuple[str, float, float, float]]:
    return [(machine, float(s), float(n), float(s)) for n, machine in enumerate(MACHINES) for s in seconds]


def settled(home: Home, number: int, plant: str = "p") -> None:
    eventually(lambda: len(readings(home, plant)) >= number)


def rounded(rows: list[tuple[str, float, float | None, float | None]]) -> list[tuple[object, ...]]:
    return [(m, s, None if t is None else round(t, 3), r) for m, s, t, r in rows]


def test_what_is_published_is_in_history_in_canonical_units_and_wrong_messages_are_told(
    tmp_path: Path, broker: Broker
) -> None:
    home = connected(tmp_path / "home", "p", line(broker.port, topics=("line/#",), max_message_bytes=1000))
    follow = Follow(home).start()
    publisher = Publisher(broker.port)
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    publish(publisher, range(30))
    poison = {
        "M01/a": b"{", "M01/b": b"7", "M01/c": b'{"ts": "yesterday", "rpm": 1}', "M01/d": b'{"rpm": 1}',
        "M01/e": b'{"ts": "2199-01-01", "rpm": 1}', "X01/f": b'{"ts": "2026-03-01", "rpm": 1}', "M01/g": b"x" * 2000,
        "M01/h": b'{"a":' * 150 + b"1" + b"}" * 150, "M01/i": b'{"ts": "2026-03-01"}',
        "M01/j": b'{"ts": "2026-03-01", "rpm": "fast"}', "M01/k": b"\xff\x00\xfe",
    }  # fmt: skip
    for topic, body in poison.items():
        publisher.publish(f"line/{topic}", body)
    settled(home, 600)
    eventually(lambda: read_quarantine(home, "p").num_rows == len(poison))
    report = follow.end()
    publisher.close()
    assert rounded(readings(home)) == expected(range(30))
    found = {row["file"].removeprefix("line/"): row["reason"] for row in read_quarantine(home, "p").to_pylist()}
    assert found == {
        "M01/a": "bad_json", "M01/b": "bad_json", "M01/c": "bad_time", "M01/d": "bad_time", "M01/e": "future_time",
        "X01/f": "no_machine", "M01/g": "message_too_large", "M01/h": "no_value", "M01/i": "no_value",
        "M01/j": "bad_number", "M01/k": "bad_json",
    }  # fmt: skip
    lines = [row["line"] for row in read_quarantine(home, "p").to_pylist()]
    assert sorted(lines) == list(range(600, 600 + len(poison)))  # the spool's offsets
    assert (report["messages"], report["rows_ingested"], report["rows_quarantined"]) == (611, 600, 11)
    assert report["latency_p99_s"] < 5
    assert read_machines(home, "p")["machine"].to_pylist() == MACHINES


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_it_goes_on_with_exactly_the_rows(tmp_path: Path, broker: Broker, seed: int) -> None:
    home, draw, seconds = connected(tmp_path / "home", "p", line(broker.port)), Random(seed), range(150)
    follow, publisher = Follow(home).start("--set", "follow.batch_s=0.15"), Publisher(broker.port)
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    publishing = threading.Thread(target=publish, args=(publisher, seconds), kwargs={"pause_s": 0.08})
    publishing.start()
    for _ in range(5):
        time.sleep(draw.uniform(1.2, 2.6))
        follow.kill()
        follow.start("--set", "follow.batch_s=0.15")
    publishing.join()
    settled(home, len(expected(seconds)))
    time.sleep(0.5)
    follow.end()
    publisher.close()
    assert rounded(readings(home)) == expected(seconds)
    assert read_quarantine(home, "p").num_rows == 0
    done = list(live.done_batches(home, "p"))
    assert [batch.sequence for batch in done] == list(range(1, len(done) + 1))
    assert [batch.first for batch in done] == [0, *(batch.last for batch in done[:-1])]  # no message twice, none left
    assert len({batch.batch for batch in done}) == len(done)
    brought = sum(batch.counts.get("rows_ingested", 0) - batch.counts.get("rows_superseded", 0) for batch in done)
    assert brought == len(expected(seconds))
    assert states(home, "p")[-1].rows["readings/machine"] == len(expected(seconds))


def outage(tmp_path: Path, broker: Broker, *, away_s: float) -> None:
    home, first, second = connected(tmp_path / "home", "p", line(broker.port)), range(20), range(20, 60)
    follow, publisher = Follow(home).start("--set", "follow.batch_s=0.3"), Publisher(broker.port)
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    publish(publisher, first)
    settled(home, len(expected(first)))
    broker.stop()
    publish(publisher, second, pause_s=away_s / len(second))
    assert len(readings(home)) == len(expected(first))
    broker.start()
    settled(home, len(expected(range(60))))
    report = follow.end()
    publisher.close()
    assert rounded(readings(home)) == expected(range(60))
    told = [note for note in report["plants"][0]["notes"] if "does not answer" in note]
    assert len(told) == 1, "told once"
    assert report["plants"][0]["notes"][-1].endswith("the broker is back")


def test_a_broker_that_is_away_for_some_seconds_loses_nothing(tmp_path: Path, broker: Broker) -> None:
    outage(tmp_path, broker, away_s=4)


@pytest.mark.slow
def test_a_broker_that_is_away_for_a_minute_loses_nothing(tmp_path: Path, broker: Broker) -> None:
    outage(tmp_path, broker, away_s=60)


def test_two_plants_are_followed_apart(tmp_path: Path, broker: Broker) -> None:
    home = connected(tmp_path / "home", "p", line(broker.port))
    connected(tmp_path / "home", "q", line(broker.port, "other"))
    connected(tmp_path / "home", "gone", line(1, "nowhere"))
    follow, publisher = Follow(home).start(), Publisher(broker.port)
    eventually(lambda: b"millwright-q-other" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    publish(publisher, range(5))
    publish(publisher, range(7, 10), name="other")
    settled(home, 100)
    settled(home, 60, "q")
    report = follow.end()
    publisher.close()
    assert rounded(readings(home)) == expected(range(5))
    assert rounded(readings(home, "q")) == expected(range(7, 10))
    by_name = {plant["name"]: plant for plant in report["plants"]}
    assert by_name["gone"]["messages"] == 0
    assert "does not answer" in by_name["gone"]["notes"][0]


def test_a_full_spool_makes_messages_wait_at_the_broker(tmp_path: Path, broker: Broker) -> None:
    home = connected(tmp_path / "home", "p", line(broker.port))
    lock = home.of("p").plans / "lock"
    home.of("p").make()
    publisher, pad = Publisher(broker.port), "x" * 4000
    follow = Follow(home).start("--set", "follow.spool_mb=1")
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # history is busy: nothing leaves the spool
        for second in range(1000):
            publisher.publish("line/M01/data", {"ts": at(second), "rpm": second, "pad": pad})
        time.sleep(3)
        spooled = sum(path.stat().st_size for path in (home.of("p").plans / "spool").iterdir())
        assert spooled < 5_000_000
    settled(home, 1000)
    follow.end()
    publisher.close()
    assert [row[3] for row in readings(home)] == [float(second) for second in range(1000)]


def test_late_and_repeated_messages_merge_by_cell_and_history_tells_where_a_row_is_from(
    tmp_path: Path, broker: Broker
) -> None:
    home = connected(tmp_path / "home", "p", line(broker.port))
    follow, publisher = Follow(home).start("--set", "follow.batch_s=0.3"), Publisher(broker.port)
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    publisher.publish("line/M01/data", {"ts": at(10), "rpm": 1})
    settled(home, 1)
    publisher.publish("line/M01/data", {"ts": at(10), "temp_degF": 50})  # another cell of the same row
    publisher.publish("line/M01/data", {"ts": at(5), "rpm": 2})  # late
    publisher.publish("line/M01/data", {"ts": at(10), "rpm": 1})  # again
    settled(home, 2)
    report = follow.end()
    publisher.close()
    assert rounded(readings(home)) == [("M01", 5.0, None, 2.0), ("M01", 10.0, 10.0, 1.0)]
    assert report["plants"][0]["rows_superseded"] == 1
    listed = history.run(home, progress=Silent(), plant="p")
    assert isinstance(listed, ListReport)
    (entry,) = listed.plants[0].entries
    assert (entry.kind, entry.detail["messages"], entry.rows_added) == ("live", 4, 2)
    row = history.run(home, progress=Silent(), action="row", plant="p", machine="M01", time=at(10))
    assert isinstance(row, RowReport)
    assert [list(delivery.brought) for delivery in row.row.deliveries] == [["temp"], ["rpm"]]
    assert {m.topic for d in row.row.deliveries for m in d.messages} == {"line/line/M01/data"}
    shown = history.run(home, progress=Silent(), action="show", first=entry.detail["last"])
    assert isinstance(shown, ShowReport)
    assert shown.batch.messages[0].last == 3


def test_small_files_are_joined_as_they_come_and_compaction_joins_the_rest(tmp_path: Path, broker: Broker) -> None:
    home = connected(tmp_path / "home", "p", line(broker.port))
    follow, publisher = Follow(home).start("--set", "follow.batch_s=0.02"), Publisher(broker.port)
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    publish(publisher, range(400), pause_s=0.05)
    settled(home, 8000)
    follow.end()
    publisher.close()
    assert rounded(readings(home)) == expected(range(400))
    num_batches = len(list(live.done_batches(home, "p")))
    assert num_batches > 110
    assert len(reading_files(home, "p")) < 100
    history.run(home, progress=Silent(), action="compact", plant="p")
    assert len(reading_files(home, "p")) == 1
    assert rounded(readings(home)) == expected(range(400))


def test_a_batch_that_a_killed_run_left_is_finished_by_ingest(tmp_path: Path, broker: Broker) -> None:
    home = connected(tmp_path / "home", "p", line(broker.port))
    from jobs.following.batches import Batches
    from jobs.following.parse import spool_folder
    from jobs.following.spool import Record, Spool

    home.of("p").make()
    spool = Spool(spool_folder(home, "p"), most_bytes=1 << 30)
    spool.append([Record("line", "line/M01/data", f'{{"ts": "{at(s)}", "rpm": {s}}}'.encode(), 0) for s in range(5)])
    batches = Batches(home, home.source("p"), Silent())
    assert batches._cut(3, 5) is not None  # written down; then its process dies
    spool.close()
    ingest(home, plant="p", progress=Silent(), spread=map)
    assert [row[1] for row in readings(home)] == [0.0, 1.0, 2.0]
    assert live.open_batch(home, "p") is None
    again = Batches(home, home.source("p"), Silent())
    done = again.commit_next(most=100, upto=5)
    assert done is not None and (done.batch.sequence, done.batch.first, done.batch.last) == (2, 3, 5)
    assert len(readings(home)) == 5
    assert TIME.tz == "UTC"


def test_nothing_to_follow_is_said(tmp_path: Path, broker: Broker) -> None:
    home = connected(tmp_path / "home", "p", line(broker.port))
    follow = Follow(home).start()
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    from jobs.follow import run

    with pytest.raises(InputError, match="p is followed already"):
        run(home, plant="p", seconds=1, progress=Silent())
    follow.end()

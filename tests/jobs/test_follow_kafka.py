"""Kafka, against librdkafka's own mock cluster: offsets are what our history says, never what the broker kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from cluster.home import Home
from cluster.storage import read_quarantine, read_readings
from jobs.ingesting import live
from models.errors import InputError
from models.live import LiveMachine, LiveStream, LiveTime
from tests.jobs.live_broker import T0, Follow, at, connected, eventually


@dataclass
class Cluster:
    """The producer owns the cluster: it lasts as long as the producer does."""

    producer: Producer
    port: int

    def produce(self, topic: str, machine: str, second: int, *, body: bytes | None = None) -> None:
        value = body if body is not None else json.dumps({"ts": at(second), "rpm": second}).encode()
        self.producer.produce(topic, value, key=machine, partition=int(machine[1:]) % 4)
        self.producer.poll(0)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "ignored:1", "log_level": 0})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    yield Cluster(producer, broker.port)
    producer.flush(5)


def followed(path: Path, cluster: Cluster) -> Home:
    own = LiveStream(
        name="bus", kind="kafka", port=cluster.port, topics=("readings",), machine=LiveMachine(kind="key"),
        time=LiveTime(field="ts"),
    )  # fmt: skip
    return connected(path, "p", own)


def rows(home: Home) -> list[tuple[str, float, float]]:
    try:
        found = read_readings(home, "p").to_pylist()
    except InputError:
        return []
    return [(r["machine"], (r["time"] - T0).total_seconds(), r["rpm"]) for r in found]


def expected(machines: range, seconds: range) -> list[tuple[str, float, float]]:
    return [(f"m{m}", float(s), float(s)) for m in machines for s in seconds]


def test_what_is_produced_is_in_history_with_its_offsets_and_poison_is_told(tmp_path: Path, cluster: Cluster) -> None:
    home = followed(tmp_path / "home", cluster)
    for second in range(50):
        for machine in range(8):
            cluster.produce("readings", f"m{machine}", second)
    cluster.produce("readings", "m1", 0, body=b"\x00\x01")
    cluster.producer.flush()
    follow = Follow(home).start("--set", "follow.batch_s=0.3")
    eventually(lambda: len(rows(home)) == 400 and read_quarantine(home, "p").num_rows == 1)
    report = follow.end()
    assert rows(home) == expected(range(8), range(50))
    (wrong,) = read_quarantine(home, "p").to_pylist()
    assert (wrong["file"], wrong["line"], wrong["reason"]) == ("readings/1", 100, "bad_json")
    assert live.offsets(home, "p") == {
        "bus/readings/0": 100, "bus/readings/1": 101, "bus/readings/2": 100, "bus/readings/3": 100
    }  # fmt: skip
    assert (report["messages"], report["rows_ingested"], report["rows_quarantined"]) == (401, 400, 1)


def test_killed_it_goes_on_from_its_own_offsets_without_a_row_twice(tmp_path: Path, cluster: Cluster) -> None:
    home, seconds = followed(tmp_path / "home", cluster), range(240)
    follow = Follow(home).start("--set", "follow.batch_s=0.2")
    for second in seconds:
        for machine in range(8):
            cluster.produce("readings", f"m{machine}", second)
        if second % 80 == 79:
            follow.kill()
            follow.start("--set", "follow.batch_s=0.2")
        time.sleep(0.03)
    cluster.producer.flush()
    eventually(lambda: len(rows(home)) == 8 * len(seconds))
    follow.end()
    assert rows(home) == expected(range(8), seconds)
    done = list(live.done_batches(home, "p"))
    by_partition: dict[str, list[tuple[int, int]]] = {}
    for batch in done:
        for key, (first, last) in batch.ranges.items():
            by_partition.setdefault(key, []).append((first, last))
    for places in by_partition.values():
        assert [first for first, _ in places] == [0, *(last + 1 for _, last in places[:-1])]
        assert places[-1][1] == 2 * len(seconds) - 1
    assert sum(batch.counts.get("rows_superseded", 0) for batch in done) == 0
    again = Follow(home).start("--seconds", "3")
    assert again.process is not None
    out, _ = again.process.communicate(timeout=60)
    assert json.loads(out)["messages"] == 0

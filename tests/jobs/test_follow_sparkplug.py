"""Sparkplug B: births, deaths, sequences, aliases; and the same over a real broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import paho.mqtt.client as mqtt
import pytest

from cluster.storage import read_quarantine, read_readings
from jobs.following.sparkplug import Nodes, payload_class
from jobs.following.spool import ROWS, WRONG, Record
from models.live import LiveMachine, LiveStream
from tests.jobs.live_broker import T0, Broker, Follow, connected, eventually

NOW = 1_767_225_600_000_000  # us
MS = NOW // 1000
FLOAT, INT16, BOOLEAN, STRING, INT64, DOUBLE = 9, 2, 11, 12, 4, 10


def payload(*metrics: dict[str, Any], seq: int | None = None, timestamp: int = MS) -> bytes:
    found = payload_class()(timestamp=timestamp)
    if seq is not None:
        found.seq = seq
    for own in metrics:
        quality = own.pop("quality", None)
        metric = found.metrics.add(**own)
        if quality is not None:
            metric.properties.keys.append("Quality")
            metric.properties.values.add(type=3, int_value=quality)
    return bytes(found.SerializeToString())


def born(nodes: Nodes, *metrics: dict[str, Any], bd_seq: int = 0) -> None:
    own = {"name": "bdSeq", "datatype": INT64, "long_value": bd_seq}
    assert nodes.take("spBv1.0/g/NBIRTH/edge", payload(own, seq=0), NOW) == []
    nodes.take("spBv1.0/g/DBIRTH/edge/press", payload(*metrics, seq=1), NOW)


def rows(records: list[Record]) -> list[list[Any]]:
    return [row for record in records if record.kind == ROWS for row in orjson.loads(record.body)]


def reasons(records: list[Record]) -> list[str]:
    return [record.body.split(b" ")[0].decode() for record in records if record.kind == WRONG]


TEMP = {"name": "temp", "alias": 7, "datatype": FLOAT, "float_value": 20.5}
TURNS = {"name": "turns", "alias": 8, "datatype": INT16, "int_value": 3}


def test_aliases_are_what_the_birth_said_and_a_birth_is_a_reading_too() -> None:
    nodes = Nodes("s")
    nodes.take("spBv1.0/g/NBIRTH/edge", payload(seq=0), NOW)
    birth = nodes.take("spBv1.0/g/DBIRTH/edge/press", payload(dict(TEMP), dict(TURNS), seq=1), NOW)
    assert rows(birth) == [["press", "temp", 20.5, NOW, "192"], ["press", "turns", 3, NOW, "192"]]
    data = payload({"alias": 7, "float_value": 21.0, "timestamp": MS + 5}, {"alias": 8, "int_value": 65_535}, seq=2)
    found = nodes.take("spBv1.0/g/DDATA/edge/press", data, NOW)
    assert rows(found) == [["press", "temp", 21.0, NOW + 5000, "192"], ["press", "turns", -1, NOW, "192"]]
    assert found[0].topic == "g/edge/press"
    assert nodes.counts["gaps"] == 0 and not nodes.asked


def test_data_before_a_birth_is_quarantined_and_a_rebirth_is_asked_for_once_in_a_while() -> None:
    nodes = Nodes("s")
    data = payload({"alias": 7, "float_value": 21.0}, seq=9)
    assert reasons(nodes.take("spBv1.0/g/DDATA/edge/press", data, NOW)) == ["no_birth"]
    assert reasons(nodes.take("spBv1.0/g/DDATA/edge/press", data, NOW + 1_000_000)) == ["no_birth"]
    assert nodes.asked == ["spBv1.0/g/NCMD/edge"]
    nodes.take("spBv1.0/g/DDATA/edge/press", data, NOW + 6_000_000)
    assert nodes.asked == ["spBv1.0/g/NCMD/edge"] * 2
    assert nodes.counts["before_birth"] == 3


def test_a_gap_in_the_sequence_is_counted_and_asked_about_and_the_sequence_turns_over_at_256() -> None:
    nodes = Nodes("s")
    born(nodes, dict(TEMP))
    for seq in (*range(2, 256), 0, 1):
        assert rows(nodes.take("spBv1.0/g/DDATA/edge/press", payload({"alias": 7, "float_value": 1.0}, seq=seq), NOW))
    assert nodes.counts["gaps"] == 0
    found = nodes.take("spBv1.0/g/DDATA/edge/press", payload({"alias": 7, "float_value": 2.0}, seq=5), NOW)
    assert rows(found) == [["press", "temp", 2.0, NOW, "192"]]
    assert (nodes.counts["gaps"], nodes.asked) == (1, ["spBv1.0/g/NCMD/edge"])


def test_after_a_death_metrics_mean_nothing_until_the_next_birth_and_a_stale_death_is_none() -> None:
    nodes = Nodes("s")
    born(nodes, dict(TEMP), bd_seq=4)
    data = payload({"alias": 7, "float_value": 21.0}, seq=2)
    stale = payload({"name": "bdSeq", "datatype": INT64, "long_value": 3})
    assert nodes.take("spBv1.0/g/NDEATH/edge", stale, NOW) == []
    assert len(rows(nodes.take("spBv1.0/g/DDATA/edge/press", data, NOW))) == 1
    assert nodes.take("spBv1.0/g/NDEATH/edge", payload({"name": "bdSeq", "long_value": 4}), NOW) == []
    assert reasons(nodes.take("spBv1.0/g/DDATA/edge/press", data, NOW)) == ["no_birth"]
    assert (nodes.counts["deaths"], nodes.counts["stale_deaths"]) == (1, 1)
    born(nodes, {"name": "other", "alias": 7, "datatype": FLOAT, "float_value": 0.0}, bd_seq=5)
    assert rows(nodes.take("spBv1.0/g/DDATA/edge/press", data, NOW)) == [["press", "other", 21.0, NOW, "192"]]
    assert nodes.take("spBv1.0/g/DDEATH/edge/press", payload(seq=3), NOW) == []
    assert reasons(nodes.take("spBv1.0/g/DDATA/edge/press", payload({"alias": 7, "float_value": 1}, seq=4), NOW))


def test_nulls_are_no_value_history_is_marked_and_what_is_no_number_is_told() -> None:
    nodes = Nodes("s")
    metrics = [dict(TEMP), {"name": "on", "datatype": BOOLEAN, "boolean_value": True},
               {"name": "mode", "datatype": STRING, "string_value": "AUTO"},
               {"name": "big", "datatype": INT64, "long_value": 2**64 - 5},
               {"name": "table", "datatype": 16, "dataset_value": b"\x08\x01"},
               {"name": "kind", "datatype": 19, "template_value": b""},
               {"name": "bad", "datatype": DOUBLE, "double_value": 4.0, "quality": 0},
               {"name": "Node Control/Rebirth", "datatype": BOOLEAN, "boolean_value": False}]  # fmt: skip
    nodes.take("spBv1.0/g/NBIRTH/edge", payload(seq=0), NOW)
    found = nodes.take("spBv1.0/g/DBIRTH/edge/press", payload(*metrics, seq=1), NOW)
    assert [row[1:3] for row in rows(found)] == [
        ["temp", 20.5], ["on", 1], ["mode", "AUTO"], ["big", -5], ["bad", 4.0]
    ]  # fmt: skip
    assert rows(found)[-1][4] == "0"
    assert reasons(found) == ["unsupported_type"] * 2
    late = {"alias": 7, "float_value": 1.0, "is_historical": True, "timestamp": MS - 60_000}
    empty = {"alias": 7, "is_null": True}
    data = nodes.take("spBv1.0/g/DDATA/edge/press", payload(late, empty, {"alias": 99, "int_value": 1}, seq=2), NOW)
    assert rows(data) == [["press", "temp", 1.0, NOW - 60_000_000, "192"]]
    assert reasons(data) == ["unknown_tag"]
    assert nodes.counts["historical"] == 1


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"not protobuf at all", b"\x12\xff\xff\xff\xff\x0f"])
def test_what_is_no_protobuf_is_quarantined(body: bytes) -> None:
    assert reasons(Nodes("s").take("spBv1.0/g/NDATA/edge", body, NOW)) == ["bad_protobuf"]


def test_a_lost_connection_makes_every_birth_doubtful() -> None:
    nodes = Nodes("s")
    born(nodes, dict(TEMP))
    nodes.forget()
    found = nodes.take("spBv1.0/g/DDATA/edge/press", payload({"alias": 7, "float_value": 1.0}, seq=2), NOW)
    assert reasons(found) == ["no_birth"] and len(nodes.asked) == 1


def test_over_a_real_broker_an_unknown_node_is_asked_for_its_births_and_then_heard(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker").start()
    live = LiveStream(name="plc", kind="sparkplug", port=broker.port, topics=("spBv1.0/#",), machine=LiveMachine())
    home = connected(tmp_path / "home", "p", live)
    asked: list[str] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _, __, message: asked.append(payload_class().FromString(message.payload).metrics[0].name)
    client.connect("127.0.0.1", broker.port)
    client.subscribe("spBv1.0/g/NCMD/edge")
    client.loop_start()
    follow = Follow(home).start("--set", "follow.batch_s=0.3")
    eventually(lambda: b"millwright-p-plc" in (broker.folder / "log").read_bytes())
    time.sleep(0.5)
    t0_ms = int(T0.timestamp() * 1000)
    client.publish("spBv1.0/g/DDATA/edge/press", payload({"alias": 7, "float_value": 1.0}, seq=8))
    eventually(lambda: asked == ["Node Control/Rebirth"])
    client.publish("spBv1.0/g/NBIRTH/edge", payload({"name": "bdSeq", "long_value": 1}, seq=0))
    birth = {"name": "temp_degF", "alias": 7, "datatype": FLOAT, "float_value": 50.0, "timestamp": t0_ms}
    client.publish("spBv1.0/g/DBIRTH/edge/press", payload(birth, seq=1))
    data = {"alias": 7, "float_value": 68.0, "timestamp": t0_ms + 1000}
    bad = {"alias": 7, "float_value": 68.0, "timestamp": t0_ms + 2000, "quality": 0}
    client.publish("spBv1.0/g/DDATA/edge/press", payload(data, bad, seq=2))
    client.publish("spBv1.0/g/NDATA/edge", b"\xff\xff")
    eventually((home.table("p", "quarantine") / "_delta_log").is_dir)
    eventually(lambda: read_quarantine(home, "p").num_rows == 3)
    report = follow.end()
    client.disconnect()
    client.loop_stop()
    broker.stop()
    found = read_readings(home, "p").to_pylist()
    assert [(r["machine"], (r["time"] - T0).total_seconds(), round(r["temp"], 3)) for r in found] == [
        ("press", 0.0, 10.0), ("press", 1.0, 20.0)
    ]  # fmt: skip
    assert sorted(r["reason"] for r in read_quarantine(home, "p").to_pylist()) == [
        "bad_protobuf", "bad_quality", "no_birth"
    ]  # fmt: skip
    counted = {key: number for key, number in report["plants"][0]["sparkplug"].items() if number}
    assert counted == {"before_birth": 1, "births": 2, "rebirths_asked": 1}

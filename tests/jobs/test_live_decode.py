"""Messages into rows: what a payload may look like, and how little a hostile one can do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.following.decode import Decoder
from jobs.following.spool import Record
from jobs.sources.readings import Readings, canonical
from models.live import LiveMachine, LiveStream, LiveTime
from models.source import SensorColumn

NOW = 1_767_225_600_000_000
TEMP = SensorColumn(sensor="temp", kind="temperature", unit="degF", high=100.0)
MODE = SensorColumn(sensor="mode", states={"RUN": 1, "STOP": 0})


def decode(live: LiveStream, *messages: tuple[str, object], known: dict[str, SensorColumn] | None = None) -> Readings:
    records = [
        Record(live.name, topic, body if isinstance(body, bytes) else json.dumps(body).encode(), NOW)
        for topic, body in messages
    ]
    decoder = Decoder(live, known or {"temp_degF": TEMP, "mode": MODE})
    return canonical(decoder.chunk(records), decoder.stream(), live.name, now_us=NOW)


def live(**own: Any) -> LiveStream:
    return LiveStream(**({"name": "line", "topics": ("#",)} | own))


def table(found: Readings) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if v is not None} for row in found.table.to_pylist()]


def test_wide_objects_nested_keys_lists_states_and_unknown_keys() -> None:
    own = live(machine=LiveMachine(kind="field", field="unit.id", prefix="L1-", names={"7": "seven"}), ignore=("fw",))
    body = [{"unit": {"id": 7}, "temp_degF": 50, "mode": "RUN", "fw": 3, "rpm": 9}, {"unit": {"id": "8"}, "rpm": 1.5}]
    found = decode(own, ("a", body))
    assert table(found) == [
        {"machine": "L1-seven", "time": NOW, "temp": pytest.approx(10, abs=1e-4), "mode": 1.0, "rpm": 9.0},
        {"machine": "L1-8", "time": NOW, "rpm": 1.5},
    ]
    assert found.wrong == []


def test_a_wrong_cell_costs_its_cell_and_a_wrong_row_its_row() -> None:
    own = live(time=LiveTime(field="t", format="epoch_ms"))
    good = {"t": NOW // 1000, "temp_degF": 50}
    found = decode(
        own, ("m1", good | {"mode": "FAST"}), ("m2", good | {"temp_degF": 900}), ("m3", good | {"t": "soon"}),
        ("m4", {"temp_degF": 1}),
    )  # fmt: skip
    assert [row["machine"] for row in table(found)] == ["m1"]
    assert sorted((w.reason.value, w.scope, w.line) for w in found.wrong) == [
        ("bad_number", "cell", 0), ("bad_time", "row", 2), ("bad_time", "row", 3), ("out_of_range", "row", 1)
    ]  # fmt: skip


def test_one_value_a_message_with_its_sensor_in_the_topic() -> None:
    pattern = r"^plant/(?P<machine>[^/]+)/(?P<sensor>[^/]+)$"
    own = live(layout="long", machine=LiveMachine(pattern=pattern))
    found = decode(own, ("plant/P1/temp_degF", b"68.0"), ("plant/P1/mode", b'"STOP"'), ("plant/P1/rpm", {"value": 3}),
                   ("other", b"1"), ("plant/P1/rpm", b"null"))  # fmt: skip
    assert table(found) == [
        {"machine": "P1", "time": NOW, "temp": pytest.approx(20, abs=1e-4)},
        {"machine": "P1", "time": NOW, "mode": 0.0},
        {"machine": "P1", "time": NOW, "rpm": 3.0},
    ]
    assert {w.reason.value for w in found.wrong} == {"unknown_tag", "bad_json"}


def test_tags_and_qualities_in_the_payload() -> None:
    own = live(layout="long", machine=LiveMachine(kind="constant", value="K1"), tag_field="tag", quality_field="q",
               quality_good=("GOOD",))  # fmt: skip
    bad = {"tag": "rpm", "value": 1, "q": "BAD"}
    found = decode(own, ("t", {"tag": "temp_degF", "value": 32, "q": "GOOD"}), ("t", bad))
    assert table(found) == [{"machine": "K1", "time": NOW, "temp": pytest.approx(0, abs=1e-4)}]
    assert [w.reason.value for w in found.wrong] == ["bad_quality"]


def test_a_stream_brings_only_so_many_new_sensors() -> None:
    found = decode(live(new_sensors=3), *((f"m{k}", {f"x{k}": 1.0}) for k in range(10)))
    assert sorted(set(found.table.column_names) - {"machine", "time"}) == ["x0", "x1", "x2"]
    assert [w.reason.value for w in found.wrong] == ["no_value"] * 7


@pytest.mark.parametrize(
    "body",
    [b"[" * 5000, b'{"a":' * 900 + b"1" + b"}" * 900, b'"text"', b"NaN", b"", b"\xed\xa0\x80", b'{"t": 1e999}',
     json.dumps({f"k{n}": {} for n in range(3000)}).encode(), b'{"\\ud800": 1, "rpm": "\\ud800"}'],
)  # fmt: skip
def test_bombs_end_in_quarantine(body: bytes) -> None:
    found = decode(live(new_sensors=0), ("m", body))
    assert found.table.num_rows == 0
    assert len(found.wrong) == 1


def test_numbers_that_no_float_holds_are_wrong_cells() -> None:
    found = decode(live(), ("m", b'{"rpm": 1' + b"0" * 400 + b', "temp_degF": 50}'))
    assert table(found) == [{"machine": "m", "time": NOW, "temp": pytest.approx(10, abs=1e-4)}]
    assert [(w.reason.value, w.scope) for w in found.wrong] == [("bad_number", "cell")]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"layout": "long"}, "tag_field"), ({"kind": "kafka", "topics": ("a/#",)}, "whole names"),
        ({"machine": LiveMachine(kind="key")}, "only with Kafka"), ({"machine": LiveMachine(kind="constant")}, "value"),
        ({"name": "a/b"}, "pattern"),
    ],
)  # fmt: skip
def test_descriptions_that_mean_nothing_are_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        live(**own)

"""A machine's past: history and what was just sent as one series, and what the model makes of each moment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from cluster.home import Home
from tests.serve.test_documents import check
from tests.serve.test_scorer import START, ingested

PLANT = "/v1/plants/mill"


def test_each_moment_is_what_was_answered_then(call: Any, rows: Any) -> None:
    sent, then = rows(30), {}
    for until in range(1, 31):
        one = call("POST", f"{PLANT}/machines/m1/readings", {"readings": [sent[until - 1]]}).json
        then[one["as_of"]] = (one["failure_probability"], one["remaining_useful_life"])
    found = call("GET", f"{PLANT}/machines/m1/history?steps=30").json
    check(call, "History", found)
    assert [p["as_of"] for p in found["predictions"]] == list(then)
    for said in found["predictions"]:  # scored alone and beside others, a last digit may differ
        chance, life = then[said["as_of"]]
        assert said["failure_probability"] == pytest.approx(chance, abs=2e-6)
        assert said["remaining_useful_life"]["p10"] == pytest.approx(life["p10"], rel=1e-4)
    assert (found["horizon"], found["step_s"], found["life_unit"]) == ("48h", 3600.0, "h")


def test_sensors_are_the_means_of_ticks_with_what_is_usual_and_what_training_saw(call: Any, rows: Any) -> None:
    sent = rows(5)
    sent[2].pop("vibration")
    call("POST", f"{PLANT}/machines/m1/readings", {"readings": sent})
    found = call("GET", f"{PLANT}/machines/m1/history").json
    assert len(found["times"]) == 5
    assert found["times"][-1] == "2025-06-15T16:00:00Z"
    vibration = found["sensors"][1]
    assert (vibration["sensor"], vibration["unit"], vibration["usual"]) == ("vibration", "mm/s", 1.0)
    assert vibration["trained"] == [0.0, 9.0]
    assert vibration["values"][2] is None
    assert vibration["values"][-1] == pytest.approx(sent[-1]["vibration"], abs=1e-6)


def test_of_rows_without_any_value_the_model_says_nothing(call: Any, rows: Any) -> None:
    empty = [{"time": row["time"], "vibration": None} for row in rows(5)]
    assert call("POST", f"{PLANT}/machines/m1/readings", {"readings": empty}).status == 200
    found = call("GET", f"{PLANT}/machines/m1/history").json
    assert (len(found["times"]), found["predictions"]) == (5, [])


def test_it_ends_where_it_is_asked_to_and_holds_as_much(call: Any, rows: Any) -> None:
    call("POST", f"{PLANT}/machines/m1/readings", {"readings": rows(30)})
    found = call("GET", f"{PLANT}/machines/m1/history?steps=4&as_of=2025-06-15T10:30:00Z").json
    assert found["times"] == [f"2025-06-15T{hour:02}:00:00Z" for hour in (8, 9, 10, 11)]
    assert len(found["predictions"]) == 4
    assert len(call("GET", f"{PLANT}/machines/m1/history?steps=1000").json["predictions"]) == 3  # one in ten ticks


def test_where_a_tick_holds_many_rows_fewer_ticks_are_told(
    call: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = [row | {"time": row["time"] + 10 * i} for row in rows(30) for i in range(20)]
    call("POST", f"{PLANT}/machines/m1/readings", {"readings": dense})
    monkeypatch.setattr("serve.past.MOST_ROWS", 320)  # sixteen ticks, of which ten are what the first window needs
    assert 5 <= len(call("GET", f"{PLANT}/machines/m1/history?steps=30").json["times"]) <= 7


@pytest.mark.parametrize("steps", ["0", "-1", "1001", "1e2", "", "²", "9" * 5000])
def test_a_number_of_steps_that_is_none_is_refused(call: Any, steps: str) -> None:
    answer = call("GET", f"{PLANT}/machines/m1/history?steps={steps}")
    assert answer.status == 422
    assert "a whole number from 1 to 1000" in answer.json["detail"]


def test_a_machine_without_readings_has_no_past(call: Any) -> None:
    assert call("GET", f"{PLANT}/machines/nobody/history").status == 404


def test_history_and_what_was_sent_are_one_series_and_events_are_told(call: Any, plant_home: Home) -> None:
    ingested(plant_home, {"m1": 40, "m2": 40})
    call.service.scorer.refresh()
    last = START + timedelta(hours=39)
    newest = {"time": last.isoformat(), "vibration": 8.5}
    assert call("POST", f"{PLANT}/machines/m1/readings", {"readings": [newest]}).status == 200
    found = call("GET", f"{PLANT}/machines/m1/history?steps=100").json
    check(call, "History", found)
    values = np.array([each["values"] for each in found["sensors"]], float)
    assert values.shape == (2, 40)
    assert np.isfinite(values).all()  # oil of the last tick from history, vibration as it was sent
    assert values[1, -1] == 8.5
    assert len(found["predictions"]) == 40
    assert [(e["kind"], e["started_at"]) for e in found["events"]] == [("maintenance", START.isoformat())]
    assert call("GET", f"{PLANT}/machines/m2/history?steps=100").json["events"] == []
    now = call("GET", f"{PLANT}/machines/m1").json
    assert found["predictions"][-1]["failure_probability"] == pytest.approx(now["failure_probability"], abs=2e-6)

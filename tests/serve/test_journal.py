from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from deltalake import DeltaTable

from cluster.home import Home
from cluster.places import read_parquet
from cluster.predictions import append_predictions, as_table
from serve.journal import Item, Journal, to_delta
from serve.metrics import Metrics


def prediction(identity: str) -> dict[str, Any]:
    return {
        "prediction_id": identity, "machine": "m",
        "as_of": "2025-06-15T12:00:00Z", "data_until": "2025-06-15T11:30:00Z",
        "model": {"name": "tiny", "version": "v1"}, "failure_probability": {"48h": 0.25},
        "remaining_useful_life": {"p50": 10.0}, "degraded": [{"code": "short_history", "text": "3 of 8"}],
        "failure_modes": {"seal": 0.2, "shaft": 0.05},
    }  # fmt: skip


def count(metrics: Metrics, name: str) -> float:
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith(f"millwright_{name} ")]
    return float(lines[0].split()[1])


class Written:
    """Where a journal writes in these tests: lists, and doors that can be shut."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.broken = False

    def __call__(self, plant: str, items: Sequence[Item], app_id: str, version: int) -> int:
        self.open.wait(10)
        if self.broken:
            raise OSError("disk full")
        self.ids += [item[1]["prediction_id"] for item in items]
        return len(items)


def test_every_prediction_is_written_once_and_the_end_writes_the_rest() -> None:
    written, metrics = Written(), Metrics()
    journal = Journal(written, metrics, max_rows=100, interval_s=60)
    journal.start()
    journal.add("mill", [prediction("a"), prediction("b")], 1)
    journal.add("mill", [prediction("a"), prediction("c")], 2)
    journal.close()
    assert written.ids == ["a", "b", "c"]
    assert count(metrics, "journal_written_total") == 3
    assert count(metrics, "journal_dropped_total") == 0


def test_a_full_queue_drops_and_counts_and_never_waits() -> None:
    written, metrics = Written(), Metrics()
    journal = Journal(written, metrics, max_rows=5, interval_s=0.01)
    journal.add("mill", [prediction(str(i)) for i in range(12)], 1)  # nobody empties it yet
    assert count(metrics, "journal_dropped_total") == 7
    assert count(metrics, "journal_waiting") == 5
    journal.start()
    journal.close()
    assert written.ids == ["0", "1", "2", "3", "4"]


def test_what_cannot_be_written_is_counted_and_the_journal_goes_on() -> None:
    written, metrics = Written(), Metrics()
    written.broken = True
    journal = Journal(written, metrics, max_rows=100, interval_s=0.01)
    journal.start()
    journal.add("mill", [prediction("a")], 1)
    for _ in range(500):
        if count(metrics, "journal_dropped_total") == 1:
            break
        threading.Event().wait(0.01)
    written.broken = False
    journal.add("mill", [prediction("b")], 1)
    journal.close()
    assert written.ids == ["b"]
    assert count(metrics, "journal_dropped_total") == 1


def test_the_table_holds_a_prediction_once_across_processes(home: Home) -> None:
    for _ in range(2):
        journal = Journal(to_delta(home), Metrics(), max_rows=100, interval_s=60)
        journal.start()
        journal.add("mill", [prediction("a"), prediction("b")], 1_750_000_000_000_000)
        journal.close()
    rows = DeltaTable(str(home.table("mill", "predictions"))).to_pyarrow_table().sort_by("prediction_id").to_pylist()
    assert [row["prediction_id"] for row in rows] == ["a", "b"]
    assert rows[0]["failure_probability"] == '{"48h":0.25}'
    assert rows[0]["degraded"] == '["short_history"]'
    assert rows[0]["failure_modes"] == '{"seal":0.2,"shaft":0.05}'
    assert rows[0]["as_of"].isoformat() == "2025-06-15T12:00:00+00:00"


def test_a_write_reads_the_ids_of_its_own_time_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    append, files = to_delta(home), list[int]()

    def counted(paths: Sequence[str], *asked: Any, **more: Any) -> Any:
        files.append(len(paths))
        return read_parquet(paths, *asked, **more)

    monkeypatch.setattr("cluster.predictions.read_parquet", counted)
    for hour in range(10):
        at = f"2025-06-15T{10 + hour}:00:00Z"
        made = prediction(f"p{hour}") | {"as_of": at, "data_until": at}
        assert append("mill", [("mill", made, 1)], "one", hour + 1) == 1
        assert append("mill", [("mill", made, 1)], "another", hour + 1) == 0
    assert files == [1] * 10  # of as many as there are


def test_a_journal_from_before_there_were_modes_goes_on(home: Home) -> None:
    item: Item = ("mill", prediction("a"), 1)
    before = as_table([item], source="serve").drop_columns(["failure_modes"])
    append_predictions(home, "mill", before, app_id="old", version=1)
    assert to_delta(home)("mill", [item, ("mill", prediction("b"), 2)], "new", 1) == 1
    rows = DeltaTable(str(home.table("mill", "predictions"))).to_pyarrow_table().sort_by("prediction_id")
    assert rows["failure_modes"].to_pylist() == [None, '{"seal":0.2,"shaft":0.05}']


def test_predictions_of_the_api_reach_the_journal(call: Any, plant_home: Home, rows: Any) -> None:
    call.service.start()
    found = [call("POST", "/v1/plants/mill/machines/m/readings", {"readings": rows(n)}).json for n in (9, 9, 12)]
    call.service.close()
    table = DeltaTable(str(plant_home.table("mill", "predictions"))).to_pyarrow_table()
    assert sorted(table["prediction_id"].to_pylist()) == sorted({p["prediction_id"] for p in found})


@pytest.mark.parametrize("started", [True, False])
def test_closing_twice_is_no_harm(started: bool) -> None:
    journal = Journal(Written(), Metrics(), max_rows=5)
    if started:
        journal.start()
    journal.close()
    journal.close()

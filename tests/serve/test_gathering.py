"""Whichever replica is asked for metrics answers for all of them, and a total never falls."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from serve.gathering import ALIVE_S
from serve.metrics import Metrics


@pytest.fixture
def replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def make(pid: int) -> Metrics:
        monkeypatch.setattr("serve.gathering.os.getpid", lambda: pid)
        return Metrics(tmp_path / "metrics")

    return make


def lines(metrics: Metrics) -> dict[str, float]:
    rows = [row.rsplit(" ", 1) for row in metrics.text().decode().splitlines() if not row.startswith("#")]
    return {name: float(value) for name, value in rows}


def test_counts_and_buckets_of_all_replicas_are_added_up(replica) -> None:  # type: ignore[no-untyped-def]
    one, two = replica(1), replica(2)
    for metrics, number in ((one, 3), (two, 4)):
        metrics.count("predictions", number, plant="mill", model_version="v1")
        metrics.observe("request_seconds", 0.01 * number, route="/x")
        metrics.set("models", 5)
        metrics.set("journal_waiting", number)
        metrics.leave()
    two.count("predictions", 10, plant="quarry", model_version="v1")  # not left yet: it is told by who counted it
    assert lines(one)['millwright_predictions_total{model_version="v1",plant="mill"}'] == 7
    found = lines(two)
    assert found['millwright_predictions_total{model_version="v1",plant="mill"}'] == 7
    assert found['millwright_predictions_total{model_version="v1",plant="quarry"}'] == 10
    assert found['millwright_request_seconds_count{route="/x"}'] == 2
    assert found['millwright_request_seconds_sum{route="/x"}'] == pytest.approx(0.07)
    assert found['millwright_request_seconds_bucket{le="0.05",route="/x"}'] == 2
    assert found["millwright_models"] == 5
    assert found["millwright_journal_waiting"] == 7


def test_what_a_replica_that_has_ended_counted_stays_and_its_gauges_go(replica, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gone, living = replica(1), replica(2)
    gone.count("journal_written", 9)
    gone.set("journal_waiting", 9)
    gone.leave()
    (path,) = (tmp_path / "metrics").glob("*.json")
    os.utime(path, (time.time() - ALIVE_S - 1,) * 2)
    living.count("journal_written", 1)
    assert (lines(living)["millwright_journal_written_total"], lines(living)["millwright_journal_waiting"]) == (10, 0)


def test_a_file_that_cannot_be_read_hides_nothing_else(replica, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one = replica(1)
    one.count("journal_written", 2)
    (tmp_path / "metrics").mkdir()
    for number, text in enumerate((b"", b"{", b"[1]", b"[[1,2,3,4]]")):
        (tmp_path / "metrics" / f"{number}.json").write_bytes(text)
    assert lines(one)["millwright_journal_written_total"] == 2


def test_a_key_sees_its_own_plants_of_all_replicas(replica) -> None:  # type: ignore[no-untyped-def]
    one, two = replica(1), replica(2)
    for plant in ("mill", "quarry"):
        two.count("readings", 5, plant=plant)
    two.leave()
    text = one.text(lambda plant: plant == "mill").decode()
    assert 'millwright_readings_total{plant="mill"} 5.0' in text
    assert "quarry" not in text

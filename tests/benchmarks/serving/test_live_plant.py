"""A plant of five hundred machines that sends every second: from a reading to its prediction, and what is lost.

Ticks are of a minute, so a window of 64 of them is made of 3,840 rows a machine, which are there before the first
second. Sent in bulk, a request a second, on a schedule: a late answer makes the next one late too.
"""

from __future__ import annotations

import http.client
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from cluster.home import Home
from cluster.received import Rows, State
from tests.benchmarks.serving.deployment import SENSORS, deploy
from tests.benchmarks.serving.running import on_client_cores, service

pytestmark = pytest.mark.slow
MACHINES, SECONDS, BEFORE_S, LIMIT_S = 500, 600, 66 * 60, 2.0
NAMES = [f"m{number:03d}" for number in range(MACHINES)]


def fill(home: Home, until_s: int) -> None:
    rng = np.random.default_rng(0)
    with closing(State(home.of("p000").state)) as state:
        for at in range(until_s - BEFORE_S, until_s, 60):
            times = np.tile(np.arange(at, at + 60, dtype=np.int64) * 1_000_000, MACHINES)
            machines = [name for name in NAMES for _ in range(60)]
            values = rng.normal(0, 1, (len(times), len(SENSORS))).astype(np.float32)
            state.append(Rows(machines, times, tuple(SENSORS), values))


def body(at_s: int, rng: np.random.Generator) -> bytes:
    values = rng.normal(0, 1, (MACHINES, len(SENSORS))).round(4)
    rows: list[dict[str, Any]] = [
        {"machine": name, "time": at_s, **dict(zip(SENSORS, row, strict=True))}
        for name, row in zip(NAMES, values.tolist(), strict=True)
    ]
    return orjson.dumps({"readings": rows})


def test_readings_of_five_hundred_machines_every_second_for_ten_minutes(tmp_path: Path) -> None:
    deployment, rng, took = deploy(tmp_path), np.random.default_rng(1), list[float]()
    began_s = int(time.time()) // 60 * 60
    fill(deployment.home, began_s)
    head = {"Authorization": f"Bearer {deployment.key}", "Content-Type": "application/json"}
    with service(deployment.home, tmp_path / "serve.log") as (port, _), on_client_cores():
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("POST", "/v1/plants/p000/readings", body(began_s, rng), head)  # windows are read once
        assert client.getresponse().read()
        start = time.monotonic() + 1.0
        for number in range(SECONDS):
            at_s = began_s + 1 + number
            sent = body(at_s, rng)
            due = start + number
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                client.request("POST", "/v1/plants/p000/readings", sent, head)
                answer = client.getresponse()
            except (OSError, http.client.HTTPException):  # once a minute a connection ends
                client.close()
                client.request("POST", "/v1/plants/p000/readings", sent, head)
                answer = client.getresponse()
            found = orjson.loads(answer.read())
            took.append(time.monotonic() - due)
            assert answer.status == 200, found
            assert len(found["predictions"]) == MACHINES
            assert {p["data_until"] for p in found["predictions"]} == {found["predictions"][0]["data_until"]}
        client.close()
        other = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        other.request("GET", "/metrics")
        metrics = other.getresponse().read().decode()
    lost = 0
    with closing(State(deployment.home.of("p000").state)) as state:
        for name in NAMES:
            times, values = state.read(name, SENSORS, span_us=(SECONDS + 1) * 1_000_000)
            lost += SECONDS + 1 - int(np.isfinite(values).all(axis=1).sum())
            assert times[-1] == (began_s + SECONDS) * 1_000_000
    p50, p99 = np.quantile(took, [0.5, 0.99])
    dropped = next(line for line in metrics.splitlines() if line.startswith("millwright_journal_dropped_total"))
    print(
        f"\n{MACHINES} machines x {len(SENSORS)} sensors at 1 Hz, {SECONDS} s: reading to prediction p50 "
        f"{1e3 * p50:.0f} ms, p99 {1e3 * p99:.0f} ms, worst {1e3 * max(took):.0f} ms; readings lost {lost}; {dropped}"
    )
    assert lost == 0
    assert dropped.endswith(" 0.0")
    assert p99 <= LIMIT_S

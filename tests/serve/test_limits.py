"""What a key may ask for: how often, how large, how many windows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.home import Home
from cluster.keys import Key, Limits, open_keys
from models.errors import InputError
from serve.api import create_app
from serve.auth import Access
from serve.limits import RateError, Rates
from serve.service import Service, open_service
from tests.serve.conftest import NOW_US, Caller

PLANT = "/v1/plants/mill"


def limited(home: Home, **limits: Any) -> str:
    with closing(open_keys(home)) as keys:
        return keys.add("l", plants=("mill",), roles=("read",), now=datetime.now(UTC), limits=Limits(**limits))[1]


def key(rate: float | None) -> Key:
    return Key("k", "k", ("*",), ("read",), "", limits=Limits(rate=rate))


def through(rates: Rates, own: Key, num: int) -> int:
    found = 0
    for _ in range(num):
        try:
            rates.take(own)
            found += 1
        except RateError:
            pass
    return found


def test_a_rate_is_a_second_of_it_at_once_and_then_as_it_fills() -> None:
    now = [100.0]
    rates = Rates(1, lambda: now[0])
    assert through(rates, key(10), 50) == 10
    now[0] += 0.35
    assert through(rates, key(10), 50) == 3
    now[0] += 100
    assert through(rates, key(10), 50) == 10
    assert through(rates, key(None), 50) == 50


def test_a_replica_lets_its_share_through_and_at_least_one_now_and_then() -> None:
    now = [0.0]
    rates = Rates(4, lambda: now[0])
    assert through(rates, key(20), 50) == 5
    slow = Rates(4, lambda: now[0])
    assert through(slow, key(0.2), 5) == 1
    with pytest.raises(RateError) as refused:
        slow.take(key(0.2))
    assert refused.value.retry_after_s == 20
    now[0] += 20
    assert through(slow, key(0.2), 5) == 1


def test_who_asks_too_often_is_told_when_to_come_again(service: Service, call: Any, plant_home: Home) -> None:
    service.access = Access(open_keys(plant_home), service.metrics, rates=Rates(1, lambda: 5.0))
    call.app, other = create_app(service), call.key
    call.key = limited(plant_home, rate=2)
    answers = [call("GET", f"{PLANT}/machines") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[2].headers["retry-after"] == "1"
    assert answers[2].json["type"] == "urn:millwright:problem:too-many-requests"
    assert 'millwright_refused_total{reason="rate"} 2.0' in service.metrics.text().decode()
    call.key = other
    assert call("GET", f"{PLANT}/machines").status == 200


@pytest.mark.parametrize(("most", "statuses"), [(None, [200] * 4), (40, [200, 429, 429, 429])])
def test_a_replica_lets_its_share_through_however_many_there_may_be(
    plant_home: Home, most: int | None, statuses: list[int]
) -> None:
    serve = plant_home.settings.serve.model_copy(update={"most_replicas": most})
    scaled = replace(plant_home, settings=plant_home.settings.model_copy(update={"serve": serve}))
    service = open_service(scaled, now_us=lambda: NOW_US)
    call = Caller(create_app(service), limited(plant_home, rate=4), service)
    assert [call("GET", f"{PLANT}/machines").status for _ in range(4)] == statuses
    service.close()


def test_a_keys_sizes_hold_beside_the_services(call: Any, plant_home: Home) -> None:
    windows = {"windows": [{"values": [[1.0] * 4] * 8}] * 3}
    call.key = limited(plant_home, max_windows=2)
    refused = call("POST", f"{PLANT}/score", windows)
    assert (refused.status, refused.json["type"]) == (413, "urn:millwright:problem:too-large")
    assert "at most 2" in refused.json["detail"]
    assert call("GET", "/v2/models/mill/config").json["max_batch_size"] == 2
    tensor = {"name": "values", "datatype": "FP32", "shape": [3, 8, 4], "data": [1.0] * 96}
    assert call("POST", "/v2/models/mill/infer", {"inputs": [tensor]}).status == 413
    call.key = limited(plant_home, max_body_mb=0.0001)
    assert call("POST", f"{PLANT}/score", windows).status == 413
    call.key = limited(plant_home, max_windows=10**9, max_body_mb=1e6)
    assert call("POST", f"{PLANT}/score", windows).status == 200


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": -1}, {"rate": float("nan")}, {"max_body_mb": float("inf")}])
def test_a_limit_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="Wrong limit of a key: expected a number above 0"):
        Limits(**wrong)  # type: ignore[arg-type]


def test_keys_of_before_there_were_limits_go_on(home: Home) -> None:
    import sqlite3

    path = home.state / "keys.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, plants TEXT NOT NULL, "
            "roles TEXT NOT NULL, created_at TEXT NOT NULL, revoked_at TEXT)"
        )
        db.execute("INSERT INTO keys VALUES ('1', 'old', 'd', '*', 'read', '2025-01-01', NULL)")
        db.commit()
    with closing(open_keys(home)) as keys:
        keys.add("new", plants=("*",), roles=("read",), now=datetime.now(UTC), limits=Limits(rate=3))
        assert [(k.name, k.limits.rate) for k in keys.all()] == [("old", None), ("new", 3.0)]

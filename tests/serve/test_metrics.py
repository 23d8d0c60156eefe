"""What the service tells of itself while it answers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from cluster.home import Home
from serve.metrics import Metrics
from serve.service import open_service, paid
from tests.serve.conftest import NOW_US
from tests.serve.test_serving import until


def value(text: str, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    assert found, line
    return float(found[1])


def test_requests_that_are_worked_on_and_sizes_of_batches_are_told(call: Any) -> None:
    values = [[60.0, 1.0, 100.0, 0.0]] * 8
    for num in (1, 70):  # inline, and in a thread
        body = {"windows": [{"machine": f"m{i}", "values": values} for i in range(num)]}
        assert call("POST", "/v1/plants/mill/score", body).status == 200
    text = call("GET", "/metrics").body.decode()
    assert value(text, "millwright_in_flight") == 1  # that which asks
    assert value(text, 'millwright_batch_count{plant="mill"}') == 2
    assert value(text, 'millwright_batch_sum{plant="mill"}') == 71


def test_a_service_counts_what_it_costs(plant_home: Home) -> None:
    serve = plant_home.settings.serve.model_copy(update={"price_per_hour": 3.6e6, "model_poll_s": 0.01})
    priced = replace(plant_home, settings=plant_home.settings.model_copy(update={"serve": serve}))
    service = open_service(priced, now_us=lambda: NOW_US)
    service.start()
    try:
        assert until(lambda: value(service.metrics.text().decode(), "millwright_cost_total") > 10, 10)
    finally:
        service.close()


@pytest.mark.parametrize(("price", "cost"), [(0.0, 0.0), (1.8, 0.9)])
def test_time_costs_whether_anybody_asks_or_not(price: float, cost: float) -> None:
    times, metrics = iter((100.0, 1000.0, 1900.0)), Metrics()
    count = paid(price, metrics, lambda: next(times))
    count()
    count()
    assert value(metrics.text().decode(), "millwright_cost_total") == pytest.approx(cost)

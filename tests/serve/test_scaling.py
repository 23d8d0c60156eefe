"""Replicas come and go with the load; nobody is failed on the way."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.home import Home
from cluster.running import free_port
from cluster.serving import ServeSettings
from serve.api import create_app
from serve.scaling import Occupancy, replicas_wanted
from serve.service import Service
from tests.serve.conftest import Caller
from tests.serve.running import Load, name_of
from tests.serve.test_serving import serving, until


@dataclass
class Context:
    """What of Ray's ``AutoscalingContext`` the policy reads."""

    told: dict[str, float] | None
    current_num_replicas: int = 2
    target_num_replicas: int = 2
    config: Any = field(default_factory=lambda: type("Config", (), {"target_ongoing_requests": 4.0}))

    @property
    def aggregated_metrics(self) -> Any:
        return None if self.told is None else {"in_flight": self.told}


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"a": 4.0, "b": 4.0}, 2.0),  # as it should be
        ({"a": 16.0, "b": 0.0}, 4.0),  # connections stay where they are; the mean counts
        ({"a": 0.2, "b": 0.2}, 0.1),
        ({"a": 64.0}, 32.0),  # one has not told yet
        ({}, 2),
        (None, 2),
    ],
)
def test_as_many_replicas_as_keep_the_mean_in_flight_at_the_target(told: Any, wanted: float) -> None:
    assert replicas_wanted(Context(told)) == (pytest.approx(wanted), {})


def test_the_mean_in_flight_is_what_requests_took_in_a_second() -> None:
    occupancy = Occupancy(0.0, 100.0)
    assert occupancy.since(3.0, 102.0) == pytest.approx(1.5)
    assert occupancy.since(3.0, 104.0) == 0.0


def test_what_requests_took_is_added_up_whatever_became_of_them(call: Caller, rows: Any, service: Service) -> None:
    app = create_app(service)
    caller = Caller(app, call.key, service)
    before = app.busy_s
    caller("POST", "/v1/plants/mill/machines/m1/readings", {"readings": rows(20)})
    between = app.busy_s
    caller("POST", "/v1/plants/mill/machines/m1/readings", {})
    assert before == 0.0 < between < app.busy_s


def test_the_most_replicas_are_no_fewer_than_the_least() -> None:
    with pytest.raises(ValueError, match="most_replicas is less than replicas, 3"):
        ServeSettings(replicas=3, most_replicas=2)


@pytest.mark.ray
@pytest.mark.slow
def test_load_brings_a_replica_and_quiet_takes_it_away_without_a_failed_answer(
    plant_home: Home, new_key: Any, tmp_path: Path
) -> None:
    port, settings = free_port(), ("serve.most_replicas=2", "serve.target_in_flight=2", "serve.upscale_delay_s=1",
                                   "serve.downscale_delay_s=5")  # fmt: skip
    with serving(plant_home, port, *settings) as child:

        def replicas() -> int:
            processes = psutil.Process(child.pid).children(recursive=True)
            return sum("ServeReplica" in name_of(process) for process in processes)

        assert replicas() == 1
        with Load(port, new_key(), seed=20, clients=16).running() as sent:
            assert until(lambda: replicas() == 2, 60)
            time.sleep(5)
        assert sent.failures() == Counter()
        with Load(port, new_key(), seed=21, clients=1, pause_s=0.1).running() as sent:
            assert until(lambda: replicas() == 1, 90)
            time.sleep(3)
        assert sent.failures() == Counter()
        assert sent.lost(plant_home) == []

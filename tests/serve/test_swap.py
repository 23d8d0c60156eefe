"""Models that change under load, and models on trial: no failed request, no answer of two, nobody disturbed."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from cluster import challengers
from cluster.challengers import Challenger
from cluster.home import Home
from cluster.report import Silent
from jobs import challenge
from models.errors import InputError, NotFoundError
from serve.api import create_app
from serve.service import Service
from tests.serve.conftest import listening_server

PLANT = "/v1/plants/mill"
MACHINES = [f"m{number}" for number in range(12)]


@dataclass
class Client:
    """Asks about all machines at once, until it is told to stop; keeps the versions that each answer named."""

    port: int
    key: str
    body: bytes
    stop: threading.Event
    answers: list[tuple[float, int, list[str]]] = field(default_factory=list)

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        while not self.stop.is_set():
            connection.request("POST", f"{PLANT}/readings", self.body, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            versions = [each["model"]["version"] for each in found.get("predictions", [])]
            self.answers.append((time.monotonic(), answer.status, versions))
        connection.close()


def test_a_new_champion_is_taken_over_under_load_without_a_failed_or_mixed_answer(
    service: Service, plant_home: Home, champion_of: Callable[..., Path], new_key: Callable[..., str], rows: Any
) -> None:
    body = json.dumps({"readings": [row | {"machine": m} for m in MACHINES for row in rows(2)]}).encode()
    stop, key = threading.Event(), new_key("read", "write")
    with listening_server(create_app(service)) as (_, port):
        clients = [Client(port, key, body, stop) for _ in range(4)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        swapped = []
        for number in range(2, 6):
            time.sleep(0.3)
            champion_of(plant_home, "mill", f"v{number}", 0.1 * number)
            assert service.scorer.refresh() == ["mill"]
            swapped.append((time.monotonic(), f"v{number}"))
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join(20)
    answers = sorted(answer for client in clients for answer in client.answers)
    assert len(answers) > 50
    assert {status for _, status, _ in answers} == {200}
    assert all(len(versions) == len(MACHINES) and len(set(versions)) == 1 for _, _, versions in answers)
    assert answers[-1][2][0] == "v5"
    for at, version in swapped:  # what was being answered then may still be the one before's
        later = next(versions[0] for when, _, versions in answers if when > at + 0.25)
        assert int(later[1:]) >= int(version[1:])


def on_trial(home: Home, champion_of: Callable[..., Path], share: float) -> None:
    champion_of(home, "mill", "v2", 0.9)
    champion_of(home, "mill", "v1", 0.5)  # the pointer is back at v1
    challengers.put(home, "mill", kind="network", version="v2", share=share)


def versions(answer: Any) -> dict[str, str]:
    return {each["machine"]: each["model"]["version"] for each in answer.json["predictions"]}


def test_a_share_of_the_machines_is_answered_by_the_model_on_trial_whoever_asks(
    service: Service, call: Any, plant_home: Home, champion_of: Callable[..., Path], rows: Any
) -> None:
    on_trial(plant_home, champion_of, 0.5)
    service.scorer.refresh()
    body = {"readings": [row | {"machine": m} for m in MACHINES for row in rows(9)]}
    found = versions(call("POST", f"{PLANT}/readings", body))
    trial = service.scorer.trial("mill")
    assert trial is not None
    assert found == {m: "v2" if trial.answers(m) else "v1" for m in MACHINES}
    assert set(found.values()) == {"v1", "v2"}
    assert list(found) == MACHINES
    assert call("GET", "/v1/plants").json["plants"][0] == {
        "name": "mill", "champion": "v1", "challenger": "v2", "share": 0.5
    }  # fmt: skip
    for machine in MACHINES[:4]:
        assert call("GET", f"{PLANT}/machines/{machine}").json["model"]["version"] == found[machine]
    listed = call("GET", f"{PLANT}/machines").json["machines"]
    assert {each["machine"]: each["model"]["version"] for each in listed} == found
    risks = [each["failure_probability"]["48h"] for each in listed]
    assert risks == sorted(risks, reverse=True)
    challengers.end(plant_home, "mill")
    service.scorer.refresh()
    assert set(versions(call("POST", f"{PLANT}/readings", body)).values()) == {"v1"}


def test_both_models_know_of_a_delivery_without_reading_their_windows_again(
    call: Any, plant_home: Home, champion_of: Callable[..., Path], rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_trial(plant_home, champion_of, 0.5)
    call.service.scorer.refresh()
    body = {"readings": [row | {"machine": m} for m in MACHINES for row in rows(9)]}
    found = versions(call("POST", f"{PLANT}/readings", body))
    monkeypatch.setattr(call.service.scorer.model("mill").state, "read", lambda *_, **__: 1 / 0)
    later = [{"machine": m, "time": rows(9)[-1]["time"] + 3600, "vibration": 3.0} for m in MACHINES]
    told = call("POST", f"{PLANT}/readings", {"readings": later})
    assert told.status == 200, told.json
    assert versions(told) == found


def test_the_machines_of_a_share_are_those_of_a_smaller_one_and_more() -> None:
    def of(share: float) -> set[str]:
        one = Challenger("network", "v2", Path("x"), share)
        return {m for m in map(str, range(2000)) if one.answers("mill", m)}

    tenth, half = of(0.1), of(0.5)
    assert tenth < half < of(1.0)
    assert (150 < len(tenth) < 250, 900 < len(half) < 1100, len(of(1.0)), of(0.0)) == (True, True, 2000, set())


def posted(port: int, key: str, body: Any) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", f"{PLANT}/machines/m1/readings", json.dumps(body), headers)
    answer = connection.getresponse()
    found: dict[str, Any] = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, found
    return found


def counted(service: Service, line: str) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if line in service.metrics.text().decode():
            return True
        time.sleep(0.02)
    return False


def test_in_the_shadow_it_is_heard_by_the_journal_alone(
    service: Service, call: Any, plant_home: Home, champion_of: Callable[..., Path], rows: Any
) -> None:
    on_trial(plant_home, champion_of, 0.0)
    service.scorer.refresh()
    service.start()
    with listening_server(create_app(service)) as (_, port):
        assert posted(port, call.key, {"readings": rows(9)})["model"]["version"] == "v1"
        assert counted(service, 'millwright_shadowed_total{model_version="v2",plant="mill"} 1.0')
    service.close()
    found = DeltaTable(str(plant_home.table("mill", "predictions"))).to_pyarrow_table().to_pylist()
    assert {(row["model_version"], row["source"]) for row in found} == {("v1", "serve"), ("v2", "shadow")}


def test_a_model_on_trial_that_fails_disturbs_nobody(
    service: Service, call: Any, plant_home: Home, champion_of: Callable[..., Path], rows: Any
) -> None:
    on_trial(plant_home, champion_of, 0.0)
    service.scorer.refresh()
    trial = service.scorer.trial("mill")
    assert trial is not None
    trial.model.predictor._score = lambda values: 1 / 0
    with listening_server(create_app(service)) as (_, port):
        assert posted(port, call.key, {"readings": rows(9)})["model"]["version"] == "v1"
        assert counted(service, "millwright_shadow_dropped_total 1.0")


def test_a_model_on_trial_that_does_not_load_leaves_all_to_the_champion(
    service: Service, plant_home: Home, champion_of: Callable[..., Path]
) -> None:
    on_trial(plant_home, champion_of, 1.0)
    (plant_home.registry / "bundles" / "mill" / "v2" / "model.onnx").write_bytes(b"no network")
    service.scorer.refresh()
    assert service.scorer.trial("mill") is None
    assert service.scorer.model("mill").spec.version == "v1"
    (plant_home.registry / "challengers" / "mill.json").write_text("{")
    service.scorer.refresh()
    assert service.scorer.trial("mill") is None


def test_a_challenger_that_answers_another_question_leaves_all_to_the_champion(
    service: Service, plant_home: Home, champion_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_trial(plant_home, champion_of, 1.0)
    champion, real = service.scorer.model("mill"), service.scorer._load
    other = {"24h": 24.0, "48h": 48.0}

    def of_other_horizons(pointer: Any, name: str) -> Any:
        found = real(pointer, name)
        hazard = found.spec.config.hazard.model_copy(update={"horizons": other})
        found.spec = found.spec.model_copy(update={"config": found.spec.config.model_copy(update={"hazard": hazard})})
        return found

    monkeypatch.setattr(service.scorer, "_load", of_other_horizons)
    service.scorer.refresh()
    assert service.scorer.trial("mill") is None
    assert service.scorer.model("mill") is champion


def test_a_trial_is_begun_widened_and_ended_by_a_verb(plant_home: Home, champion_of: Callable[..., Path]) -> None:
    champion_of(plant_home, "mill", "v2", 0.9)
    champion_of(plant_home, "mill", "v1", 0.5)
    report = challenge.run(plant_home, progress=Silent(), plant="mill", version="v2")
    assert (report.champion, report.challenger, report.share) == ("v1", "v2", 0.0)
    challenge.run(plant_home, progress=Silent(), plant="mill", version="v2", share=0.25)
    found = challengers.challenger(plant_home, "mill")
    assert found is not None
    assert (found.version, found.share) == ("v2", 0.25)
    assert challenge.run(plant_home, progress=Silent(), plant="mill", end=True).challenger is None
    assert challengers.challenger(plant_home, "mill") is None
    with pytest.raises(NotFoundError, match="No model is on trial"):
        challenge.run(plant_home, progress=Silent(), plant="mill", end=True)
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({}, "found neither"), ({"version": "v2", "end": True}, "found both"),
        ({"version": "v1"}, "cannot challenge itself"), ({"version": "v9"}, "No bundle"),
    ]  # fmt: skip
    for wrong, message in wrongs:
        with pytest.raises(InputError, match=message):
            challenge.run(plant_home, progress=Silent(), plant="mill", **wrong)

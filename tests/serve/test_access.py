"""For every route: no key, a wrong key, another plant's key, and a key without the role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serve.api import create_app
from serve.service import Service

ROUTES = [
    ("POST", "/v1/plants/{p}/machines/m1/readings", "write"),
    ("POST", "/v1/plants/{p}/readings", "write"),
    ("POST", "/v1/plants/{p}/score", "read"),
    ("GET", "/v1/plants/{p}/machines", "read"),
    ("GET", "/v1/plants/{p}/machines/m1", "read"),
    ("GET", "/v1/plants/{p}/machines/m1/history", "read"),
    ("POST", "/v1/plants/{p}/events", "write"),
    ("POST", "/v1/plants/{p}/outcomes", "write"),
    ("GET", "/v1/plants/{p}/cases", "read"),
    ("POST", "/v1/plants/{p}/cases/1/decision", "write"),
    *(
        (method, f"/v2/models/{{p}}{version}{end}", "read")
        for version in ("", "/versions/v1")
        for method, end in (("GET", ""), ("GET", "/config"), ("GET", "/ready"), ("POST", "/infer"))
    ),
]
every_route = pytest.mark.parametrize(("method", "path", "role"), ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])


def asked(call: Any, method: str, path: str, plant: str = "mill", **headers: str) -> Any:
    return call(method, path.format(p=plant), {} if method == "POST" else None, **headers)


def test_the_table_holds_every_route_with_a_plant(service: Service) -> None:
    declared = {(m, r.path) for r in create_app(service).routes if "{plant}" in r.path for m in r.methods - {"HEAD"}}
    names = {"{p}": "{plant}", "/m1": "/{machine}", "/1/": "/{case}/", "versions/v1": "versions/{version}"}
    tested = set()
    for method, path, _ in ROUTES:
        for text, name in names.items():
            path = path.replace(text, name)  # noqa: PLW2901
        tested.add((method, path))
    assert tested == declared


@every_route
def test_without_a_right_key_every_route_answers_the_same_401(call: Any, method: str, path: str, role: str) -> None:
    good, call.key = call.key, None
    bodies = set()
    wrong = ("Bearer no", f"Basic {good}", f"Bearer {good}x", "")
    for header in (*({"authorization": text} for text in wrong), {"x_api_key": "mw_000000000000_no"}, {}):
        for plant in ("mill", "nowhere"):
            answer = asked(call, method, path, plant, **header)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            bodies.add((answer.json["type"], answer.json["detail"]))
    assert len(bodies) == 1


@every_route
def test_another_plants_key_sees_what_it_sees_of_a_plant_that_is_not_there(
    call: Any, new_key: Callable[..., str], method: str, path: str, role: str
) -> None:
    call.key = new_key("admin", plants=("quarry",))
    theirs, nobodys = asked(call, method, path, "mill"), asked(call, method, path, "nowhere")
    assert theirs.status == nobodys.status == 404
    assert theirs.json["detail"].replace("mill", "X") == nobodys.json["detail"].replace("nowhere", "X")


@every_route
def test_a_key_without_the_role_is_403(
    call: Any, new_key: Callable[..., str], method: str, path: str, role: str
) -> None:
    call.key = new_key("read" if role == "write" else "write")
    answer = asked(call, method, path)
    assert (answer.status, answer.json["type"]) == (403, "urn:millwright:problem:missing-role")


@every_route
def test_a_plant_without_a_model_says_what_to_do(call: Any, method: str, path: str, role: str) -> None:
    answer = asked(call, method, path, "quarry")
    assert answer.status == 409
    assert "Run `millwright tune --plants quarry`" in answer.json["detail"]


def test_x_api_key_does_as_well_as_bearer(call: Any) -> None:
    key, call.key = call.key, None
    assert call("GET", "/v1/plants", x_api_key=key).status == 200


def test_the_list_of_plants_shows_only_the_keys_own(call: Any, new_key: Callable[..., str]) -> None:
    assert [p["name"] for p in call("GET", "/v1/plants").json["plants"]] == ["mill", "quarry"]
    call.key = new_key("read", plants=("quarry",))
    assert call("GET", "/v1/plants").json["plants"] == [{"name": "quarry", "champion": None}]


def test_refusals_are_counted_by_reason(call: Any, new_key: Callable[..., str], service: Service) -> None:
    call.key = new_key("write", plants=("mill",))
    asked(call, "GET", "/v1/plants/{p}/machines")
    asked(call, "GET", "/v1/plants/{p}/machines", "quarry")
    call.key = None
    asked(call, "GET", "/v1/plants/{p}/machines")
    text = service.metrics.text().decode()
    for reason in ("key", "plant", "role"):
        assert f'millwright_refused_total{{reason="{reason}"}} 1.0' in text


def test_metrics_behind_a_key_show_only_the_keys_own_plants(
    service: Service, new_key: Callable[..., str], call: Any
) -> None:
    service.metrics.count("readings", plant="mill")
    call.app = create_app(service, open_metrics=False)
    for plant, seen in (("mill", True), ("quarry", False), ("*", True)):
        call.key = new_key("read", plants=(plant,))
        text = call("GET", "/metrics").body.decode()
        assert ('plant="mill"' in text) is seen
        assert "millwright_models " in text
    call.key = None
    assert call("GET", "/metrics").status == 401


def test_a_slash_too_many_is_never_redirected(call: Any) -> None:
    answer = call("GET", "/v1/plants/")
    assert answer.status == 404
    assert "location" not in answer.headers

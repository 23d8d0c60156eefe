"""What `/openapi.json` says is true of real answers."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from jsonschema.validators import Draft202012Validator

PLANT = "/v1/plants/mill"


def check(call: Any, name: str, found: Any) -> None:
    api = call("GET", "/openapi.json").json
    assert api["openapi"].startswith("3.1")
    schema = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
    Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(found)


def test_the_description_refers_only_to_what_it_holds(call: Any) -> None:
    api = call("GET", "/openapi.json").json

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    known = {f"#/components/schemas/{name}" for name in api["components"]["schemas"]}
    assert references(api) <= known


def test_answers_are_as_documented(call: Any, rows: Any) -> None:
    check(call, "Prediction", call("POST", f"{PLANT}/machines/m/readings?reasons=true", {"readings": rows(9)}).json)
    body = [row | {"machine": "m"} for row in rows(9)]
    check(call, "Predictions", call("POST", f"{PLANT}/readings", {"readings": body}).json)
    check(call, "Machines", call("GET", f"{PLANT}/machines").json)
    check(call, "MachineState", call("GET", f"{PLANT}/machines/m").json)
    check(call, "Plants", call("GET", "/v1/plants").json)
    windows = {"windows": [{"values": [[1.0] * 4] * 8}]}
    check(call, "WindowsBody", windows)
    check(call, "Predictions", call("POST", f"{PLANT}/score", windows).json)
    infer = {"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 8, 4], "data": [1.0] * 32}]}
    check(call, "InferBody", infer)
    check(call, "InferAnswer", call("POST", "/v2/models/mill/infer", infer).json)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("Readings", {"readings": [{"time": "2025-06-15T12:00:00Z", "vib": 1.0, "oil_degF": None}]}),
        ("Readings", {"columns": {"time": [1], "vib": [None]}, "units": {"vib": "in/s"}}),
        ("ReadingsOfMachines", {"readings": [{"time": 1, "machine": "m", "vib": 1}]}),
        ("ReadingsOfMachines", {"columns": {"time": [1, 2.5], "machine": ["a", "b"], "vib": [1, None]}}),
    ],
)
def test_bodies_that_are_read_are_as_documented(call: Any, name: str, body: Any) -> None:
    check(call, name, body)
    path = f"{PLANT}/machines/m/readings" if name == "Readings" else f"{PLANT}/readings"
    assert call("POST", path, body).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"readings": []},
        {"readings": None},
        {"readings": [{"vib": 1.0}]},
        {"readings": [{"time": "noon", "vib": 1}]},
        {"readings": [{"time": 1, "vib": "1"}]},
        {"readings": [{"time": 1, "vib": 1}], "columns": {"time": [1], "vib": [1]}},
        {"columns": {"time": [], "vib": []}},
        {"columns": {"vib": [1]}},
        {"readings": [{"time": -1, "vib": 1}]},
    ],
)
def test_bodies_that_are_not_read_are_not_documented(call: Any, body: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(call, "Readings", body)
    assert call("POST", f"{PLANT}/machines/m/readings", body).status == 422


@pytest.mark.parametrize(("path", "status"), [("/v1/plants/nope/machines", 404), ("/v1/plants/quarry/machines", 409)])
def test_problems_are_as_documented_and_listed(call: Any, path: str, status: int) -> None:
    answer = call("GET", path)
    assert answer.status == status
    check(call, "Problem", answer.json)
    listed = call("GET", "/openapi.json").json["paths"]["/v1/plants/{plant}/machines"]["get"]["responses"]
    assert "application/problem+json" in listed[str(status)]["content"]

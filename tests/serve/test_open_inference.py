"""The Open Inference Protocol: JSON tensors, bytes behind JSON, and what is wrong with either."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from cluster.home import Home
from models.bundle import load_bundle
from models.predictor import Predictor
from tests.serve.conftest import Answer


def test_v2_describes_the_model_and_infers_hazards(call: Any, plant_home: Home) -> None:
    about = call("GET", "/v2/models/mill").json
    assert about["inputs"] == [{"name": "values", "datatype": "FP32", "shape": [-1, 8, 4]}]
    assert about["outputs"] == [{"name": "hazard", "datatype": "FP32", "shape": [-1, 5]}]
    values = np.random.default_rng(1).normal(1, 1, (2, 8, 4)).astype(np.float32)
    expected = Predictor(load_bundle(plant_home.registry / "bundles" / "mill" / "v1")).hazard(values)
    for data in (values.tolist(), values.ravel().tolist()):
        tensor = {"name": "values", "datatype": "FP32", "shape": [2, 8, 4], "data": data}
        found = call("POST", "/v2/models/mill/infer", {"id": "q1", "inputs": [tensor]}).json
        assert (found["model_name"], found["model_version"], found["id"]) == ("mill", "v1", "q1")
        output = found["outputs"][0]
        assert (output["name"], output["datatype"], output["shape"]) == ("hazard", "FP32", [2, 5])
        np.testing.assert_array_equal(np.float32(output["data"]), expected.ravel())


def test_v2_reads_null_as_no_value(call: Any) -> None:
    tensor = {"name": "values", "datatype": "FP32", "shape": [1, 8, 4], "data": [None] * 32}
    assert call("POST", "/v2/models/mill/infer", {"inputs": [tensor]}).status == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "x"}, "Wrong input"),
        ({"datatype": "INT8"}, "Wrong input"),
        ({"shape": [1, 4, 8]}, "Wrong shape: expected [-1, 8, 4], found [1, 4, 8]"),
        ({"shape": [-1, 8, 4]}, "Wrong shape"),
        ({"shape": [0, 8, 4]}, "Wrong values: expected numbers [0]"),
        ({"shape": "all"}, "Wrong shape"),
        ({"data": [1.0]}, "Wrong values"),
        ({"data": None}, "Wrong values"),
    ],
)
def test_a_wrong_tensor_is_named(call: Any, change: dict[str, Any], message: str) -> None:
    tensor = {"name": "values", "datatype": "FP32", "shape": [1, 8, 4], "data": [1.0] * 32} | change
    answer = call("POST", "/v2/models/mill/infer", {"inputs": [tensor]})
    assert answer.status == 422
    assert message in answer.json["detail"]


def test_v2_answers_an_empty_batch_with_empty_outputs(call: Any) -> None:
    tensor = {"name": "values", "datatype": "FP32", "shape": [0, 8, 4], "data": []}
    answer = call("POST", "/v2/models/mill/infer", {"inputs": [tensor]})
    assert answer.status == 200
    assert answer.json["outputs"] == [{"name": "hazard", "datatype": "FP32", "shape": [0, 5], "data": []}]


def packed(values: np.ndarray, *, announced: int | None = None, **more: Any) -> tuple[bytes, str]:
    """A request with its tensor as bytes, and the length of its JSON."""
    kind = {"float32": "FP32", "float64": "FP64"}[values.dtype.name]
    size = values.nbytes if announced is None else announced
    tensor = {"name": "values", "datatype": kind, "shape": list(values.shape), "parameters": {"binary_data_size": size}}
    head = orjson.dumps({"inputs": [tensor]} | more)
    return head + values.tobytes(), str(len(head))


def infer(call: Any, values: np.ndarray, **more: Any) -> Answer:
    body, length = packed(values, **more)
    found: Answer = call(
        "POST", "/v2/models/mill/infer", raw=body, inference_header_content_length=length,
        content_type="application/octet-stream",
    )  # fmt: skip
    return found


def unpacked(answer: Answer) -> dict[str, np.ndarray]:
    length = int(answer.headers["inference-header-content-length"])
    behind, found = answer.body[length:], {}
    for output in orjson.loads(answer.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]], behind = np.frombuffer(behind[:size], "<f4").reshape(output["shape"]), behind[size:]
    assert behind == b""
    return found


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_bytes_answer_as_json_does_bit_by_bit(call: Any, kind: Any) -> None:
    values = np.random.default_rng(1).normal(1, 1, (3, 8, 4)).astype(np.float32)
    values[0, 2:4] = np.nan
    data = [[[None if np.isnan(v) else v for v in row] for row in window] for window in values.tolist()]
    tensor = {"name": "values", "datatype": "FP32", "shape": [3, 8, 4], "data": data}
    plain = call("POST", "/v2/models/mill/infer", {"inputs": [tensor]}).json["outputs"][0]["data"]
    for more in ({"parameters": {"binary_data_output": True}},
                 {"outputs": [{"name": "hazard", "parameters": {"binary_data": True}}]}):  # fmt: skip
        answer = infer(call, values.astype(kind), **more)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
        np.testing.assert_array_equal(unpacked(answer)["hazard"].ravel(), np.float32(plain))
    assert infer(call, values.astype(kind)).json["outputs"][0]["data"] == plain


def test_infinity_in_bytes_is_no_value(call: Any) -> None:
    empty, infinite = (infer(call, np.full((1, 8, 4), v, np.float32)).json for v in (np.nan, np.inf))
    assert empty["outputs"] == infinite["outputs"]


@pytest.mark.parametrize(
    ("body", "length", "message"),
    [
        (*packed(np.zeros((1, 8, 4), np.float32), announced=64), "Wrong bytes: expected binary_data_size 128"),
        (*packed(np.zeros((1, 8, 4), np.float32), announced=-1), "Wrong bytes"),
        (packed(np.zeros((1, 8, 4), np.float32))[0][:-1], packed(np.zeros((1, 8, 4), np.float32))[1], "and 127"),
        (packed(np.zeros((1, 8, 4), np.float32))[0] + b"x", packed(np.zeros((1, 8, 4), np.float32))[1], "and 129"),
        (b"{}", "3", "Wrong header: expected a number up to 2"),
        (b"{}", "-1", "Wrong header"),
        (b"{}", "9" * 400, "Wrong header"),
        (b"{}", "²", "Wrong header"),
        (b"{}x", "2", "Wrong inputs"),
        (b"", "0", "Not JSON"),
    ],
)  # fmt: skip
def test_bytes_that_are_not_what_they_say_are_refused(call: Any, body: bytes, length: str, message: str) -> None:
    answer = call("POST", "/v2/models/mill/infer", raw=body, inference_header_content_length=length)
    assert answer.status == 422
    assert message in answer.json["detail"]
    assert answer.json["error"] == answer.json["detail"]


def test_the_only_version_is_the_champions(call: Any) -> None:
    about = call("GET", "/v2/models/mill").json
    assert call("GET", "/v2/models/mill/versions/v1").json == about
    assert call("GET", "/v2/models/mill/versions/v1/ready").json["ready"] is True
    assert call("GET", "/v2/models/mill/versions/v0").status == 404
    assert call("POST", "/v2/repository/index", raw=b"").json == [
        {"name": "mill", "version": "v1", "state": "READY", "reason": ""}
    ]
    assert call("GET", "/v2/models/mill/config").json["input"] == [
        {"name": "values", "data_type": "TYPE_FP32", "dims": [8, 4]}
    ]

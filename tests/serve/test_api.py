from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.home import Home
from models.bundle import load_bundle
from models.predictor import Predictor
from serve.api import create_app
from serve.service import Service, open_service

PLANT = "/v1/plants/mill"
VALUES = [[60.0, 1.0, 100.0, 0.0]] * 8
AS_OF = "2025-06-15T12:00:00Z"


def test_readings_of_one_machine_answer_with_its_prediction(call: Any, rows: Any) -> None:
    answer = call("POST", f"{PLANT}/machines/m1/readings", {"readings": rows(20)})
    assert answer.status == 200
    found = answer.json
    assert found["machine"] == "m1"
    assert list(found["failure_probability"]) == ["24h", "48h", "7d"]
    assert 0 < found["failure_probability"]["24h"] < found["failure_probability"]["48h"] < 1
    assert found["data_until"] == "2025-06-15T15:06:40Z"
    assert found["as_of"] == "2025-06-15T16:00:00Z"
    assert [cause["code"] for cause in found["degraded"]] == ["unknown_machine"]
    assert "reasons" not in found


def test_the_same_question_has_the_same_answer_and_id(call: Any, rows: Any) -> None:
    first = call("POST", f"{PLANT}/machines/m1/readings", {"readings": rows(20)})
    again = call("POST", f"{PLANT}/machines/m1/readings", {"readings": rows(20)[::-1]})
    assert first.body == again.body


def test_readings_of_many_machines_give_one_prediction_each(call: Any, rows: Any) -> None:
    body = [row | {"machine": name} for name in ("b", "a") for row in rows(9, seed=ord(name))]
    found = call("POST", f"{PLANT}/readings", {"readings": body}).json["predictions"]
    assert [p["machine"] for p in found] == ["b", "a"]
    alone = call("POST", f"{PLANT}/machines/c/readings", {"readings": rows(9, seed=ord("a"))}).json
    assert alone["failure_probability"] == found[1]["failure_probability"]


def test_more_machines_than_are_scored_inline_give_the_same_answers(call: Any, rows: Any) -> None:
    body = [row | {"machine": f"m{i:03}"} for i in range(100) for row in rows(3, seed=i)]
    found = call("POST", f"{PLANT}/readings", {"readings": body}).json["predictions"]
    assert [p["machine"] for p in found] == [f"m{i:03}" for i in range(100)]
    one = call("GET", f"{PLANT}/machines/m042").json
    assert one["failure_probability"] == found[42]["failure_probability"]


def test_reasons_sum_to_the_risk_less_the_usual_risk(call: Any, rows: Any, plant_home: Home) -> None:
    found = call("POST", f"{PLANT}/machines/m1/readings?reasons=true", {"readings": rows(20)}).json
    predictor = Predictor(load_bundle(plant_home.registry / "bundles" / "mill" / "v1"))
    usual = float(predictor.risk(np.tile(np.array([60, 1, 100, 0], np.float32), (1, 8, 1)))[0])
    total = sum(reason["contribution"] for reason in found["reasons"])
    assert total == pytest.approx(found["failure_probability"]["48h"] - usual, abs=2e-6)


def test_an_unknown_sensor_degrades_and_does_not_refuse(call: Any, rows: Any) -> None:
    body = [row | {"colour": 3} for row in rows(9)]
    found = call("POST", f"{PLANT}/machines/m1/readings", {"readings": body}).json
    assert {"code": "unknown_sensor", "text": "colour is no sensor of the plant"} in found["degraded"]


def test_as_of_answers_from_what_was_received_up_to_then(call: Any, rows: Any) -> None:
    then = call("POST", f"{PLANT}/machines/m1/readings", {"readings": rows(20)[:12]}).json
    call("POST", f"{PLANT}/machines/m1/readings", {"readings": rows(20)[12:]})
    found = call("GET", f"{PLANT}/machines/m1?as_of={then['data_until']}&reasons=false").json
    assert found["prediction_id"] == then["prediction_id"]
    assert call("GET", f"{PLANT}/machines/m1").json["prediction_id"] != then["prediction_id"]


def test_machines_come_by_risk_with_the_state_of_their_data(call: Any, rows: Any) -> None:
    for name, vibration in (("calm", 0.1), ("wild", 9.0)):
        body = [row | {"vibration": vibration} for row in rows(9)]
        call("POST", f"{PLANT}/machines/{name}/readings", {"readings": body})
    call("POST", f"{PLANT}/machines/old/readings", {"readings": [{"time": 1_740_000_000, "vibration": 1.0}]})
    found = call("GET", f"{PLANT}/machines").json["machines"]
    assert found[0]["machine"] == "wild"
    data = {m["machine"]: m["data"] for m in found}
    assert (data["calm"]["stale"], data["calm"]["coverage"], data["calm"]["sensors_missing"]) == (False, 1.0, [])
    assert data["old"]["stale"] is True
    assert data["old"]["sensors_missing"] == ["oil_temp"]
    causes = {m["machine"]: [cause["code"] for cause in m["degraded"]] for m in found}
    assert "stale" in causes["old"]
    assert "stale" not in causes["calm"]


def test_a_machine_without_readings_is_not_found(call: Any) -> None:
    answer = call("GET", f"{PLANT}/machines/nobody")
    assert answer.status == 404
    assert answer.json["detail"] == "Unknown machine: found 'nobody' (in plant mill)."


def test_score_equals_the_predictor_on_the_same_windows(call: Any, plant_home: Home) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1, 1, (70, 8, 4)).astype(np.float32)  # more than are scored inline
    body = {"windows": [{"machine": f"m{i}", "values": v.tolist(), "as_of": AS_OF} for i, v in enumerate(values)]}
    found = call("POST", f"{PLANT}/score", body).json["predictions"]
    predictor = Predictor(load_bundle(plant_home.registry / "bundles" / "mill" / "v1"))
    expected = predictor.risk(values)
    assert [p["failure_probability"]["48h"] for p in found] == pytest.approx(expected.tolist(), abs=1e-6)
    assert found[3]["as_of"] == AS_OF


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    found: bytes = sink.getvalue().to_pybytes()
    return found


@pytest.mark.parametrize("nested", [False, True])
def test_score_reads_arrow_as_it_reads_json(call: Any, nested: bool) -> None:
    values = np.random.default_rng(0).normal(1, 1, (5, 8, 4)).astype(np.float32)
    values[0, 0, 0] = np.nan
    flat = pa.array(values.ravel(), from_pandas=True)
    column = pa.FixedSizeListArray.from_arrays(flat, 4 if nested else 32)
    column = pa.FixedSizeListArray.from_arrays(column, 8) if nested else column
    names = [f"m{i}" for i in range(5)]
    at = pa.array([1_749_988_800_000_000] * 5, pa.timestamp("us", "UTC"))
    body = arrow(pa.table({"values": column, "machine": names, "as_of": at}))
    sent = [[[None if np.isnan(x) else float(x) for x in row] for row in window] for window in values]
    windows = [{"machine": n, "values": v, "as_of": AS_OF} for n, v in zip(names, sent, strict=True)]
    by_json = call("POST", f"{PLANT}/score", {"windows": windows})
    by_arrow = call("POST", f"{PLANT}/score", raw=body, content_type="application/vnd.apache.arrow.stream")
    assert by_arrow.status == 200, by_arrow.body
    assert by_arrow.body == by_json.body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Not Arrow"),
        (b"junk" * 100, "Not Arrow"),
        (arrow(pa.table({"values": pa.array([[0.0] * 32] * 10_000)}), "zstd"), "Compressed Arrow"),
        (arrow(pa.table({"other": [1]})), "No windows: expected a column `values`, found other"),
        (arrow(pa.table({"values": pa.array([[1.0]])})), "Wrong values: expected 8 x 4 numbers a window"),
        (arrow(pa.table({"values": pa.array([["a"] * 32])})), "Wrong values: expected lists of numbers"),
        (arrow(pa.table({"values": pa.array([None], pa.list_(pa.float32()))})), "Wrong values"),
        (arrow(pa.table({"values": [[1.0] * 32], "machine": pa.array(["a"]).dictionary_encode()})), "Wrong Arrow"),
        (arrow(pa.table({"values": [[1.0] * 32], "machine": pa.array([b"\xff"])})), "Wrong machine: expected texts"),
        (arrow(pa.table({"values": [[1.0] * 32], "machine": pa.array([[1]])})), "Wrong machine: expected texts"),
        (arrow(pa.Table.from_arrays([pa.array([[1.0] * 32])] * 2, ["values"] * 2)), "Columns twice"),
        (arrow(pa.table({"values": [[1.0] * 32]})).replace(b"values", b"value\xff"), "Not Arrow"),
        (
            arrow(pa.table({"values": [[1.0] * 32], "as_of": pa.array([2**62], pa.timestamp("us", "UTC"))})),
            "Time out of range: expected a time from 1970 to 9000",
        ),
    ],
)  # fmt: skip
def test_wrong_arrow_is_named(call: Any, body: bytes, message: str) -> None:
    answer = call("POST", f"{PLANT}/score", raw=body, content_type="application/vnd.apache.arrow.stream")
    assert answer.status == 422
    assert message in answer.json["detail"]


def test_health_and_server_metadata_need_no_key(call: Any) -> None:
    call.key = None
    assert call("GET", "/v2/health/live").json == {"live": True}
    assert call("GET", "/v2/health/ready").json == {"ready": True}
    assert call("GET", "/v2").json["name"] == "millwright"


def test_without_a_model_the_service_is_not_ready(home: Home) -> None:
    service = open_service(home, now_us=lambda: 0)
    assert service.ready is False
    service.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/events"), ("POST", "/outcomes"), ("GET", "/cases"), ("POST", "/cases/7/decision")],
)
def test_what_is_not_built_says_so(call: Any, method: str, path: str) -> None:
    answer = call(method, PLANT + path, {} if method == "POST" else None)
    assert answer.status == 501
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"].startswith("Not built yet: expected ")


def test_pages_load_nothing_from_another_host(call: Any) -> None:
    call.key = None
    for path in ("/", "/page.js", "/page.css", "/docs", "/docs.js"):
        answer = call("GET", path)
        assert answer.status == 200
        assert b"http://" not in answer.body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in answer.body
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_metrics_count_routes_by_template_and_name_no_machine(call: Any, rows: Any) -> None:
    call("POST", f"{PLANT}/machines/secret-7/readings", {"readings": rows(9)})
    call("GET", "/nowhere/at/all")
    text = call("GET", "/metrics").body.decode()
    route = "/v1/plants/{plant}/machines/{machine}/readings"
    assert f'millwright_requests_total{{method="POST",route="{route}",status="200"}} 1.0' in text
    assert 'millwright_predictions_total{model_version="v1",plant="mill"} 1.0' in text
    assert 'millwright_degraded_total{cause="unknown_machine"} 1.0' in text
    assert 'route="none",status="404"} 1.0' in text
    assert "secret-7" not in text
    assert "nowhere" not in text


def test_metrics_need_a_key_where_others_can_reach_them(service: Service, call: Any) -> None:
    call.app = create_app(service, open_metrics=False)
    assert call("GET", "/metrics").status == 200
    call.key = None
    assert call("GET", "/metrics").status == 401


def test_a_body_is_refused_while_it_is_read(call: Any, service: Service) -> None:
    limit = int(service.settings.max_body_mb * 2**20)
    announced = call("POST", f"{PLANT}/score", raw=b"{}", content_length=str(limit + 1))
    streamed = call("POST", f"{PLANT}/score", raw=[b" " * 2**20] * 33)
    assert (announced.status, streamed.status) == (413, 413)
    assert streamed.json["type"] == "urn:millwright:problem:too-large"


@pytest.mark.parametrize("headers", [{"content_encoding": "gzip"}, {"content_type": "text/csv"}, {"content_type": ""}])
def test_packed_and_foreign_bodies_are_refused(call: Any, headers: dict[str, str]) -> None:
    answer = call("POST", f"{PLANT}/score", raw=b"\x1f\x8b", **headers)
    assert answer.status == 415


@pytest.mark.parametrize("path", [f"{PLANT}/score", f"{PLANT}/readings", "/v2/models/mill/infer"])
@pytest.mark.parametrize(
    "came",
    [(60.0, 1, (0.1, 0.6)), (0.02, 1, (0.1, 0.6)), (0.02, 1_000, (0.8, 1.6))],
    ids=["nothing comes", "a byte now and then", "fast enough, and without an end"],
)
def test_a_slow_body_ends_with_408(
    call: Any, monkeypatch: pytest.MonkeyPatch, path: str, came: tuple[float, int, tuple[float, float]]
) -> None:
    pause_s, num_bytes, took_s = came
    monkeypatch.setattr("serve.bodies.BODY_TIMEOUT_S", 0.8)
    call.service.settings = call.service.settings.model_copy(update={"body_wait_s": 0.1})
    sent: list[dict[str, Any]] = []

    async def slow() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": b"[" * num_bytes, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {call.key}".encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": b"", "query_string": b"",
        "root_path": "", "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("t", 80),
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    began = time.monotonic()
    asyncio.run(call.app(scope, slow, send))
    assert sent[0]["status"] == 408
    assert "a beginning in 0.1 s" in json.loads(sent[1]["body"])["detail"]
    assert took_s[0] <= time.monotonic() - began < took_s[1]


def test_a_fault_tells_its_request_id_and_nothing_else(
    call: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plant: str) -> None:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(service.scorer, "model", broken)
    answer = call("GET", f"{PLANT}/machines", x_request_id="abc-1")
    assert (answer.status, answer.json["request_id"], answer.headers["x-request-id"]) == (500, "abc-1", "abc-1")
    assert b"secret" not in answer.body


def test_a_wrong_parameter_is_a_problem(call: Any) -> None:
    answer = call("GET", f"{PLANT}/machines/m1?reasons=perhaps")
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "query.reasons" in answer.json["detail"]


def test_an_unknown_route_and_a_wrong_method_are_problems(call: Any) -> None:
    assert call("GET", "/v3").json["type"] == "urn:millwright:problem:not-found"
    assert call("DELETE", f"{PLANT}/machines").json["type"] == "urn:millwright:problem:wrong-method"


def test_readings_that_were_refused_leave_nothing(call: Any, rows: Any) -> None:
    body = [*rows(5), {"time": "yesterday", "vibration": 1.0}]
    assert call("POST", f"{PLANT}/machines/m1/readings", {"readings": body}).status == 422
    assert call("GET", f"{PLANT}/machines/m1").status == 404


def test_nothing_that_leaves_is_nan(call: Any, rows: Any) -> None:
    body = [{"time": row["time"], "vibration": None} for row in rows(9)]
    answer = call("POST", f"{PLANT}/machines/m1/readings?reasons=true", {"readings": body})
    assert answer.status == 200
    assert b"NaN" not in answer.body
    json.loads(answer.body, parse_constant=pytest.fail)


@pytest.mark.parametrize("at", ["%C2%B2", "9999-12-31T23:59:59Z"])
def test_a_time_that_is_none_is_422(call: Any, rows: Any, at: str) -> None:
    call("POST", f"{PLANT}/machines/m1/readings", {"readings": rows(3)})
    for answer in (
        call("GET", f"{PLANT}/machines/m1?as_of={at}"),
        call("POST", f"{PLANT}/machines/m1/readings?as_of={at}", {"readings": rows(3)}),
    ):
        assert (answer.status, answer.json["type"]) == (422, "urn:millwright:problem:malformed")


def test_a_client_that_goes_away_is_no_fault(call: Any, service: Service) -> None:
    async def gone() -> list[int]:
        headers = {"authorization": f"Bearer {call.key}", "content-type": "application/json"}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": f"{PLANT}/score", "raw_path": b"", "query_string": b"", "root_path": "", "server": ("test", 80),
            "client": ("127.0.0.1", 1), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        sent: list[int] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("status", 0))

        await call.app(scope, receive, send)
        return sent

    assert asyncio.run(gone())[0] == 408
    assert 'status="500"' not in service.metrics.text().decode()


def test_the_detail_of_a_problem_is_short_however_long_the_request(call: Any) -> None:
    answer = call("POST", f"{PLANT}/score", {"x" * 100_000: 1})
    assert answer.status == 422
    assert len(answer.body) < 3000


def test_a_machine_may_have_slashes_in_its_name(call: Any, rows: Any) -> None:
    path = f"{PLANT}/machines/hall 2/press 7"
    told = call("POST", f"{path}/readings", {"readings": rows(9)})
    assert (told.status, told.json["machine"]) == (200, "hall 2/press 7")
    assert call("GET", path).json["prediction_id"] == told.json["prediction_id"]
    assert len(call("GET", f"{path}/history").json["times"]) == 9
    assert call("POST", f"{PLANT}/machines//readings", {"readings": rows(9)}).status == 422
    text = call("GET", "/metrics").body.decode()
    assert 'route="/v1/plants/{plant}/machines/{machine}/readings"' in text
    assert "press 7" not in text

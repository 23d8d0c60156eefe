"""Every line of the replica's log is JSON and names the request, and the trace, that it is about."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from serve.logs import REQUEST, About, JsonLines, trace_of
from serve.service import Service

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PLANT = "/v1/plants/mill"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"00-{TRACE}-{PARENT}-01", (TRACE, PARENT)), (f"cc-{TRACE}-{PARENT}-00-more", (TRACE, PARENT)),
        (f"ff-{TRACE}-{PARENT}-01", ("", "")), (f"00-{'0' * 32}-{PARENT}-01", ("", "")),
        (f"00-{TRACE}-{'0' * 16}-01", ("", "")), (f"00-{TRACE.upper()}-{PARENT}-01", ("", "")),
        (f"00-{TRACE}-{PARENT}", ("", "")), ("", ("", "")), ("00-" * 5000, ("", "")),
    ],
)  # fmt: skip
def test_a_trace_is_what_the_standard_says(header: str, found: tuple[str, str]) -> None:
    assert trace_of(header.encode()) == found


def test_a_callers_trace_names_the_request_unless_it_gave_another_name(call: Any) -> None:
    parent = f"00-{TRACE}-{PARENT}-01"
    assert call("GET", "/v2/health/live", traceparent=parent).headers["x-request-id"] == TRACE
    assert call("GET", "/v2/health/live", traceparent=parent, x_request_id="mine").headers["x-request-id"] == "mine"
    assert len(call("GET", "/v2/health/live", traceparent="rubbish").headers["x-request-id"]) == 32


def test_what_fails_is_a_line_with_request_trace_and_reason(
    call: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    def fails(plant: str) -> None:
        raise RuntimeError("a disk\nis full")

    handler = Lines()
    handler.setFormatter(JsonLines())
    monkeypatch.setattr(service.scorer, "model", fails)
    logging.getLogger("millwright").addHandler(handler)
    try:
        answer = call("GET", f"{PLANT}/machines", traceparent=f"00-{TRACE}-{PARENT}-01", x_request_id="abc")
    finally:
        logging.getLogger("millwright").removeHandler(handler)
    assert answer.status == 500
    assert b"disk" not in answer.body
    (line,) = lines
    assert "\n" not in line
    found = json.loads(line)
    assert (found["request_id"], found["trace_id"], found["parent_id"], found["level"]) == (
        "abc", TRACE, PARENT, "ERROR"
    )  # fmt: skip
    assert "RuntimeError: a disk" in found["exception"]


def test_a_line_about_no_request_names_none() -> None:
    REQUEST.set(None)
    record = logging.LogRecord("millwright.serve", logging.INFO, "x", 1, "plant %s: %d", ("mill", 3), None)
    found = json.loads(JsonLines().format(record))
    assert found["message"] == "plant mill: 3"
    assert "request_id" not in found
    assert About("r").trace_id == ""

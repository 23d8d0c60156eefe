"""The client against the service itself, and against connections that are lost, slow and busy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from serve.api import create_app
from serve.client import Client, ServiceError
from serve.listener import bound
from serve.service import Service
from tests.serve.conftest import listening_server

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"plants": []}'
BUSY = (
    b'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 37\r\n\r\n'
    b'{"detail": "busy", "request_id": "r"}'
)  # fmt: skip


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with listening_server(create_app(service)) as (_, found):
        yield found


@contextmanager
def answering(*answers: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives one answer a request in turn, and closes the connection instead of None."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            left = list(answers)
            while left:
                made, _ = listener.accept()
                with made:
                    while left and (request := made.recv(65536)):
                        asked.append(request)
                        answer = left.pop(0)
                        if answer is None:
                            break
                        made.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked


def test_it_speaks_every_route_of_v1(port: int, new_key: Callable[..., str], rows: Any) -> None:
    with Client(f"127.0.0.1:{port}", new_key("read", "write")) as client:
        found = client.readings("mill", "m 1", rows(9))
        assert (found["machine"], found["model"]["version"], "reasons" in found) == ("m 1", "v1", False)
        told = client.readings("mill", "m 1", [{"time": 1.7e9, "vib": 1}], units={"vib": "in/s"}, reasons=True)
        assert len(told["reasons"]) == 4
        both = client.readings_of("mill", [row | {"machine": m} for m in ("m2", "m3") for row in rows(3)])
        assert [each["machine"] for each in both] == ["m2", "m3"]
        assert {each["machine"] for each in client.machines("mill")} == {"m 1", "m2", "m3"}
        state = client.machine("mill", "m2", reasons=False)
        assert state["data"]["readings"] == 3
        assert "reasons" not in state
        assert client.machine("mill", "m2", as_of=state["data_until"])["prediction_id"] == state["prediction_id"]
        assert client.score("mill", [{"machine": "w", "values": [[1.0] * 4] * 8}])[0]["machine"] == "w"
        assert client.plants()[0]["name"] == "mill"


def test_what_the_service_refuses_is_told_and_not_tried_again(port: int, new_key: Callable[..., str]) -> None:
    with Client(f"http://127.0.0.1:{port}", new_key("read")) as client:
        with pytest.raises(ServiceError, match="404: Unknown plant: found 'nowhere'") as refused:
            client.machines("nowhere")
        assert refused.value.request_id
        with pytest.raises(ServiceError, match="403: The key may not write"):
            client.readings("mill", "m", [{"time": 1.7e9, "vib": 1}])
        with pytest.raises(ValueError, match="Out of range float"):
            client.score("mill", [{"values": [[float("nan")]]}])
        assert client.plants()


def test_a_lost_connection_is_tried_once_more_and_not_twice() -> None:
    with answering(OK, None, OK) as (port, asked), Client(f"127.0.0.1:{port}", "k") as client:
        assert client.plants() == []
        assert client.plants() == []
        assert len(asked) == 3
        assert asked[1] == asked[2]
    with answering(None, None, OK) as (port, asked), Client(f"127.0.0.1:{port}", "k") as client:
        with pytest.raises(OSError, match=r"."):
            client.plants()
        assert len(asked) == 2


def test_nobody_there_is_an_error_at_once() -> None:
    sock = bound("127.0.0.1", 0)  # bound and not listening: nobody else has it either
    with sock, Client(f"127.0.0.1:{sock.getsockname()[1]}", "k") as client:
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            client.plants()
        assert time.monotonic() - began < 1


def test_a_busy_service_is_asked_again_when_it_says_so_while_there_is_time() -> None:
    with answering(BUSY, OK) as (port, asked), Client(f"127.0.0.1:{port}", "k", timeout_s=5) as client:
        began = time.monotonic()
        assert client.plants() == []
        assert time.monotonic() - began >= 1
        assert len(asked) == 2
    with answering(BUSY, OK) as (port, asked), Client(f"127.0.0.1:{port}", "k", timeout_s=0.5) as client:
        with pytest.raises(ServiceError, match=r"503: busy \(request r\)") as refused:
            client.plants()
        assert refused.value.retry_after_s == 1.0
        assert len(asked) == 1


def test_a_call_ends_in_its_time_and_a_late_answer_is_never_the_next_ones() -> None:
    with answering(b"", OK) as (port, asked), Client(f"127.0.0.1:{port}", "k", timeout_s=0.3) as client:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.plants()
        assert time.monotonic() - began < 2
        assert len(asked) == 1
        assert client.plants() == []


def test_threads_share_a_client(port: int, new_key: Callable[..., str], rows: Any) -> None:
    with Client(f"127.0.0.1:{port}", new_key("read", "write")) as client, ThreadPoolExecutor(8) as pool:
        names = [f"m{number}" for number in range(40)]
        found = list(pool.map(lambda name: client.readings("mill", name, rows(3))["machine"], names))
    assert found == names


@pytest.mark.parametrize("url", ["", "ftp://host", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not the address of a service"):
        Client(url, "k")

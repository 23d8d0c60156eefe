"""HTTP in a replica, over real sockets: what uvicorn does not limit, and an ending without a failed request."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve import server as server_module
from serve.metrics import Metrics
from serve.middleware import Surface
from tests.serve.conftest import listening_server


class Waiting:
    """An application that answers once it is told to."""

    def __init__(self, in_flight: int = 64) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        routes = [Route(path, self._now, methods=["GET", "POST"]) for path in ("/", "/metrics")]
        routes.append(Route("/wait", self._later))
        self.app = Surface(routes, Metrics(), in_flight=in_flight)

    async def _now(self, request: Request) -> Response:
        return Response(str(len(await request.body())))

    async def _later(self, request: Request) -> Response:
        self.begun.release()
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        return Response("done")


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        yield sock


def answer(sock: socket.socket) -> bytes:
    """One answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
    while len(body) < length:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_connection_is_kept_and_requests_may_follow_each_other_unanswered() -> None:
    with listening_server(Waiting().app) as (_, port), connected(port) as sock:
        for _ in range(3):
            sock.sendall(GET % b"/")
            assert answer(sock).startswith(b"HTTP/1.1 200 OK\r\ndate: ")
        sock.sendall(GET % b"/" * 2)
        found = b""
        while found.count(b"HTTP/1.1 200 OK") < 2 or not found.endswith(b"\r\n\r\n0"):
            found += sock.recv(65536)


def test_a_connection_that_has_lived_long_ends_after_an_answer_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.server.AGE_S", 0.2)
    with listening_server(Waiting().app) as (_, port), connected(port) as sock:
        sock.sendall(GET % b"/")
        assert b"connection: close" not in answer(sock)
        time.sleep(0.3)
        sock.sendall(GET % b"/")
        assert b"connection: close" in answer(sock)
        assert closed(sock)


@pytest.mark.parametrize("before", [b"", b"GET / HT", GET % b"/" + b"POST / HTTP/1.1\r\nHo"])
def test_a_head_that_does_not_come_ends_its_connection(monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    monkeypatch.setattr(server_module, "HEAD_S", 0.3)
    with listening_server(Waiting().app) as (_, port), connected(port) as sock:
        sock.sendall(before)
        if before.startswith(GET % b"/"):
            assert answer(sock)[9:12] == b"200"
        began = time.monotonic()
        assert closed(sock)
        assert time.monotonic() - began < 3


def test_a_head_that_never_ends_is_refused() -> None:
    with listening_server(Waiting().app) as (_, port), connected(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        try:
            for number in range(200):
                sock.sendall(b"X-%d: %s\r\n" % (number, b"a" * 1000))
            assert answer(sock)[9:12] in (b"431", b"")
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed while we were still writing
        with connected(port) as other:
            other.sendall(GET % b"/")
            assert answer(other)[9:12] == b"200"


def test_what_is_no_http_is_refused() -> None:
    with listening_server(Waiting().app) as (_, port), connected(port) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS to a plain port\r\n\r\n")
        assert answer(sock)[9:12] == b"400"


def test_a_long_body_is_read_as_fast_as_it_is_used() -> None:
    with listening_server(Waiting().app) as (_, port), connected(port) as sock:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (8 << 20)
        threading.Thread(target=sock.sendall, args=(head + b"a" * (8 << 20),)).start()
        assert answer(sock).endswith(b"8388608")


def test_more_than_a_replica_takes_is_told_to_come_again_but_health_and_metrics_are_answered() -> None:
    waiting = Waiting(in_flight=2)
    with listening_server(waiting.app) as (_, port), ThreadPoolExecutor(2) as pool:
        held = [pool.submit(_get, port, b"/wait") for _ in range(2)]
        assert all(waiting.begun.acquire(timeout=10) for _ in range(2))
        refused = _get(port, b"/")
        assert refused[9:12] == b"503"
        assert b"retry-after: 1" in refused
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["type"] == "urn:millwright:problem:not-ready"
        assert _get(port, b"/metrics")[9:12] == b"200"
        waiting.go.set()
        assert [each.result(10)[-4:] for each in held] == [b"done"] * 2
        assert _get(port, b"/")[9:12] == b"200"


def test_an_ending_answers_what_it_has_and_takes_nothing_new() -> None:
    waiting = Waiting()
    with listening_server(waiting.app) as (server, port), ThreadPoolExecutor(2) as pool, connected(port) as idle:
        idle.sendall(GET % b"/")
        answer(idle)
        held = pool.submit(_get, port, b"/wait")
        assert waiting.begun.acquire(timeout=10)
        ending = pool.submit(server.stop, 5.0)
        assert closed(idle)
        waiting.go.set()
        assert held.result(10).endswith(b"done")
        ending.result(10)
        with pytest.raises(ConnectionRefusedError):
            _get(port, b"/")


def test_too_many_connections_wait_for_one_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_CONNECTIONS", 2)
    with listening_server(Waiting().app) as (_, port), connected(port) as one, connected(port) as two:
        for sock in (one, two):
            sock.sendall(GET % b"/")
            assert answer(sock)[9:12] == b"200"
        with connected(port) as third:
            third.sendall(GET % b"/")
            third.settimeout(0.3)
            with pytest.raises(TimeoutError):
                third.recv(1)
            one.close()
            third.settimeout(5)
            assert answer(third)[9:12] == b"200"


def test_its_loop_can_be_asked_whether_it_lives() -> None:
    async def alive() -> str:
        return threading.current_thread().name

    with listening_server(Waiting().app) as (server, _):
        assert server.call(alive()).result(5) == "millwright-http"


def _get(port: int, path: bytes) -> bytes:
    with connected(port) as sock:
        sock.sendall(GET % path)
        return answer(sock)



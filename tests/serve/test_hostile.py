"""Clients that mean harm, or do it: refused at once, while the others are answered as before.

A load of honest clients runs beside each; every answer of theirs is checked.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from cluster.files import write_atomically
from tests.serve.conftest import make_champion, point_to
from tests.serve.running import Load, Running, running
from tests.serve.test_serving import ask, until

__all__ = ["running"]
pytestmark = pytest.mark.ray
SCORE, READINGS = "/v1/plants/mill/score", "/v1/plants/mill/machines/h1/readings"


@contextmanager
def undisturbed(running: Running, seed: int) -> Iterator[None]:
    """Honest clients meanwhile: none fails, half are answered as fast as ever, and what they sent is there."""
    memory = [replica.memory_info().rss for replica in running.replicas()]
    with Load(running.port, running.key, seed=seed, clients=2).running() as sent:
        time.sleep(0.3)
        yield
        time.sleep(0.3)
    took = sorted(each.took for each in sent.outcomes)
    assert len(took) > 50
    assert sent.failures() == Counter()
    assert took[len(took) // 2] < 0.05
    assert took[int(0.99 * len(took))] < 0.5
    assert sent.lost(running.home) == []
    for replica, before in zip(running.replicas(), memory, strict=True):
        assert replica.memory_info().rss < before + 300 * 2**20


def head(running: Running, path: str, *headers: str, key: str | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key or running.key}", *headers]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode()


def refused(running: Running, parts: Sequence[bytes], *, pause_s: float = 0.0, patience_s: float = 10.0) -> Any:
    """Send the parts until an answer comes or the connection ends: the status, 0 without one, and the seconds."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=patience_s) as sock:
        found = bytearray()

        def listen() -> None:
            while not found.endswith(b"}") and (part := received(sock)):
                found.extend(part)

        listener, began = threading.Thread(target=listen), time.monotonic()
        listener.start()
        for part in parts:
            if not listener.is_alive():
                break
            try:
                sock.sendall(part)
            except OSError:  # the answer may have come before
                break
            if pause_s:
                listener.join(pause_s)
        listener.join(patience_s)
        return int(found[9:12] or b"0"), time.monotonic() - began


def received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65_536)
    except OSError:
        return b""


MEBIBYTE = b"1" * 2**20
CHUNK = b"100000\r\n" + MEBIBYTE + b"\r\n"


def nested(num: int) -> bytes:
    return b'{"readings": ' + b"[" * num + b"]" * num + b"}"


@pytest.mark.parametrize(
    ("headers", "parts", "status"),
    [
        (["Content-Length: 104857600"], [MEBIBYTE] * 100, 413),
        (["Transfer-Encoding: chunked"], [CHUNK] * 100, 413),
        (["Content-Length: 2000014"], [nested(1_000_000)], 422),
        (["Content-Encoding: gzip", "Content-Length: 1000000"], [b"\x1f\x8b" + b"\0" * 999_998], 415),
        (["Content-Encoding: br, gzip", "Content-Length: 10"], [b"0123456789"], 415),
    ],
    ids=["100 MB, announced", "100 MB, in pieces", "a million brackets", "a gzip bomb", "packed twice"],
)
def test_a_body_that_is_too_much_is_refused_in_a_second(
    running: Running, headers: list[str], parts: list[bytes], status: int
) -> None:
    with undisturbed(running, seed=10):
        found = [refused(running, [head(running, SCORE, *headers), *parts]) for _ in range(3)]
    assert {each[0] for each in found} == {status}
    assert min(each[1] for each in found) < 1.0  # the machine may be busy with something else
    assert max(each[1] for each in found) < 5.0


def test_bodies_that_drip_are_refused_in_a_second_and_heads_that_drip_hold_nobody_up(running: Running) -> None:
    drip = [b"["] * 100
    results: list[tuple[int, float]] = []

    def one() -> None:
        start = [head(running, READINGS, "Content-Length: 1000")]
        results.append(refused(running, [*start, *drip], pause_s=0.1))

    with undisturbed(running, seed=11), ExitStack() as stack:
        heads = [stack.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(200)]
        threads = [threading.Thread(target=one) for _ in range(30)]
        for sock in heads:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: ")
        for thread in threads:
            thread.start()
        for _ in range(10):
            for sock in heads:
                sock.sendall(b"x")
            time.sleep(0.1)
        for thread in threads:
            thread.join()
    assert {status for status, _ in results} == {408}
    assert sorted(took for _, took in results)[15] < 1.5


def test_without_a_key_no_body_is_waited_for(running: Running) -> None:
    start = head(running, READINGS, "Content-Length: 1000", key="mw_none_none")
    status, took = refused(running, [start, b"["], pause_s=0.05)
    assert status == 401
    assert took < 1.0


def strange(rng: random.Random) -> str:
    """A number as no sensor sends it, or as one that is stuck or broken does."""
    return rng.choice(
        ["NaN", "-Infinity", "1e999", "-1e999", "1e308", "-1e308", "5e-324", "null", "0", "-0.0", "7", "1e39"]
    )


def test_storms_of_strange_values_get_finite_answers_or_are_refused(running: Running) -> None:
    def constant(name: str) -> None:
        raise AssertionError(f"{name} in an answer")

    rng, statuses, now = random.Random(12), Counter[int](), int(time.time())
    with undisturbed(running, seed=12):
        for number in range(300):
            at = rng.choice([now - 3600 * rng.randrange(50), now + 10**6, 10**12, -1, 0])
            names = rng.choice([("vib", "oil_degF"), ("vib", "colour"), ("colour", "smell")])
            cells = ", ".join(f'"{name}": {strange(rng)}' for name in names)
            body = f'{{"readings": [{{"time": {at}, {cells}}}]}}'.encode()
            if number % 3 == 0:
                row = "[" + ", ".join(strange(rng) for _ in range(4)) + "]"
                body = f'{{"windows": [{{"values": [{", ".join([row] * 8)}]}}]}}'.encode()
            path = SCORE if number % 3 == 0 else READINGS
            status, text = ask_raw(running, path, body)
            statuses[status] += 1
            answer = json.loads(text, parse_constant=constant)
            for one in answer.get("predictions", [answer]) if status == 200 else []:
                chances = np.array(list(one["failure_probability"].values()))
                assert ((chances >= 0) & (chances <= 1)).all()
                assert (np.diff(chances) >= 0).all()
    assert set(statuses) == {200, 422}
    assert statuses[200] > 50


def test_bytes_that_are_no_numbers_get_finite_answers(running: Running) -> None:
    values = np.full((4, 8, 4), np.nan, np.float32)
    values[1], values[2], values[3] = np.inf, -np.inf, np.float32(3e38)
    described = {
        "inputs": [{"name": "values", "datatype": "FP32", "shape": [4, 8, 4],
                    "parameters": {"binary_data_size": values.nbytes}}]
    }  # fmt: skip
    text = json.dumps(described).encode()
    length = f"Inference-Header-Content-Length: {len(text)}"
    status, answer = ask_raw(running, "/v2/models/mill/infer", text + values.tobytes(), length)
    assert status == 200
    assert np.isfinite(json.loads(answer)["outputs"][0]["data"]).all()


def ask_raw(running: Running, path: str, body: bytes, *headers: str) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
        sock.sendall(head(running, path, f"Content-Length: {len(body)}", "Connection: close", *headers) + body)
        found = b"".join(iter(lambda: received(sock), b""))
    return int(found[9:12]), found.partition(b"\r\n\r\n")[2]


def version(running: Running) -> Any:
    return json.loads(ask(running.port, "GET", "/v1/plants", key=running.key)[1])["plants"][0]["champion"]


def test_a_registry_that_is_gone_corrupt_or_hangs_leaves_the_last_good_model_serving(running: Running) -> None:
    registry, pointer = running.home.registry, running.home.registry / "champions" / "mill.json"
    before, failed = version(running), 'millwright_model_loads_total{result="failed"}'

    def failures() -> str:
        text = ask(running.port, "GET", "/metrics")[1].decode()
        return next((line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(failed)), "0")

    with undisturbed(running, seed=13):
        registry.rename(registry.with_name("gone"))
        time.sleep(3)
        assert version(running) == before
        registry.with_name("gone").rename(registry)

        bundle = make_champion(running.home, "mill", "v2", vibration_weight=0.7)
        damaged = (bundle / "model.onnx").read_bytes()
        (bundle / "model.onnx").write_bytes(damaged[:-1] + b"\0")
        counted = failures()
        point_to(running.home, "mill", "v2")
        assert until(lambda: failures() != counted, 15)
        assert version(running) == before

        told = pointer.read_text()
        pointer.unlink()
        os.mkfifo(pointer)  # whoever opens it waits
        time.sleep(3)
        assert version(running) == before
        (bundle / "model.onnx").write_bytes(damaged)
        whole = pointer.with_suffix(".whole")
        write_atomically(whole, told)
        with pointer.open("w") as hanging:
            hanging.write(told)  # whoever waits reads it
        whole.replace(pointer)
        assert until(lambda: {version(running) for _ in range(8)} == {"v2"}, 15)

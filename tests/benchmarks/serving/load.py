"""Closed-loop HTTP clients on plain sockets: each sends its next request when it has its answer.

The one idea: the client must cost far less than what it measures, so it writes prepared bytes and reads a status line
and a length. Run as a script it prints JSON: seconds of each request, and how many were answered by what status.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any


def request(path: str, body: bytes, key: str | None = None, kind: str = "application/json") -> bytes:
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{auth}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class _Client:
    sock: socket.socket
    number: int
    sent: float = 0.0
    found: bytearray = field(default_factory=bytearray)


@dataclass
class Load:
    """``seconds`` of every request of the measured part, each's status and counts of them, and how long it took."""

    seconds: list[float]
    each: list[str]
    statuses: dict[str, int]
    took: float

    def quantile(self, q: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def run(port: int, requests: list[bytes], *, clients: int, seconds: float, warm: float = 1.0) -> Load:
    """``clients`` connections for ``seconds`` after ``warm``; each goes through ``requests`` in turn."""
    chosen = selectors.DefaultSelector()
    found = Load([], [], {}, 0.0)
    for number in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(sock, number * 7)
        chosen.register(sock, selectors.EVENT_READ, client)
        _send(client, requests)
    start = time.perf_counter() + warm
    end = start + seconds
    while (now := time.perf_counter()) < end:
        for ready, _ in chosen.select(0.5):
            client = ready.data
            data = client.sock.recv(1 << 18)
            if not data:
                raise ConnectionError(f"the server closed the connection after {bytes(client.found[:200])!r}")
            client.found += data
            status = _whole(client.found)
            if status is None:
                continue
            now = time.perf_counter()
            if client.sent >= start:
                found.seconds.append(now - client.sent)
                found.each.append(status)
                found.statuses[status] = found.statuses.get(status, 0) + 1
            client.found.clear()
            _send(client, requests)
    found.took = time.perf_counter() - start
    for ready in list(chosen.get_map().values()):
        ready.data.sock.close()
    return found


def _send(client: _Client, requests: list[bytes]) -> None:
    data = requests[client.number % len(requests)]
    client.number += 1
    client.sent = time.perf_counter()
    client.sock.sendall(data)


def _whole(data: bytearray) -> str | None:
    """The status, once the head and as much as it announces are there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(data[:end]).lower()
    at = head.find(b"content-length:")
    if b"transfer-encoding: chunked" in head:
        return head[9:12].decode() if data.endswith(b"\r\n0\r\n\r\n") else None
    if at < 0:
        raise ValueError(f"no length in {head!r}")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    return head[9:12].decode() if len(data) >= end + 4 + length else None


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.stdin.read())
    requests = [request(asked["path"], body.encode(), asked.get("key")) for body in asked["bodies"]]
    found = run(asked["port"], requests, clients=asked["clients"], seconds=asked["seconds"])
    print(json.dumps({"seconds": found.seconds, "statuses": found.statuses, "took": found.took}))


if __name__ == "__main__":
    main()

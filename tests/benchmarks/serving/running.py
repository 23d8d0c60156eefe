"""Servers of a benchmark: each a child process on the first core, the clients on the second."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cluster.home import Home
from cluster.running import free_port, records, stop

ROOT = Path(__file__).parents[3]
SERVER_CORES, CLIENT_CORES = {0}, {1}


@contextmanager
def peer(kind: str, model: Path, log: Path) -> Iterator[int]:
    """One of ``peers.py``; gives its port."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).parent / "peers.py"), kind, str(model), str(port)]
    with _child(command, log) as child:
        _until(port, "/", child, log)
        yield port


@contextmanager
def service(home: Home, log: Path) -> Iterator[tuple[int, int]]:
    """The service; gives its port and the process of a replica."""
    port = free_port()
    command = [sys.executable, "-m", "cluster.cli", "serve", "--home", str(home.path), "--port", str(port)]
    with _child(command, log) as child:
        try:
            _until(port, "/v2/health/ready", child, log)
            replicas = [p for p in psutil.Process(child.pid).children(recursive=True) if "ServeReplica" in p.name()]
            yield port, replicas[0].pid
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(40)
            except subprocess.TimeoutExpired:
                child.kill()
            for entry in records(home):
                stop(home, entry.name)


@contextmanager
def on_client_cores() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CLIENT_CORES & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _child(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=ROOT, start_new_session=True)
        psutil.Process(child.pid).cpu_affinity(sorted(SERVER_CORES))  # its children's too
        try:
            yield child
        finally:
            for process in [*psutil.Process(child.pid).children(recursive=True)] if child.poll() is None else []:
                process.kill()
            child.kill()
            child.wait(10)


def _until(port: int, path: str, child: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end and child.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status < 500:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()
    raise RuntimeError(f"not up: {log.read_text()[-2000:]}")

"""The HTTP service as the demo uses it: started as a child through the command line, asked like any client.

The one idea: jobs and service share no import. What is measured here is what a plant's system would see.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.home import Home
from cluster.running import stop
from models.errors import MillwrightError

START_S = 120.0  # a cold Ray on a loaded machine
STOP_S = 30.0


@dataclass
class Client:
    """One kept-alive connection with a key; ``milliseconds`` of every request that it timed."""

    host: str
    port: int
    key: str

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=30)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer. Raises MillwrightError with the service's own words where it refuses."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise MillwrightError("The service refused", expected="200", found=f"{response.status}: {text[:300]!r}")
        found: dict[str, Any] = json.loads(text)
        return found

    def timed(self, path: str, bodies: list[dict[str, Any]]) -> list[float]:
        """Milliseconds from sending each body to having read its answer."""
        found = []
        for body in bodies:
            began = time.perf_counter()
            self.post(path, body)
            found.append((time.perf_counter() - began) * 1000)
        return found

    def close(self) -> None:
        self._connection.close()


@contextmanager
def running(home: Home, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`millwright serve` as a child of this process, in its own group; gone at the end, whatever happens."""
    home.logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cluster.cli", "serve", "--home", str(home.path), "--port", str(port)]
    with (home.logs / "serve.log").open("ab") as log:
        # Its own session: a Ctrl-C at the terminal reaches this process, which ends the child in order.
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield child
    finally:
        _end(home, child)


def wait_until_ready(home: Home, child: subprocess.Popen[bytes], host: str, port: int) -> float:
    """Seconds until the service is ready. Raises MillwrightError where it ended, or is not ready in time."""
    began = time.monotonic()
    while time.monotonic() - began < START_S:
        if child.poll() is not None:
            raise MillwrightError(
                "The service did not start", found=_last_line(home), where=home.logs / "serve.log",
                do="Run `millwright serve` to see why",
            )  # fmt: skip
        if _is_ready(host, port):
            return time.monotonic() - began
        time.sleep(0.2)
    raise MillwrightError("The service is not ready", expected=f"within {START_S:.0f} s", where=home.logs / "serve.log")


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _last_line(home: Home) -> str:
    lines = (home.logs / "serve.log").read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("millwright: ").rstrip(".") if lines else "no word in its log"


def _end(home: Home, child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
    stop(home, "serve")  # what a child that was killed has left

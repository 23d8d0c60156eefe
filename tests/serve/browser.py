"""A headless Chromium over its debugging protocol: what a test needs of one, on a free port of 127.0.0.1."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One tab. ``said`` is whatever its console complained of, ``asked`` the addresses it loaded."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.said: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            found = json.loads(self._socket.recv(timeout=30))
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]
            self._event(found.get("method"), found.get("params", {}))

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 20.0) -> Any:
        """The expression's value, once it is true."""
        end = time.monotonic() + seconds
        while not (found := self.evaluate(expression)):
            assert time.monotonic() < end, f"never true: {expression}; the page: {self.text()[:2000]}; {self.said}"
            time.sleep(0.05)
        return found

    def text(self) -> str:
        return str(self.evaluate("document.body.innerText"))

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def _event(self, method: str | None, about: Any) -> None:
        if method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(about["exceptionDetails"])[:500])
        elif method == "Log.entryAdded":
            self.said.append(about["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(about["args"])[:500])
        elif method == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"])


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A tab of a browser whose profile is in ``folder``; skips where there is no Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    told = folder / "profile" / "DevToolsActivePort"
    with (folder / "chromium.log").open("wb") as log:
        child = subprocess.Popen(
            [found, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"], stdout=log, stderr=log
        )
        try:
            end = time.monotonic() + 60
            while not told.exists() or not told.read_text().strip():
                assert child.poll() is None and time.monotonic() < end, (folder / "chromium.log").read_text()
                time.sleep(0.05)
            port = told.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                tab = next(one for one in json.load(answer) if one["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
                yield Page(socket)
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)

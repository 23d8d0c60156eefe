"""A client of the service: readings in, predictions out, with the retry that a service of several replicas needs.

The one idea: everything that the service does may be asked twice (readings merge by cell, a question has one answer),
so what a lost connection cut off is asked again, once and at once. A service that is busy says when to come again; the
client waits that long while the call's time lasts. Nothing else is retried: an error is the caller's to see.

Needs nothing but the standard library. Safe to share between threads: each has a connection of its own.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, cast
from urllib.parse import quote, urlencode, urlsplit


class Life(TypedDict):
    """Quantiles of remaining life in ``unit`` (``h`` or ``cycle``); ``beyond`` is the edge that one lies past."""

    p10: float
    p50: float
    p90: float
    unit: str
    beyond: float | None


class Cause(TypedDict):
    code: str
    text: str


class Prediction(TypedDict, total=False):
    """As ``/openapi.json`` describes it; ``reasons`` where they were asked for, ``data`` for a machine's state."""

    plant: str
    machine: str
    failure_probability: dict[str, float]
    remaining_useful_life: Life
    time_basis: str
    as_of: str
    data_until: str
    operating_state: str | None
    failure_modes: dict[str, float]
    model: dict[str, Any]
    degraded: list[Cause]
    prediction_id: str
    reasons: list[dict[str, Any]]
    data: dict[str, Any]


@dataclass(eq=False)
class ServiceError(Exception):
    """The service answered that it could not; ``retry_after_s`` where it said when to come again."""

    status: int
    detail: str
    request_id: str = ""
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}" + (f" (request {self.request_id})" if self.request_id else "")


class Client:
    """``url`` is where the service is; ``timeout_s`` bounds each call, waits and the retry included.

    Raises ServiceError for what the service refuses, OSError where it cannot be reached, twice.
    """

    def __init__(
        self, url: str, key: str, *, timeout_s: float = 10.0, context: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the address of a service: {url!r}")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._root, self._key, self._timeout_s, self._context = parts.path.rstrip("/"), key, timeout_s, context
        self._own = threading.local()

    def readings(
        self, plant: str, machine: str, readings: Iterable[Mapping[str, Any]], *, reasons: bool = False,
        units: Mapping[str, str] | None = None,
    ) -> Prediction:  # fmt: skip
        """Append readings to one machine's window. Each has ``time`` and a value under each sensor's name."""
        path = f"/v1/plants/{quote(plant, '')}/machines/{quote(machine, '')}/readings"
        return cast(Prediction, self.ask("POST", path, _body(readings, units), reasons=reasons))

    def readings_of(
        self, plant: str, readings: Iterable[Mapping[str, Any]], *, reasons: bool = False,
        units: Mapping[str, str] | None = None,
    ) -> list[Prediction]:  # fmt: skip
        """Append readings of many machines, each naming its ``machine``; one prediction a machine."""
        found = self.ask("POST", f"/v1/plants/{quote(plant, '')}/readings", _body(readings, units), reasons=reasons)
        return cast(list[Prediction], found["predictions"])

    def score(
        self, plant: str, windows: Iterable[Mapping[str, Any]], *, reasons: bool = False,
        channels: list[str] | None = None,
    ) -> list[Prediction]:  # fmt: skip
        """Score complete windows: ``values`` [W, C] in canonical units, None for no value, ``machine``, ``as_of``."""
        body = {"windows": list(windows)} | ({"channels": channels} if channels else {})
        found = self.ask("POST", f"/v1/plants/{quote(plant, '')}/score", body, reasons=reasons)
        return cast(list[Prediction], found["predictions"])

    def machines(self, plant: str) -> list[Prediction]:
        """Every machine that has readings, the most at risk first."""
        return cast(list[Prediction], self.ask("GET", f"/v1/plants/{quote(plant, '')}/machines")["machines"])

    def machine(self, plant: str, machine: str, *, as_of: str | None = None, reasons: bool = True) -> Prediction:
        path = f"/v1/plants/{quote(plant, '')}/machines/{quote(machine, '')}"
        return cast(Prediction, self.ask("GET", path, reasons=reasons, as_of=as_of))

    def plants(self) -> list[dict[str, Any]]:
        """The plants that the key opens, with their models."""
        return cast(list[dict[str, Any]], self.ask("GET", "/v1/plants")["plants"])

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        """Any route: the answer's JSON."""
        given = {name: str(value).lower() if value in (True, False) else value for name, value in query.items()}
        asked = urlencode({name: value for name, value in given.items() if value is not None})
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                return self._asked(method, self._root + path + (f"?{asked}" if asked else ""), data, until)
            except ServiceError as error:
                wait = error.retry_after_s
                if error.status not in (429, 503) or wait is None or time.monotonic() + wait >= until:
                    raise
                time.sleep(wait)

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
        self._own.connection = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked(self, method: str, path: str, data: bytes | None, until: float) -> dict[str, Any]:
        for is_last in (False, True):
            try:
                return self._once(method, path, data, until)
            except TimeoutError:
                self.close()  # its answer may still come, and would be taken for the next one's
                raise
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if is_last:
                    raise error if isinstance(error, OSError) else ConnectionError(str(error)) from error
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, data: bytes | None, until: float) -> dict[str, Any]:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer within {self._timeout_s:g} s")
        connection = self._connection(left)
        headers = {"Authorization": f"Bearer {self._key}"} | ({"Content-Type": "application/json"} if data else {})
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 200:
            return cast(dict[str, Any], json.loads(text))
        raise _refused(answer, text)

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if found is None:
            kind: Any = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            more = {"context": self._context} if self._secure and self._context else {}
            found = self._own.connection = kind(self._host, self._port, timeout=timeout_s, **more)
        found.timeout = timeout_s
        if found.sock is not None:
            found.sock.settimeout(timeout_s)
        return found


def _body(readings: Iterable[Mapping[str, Any]], units: Mapping[str, str] | None) -> dict[str, Any]:
    return {"readings": [dict(row) for row in readings]} | ({"units": dict(units)} if units else {})


def _refused(answer: http.client.HTTPResponse, text: bytes) -> ServiceError:
    try:
        found = json.loads(text)
        detail, identity = str(found["detail"]), str(found.get("request_id", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        detail, identity = text[:200].decode("utf-8", "replace") or answer.reason, ""
    wait = answer.headers.get("Retry-After", "")
    return ServiceError(answer.status, detail, identity, float(wait) if wait.isdigit() else None)

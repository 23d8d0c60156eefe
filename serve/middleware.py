"""Around every request: an id, the time it takes, headers that keep browsers safe, and no fault untold.

The one idea: a plain ASGI wrapper. Starlette's ``BaseHTTPMiddleware`` costs a task and a queue a request.
"""

from __future__ import annotations

import logging
import re
import uuid
from time import perf_counter

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.metrics import Metrics
from serve.problems import problem

log = logging.getLogger("millwright.serve")
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{1,64}$")
# Pages load nothing but their own files and ask nothing but this service.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", _POLICY),
    (b"cache-control", b"no-store"),
]
_ALWAYS = ("/v2/health/live", "/v2/health/ready", "/metrics")


class Around:
    """Wraps the application. Measures by route template, so that no machine becomes a label.

    Beyond ``in_flight`` requests at once a request is told to come again, before anything of it is read: whoever is
    let in then waits for few others. Health and metrics are always answered.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, in_flight: int) -> None:
        self._app, self._metrics, self._in_flight = app, metrics, in_flight
        self._now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, identity = perf_counter(), _identity(scope)
        scope["millwright.request_id"] = identity
        status = 500

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = (b"x-request-id", identity.encode())
                message = {**message, "headers": [*message.get("headers", []), told, *_SAFE]}
            await send(message)

        self._now += 1
        try:
            if self._now <= self._in_flight or scope["path"] in _ALWAYS:
                await self._app(scope, receive, send_more)
            else:
                await _busy(identity)(scope, receive, send_more)
        finally:
            self._now -= 1
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.count("requests", route=route, method=_method(scope), status=str(status))
            self._metrics.observe("request_seconds", perf_counter() - began, route=route)


def _busy(identity: str) -> Response:
    return problem(503, "More requests are being answered than a replica takes at once. Try again.", identity)


class Faults:
    """Inside ``Around``: whatever no handler knew becomes a 500 that tells nothing, and a log line that tells all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except Exception:  # the process's edge
            identity = str(scope.get("millwright.request_id", ""))
            log.exception("request %s failed", identity)
            if started:
                raise
            await problem(500, "The service failed; its log has the reason under the request's id.", identity)(
                scope, receive, send
            )


def _identity(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return str(value.decode())
    return uuid.uuid4().hex


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH") else "other"

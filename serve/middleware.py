"""Around every request: an id, the time it takes, headers that keep browsers safe, and no fault untold.

The one idea: one plain ASGI wrapper around the router, since each layer more is a coroutine and a closure a request.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Sequence
from time import perf_counter

from starlette.routing import BaseRoute, Router
from starlette.types import Message, Receive, Scope, Send

from serve.logs import REQUEST, About, trace_of
from serve.metrics import Metrics
from serve.problems import BusyError, problem_of

log = logging.getLogger("millwright.serve")
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{1,64}$")
_SAFE = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
_ALWAYS = ("/v2/health/live", "/v2/health/ready", "/metrics")


class Surface:
    """The application: routes, and around every request what they all need. Measures by route template, so that no
    machine becomes a label.

    Beyond ``in_flight`` requests at once a request is told to come again, before anything of it is read: whoever is
    let in then waits for few others. Health and metrics are always answered. Errors become problems; whatever nobody
    knew becomes a 500 that tells nothing, and a log line that tells all.
    """

    def __init__(self, routes: Sequence[BaseRoute], metrics: Metrics, *, in_flight: int) -> None:
        self.routes = list(routes)
        # Behind TLS a redirect would name http:// and carry the key there.
        self._router = Router(self.routes, redirect_slashes=False)
        self._metrics, self._in_flight = metrics, in_flight
        self._now = 0
        self.busy_s = 0.0  # what all requests took until now, together
        metrics.follow("in_flight", lambda: self._now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, about = perf_counter(), _about(scope)
        identity = scope["millwright.request_id"] = about.request_id
        REQUEST.set(about)  # each request has a context of its own
        scope["app"] = self  # then the router raises what it does not find
        status = 0

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += [(b"x-request-id", identity.encode()), *_SAFE]
            await send(message)

        self._now += 1
        try:
            if self._now > self._in_flight and scope["path"] not in _ALWAYS:
                raise BusyError("Too many requests at once", expected=f"at most {self._in_flight} a replica")
            await self._router(scope, receive, send_more)
        except Exception as error:  # the process's edge
            if status:
                log.exception("request %s failed while it was answered", identity)
                raise
            await problem_of(scope, error)(scope, receive, send_more)
        finally:
            self._now -= 1
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.count("requests", route=route, method=_method(scope), status=str(status or 500))
            self.busy_s += (took := perf_counter() - began)
            self._metrics.observe("request_seconds", took, route=route)


def _about(scope: Scope) -> About:
    identity, trace, parent = "", "", ""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            identity = value.decode()
        elif name == b"traceparent":
            trace, parent = trace_of(value)
    return About(identity or trace or uuid.uuid4().hex, trace, parent)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH") else "other"

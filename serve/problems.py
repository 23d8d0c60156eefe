"""Errors as ``application/problem+json`` (RFC 9457), from one table.

The one idea: an error of ours already says what was expected, found, where and what to do; its class says
which status. Anything else is a fault of the service and tells nothing but the request's id.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from models.errors import InputError, MillwrightError
from serve.limits import RateError

log = logging.getLogger("millwright.serve")
MEDIA_TYPE = "application/problem+json"
_LONGEST = 2000  # a detail repeats names of the request, which may be as long as its body
# Status -> the end of `type`, a name that programs may rely on.
TYPES: dict[int, str] = {
    400: "bad-request", 401: "no-valid-key", 403: "missing-role", 404: "not-found", 405: "wrong-method",
    408: "slow-request", 409: "no-model", 411: "length-required", 413: "too-large", 415: "wrong-media-type",
    422: "malformed", 429: "too-many-requests", 500: "fault", 501: "not-yet", 503: "not-ready",
}  # fmt: skip


class MediaTypeError(InputError):
    """A body in a format or encoding that the route does not read."""

    status = 415


class SlowError(InputError):
    """A body that did not come in time."""

    status = 408


class NotYetError(MillwrightError):
    """A route whose part is not built: it says what is missing."""

    status = 501


class BusyError(MillwrightError):
    """More than a replica takes at once: the client comes again."""

    status = 503


def problem(
    status: int, detail: str, request_id: str, headers: Mapping[str, str] | None = None, *, v2: bool = False
) -> Response:
    """The answer to what went wrong. Clients of the Open Inference Protocol look for ``error`` in it."""
    title = HTTPStatus(status).phrase
    body = {
        "type": f"urn:millwright:problem:{TYPES.get(status, 'fault')}", "title": title, "status": status,
        "detail": detail if len(detail) <= _LONGEST else f"{detail[:_LONGEST]} ...", "request_id": request_id,
    }  # fmt: skip
    body |= {"error": body["detail"]} if v2 else {}
    extra = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "1"} if status == 503 else {}
    return Response(orjson.dumps(body), status, headers={**extra, **(headers or {})}, media_type=MEDIA_TYPE)


def request_id(request: Request) -> str:
    return str(request.scope.get("millwright.request_id", ""))


def problem_of(scope: Scope, error: Exception) -> Response:
    """The answer to a request that raised."""
    identity, v2 = str(scope.get("millwright.request_id", "")), scope["path"].startswith("/v2/")
    if isinstance(error, MillwrightError):
        wait = {"Retry-After": str(error.retry_after_s)} if isinstance(error, RateError) else None
        return problem(error.status, str(error), identity, wait, v2=v2)
    if isinstance(error, HTTPException):
        detail = {404: "No such route; `/docs` lists them.", 405: "The route has other methods; `/docs` lists them."}
        text = detail.get(error.status_code, str(error.detail))
        return problem(error.status_code, text, identity, error.headers, v2=v2)
    if isinstance(error, sqlite3.OperationalError):
        log.exception("request %s: the store of readings does not answer", identity, exc_info=error)
        return problem(503, "The store of readings does not answer. Try again.", identity, v2=v2)
    log.exception("request %s failed", identity, exc_info=error)
    return problem(500, "The service failed; its log has the reason under the request's id.", identity, v2=v2)

"""Routes with what ``/openapi.json`` says of them: one table, from which requests are routed and clients learn.

The one idea: Starlette routes and OpenAPI 3.1 are two readings of the same rows. FastAPI's resolving of parameters
took longer than a model's answer (65 us of it beside 8); two query parameters can be read by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from models.errors import InputError
from serve.documents import DESCRIPTIONS, Problem

Endpoint = Callable[[Request], Awaitable[Response]]
JSON, PROBLEM, OCTETS = "application/json", "application/problem+json", "application/octet-stream"
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of `millwright keys add`."},
    "key": {
        "type": "apiKey", "in": "header", "name": "X-API-Key",
        "description": "The same key, where Bearer is not possible.",
    },
}  # fmt: skip
OF_KEY = (401, 403, 404, 409, 422, 429, 503)
OF_BODY = (*OF_KEY, 408, 413, 415)
REASONS = ("reasons", {"type": "boolean"}, "Also say what moved the risk, channel by channel.")
_TIME = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number", "minimum": 0}]}
AS_OF = ("as_of", _TIME, "Answer as of this time, from what was received up to then.")
_REF = "#/components/schemas/{model}"
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class Answering:
    """An endpoint as an ASGI application: no handlers of exceptions in between, since the surface has them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._endpoint(Request(scope, receive)))(scope, receive, send)


@dataclass(frozen=True)
class Operation:
    """``endpoint``'s docstring is the description. ``body`` maps a media type to its model, None where it is bytes."""

    method: str
    path: str
    endpoint: Endpoint
    tag: str
    answer: type[BaseModel] | None = None
    problems: Sequence[int] = ()
    body: Mapping[str, type[BaseModel] | None] | None = None
    query: Sequence[tuple[str, dict[str, Any], str]] = ()
    secured: bool = True

    def route(self) -> Route:
        # Plants write names such as `hall 2/press 7`; whatever serves us has made a `/` of `%2F` by now.
        found = Route(self.path.replace("{machine}", "{machine:path}"), Answering(self.endpoint), methods=[self.method])
        found.path = self.path  # what metrics and the description call it
        return found


def flag(request: Request, name: str, default: bool) -> bool:
    """A query parameter that is true or false. Raises InputError."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.lower() not in _TRUE + _FALSE:
        raise InputError("Wrong parameter", expected="true or false", found=repr(text)[:80], where=f"query.{name}")
    return text.lower() in _TRUE


def number(request: Request, name: str, default: int, *, most: int) -> int:
    """A query parameter that is a whole number from 1 to ``most``. Raises InputError."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        expected = f"a whole number from 1 to {most}"
        raise InputError("Wrong parameter", expected=expected, found=repr(text)[:80], where=f"query.{name}")
    return int(text)


def description(operations: Iterable[Operation], *, title: str, version: str, text: str) -> dict[str, Any]:
    """OpenAPI 3.1 of the operations."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": text},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": SECURITY},
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    told = inspect.getdoc(operation.endpoint) or ""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": text}
        for name, schema, text in operation.query
    ]
    answer = {} if operation.answer is None else {"content": _content({JSON: operation.answer}, schemas)}
    responses = {"200": {"description": "Answered"} | answer}
    for status in operation.problems:
        responses[str(status)] = {"description": DESCRIPTIONS[status], "content": _content({PROBLEM: Problem}, schemas)}
    found: dict[str, Any] = {
        "tags": [operation.tag], "summary": told.split("\n")[0], "description": told,
        "operationId": f"{operation.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', operation.path.lower()).strip('_')}",
        "parameters": parameters, "responses": responses,
    }  # fmt: skip
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    if operation.secured:
        found["security"] = [{name: []} for name in SECURITY]
    return found


def _content(kinds: Mapping[str, type[BaseModel] | None], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, model in kinds.items():
        if model is None:
            found[kind] = {"schema": {"type": "string", "format": "binary"}}
            continue
        schema = model.model_json_schema(ref_template=_REF)
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
        found[kind] = {"schema": {"$ref": _REF.format(model=model.__name__)}}
    return found

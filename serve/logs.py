"""The replica's log: a JSON object a line, each with the request that it is about.

The one idea: whoever logs need not know which request is answered; it is where the request began. A trace of the caller
(W3C ``traceparent``) goes into every line of its request, and names the request where the caller gave no other name.
"""

from __future__ import annotations

import logging
import logging.handlers
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson

_TRACE = re.compile(rb"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?$")
_NO_TRACE, _NO_PARENT = b"0" * 32, b"0" * 16


class About(NamedTuple):
    """A request, and where it is from; ``trace_id`` and ``parent_id`` are empty where the caller traces nothing."""

    request_id: str
    trace_id: str = ""
    parent_id: str = ""


REQUEST: ContextVar[About | None] = ContextVar("millwright_request", default=None)


def trace_of(header: bytes) -> tuple[str, str]:
    """Trace and parent of a ``traceparent``; empty where it is none. Source: W3C Trace Context, section 3.2."""
    match = _TRACE.match(header)
    if match is None or header[:2] == b"ff" or match[1] == _NO_TRACE or match[2] == _NO_PARENT:
        return "", ""
    return match[1].decode(), match[2].decode()


class JsonLines(logging.Formatter):
    """A record as one line of JSON; of the request that it is about, what is known."""

    def format(self, record: logging.LogRecord) -> str:
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname, "process": record.process, "message": record.getMessage(),
        }  # fmt: skip
        about = REQUEST.get()
        if about is not None:
            found |= {name: value for name, value in about._asdict().items() if value}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(found, default=str).decode()


def log_to(path: Path) -> None:
    """The replica's own log, which outlives Ray's session folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=10_000_000, backupCount=3, encoding="utf-8")
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("millwright")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

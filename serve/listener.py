"""One listening socket for all replicas of a machine: the process that serves holds it and hands it to who asks.

The one idea: replicas accept from one queue, so nothing stands between a socket and a model. A replica that dies or
hangs loses the connections that it had, never those that wait; while none is there, they wait for the next one.
Descriptors pass over an abstract Unix socket, to processes of the same user alone.

On other machines of a cluster nobody answers there: replicas then listen on their own, and a load balancer goes before.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from models.errors import InputError

BACKLOG = 1024
_ASK_S = 5.0
_CREDENTIALS = struct.Struct("3i")  # Linux, unix(7): pid, uid, gid


@contextmanager
def listening(host: str, port: int) -> Iterator[str]:
    """Inside, the address is bound, and handed out at the name that is given. Raises InputError."""
    with bound(host, port) as shared, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as desk:
        name = f"millwright-{secrets.token_hex(16)}"
        desk.bind(f"\0{name}")
        desk.listen()
        threading.Thread(target=_hand_out, args=(desk, shared), name="millwright-listener", daemon=True).start()
        try:
            yield name
        finally:
            with suppress(OSError):
                desk.shutdown(socket.SHUT_RDWR)  # the thread's `accept` returns


def obtain(name: str, host: str, port: int) -> socket.socket:
    """The shared socket, now listening; where nobody on this machine has it, one of our own. Raises InputError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(_ASK_S)
            asking.connect(f"\0{name}")
            _, (descriptor, *_), _, _ = socket.recv_fds(asking, 1, 1)
        found = socket.socket(fileno=descriptor)
    except (OSError, ValueError):
        found = bound(host, port, shared=True)
    found.setblocking(False)
    found.listen(BACKLOG)
    return found


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that does not listen yet. ``shared``: other processes of this user may bind the address too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        raise InputError(
            "Cannot listen there", expected="an address of this machine and a free port", found=f"{host}:{port}",
            where=str(error), do="Choose others with --host and --port",
        ) from error  # fmt: skip
    return made


def _hand_out(desk: socket.socket, shared: socket.socket) -> None:
    while True:
        try:
            asking, _ = desk.accept()
        except OSError:  # closed: the service ends
            return
        with asking, suppress(OSError):
            asking.settimeout(_ASK_S)
            _, user, _ = _CREDENTIALS.unpack(
                asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if user in (os.geteuid(), 0):
                socket.send_fds(asking, [b"1"], [shared.fileno()])

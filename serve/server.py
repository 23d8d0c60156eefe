"""HTTP in a replica: uvicorn's connections on a socket that other replicas accept from too, in a thread of its own.

The one idea: one connection is accepted a turn of the loop, so a replica that is busy leaves the rest to others.
uvicorn parses and writes; what it does not limit (how long and how large a request's head may be, how many connections
there are) is limited here, and an ending lets what is being answered end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Coroutine
from email.utils import formatdate
from typing import Any, TypeVar

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

log = logging.getLogger("millwright.serve")
KEEP_ALIVE_S = 75.0  # longer than clients and load balancers keep theirs, so that they close first
HEAD_S, HEAD_BYTES = 20.0, 65_536
AGE_S = 60.0  # of a connection: then it is closed after an answer, so that replicas that came later get their share
MOST_CONNECTIONS = 2_000  # a replica
_AGAIN_S = 0.1  # after no descriptor was left
T = TypeVar("T")
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    """A head that is late or long ends its connection."""

    _late: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _made = 0.0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._made = self.loop.time()
        self._late = self.loop.call_later(HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:  # the first head's time runs since the connection was made
            self._in_head, self._head_bytes = True, 0
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._in_time()
        super().on_headers_complete()
        if self.loop.time() - self._made > AGE_S:
            self.cycle.keep_alive = False

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server:
    """``start`` returns once it accepts; ``stop`` once it has answered, or ``grace_s`` is over."""

    def __init__(self, app: ASGIApp, sock: socket.socket) -> None:
        self._sock = sock
        self._config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False,
            server_header=False, timeout_keep_alive=int(KEEP_ALIVE_S),
        )  # fmt: skip
        self._config.load()
        self._state = ServerState()
        self._loop = uvloop.new_event_loop()
        self._accepting = False
        self._thread = threading.Thread(target=self._run, name="millwright-http", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.call(self._begin()).result(timeout=10)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        """Run a coroutine in the loop that answers requests; a ``concurrent.futures.Future`` of its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self, grace_s: float = 5.0) -> None:
        if not self._thread.is_alive():
            return
        self.call(self._end(time.monotonic() + grace_s)).result(timeout=grace_s + 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._sock.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _begin(self) -> None:
        self._date()
        self._listen(True)

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._accepting:
            self._loop.add_reader(self._sock, self._accept)
        elif self._accepting and not wanted:
            self._loop.remove_reader(self._sock)
        self._accepting = wanted

    def _accept(self) -> None:
        if len(self._state.connections) >= MOST_CONNECTIONS:
            self._pause()
            return
        try:
            made, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another replica was faster, or the client has gone
        except OSError as error:
            log.warning("cannot accept a connection: %s", error)
            self._pause()
            return
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._connection, made))
        task.add_done_callback(lambda done: done.exception())

    def _connection(self) -> Connection:
        return Connection(self._config, self._state, {}, self._loop)

    def _pause(self) -> None:
        """Too many connections, or no descriptor: the others wait, or another replica takes them."""
        self._listen(False)
        self._loop.call_later(_AGAIN_S, lambda: self._listen(True))

    def _date(self) -> None:
        self._state.default_headers[:] = [(b"date", formatdate(usegmt=True).encode())]
        self._loop.call_later(1.0, self._date)

    async def _end(self, until: float) -> None:
        self._listen(False)
        for connection in list(self._state.connections):
            connection.shutdown()
        while self._state.tasks and time.monotonic() < until:
            await asyncio.sleep(0.02)

"""A service that runs, a load on it, and what became of every request, for tests of faults and of hostile clients.

The load is seeded and closed: each client sends its next request when it has its answer. One retry of a lost connection
is the client's; what it sees after that is a failure.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil
import pytest

from cluster.home import Home, open_home
from cluster.keys import open_keys
from cluster.received import State
from cluster.running import free_port
from cluster.sources import write_source
from serve.client import Client, ServiceError
from tests.serve.conftest import describe, make_champion
from tests.serve.test_serving import serving, until

HOUR_S = 3600


@dataclass
class Outcome:
    """One request: when it began and ended, and what the client saw; ``""`` is an answer."""

    began: float
    took: float
    failure: str


@dataclass
class Load:
    """``clients`` threads that send readings until it ends; ``sent`` are the readings that were acknowledged."""

    port: int
    key: str
    seed: int
    clients: int = 4
    pause_s: float = 0.0  # between an answer and the next request
    outcomes: list[Outcome] = field(default_factory=list)
    sent: dict[tuple[str, int], float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Load]:
        threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)

    def _run(self, number: int) -> None:
        rng, start = random.Random(self.seed * 100 + number), int(time.time()) // HOUR_S * HOUR_S - 500 * HOUR_S
        client = Client(f"127.0.0.1:{self.port}", self.key, timeout_s=5)
        while not self._stop.is_set():
            machine, at, value = f"c{number}-{rng.randrange(5)}", start + rng.randrange(400) * HOUR_S, rng.random()
            began, failure = time.monotonic(), ""
            try:
                client.readings("mill", machine, [{"time": at, "vib": value}])
                self.sent[machine, at] = value
            except (ServiceError, OSError) as error:
                failure = f"{type(error).__name__}: {error}"
                client.close()
            self.outcomes.append(Outcome(began, time.monotonic() - began, failure))
            time.sleep(self.pause_s)
        client.close()

    def failures(self, since: float = 0.0) -> Counter[str]:
        return Counter(each.failure for each in self.outcomes if each.failure and each.began >= since)

    def lost(self, home: Home) -> list[tuple[str, int]]:
        """Acknowledged readings that the store does not hold as they were sent last."""
        state = State(home.of("mill").state)
        found = []
        for (machine, at), value in self.sent.items():
            _, values = state.read(machine, ["vibration"], span_us=1, until_us=at * 1_000_000)
            if values.shape != (1, 1) or abs(float(values[0, 0]) - value) > 1e-6:
                found.append((machine, at))
        state.close()
        return found


@dataclass(frozen=True)
class Running:
    home: Home
    port: int
    key: str
    tree: Callable[[], list[psutil.Process]]

    def replicas(self) -> list[psutil.Process]:
        return [process for process in self.tree() if "ServeReplica" in name_of(process)]


def name_of(process: psutil.Process) -> str:
    try:
        return process.name() if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = open_home(tmp_path_factory.mktemp("faults") / "home", create=True, environment={})
    write_source(home.sources / "mill.toml", describe("mill"))
    make_champion(home, "mill")
    keys = open_keys(home)
    key = keys.add("load", plants=("mill",), roles=("read", "write"), now=datetime.now(UTC))[1]
    keys.close()
    port = free_port()
    with serving(home, port, "serve.replicas=2") as child:
        found = Running(home, port, key, lambda: psutil.Process(child.pid).children(recursive=True))
        assert until(lambda: len(found.replicas()) == 2, 60)
        time.sleep(3)  # the second one loads
        yield found

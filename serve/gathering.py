"""Metrics of all replicas as one: whichever replica is asked answers for all of them.

The one idea: replicas accept from one socket, so who asks for ``/metrics`` meets any of them, and totals of one replica
would jump back and forth. Each leaves what it has counted in a file every few seconds; counts of all are added up,
those of replicas that have ended too, so that a total never falls. Of gauges the living count alone.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from cluster.files import write_atomically

log = logging.getLogger("millwright.serve")
EVERY_S = 5.0
ALIVE_S = 4 * EVERY_S  # a file that is older is one of a replica that has ended
_LARGEST = ("millwright_models",)  # gauges of which replicas do not each have a part


class Gathering(Collector):
    """``own`` are this replica's metrics, ``folder`` is where all of them leave theirs."""

    def __init__(self, own: Collector, folder: Path) -> None:
        self._own, self._folder = own, folder
        self._path, self._left_at = folder / f"{socket.gethostname()}-{os.getpid()}.json", 0.0

    def leave(self) -> None:
        """Leave what was counted, where it is time again."""
        if self._left_at and time.monotonic() - self._left_at < EVERY_S:
            return
        found = [(f.name, f.type, f.documentation, [(s.name, s.labels, s.value) for s in f.samples])
                 for f in self._own.collect()]  # fmt: skip
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, orjson.dumps(found).decode())
        self._left_at = time.monotonic()

    def collect(self) -> Iterator[Family]:
        merged: dict[str, tuple[Family, dict[tuple[str, tuple[tuple[str, str], ...]], float]]] = {}
        for family, is_alive in [*((f, True) for f in self._own.collect()), *self._others()]:
            if family.type == "gauge" and not is_alive:
                continue
            _, values = merged.setdefault(
                family.name, (Family(family.name, family.documentation, family.type), {})
            )
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                before = values.get(key)
                if before is None or sample.name.endswith("_created"):
                    values[key] = sample.value if before is None else min(before, sample.value)
                else:
                    values[key] = max(before, sample.value) if family.name in _LARGEST else before + sample.value
        for family, values in merged.values():
            for (name, labels), value in values.items():
                family.add_sample(name, dict(labels), value)
            yield family

    def _others(self) -> Iterable[tuple[Family, bool]]:
        now = time.time()
        for path in sorted(self._folder.glob("*.json")):
            if path == self._path:
                continue
            try:
                is_alive = now - path.stat().st_mtime < ALIVE_S
                found = orjson.loads(path.read_bytes())
                for name, kind, text, samples in found:
                    family = Family(name, text, kind)
                    for sample in samples:
                        family.add_sample(*sample)
                    yield family, is_alive
            except (OSError, ValueError, TypeError, AttributeError) as error:  # ours is answered all the same
                log.warning("metrics of another replica cannot be read: %s: %s", path.name, error)

"""What Prometheus sees, from one table. No machine is ever a label: their number has no bound.

The one idea: a registry belongs to one service, so that two in one process (tests) do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from serve.gathering import Gathering

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Metric:
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = _SECONDS


TABLE: dict[str, Metric] = {
    "requests": Metric("counter", "Answered requests.", ("route", "method", "status")),
    "request_seconds": Metric("histogram", "From the request's head to the answer's end.", ("route",)),
    "stage_seconds": Metric("histogram", "Parts of a request: parse, store, window, score, answer.", ("stage",)),
    "in_flight": Metric("gauge", "Requests that are worked on now."),
    "windows": Metric("histogram", "Windows scored in one request.", ("plant",), _COUNTS),
    "batch": Metric("histogram", "Windows scored in one call of a model, of whatever requests.", ("plant",), _COUNTS),
    "readings": Metric("counter", "Rows of readings acknowledged.", ("plant",)),
    "predictions": Metric("counter", "Predictions answered.", ("plant", "model_version")),
    "shadowed": Metric("counter", "Predictions of models on trial, for the journal alone.", ("plant", "model_version")),
    "shadow_dropped": Metric("counter", "Machines that a model on trial was not asked about, or did not answer for."),
    "degraded": Metric("counter", "Causes that predictions were degraded for.", ("cause",)),
    "journal_waiting": Metric("gauge", "Predictions that wait for the journal."),
    "journal_written": Metric("counter", "Predictions written to the journal."),
    "journal_dropped": Metric("counter", "Predictions that the journal lost: queue full, or not writable."),
    "models": Metric("gauge", "Models in memory."),
    "model_loads": Metric("counter", "Champions loaded, by result; a failure keeps the last good one.", ("result",)),
    "cost": Metric("counter", "What replicas have cost, idle or not, by serve.price_per_hour, in its currency."),
    "refused": Metric("counter", "Requests refused for their key.", ("reason",)),
}


class Stage:
    """A part of a request, timed while it is entered. Slots, since there are several a request."""

    __slots__ = ("_began", "_metric")

    def __init__(self, metric: Counter | Gauge | Histogram) -> None:
        assert isinstance(metric, Histogram)
        self._metric, self._began = metric, 0.0

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._metric.observe(perf_counter() - self._began)


class _Seen(CollectorRegistry):
    """Metrics as the holder of a key may see them."""

    def __init__(self, whole: Collector, sees: Callable[[str], bool]) -> None:
        super().__init__()
        self._whole, self._sees = whole, sees

    def collect(self) -> Iterator[Family]:
        for family in self._whole.collect():
            family.samples = [s for s in family.samples if "plant" not in s.labels or self._sees(s.labels["plant"])]
            yield family


class Metrics:
    """The table's metrics under the prefix ``millwright_``.

    With ``folder`` they are those of all replicas that leave theirs there, which ``leave`` does, now and then.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._gathering = None if folder is None else Gathering(self._registry, folder)
        self._found: dict[str, Counter | Gauge | Histogram] = {}
        self._children: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}
        for name, metric in TABLE.items():
            full = f"millwright_{name}"
            if metric.kind == "counter":
                self._found[name] = Counter(full, metric.text, metric.labels, registry=self._registry)
            elif metric.kind == "gauge":
                self._found[name] = Gauge(full, metric.text, metric.labels, registry=self._registry)
            else:
                self._found[name] = Histogram(
                    full, metric.text, metric.labels, buckets=metric.buckets, registry=self._registry
                )

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        metric = self._labelled(name, labels)
        assert isinstance(metric, Counter), name
        metric.inc(by)

    def set(self, name: str, value: float, **labels: str) -> None:
        metric = self._labelled(name, labels)
        assert isinstance(metric, Gauge), name
        metric.set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        metric = self._labelled(name, labels)
        assert isinstance(metric, Histogram), name
        metric.observe(value)

    def follow(self, name: str, value: Callable[[], float]) -> None:
        """Ask for the gauge's value when somebody looks."""
        metric = self._found[name]
        assert isinstance(metric, Gauge), name
        metric.set_function(value)

    def stage(self, stage: str) -> Stage:
        """Time a part of a request."""
        return Stage(self._labelled("stage_seconds", {"stage": stage}))

    def text(self, sees: Callable[[str], bool] | None = None) -> bytes:
        """Everything, in Prometheus's text format; with ``sees``, without the plants that it does not see."""
        return generate_latest(_Seen(self._gathering or self._registry, sees or (lambda plant: True)))

    def leave(self) -> None:
        """Leave what was counted for whichever replica is asked."""
        if self._gathering is not None:
            self._gathering.leave()

    def _labelled(self, name: str, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        key = (name, *labels.values())  # each metric is always given its labels in one order
        if key not in self._children:
            metric = self._found[name]
            self._children[key] = metric.labels(**labels) if labels else metric
        return self._children[key]

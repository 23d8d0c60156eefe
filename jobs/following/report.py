"""What `follow` says of each plant, in memory that does not grow with time."""

from __future__ import annotations

import bisect
from typing import Any

from pydantic import BaseModel, PrivateAttr
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.report import Report
from jobs.following.batches import Done

_EDGES_MS = [1.02**k for k in range(600)]  # a fiftieth apart


class PlantFollow(BaseModel):
    """One plant's part. Latency is from a message's arrival here to the moment its readers see it.

    ``unpromised_lost`` counts messages of QoS 0 that came faster than the disk takes them.
    """

    name: str
    messages: int = 0
    batches: int = 0
    rows_ingested: int = 0
    rows_superseded: int = 0
    rows_quarantined: int = 0
    cells_quarantined: int = 0
    quarantine: dict[str, int] = {}
    sparkplug: dict[str, int] = {}
    unpromised_lost: int = 0
    latency_p50_s: float | None = None
    latency_p99_s: float | None = None
    notes: list[str] = []
    error: str | None = None
    _spread: list[int] = PrivateAttr(default_factory=lambda: [0] * (len(_EDGES_MS) + 1))

    def add(self, done: Done, *, now_us: int) -> None:
        self.batches += 1
        for key in ("rows_ingested", "rows_superseded", "rows_quarantined", "cells_quarantined"):
            setattr(self, key, getattr(self, key) + done.counts.get(key, 0))
        for reason, number in done.reasons.items():
            self.quarantine[reason] = self.quarantine.get(reason, 0) + number
        for at_us in done.decoded.received_us:
            self._spread[bisect.bisect_left(_EDGES_MS, (now_us - at_us) / 1000)] += 1

    def measure(self) -> None:
        """Fill in the latencies, each at most a fiftieth too long."""
        self.latency_p50_s, self.latency_p99_s = self._quantile(0.5), self._quantile(0.99)

    def _quantile(self, share: float) -> float | None:
        total, seen = sum(self._spread), 0
        for number, count in enumerate(self._spread):
            seen += count
            if total and seen >= share * total:
                return round(_EDGES_MS[min(number, len(_EDGES_MS) - 1)] / 1000, 3)
        return None


class FollowReport(Report):
    """Totals over the plants, and each plant's part; latencies are the slowest plant's."""

    messages: int = 0
    rows_ingested: int = 0
    rows_quarantined: int = 0
    batches: int = 0
    latency_p50_s: float | None = None
    latency_p99_s: float | None = None
    plants: list[PlantFollow] = []

    def total(self) -> FollowReport:
        for plant in self.plants:
            plant.measure()
        for key in ("messages", "rows_ingested", "rows_quarantined", "batches"):
            setattr(self, key, sum(getattr(plant, key) for plant in self.plants))
        for key in ("latency_p50_s", "latency_p99_s"):
            known: list[Any] = [value for plant in self.plants if (value := getattr(plant, key)) is not None]
            setattr(self, key, max(known, default=None))
        return self

    def render(self) -> RenderableType:
        table = Table(title="Followed")
        for name in ("plant", "messages", "batches", "rows", "superseded", "quarantined", "p50", "p99"):
            table.add_column(name, justify="left" if name == "plant" else "right")
        for p in self.plants:
            slow = [f"{value:.2f} s" if value is not None else "-" for value in (p.latency_p50_s, p.latency_p99_s)]
            wrong = f"{p.rows_quarantined:,}" + (f" + {p.cells_quarantined:,} cells" if p.cells_quarantined else "")
            table.add_row(
                p.name, f"{p.messages:,}", f"{p.batches:,}", f"{p.rows_ingested:,}", f"{p.rows_superseded:,}", wrong,
                *slow,
            )  # fmt: skip
        lines = [f"{p.name}: stopped: {p.error}" for p in self.plants if p.error]
        for p in self.plants:
            for title, found in (("quarantine", p.quarantine), ("Sparkplug", p.sparkplug)):
                if found:
                    lines.append(f"{p.name}: {title}: " + ", ".join(f"{key} {n:,}" for key, n in found.items()))
        return Group(table, *lines)

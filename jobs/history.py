"""`millwright history`: what every version added and from where, what differs, and keeping the tables in shape.

The one idea: history is read as it was written. Every version that readers have seen is written down with its
cause; every row names its batch, a batch its files, code and source description. Only `compact` and `retain`
change anything, and no row.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster import lineage
from cluster.home import Home
from cluster.report import Progress
from cluster.visibility import BATCH, parse_time
from jobs.ingesting import live
from jobs.ingesting.plan import plan_path
from jobs.versions.compact import STEM, compact
from jobs.versions.difference import difference
from jobs.versions.listing import batch_detail, entries
from jobs.versions.origin import origin
from jobs.versions.reports import (
    Action,
    CompactReport,
    DiffReport,
    HistoryReport,
    ListReport,
    PlantEntries,
    RetainReport,
    RowReport,
    ShowReport,
)
from jobs.versions.retain import retain
from models.errors import InputError

DAYS = 7


def run(
    home: Home,
    *,
    progress: Progress,
    action: Action = "list",
    first: str | None = None,
    second: str | None = None,
    plant: str | None = None,
    machine: str | None = None,
    time: str | None = None,
    as_of: str | None = None,
    days: int = DAYS,
    dry_run: bool = False,
) -> HistoryReport:
    """The verb ``history``: ``list``, ``show BATCH``, ``diff A B``, ``row``, ``compact``, ``retain``.

    ``first`` and ``second`` are versions: a batch's id, a time, or versions of tables. ``row`` takes ``machine``,
    ``time`` and ``as_of``; ``retain`` takes ``days`` and ``dry_run``. Raises InputError where something is missing.
    """
    began = clock.monotonic()
    names = [plant] if plant else home.plants()
    for name in names:
        home.source(name)
    if not names:
        raise InputError(
            "No plant", expected="at least one connected plant", found="none", where=home.path,
            do="Run `millwright connect PATH --plant NAME`",
        )  # fmt: skip
    asked = _Asked(home, names, action, progress)
    report: HistoryReport
    if action == "list":
        report = ListReport(plants=[PlantEntries(name=name, entries=entries(home, name)) for name in names])
    elif action == "show":
        batch = _given(first, "show", "the id of a batch")
        report = ShowReport(batch=batch_detail(home, asked.owner(batch), batch))
    elif action == "diff":
        report = _diff(asked, _given(first, "diff", "two versions"), _given(second, "diff", "two versions"))
    elif action == "row":
        moment = parse_time(_given(time, "row", "--time"))
        own, machine = asked.owner(as_of or ""), _given(machine, "row", "--machine")
        report = RowReport(row=origin(home, own, machine, moment, as_of=as_of, progress=progress))
    elif action == "compact":
        report = _told(asked, {"plant": plant}, lambda: _compact(asked))
    else:
        told = {"plant": plant, "days": days, "dry_run": dry_run}
        report = _told(asked, told, lambda: _retain(asked, days, dry_run=dry_run))
    report.seconds = clock.monotonic() - began
    return report


@dataclass(frozen=True)
class _Asked:
    """What every action is given."""

    home: Home
    names: list[str]
    action: Action
    progress: Progress

    def owner(self, version: str) -> str:
        """The plant that is meant: the only one, or the one that has this batch. Raises InputError."""
        is_batch = bool(BATCH.match(version))
        found = [name for name in self.names if is_batch and self._has(name, version)]
        candidates = found or self.names
        if len(candidates) > 1:
            raise InputError("Which plant?", expected="--plant NAME", found=f"{', '.join(candidates)}")
        return candidates[0]

    def _has(self, plant: str, batch: str) -> bool:
        return plan_path(self.home, plant, batch).is_file() or live.find(self.home, plant, batch) is not None


def _diff(asked: _Asked, first: str, second: str) -> DiffReport:
    plant = asked.owner(first)
    asked.progress.step(f"Compare {first} and {second}")
    tables = difference(asked.home, plant, first, second, progress=asked.progress)
    return DiffReport(plant=plant, first=first, second=second, tables=tables)


def _compact(asked: _Asked) -> CompactReport:
    report = CompactReport()
    for name in asked.names:
        asked.progress.step(f"Compact {name}")
        lineage.reads_history(asked.home, name)
        found = report.plants[name] = compact(asked.home, name, progress=asked.progress)
        changed = {entry.table for entry in found}
        lineage.writes_history(asked.home, name, mark=STEM, tables=changed)
    return report


def _retain(asked: _Asked, days: int, *, dry_run: bool) -> RetainReport:
    report = RetainReport(dry_run=dry_run)
    for name in asked.names:
        asked.progress.step(f"Look for what {name} needs no more")
        report.plants.append(retain(asked.home, name, days=days, dry_run=dry_run, progress=asked.progress))
    report.size_bytes = sum(entry.size_bytes for entry in report.plants)
    return report


def _told(asked: _Asked, options: dict[str, Any], work: Callable[[], HistoryReport]) -> HistoryReport:
    """What changes files tells its lineage; what only reads does not."""
    with lineage.traced(asked.home, f"history {asked.action}", options, asked.progress):
        return work()


def _given(value: str | None, action: str, what: str) -> str:
    if not value:
        raise InputError(f"`history {action}` needs more", expected=what, found="nothing", do="See `history --help`")
    return value

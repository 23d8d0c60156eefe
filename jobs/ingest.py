"""`millwright ingest`: raw files to history, exactly once; what is wrong goes to quarantine.

The one idea: plan, parse, merge, commit. The plan (files, digests, order) is on disk before anything
is read; Ray Data spreads parsing and merging over workers, whose files mean nothing until the driver
commits each table once under the batch's id; only when every table has the batch do readers see it.
Killed anywhere, the next run finishes the same plan and ends with the same rows.

Counts are of source rows: a line of a log, a row of a wide file, one tag's value in the long layout.
Every one is either ingested or quarantined. ``rows_superseded`` are ingested rows that changed nothing:
each of their cells lost to a later delivery (plan, path, row) or repeats what was there. A wrong cell
of a wide row costs only that cell and is counted in ``cells_quarantined``; its row is ingested.
``files_quarantined`` could not be read to their end.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.home import Home
from cluster.report import Progress, Report
from cluster.storage import read_machines
from jobs.ingesting import tables
from jobs.ingesting.check import check
from jobs.ingesting.machines import machine_types
from jobs.ingesting.parse import Parsed, Unit, parse_unit
from jobs.ingesting.plan import Plan, barren, known, new_files, new_plan, resume, save, strangers, work_folder
from jobs.ingesting.rewrite import Rewritten, Tile, rewrite_tile
from jobs.sources.raw import Reason
from models.errors import InputError, MillwrightError

Row = dict[str, Any]  # Ray Data's
Spread = Callable[[Callable[[Row], Row], list[Row]], Iterable[Row]]
_OF_FILES = (Reason.EMPTY, Reason.UNREADABLE, Reason.MISSING_COLUMN, Reason.TRUNCATED)


class PlantIngest(BaseModel):
    """One plant's part. ``batch`` is None where there was nothing new; times are ISO, UTC."""

    name: str
    batch: str | None = None
    resumed: bool = False
    files: int = 0
    rows_ingested: int = 0
    rows_superseded: int = 0
    rows_quarantined: int = 0
    cells_quarantined: int = 0
    files_quarantined: list[str] = []
    machines: int = 0
    sensors: int = 0
    first_time: str | None = None
    last_time: str | None = None
    quarantine: dict[str, int] = {}
    new_sensors: list[str] = []
    notes: list[str] = []


class IngestReport(Report):
    """Totals over the plants, and each plant's part."""

    files: int = 0
    rows_ingested: int = 0
    rows_superseded: int = 0
    rows_quarantined: int = 0
    cells_quarantined: int = 0
    new_sensors: list[str] = []
    plants: list[PlantIngest] = []

    def render(self) -> RenderableType:
        table = Table(title="Ingested")
        for name in ("plant", "files", "rows", "superseded", "quarantined", "machines", "sensors", "from", "to"):
            table.add_column(name, justify="left" if name in ("plant", "from", "to") else "right")
        for p in self.plants:
            wrong = f"{p.rows_quarantined:,}" + (f" + {p.cells_quarantined:,} cells" if p.cells_quarantined else "")
            table.add_row(
                p.name, str(p.files), f"{p.rows_ingested:,}", f"{p.rows_superseded:,}", wrong, str(p.machines),
                str(p.sensors), (p.first_time or "")[:10], (p.last_time or "")[:10],
            )  # fmt: skip
        lines = [
            f"{p.name}: quarantine: " + ", ".join(f"{reason} {number:,}" for reason, number in p.quarantine.items())
            for p in self.plants
            if p.quarantine
        ]
        for p in self.plants:
            if p.files_quarantined:
                lines.append(f"{p.name}: not readable to the end: {', '.join(p.files_quarantined[:5])}")
        lines += [f"{p.name}: {note}" for p in self.plants for note in p.notes]
        return Group(table, *lines)


def over_ray(function: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
    """One Ray task an item, results as they come. A dead worker's item is done again by Ray."""
    import ray.data

    if items:
        yield from ray.data.from_items(items, override_num_blocks=len(items)).map(function).iter_rows()


def run(home: Home, *, plant: str | None = None, progress: Progress, spread: Spread = over_ray) -> IngestReport:
    """Ingest what is new for one plant or for all; ``spread`` runs the tasks, over Ray unless told otherwise.

    Raises InputError where there is no plant, or its description does not fit its files (then nothing
    was written), MillwrightError where the disk or a file gives way (then the next run goes on).
    """
    started = time.monotonic()
    names = [plant] if plant else home.plants()
    if not names:
        raise InputError(
            "No plant to ingest", expected="at least one connected plant", found="none", where=home.path,
            do="Run `millwright connect PATH --plant NAME`",
        )  # fmt: skip
    try:
        with ExitStack() as locks:
            for name in sorted(names):  # one order for everybody: no deadlock
                locks.enter_context(_only_one(home, name, progress))
            report = IngestReport(plants=_ingest(home, sorted(names), progress, spread))
    except OSError as error:
        raise MillwrightError(
            "Could not read or write", expected="a readable source and a writable home",
            found=error.strerror or str(error), where=error.filename or home.path,
            do="Mend it and run `millwright ingest` again: it goes on where it stopped",
        ) from error  # fmt: skip
    for key in ("files", "rows_ingested", "rows_superseded", "rows_quarantined", "cells_quarantined"):
        setattr(report, key, sum(getattr(found, key) for found in report.plants))
    report.new_sensors = sorted({sensor for found in report.plants for sensor in found.new_sensors})
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _ingest(home: Home, names: list[str], progress: Progress, spread: Spread) -> list[PlantIngest]:
    reports = {name: PlantIngest(name=name) for name in names}
    while names:
        progress.step("Looking for new files")
        plans = [plan for name in names if (plan := _plan(home, name, reports[name])) is not None]
        for plan in plans:
            tables.hide(home, plan.plant)
            shutil.rmtree(work_folder(home, plan), ignore_errors=True)
        if plans:
            _commit(home, _parse(home, plans, progress, spread), reports, progress, spread)
        # What a killed run left is finished first; what has come since is a batch of its own.
        names = [plan.plant for plan in plans if plan.resumed]
    for report in reports.values():
        for note in report.notes:
            progress.note(f"{report.name}: {note}")
    return list(reports.values())


def _plan(home: Home, name: str, report: PlantIngest) -> Plan | None:
    """The open plan of a killed run, else a new one, else None."""
    source = home.source(name)
    plan = resume(home, name, source)
    if plan is not None:
        report.notes += [f"changed since the batch began, comes next: {path}" for path in plan.dropped]
        return plan
    before = known(home, name)
    files = new_files(source, before)
    if unread := strangers(source, (home.sources / f"{name}.toml").stat().st_mtime_ns):
        report.notes.append(_unread(unread))
    report.notes += [f"no file for the stream {stream}" for stream in barren(source)]
    if not files:
        return None
    notes, after = check(source, files, before)
    root = Path(source.root)
    types, odd = machine_types(source, [root / f.path for f in files], read_machines(home, name))
    report.notes += [*notes, *odd]
    return new_plan(home, source, files, known=after, types=types, now=datetime.now(UTC))


def _unread(files: list[str]) -> str:
    some = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return f"not read, since no stream names it: {some}. Run `millwright connect` again, or correct `files`"


def _parse(home: Home, plans: list[Plan], progress: Progress, spread: Spread) -> list[tables.Batch]:
    units = [unit for plan in plans for unit in _units(home, plan)]
    total = sum(unit.size for unit in units)
    sizes = {(unit.plant, unit.order): unit.size for unit in units}
    progress.step(f"Reading {len(units)} files, {total / 1e6:,.0f} MB")
    done, found = 0, list[Parsed]()
    # The largest first: the last one to finish is then a small one.
    ordered = sorted(units, key=lambda unit: -unit.size)
    for row in spread(parse_unit, [{"unit": unit.model_dump_json()} for unit in ordered]):
        parsed = Parsed.model_validate_json(row["parsed"])
        found.append(parsed)
        done += sizes[parsed.plant, parsed.order]
        progress.update(done / 1e6, total / 1e6, "MB")
    by_order = sorted(found, key=lambda parsed: parsed.order)
    return [tables.Batch(plan, [p for p in by_order if p.plant == plan.plant]) for plan in plans]


def _units(home: Home, plan: Plan) -> Iterator[Unit]:
    for order, file in enumerate(plan.files):
        yield Unit(
            plant=plan.plant, batch=plan.batch, created_at=plan.created_at, order=order, root=plan.source.root,
            path=file.path, size=file.size, mtime_ns=file.mtime_ns, stream=plan.stream(file.stream),
            machine_types=plan.machine_types, folder=str(work_folder(home, plan)),
        )  # fmt: skip


def _commit(
    home: Home, batches: list[tables.Batch], reports: dict[str, PlantIngest], progress: Progress, spread: Spread
) -> None:
    progress.step("Merging into history")

    def merged(tiles: list[Tile]) -> Iterator[Rewritten]:
        for number, row in enumerate(spread(rewrite_tile, [{"tile": tile.model_dump_json()} for tile in tiles]), 1):
            progress.update(number, len(tiles), "parts")
            yield Rewritten.model_validate_json(row["rewritten"])

    superseded = tables.commit_readings(home, batches, merged)
    for batch in batches:
        plan = batch.plan
        lost = superseded[plan.plant] + tables.commit_events(home, batch) + tables.commit_machines(home, batch)
        tables.commit_quarantine(home, batch)
        counts = _add(reports[plan.plant], batch, lost)
        tables.show(home, plan.plant)
        save(home, plan.model_copy(update={"done": True, "counts": counts}))
        shutil.rmtree(work_folder(home, plan), ignore_errors=True)


def _add(report: PlantIngest, batch: tables.Batch, superseded: int) -> dict[str, int]:
    """Adds the batch to its plant's report; the batch's own counts."""
    parsed, plan = batch.parsed, batch.plan
    quarantined = sum(p.quarantined for p in parsed)
    counts = {
        "files": len(parsed), "rows_ingested": sum(p.rows for p in parsed) - quarantined,
        "rows_superseded": superseded, "rows_quarantined": quarantined,
        "cells_quarantined": sum(p.cells for p in parsed),
    }  # fmt: skip
    for key, number in counts.items():
        setattr(report, key, getattr(report, key) + number)
    report.batch, report.resumed = plan.batch, report.resumed or plan.resumed
    report.files_quarantined += [p.path for p in parsed if any(reason in p.reasons for reason in _OF_FILES)]
    report.quarantine = dict(sum((Counter(p.reasons) for p in parsed), Counter(report.quarantine)).most_common())
    added = {s.sensor for found in plan.added.values() for s in found.values()}
    new = added | {s.sensor for p in parsed for s in p.new_sensors.values()}
    report.new_sensors = sorted(new | set(report.new_sensors))
    report.sensors = max(report.sensors, len({s for p in parsed for part in p.parts for s in part.sensors}))
    bounds = batch.bounds()
    report.machines = max(report.machines, len(bounds))
    if bounds:
        first, last = _iso(min(low for low, _ in bounds.values())), _iso(max(high for _, high in bounds.values()))
        report.first_time = min(first, report.first_time or first)
        report.last_time = max(last, report.last_time or last)
    return counts


@contextmanager
def _only_one(home: Home, plant: str, progress: Progress) -> Iterator[None]:
    """Two ingests of one plant take turns. The lock ends with its process, however that ends."""
    path = home.plans / plant / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"{plant}: waiting for another ingest to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()

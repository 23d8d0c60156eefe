"""`millwright ingest`: raw files to history, exactly once; what is wrong goes to quarantine.

The one idea: plan, parse, merge, commit. The plan (files, digests, order) is on disk before anything
is read; Ray tasks parse and merge on all workers, whose files mean nothing until the driver
commits each table once under the batch's id; only when every table has the batch do readers see it.
Killed anywhere, the next run finishes the same plan and ends with the same rows.

Counts are of source rows: a line of a log, a row of a wide file, one tag's value in the long layout.
Every one is either ingested or quarantined. ``rows_superseded`` are ingested rows that changed nothing:
each of their cells lost to a later delivery (plan, path, row) or repeats what was there. A wrong cell
of a wide row costs only that cell and is counted in ``cells_quarantined``; its row is ingested.
``files_quarantined`` could not be read to their end. ``rows_delivered``, ingested too, are what the service received.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from cluster import lineage
from cluster.added import keep
from cluster.home import Home
from cluster.report import Progress
from cluster.storage import read_machines
from cluster.turns import only_one
from jobs.following.batches import Batches, finish_left
from jobs.ingesting import tables
from jobs.ingesting.check import check
from jobs.ingesting.machines import machine_types
from jobs.ingesting.merging import Merging, Row, Spread
from jobs.ingesting.parse import Parsed, Unit, parse_units
from jobs.ingesting.plan import (
    Plan,
    accepted_plan,
    is_open,
    known,
    new_files,
    new_plan,
    plans,
    resume,
    save,
    work_folder,
)
from jobs.ingesting.report import IngestReport, PlantIngest, add, tell
from jobs.ingesting.unread import barren, strangers
from models.errors import GateError, InputError, MillwrightError
from models.source import SensorColumn

IN_FLIGHT = 500  # tasks that Ray has at a time; their arguments are small
TASK_BYTES, TASK_UNITS = 2 << 20, 100  # of small files that one task reads; what is packed grows tenfold


def over_ray(function: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
    """One Ray task an item, results as they come. A dead worker's item is done again by Ray."""
    import ray

    task, waiting = ray.remote(function), iter(items)
    running = [task.remote(item) for item in islice(waiting, IN_FLIGHT)]
    while running:
        (done, *_), running = ray.wait(running)
        yield ray.get(done)
        running += [task.remote(item) for item in islice(waiting, 1)]


def run(
    home: Home, *, plant: str | None = None, accept: str | None = None, progress: Progress, spread: Spread = over_ray
) -> IngestReport:
    """Ingest what is new for one plant or for all; ``spread`` runs the tasks, over Ray unless told otherwise.

    ``accept`` names a held batch of ``plant`` that is to go into history as it is. Raises InputError
    where there is no plant, or its description does not fit its files (then nothing was written),
    MillwrightError where the disk or a file gives way (then the next run goes on).
    """
    started = time.monotonic()
    names = [plant] if plant else home.plants()
    if accept and not plant:
        raise InputError("Whose batch is it?", expected="--plant with --accept", found="none", do="Add --plant NAME")
    if not names:
        raise InputError(
            "No plant to ingest", expected="at least one connected plant", found="none", where=home.path,
            do="Run `millwright connect PATH --plant NAME`",
        )  # fmt: skip
    try:
        with ExitStack() as locks:
            for name in sorted(names):  # one order for everybody: no deadlock
                locks.enter_context(only_one(home, name, progress))
            report = IngestReport(plants=_ingest(home, sorted(names), accept, progress, spread))
    except OSError as error:
        raise MillwrightError(
            "Could not read or write", expected="a readable source and a writable home",
            found=error.strerror or str(error), where=error.filename or home.path,
            do="Mend it and run `millwright ingest` again: it goes on where it stopped",
        ) from error  # fmt: skip
    for key in ("files", "rows_ingested", "rows_superseded", "rows_quarantined", "cells_quarantined"):
        setattr(report, key, sum(getattr(found, key) for found in report.plants))
    report.new_sensors = sorted({sensor for found in report.plants for sensor in found.new_sensors})
    report.exit_code = GateError.exit_code if any(found.held for found in report.plants) else 0
    report.exit_code = InputError.exit_code if any(found.refused for found in report.plants) else report.exit_code
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _ingest(home: Home, names: list[str], accept: str | None, progress: Progress, spread: Spread) -> list[PlantIngest]:
    reports = {name: PlantIngest(name=name) for name in names}
    for name in names:
        finish_left(home, name, progress)
        _deliver(home, name, reports[name], progress)
    every = names
    while names:
        progress.step("Looking for new files")
        plans = list(_plans(home, names, reports, accept))
        for plan in plans:
            tables.hide(home, plan.plant)
        for name in names:  # also of plans that were done, or given up, when a run was killed
            for left in home.of(name).plans.glob("*.work"):
                shutil.rmtree(left, ignore_errors=True)
        if plans:
            _commit(home, _parse(home, plans, progress, spread), reports, progress, spread)
        # What a killed run left and what is accepted are finished first; what has come since is a batch of its own.
        names = [plan.plant for plan in plans if plan.resumed or plan.accepts == accept is not None]
        accept = None if any(plan.accepts == accept for plan in plans) else accept
    for name in every:
        _deliver(home, name, reports[name], progress)  # what came meanwhile, or waited for a killed run's batch
    for report in reports.values():
        for note in report.notes:
            progress.note(f"{report.name}: {note}")
    return list(reports.values())


def _deliver(home: Home, name: str, report: PlantIngest, progress: Progress) -> None:
    """What the service has received; a file that says otherwise comes after it, and wins."""
    try:
        batches = Batches(home, home.source(name), progress)
    except InputError:  # looking for its files says the same
        return
    if batches.unfinished_plan() is not None:
        return
    try:
        for done in batches.deliveries():
            report.rows_delivered += done.counts.get("rows_ingested", 0)
            counts = {key: number for key, number in done.counts.items() if key.startswith("rows_")}
            add(report, tables.Batch(done.decoded.plan, done.decoded.parsed), counts)
    except (InputError, sqlite3.Error) as error:  # files need not wait for it
        report.notes += [note] if (note := f"not taken from the service: {error}") not in report.notes else []


def _plans(home: Home, names: list[str], reports: dict[str, PlantIngest], accept: str | None) -> Iterator[Plan]:
    """What is to be done now. A plant whose description or files are wrong does not stop the others."""
    for name in names:
        try:
            plan = _plan(home, name, reports[name], accept)
        except InputError as error:
            if len(reports) == 1:
                raise
            reports[name].refused = str(error)
            reports[name].notes.append(f"not ingested: {error}")
            continue
        if plan is not None:
            yield plan


def _plan(home: Home, name: str, report: PlantIngest, accept: str | None) -> Plan | None:
    """The open plan of a killed run, else the accepted one, else a new one, else None."""
    source = home.source(name)
    plan = resume(home, name, source)
    if plan is not None:
        report.notes += [f"changed since the batch began, comes next: {path}" for path in plan.dropped]
        return plan
    if accept is not None:
        return accepted_plan(home, name, accept, now=datetime.now(UTC))
    if not source.streams:
        report.notes.append("it has live streams only: `millwright follow` reads them")
        return None
    before = known(home, name)
    files = new_files(source, before)
    if unread := strangers(source, home.of(name).source.stat().st_mtime_ns):
        report.notes.append(_unread(unread))
    report.notes += [f"no file for the stream {stream}" for stream in barren(source)]
    every = plans(home, name)
    report.notes += [f"the batch {held.batch} is still held" for held in every if is_open(held, every)]
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
    total = sum(unit.num_bytes for unit in units)
    progress.step(f"Reading {len({(u.plant, u.order) for u in units})} files, {total / 1e6:,.0f} MB")
    done, found = 0, list[Parsed]()
    for row in spread(parse_units, [{"units": [u.model_dump_json() for u in some]} for some in _tasks(units)]):
        for text in row["parsed"]:
            found.append(Parsed.model_validate_json(text))
            done += found[-1].num_bytes
        progress.update(done / 1e6, total / 1e6, "MB")
    found.sort(key=lambda parsed: (parsed.order, parsed.piece))
    return [tables.Batch(plan, [p for p in found if p.plant == plan.plant]) for plan in plans]


def _tasks(units: list[Unit]) -> list[list[Unit]]:
    """Small units together: a task costs some hundredths of a second, a small file less."""
    tasks: list[list[Unit]] = []
    room = 0
    # The largest first: the last one to finish is then a small one.
    for unit in sorted(units, key=lambda unit: -unit.num_bytes):
        if not tasks or unit.num_bytes > room or len(tasks[-1]) >= TASK_UNITS:
            tasks.append([])
            room = TASK_BYTES
        tasks[-1].append(unit)
        room -= unit.num_bytes
    return tasks


def _units(home: Home, plan: Plan) -> Iterator[Unit]:
    for order, file in enumerate(plan.files):
        for piece, span in enumerate(file.spans or [None]):
            yield Unit(
                plant=plan.plant, batch=plan.batch, created_at=plan.created_at, order=order, piece=piece,
                root=plan.source.root, path=file.path, size=file.size, mtime_ns=file.mtime_ns, span=span,
                readable=bool(file.digest),
                stream=plan.stream(file.stream), machine_types=plan.machine_types,
                folder=str(work_folder(home, plan)),
            )  # fmt: skip


def _commit(
    home: Home, batches: list[tables.Batch], reports: dict[str, PlantIngest], progress: Progress, spread: Spread
) -> None:
    progress.step("Merging into history")
    merging = Merging(home, batches, spread, progress)
    superseded = tables.commit_readings(home, batches, merging.results)
    merging.judge_rest()
    for batch in batches:
        plan, report = batch.plan, reports[batch.plan.plant]
        verdict = merging.verdicts[plan.plant]
        tell(report, plan, verdict)
        if verdict.held:
            save(home, plan.model_copy(update={"held": True, "counts": batch.counts()}))
        else:
            lost = superseded[plan.plant] + tables.commit_events(home, batch) + tables.commit_machines(home, batch)
            tables.commit_quarantine(home, batch, verdict.masked)
            cells = batch.counts()["cells_quarantined"] + verdict.num_masked
            counts = batch.counts() | {"rows_superseded": lost, "cells_quarantined": cells}
            add(report, batch, counts)
            keep(home, plan.plant, _new_sensors(batch))
            tables.show(home, plan.plant, plan.batch)
            files = ((f.path, f.digest, f.size) for f in plan.files)
            lineage.ingested(home, plan.plant, plan.batch, Path(plan.source.root), files)
            save(home, plan.model_copy(update={"done": True, "counts": counts}))
        shutil.rmtree(work_folder(home, plan), ignore_errors=True)


def _new_sensors(batch: tables.Batch) -> dict[str, dict[str, SensorColumn]]:
    """Stream -> raw column or tag -> sensor, of those that the description does not name."""
    found = {stream: dict(columns) for stream, columns in batch.plan.added.items()}
    for parsed in batch.parsed:
        found.setdefault(parsed.stream, {}).update(parsed.new_sensors)
    return found

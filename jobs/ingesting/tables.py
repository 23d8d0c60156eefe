"""The commits of a batch: each table once, under the batch's id; then the batch is shown.

The one idea: what a table gets is computed from one version of it, and committed against that version.
Where another writer was faster, Delta refuses, and the table is merged again from what is there now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from cluster.commit import RETRIES, WrittenFile, commit_once, is_committed, open_table, write_part
from cluster.durability import settle
from cluster.home import Home
from cluster.places import Place, reference
from cluster.storage import (
    EVENTS,
    MACHINES,
    QUARANTINE,
    files_of,
    read_whole,
    readings_schema,
    show_versions,
    visible_versions,
    written_files,
)
from jobs.ingesting.events import rewrite_events
from jobs.ingesting.machines import Bounds, ends_of_life, updated_machines
from jobs.ingesting.parse import Parsed
from jobs.ingesting.parts import Part, read_back
from jobs.ingesting.plan import Plan, work_folder
from jobs.ingesting.rewrite import Rewritten, Tile, tiles
from jobs.ingesting.whole import complete_tables, table_to_build_on
from models.errors import MillwrightError

_WRONG_ROWS = 100_000  # of a file of quarantine: each may hold a long line
SERIAL = "millwright.ingest"  # one name for all batches: two of them never build on one version


@dataclass(frozen=True)
class Batch:
    """A plan and what its files hold."""

    plan: Plan
    parsed: list[Parsed]

    @property
    def parts(self) -> dict[str, list[Part]]:
        """Readings by table name."""
        found: dict[str, list[Part]] = {}
        for part in (part for parsed in self.parsed for part in parsed.parts):
            found.setdefault(f"readings/{part.machine_type}", []).append(part)
        return dict(sorted(found.items()))

    def logs(self, *, machines: bool) -> list[str]:
        """Files of parsed logs in delivery order, the equipment lists' or the others'."""
        roles = {stream.name: stream.role for stream in self.plan.source.streams}
        return [log for p in self.parsed for log in p.logs if (roles[p.stream] == "machines") == machines]

    def counts(self) -> dict[str, int]:
        """Of source rows, before anything is merged."""
        quarantined = sum(p.quarantined for p in self.parsed)
        return {
            "files": len(self.plan.files), "rows_ingested": sum(p.rows for p in self.parsed) - quarantined,
            "rows_quarantined": quarantined, "cells_quarantined": sum(p.cells for p in self.parsed),
        }  # fmt: skip

    def bounds(self, *, run_to_failure: bool = False) -> Bounds:
        """First and last time of every machine in the batch's readings."""
        ending = {stream.name for stream in self.plan.source.streams if stream.run_to_failure}
        found: Bounds = {}
        for parsed in self.parsed:
            if run_to_failure and parsed.stream not in ending:
                continue
            for part in parsed.parts:
                for machine, (_, low, high) in part.machines.items():
                    before = found.get(machine, (low, high))
                    found[machine] = (min(before[0], low), max(before[1], high))
        return found


def commit_readings(
    home: Home, batches: list[Batch], merged: Callable[[list[Tile]], list[Rewritten]]
) -> dict[str, int]:
    """Every readings table of every batch; plant -> superseded rows.

    ``merged`` merges tiles, wherever; it leaves those of a batch out that is not to be committed.
    """
    superseded = {batch.plan.plant: 0 for batch in batches}
    open_tables = [(batch, name) for batch in batches for name in batch.parts]
    for _ in range(RETRIES):
        work: list[tuple[Batch, str, set[str], list[Tile]]] = []
        for batch, name in open_tables:
            plan, path = batch.plan, home.table(batch.plan.plant, name)
            if is_committed(path, plan.batch):
                superseded[plan.plant] += _committed_count(path, plan.batch)
            else:
                work.append((batch, name, *_tiles(home, batch, name, path)))
        if not work:
            return superseded
        done: dict[str, list[Rewritten]] = {}
        for result in merged([tile for *_, found in work for tile in found]):
            done.setdefault(result.folder, []).append(result)
        open_tables = []
        for batch, name, built_on, _ in work:
            results = done.get(reference(home.table(batch.plan.plant, name)))
            if results is None:
                continue
            if _commit_rewritten(home, batch, name, results, built_on):
                superseded[batch.plan.plant] += sum(result.superseded for result in results)
            else:
                open_tables.append((batch, name))
        if not open_tables:
            return superseded
    raise _too_many("readings", home)


def commit_events(home: Home, batch: Batch) -> int:
    """The events table; superseded rows."""
    path, plan = home.table(batch.plan.plant, "events"), batch.plan
    for _ in range(RETRIES):
        if is_committed(path, plan.batch):
            return _committed_count(path, plan.batch)
        table = table_to_build_on(home, plan.plant, "events", EVENTS)
        existing = read_whole(table, EVENTS)
        parts = batch.logs(machines=False)
        ends = ends_of_life(plan.plant, batch.bounds(run_to_failure=True), existing)
        written, superseded = rewrite_events(path, parts, ends, existing, plan.batch)
        if _commit_whole(table, path, written, plan, superseded):
            return superseded
    raise _too_many("events", home)


def commit_machines(home: Home, batch: Batch) -> int:
    """The machines table; superseded rows of the equipment lists."""
    path, plan = home.table(batch.plan.plant, "machines"), batch.plan
    defaults = {
        machine: plan.stream(parsed.stream).machine_type or ""
        for parsed in batch.parsed for part in parsed.parts for machine in part.machines
    }  # fmt: skip
    for _ in range(RETRIES):
        if is_committed(path, plan.batch):
            return _committed_count(path, plan.batch)
        table = table_to_build_on(home, plan.plant, "machines", MACHINES)
        existing = read_whole(table, MACHINES)
        listed = [read_back(part) for part in batch.logs(machines=True)]
        updated = updated_machines(
            existing, listed, batch.bounds(), plan.machine_types, defaults, step_us=plan.source.clock.step_us,
            batch=plan.batch,
        )  # fmt: skip
        num_listed = sum(found.num_rows for found in listed)
        names = {machine for found in listed for machine in found["machine"].to_pylist()}
        changed = [r for r in updated.to_pylist() if r["source_id"] == plan.batch and r["machine"] in names]
        written = None if updated.equals(existing) else write_part(path, updated, stem=f"part-{plan.batch}")
        superseded = max(0, int(num_listed) - len(changed))
        if _commit_whole(table, path, written, plan, superseded):
            return superseded
    raise _too_many("machines", home)


def commit_quarantine(home: Home, batch: Batch, masked: Sequence[str] = ()) -> None:
    """What the batch's pieces found wrong, and ``masked``, files of cells that a check refused."""
    path, plan = home.table(batch.plan.plant, "quarantine"), batch.plan
    for _ in range(RETRIES):
        if is_committed(path, plan.batch):
            return
        table = table_to_build_on(home, plan.plant, "quarantine", QUARANTINE)
        if _commit(table, _written_wrong(path, batch, masked), [], plan, {}):
            return
    raise _too_many("quarantine", home)


def _written_wrong(path: Place, batch: Batch, masked: Sequence[str]) -> list[WrittenFile]:
    """A bounded number of entries at a time."""
    written: list[WrittenFile] = []
    held: list[pa.Table] = []
    parts = [*(part for parsed in batch.parsed for part in parsed.quarantine), *masked]
    for number, part in enumerate(parts, 1):
        held.append(read_back(part))
        if number == len(parts) or sum(table.num_rows for table in held) >= _WRONG_ROWS:
            written.append(write_part(path, pa.concat_tables(held), stem=f"part-{batch.plan.batch}"))
            held = []
    return written


def show(home: Home, plant: str, cause: str = "") -> None:
    """What readers see becomes the newest batch that every table has; ``cause`` is the batch's id.

    Whoever writes last has looked last: two runs at once can neither show a part of a batch nor hide a whole one.
    """
    for _ in range(RETRIES):
        found = complete_tables(home, plant)
        for name, table in found.items():
            settle(home.table(plant, name), after=table.version() - 1)
        versions = {name: table.version() for name, table in found.items()}
        show_versions(home, plant, versions, cause=cause, rows={name: table.count() for name, table in found.items()})
        if {name: table.version() for name, table in complete_tables(home, plant).items()} == versions:
            return
    raise _too_many("the batch to its readers", home)


def hide(home: Home, plant: str) -> None:
    """Before a plant's first batch: nothing is visible until it is complete."""
    if visible_versions(home, plant) is None:
        show(home, plant)


def _tiles(home: Home, batch: Batch, name: str, path: Place) -> tuple[set[str], list[Tile]]:
    """The table's files now, and what is to be merged. The table is made, and gets new columns, only at the commit."""
    table = open_table(path)
    files = files_of(table, name.removeprefix("readings/"), path) if table else []
    found = tiles(batch.parts[name], files, plan=batch.plan, folder=path, work=work_folder(home, batch.plan))
    return {file.path for file in files}, found


def _commit_rewritten(home: Home, batch: Batch, name: str, results: list[Rewritten], built_on: set[str]) -> bool:
    plan, path = batch.plan, home.table(batch.plan.plant, name)
    sensors = sorted({sensor for part in batch.parts[name] for sensor in part.sensors})
    table = table_to_build_on(home, plan.plant, name, readings_schema(sensors), partition_by=["month"])
    files = {reference(path / unquote(file.path)): file for file in written_files(table)}
    if set(files) != built_on:
        return False  # another writer was faster
    changed = {result.month for result in results if result.changed}
    add = [WrittenFile(**file) for result in results if result.month in changed for file in result.files]
    gone = {found for result in results if result.files and result.month in changed for found in result.existing}
    superseded = sum(result.superseded for result in results)
    return _commit(table, add, [files[found] for found in sorted(gone)], plan, {"superseded": superseded})


def _commit_whole(table: DeltaTable, path: Place, written: WrittenFile | None, plan: Plan, superseded: int) -> bool:
    """A small table is rewritten as a whole, or left as it is."""
    remove = written_files(table) if written else []
    return _commit(table, [written] if written else [], remove, plan, {"superseded": superseded})


def _commit(
    table: DeltaTable, add: list[WrittenFile], remove: list[WrittenFile], plan: Plan, counts: Mapping[str, int]
) -> bool:
    metadata = {"millwright.batch": plan.batch, "millwright.counts": orjson.dumps(dict(counts)).decode()}
    try:
        commit_once(table, add, app_id=plan.batch, remove=remove, serial=(SERIAL, plan.sequence), metadata=metadata)
    except CommitFailedError:
        return False
    return True


def _committed_count(path: Place, batch: str) -> int:
    """What the commit of a batch said of itself: asked for when a batch is resumed."""
    table = open_table(path)
    history: list[dict[str, Any]] = table.history() if table else []
    found = next((entry for entry in history if entry.get("millwright.batch") == batch), {})
    return int(orjson.loads(found.get("millwright.counts", "{}")).get("superseded", 0))


def _too_many(table: str, home: Home) -> MillwrightError:
    return MillwrightError(
        f"Could not commit {table}", expected="no other writer for a moment", where=home.lake,
        do="Run `millwright ingest` again: it goes on where it stopped",
    )  # fmt: skip

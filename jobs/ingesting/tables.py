"""The commits of a batch: each table once, under the batch's id; then the batch is shown.

The one idea: what a table gets is computed from one version of it, and committed against that version.
Where another writer was faster, Delta refuses, and the table is merged again from what is there now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from cluster.commit import RETRIES, WrittenFile, commit_once, is_committed, open_or_create, open_table, write_part
from cluster.home import Home
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
from jobs.ingesting.machines import Bounds, ends_of_life, updated_machines
from jobs.ingesting.parse import Parsed, Part, read_back
from jobs.ingesting.plan import Plan
from jobs.ingesting.rewrite import Rewritten, Tile, rewrite_events, tiles
from models.errors import MillwrightError

_SERIAL = "millwright.ingest"  # one name for all batches: two of them never build on one version


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
        return [p.logs for p in self.parsed if p.logs and (roles[p.stream] == "machines") == machines]

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
    home: Home, batches: list[Batch], run: Callable[[list[Tile]], Iterable[Rewritten]]
) -> dict[str, int]:
    """Every readings table of every batch; plant -> superseded rows. ``run`` merges tiles, wherever."""
    superseded = {batch.plan.plant: 0 for batch in batches}
    open_tables = [(batch, name) for batch in batches for name in batch.parts]
    for _ in range(RETRIES):
        work: dict[tuple[str, str], tuple[DeltaTable, list[Tile]]] = {}
        for batch, name in open_tables:
            plan, path = batch.plan, home.table(batch.plan.plant, name)
            if is_committed(path, plan.batch):
                superseded[plan.plant] += _committed_count(path, plan.batch)
            else:
                work[plan.plant, name] = _tiles(batch, name, path)
        if not work:
            return superseded
        done: dict[str, list[Rewritten]] = {}
        for result in run([tile for _, found in work.values() for tile in found]):
            done.setdefault(result.folder, []).append(result)
        open_tables = [(batch, name) for batch, name in open_tables if (batch.plan.plant, name) in work]
        for batch, name in list(open_tables):
            table, _ = work[batch.plan.plant, name]
            results = done.get(str(home.table(batch.plan.plant, name)), [])
            if _commit_rewritten(table, results, batch.plan, home.table(batch.plan.plant, name)):
                superseded[batch.plan.plant] += sum(result.superseded for result in results)
                open_tables.remove((batch, name))
        if not open_tables:
            return superseded
    raise _too_many("readings", home)


def commit_events(home: Home, batch: Batch) -> int:
    """The events table; superseded rows."""
    path, plan = home.table(batch.plan.plant, "events"), batch.plan
    for _ in range(RETRIES):
        if is_committed(path, plan.batch):
            return _committed_count(path, plan.batch)
        table = open_or_create(path, EVENTS)
        existing = read_whole(table, EVENTS)
        parts = batch.logs(machines=False)
        ends = ends_of_life(plan.plant, batch.bounds(run_to_failure=True), existing)
        written, superseded = rewrite_events(str(path), parts, ends, existing, plan.batch)
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
        table = open_or_create(path, MACHINES)
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


def commit_quarantine(home: Home, batch: Batch) -> None:
    path, plan = home.table(batch.plan.plant, "quarantine"), batch.plan
    parts = [parsed.quarantine for parsed in batch.parsed if parsed.quarantine]
    for _ in range(RETRIES):
        if is_committed(path, plan.batch):
            return
        table = open_or_create(path, QUARANTINE)
        wrong = pa.concat_tables(read_back(part) for part in parts) if parts else None
        written = [write_part(path, wrong, stem=f"part-{plan.batch}")] if wrong is not None else []
        if _commit(table, written, [], plan, {}):
            return
    raise _too_many("quarantine", home)


def show(home: Home, plant: str) -> None:
    """Every table of the plant at its newest version becomes what readers see."""
    names = ["events", "machines", "quarantine"]
    names += [f"readings/{p.parent.name}" for p in home.table(plant, "readings").glob("*/_delta_log")]
    found = {name: open_table(home.table(plant, name)) for name in names}
    show_versions(home, plant, {name: table.version() for name, table in found.items() if table is not None})


def hide(home: Home, plant: str) -> None:
    """Before a plant's first batch: nothing is visible until it is complete."""
    if visible_versions(home, plant) is None:
        show_versions(home, plant, {})


def _tiles(batch: Batch, name: str, path: Path) -> tuple[DeltaTable, list[Tile]]:
    parts = batch.parts[name]
    sensors = sorted({sensor for part in parts for sensor in part.sensors})
    table = open_or_create(path, readings_schema(sensors), partition_by=["month"])
    files = files_of(table, name.removeprefix("readings/"), path)
    plan = batch.plan
    return table, tiles(parts, files, table=name, folder=path, batch=plan.batch, created_at=plan.created_at)


def _commit_rewritten(table: DeltaTable, results: list[Rewritten], plan: Plan, path: Path) -> bool:
    add = [WrittenFile(**file) for result in results for file in result.files]
    gone = {found for result in results if result.files for found in result.existing}
    remove = [file for file in written_files(table) if str(path / unquote(file.path)) in gone]
    return _commit(table, add, remove, plan, {"superseded": sum(result.superseded for result in results)})


def _commit_whole(table: DeltaTable, path: Path, written: WrittenFile | None, plan: Plan, superseded: int) -> bool:
    """A small table is rewritten as a whole, or left as it is."""
    remove = written_files(table) if written else []
    return _commit(table, [written] if written else [], remove, plan, {"superseded": superseded})


def _commit(
    table: DeltaTable, add: list[WrittenFile], remove: list[WrittenFile], plan: Plan, counts: Mapping[str, int]
) -> bool:
    metadata = {"millwright.batch": plan.batch, "millwright.counts": orjson.dumps(dict(counts)).decode()}
    try:
        commit_once(table, add, app_id=plan.batch, remove=remove, serial=(_SERIAL, plan.sequence), metadata=metadata)
    except CommitFailedError:
        return False
    return True


def _committed_count(path: Path, batch: str) -> int:
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

"""A decoded live batch into the tables: each once, under the batch's number; then the batch is shown.

The one idea: nothing here grows with the number of batches before. Tables stay open and read their log on from
where they were; a batch only adds a file where no row of it is in history yet, whatever the statistics say;
tables in which nothing changes are not touched; and small files are joined a hundred at a time.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from cluster.added import keep
from cluster.commit import RETRIES, WrittenFile, commit_info, commit_once, open_table, write_part
from cluster.home import Home
from cluster.places import Place, place_of, read_parquet, reference
from cluster.storage import (
    MACHINES,
    QUARANTINE,
    TIME,
    ReadingFile,
    files_of,
    read_whole,
    readings_schema,
    show_versions,
    to_us,
    visible_versions,
    written_files,
)
from cluster.visibility import newest_state
from jobs.following.parse import Decoded
from jobs.ingesting.bounds import Bounds
from jobs.ingesting.live import APP, TIDY
from jobs.ingesting.parts import Part, read_back
from jobs.ingesting.plan import Plan, work_folder
from jobs.ingesting.rewrite import Rewritten, overlaps, rewrite, tiles
from jobs.ingesting.tables import SERIAL, Batch, commit_machines, hide
from jobs.ingesting.whole import table_to_build_on
from jobs.versions.slices import by_month, read_slice
from models.errors import MillwrightError

SMALL_ROWS, SMALL_FILES = 20_000, 100  # as many files of at most so many rows become one


@dataclass
class Tables:
    """A plant's tables, kept open between batches. Whoever uses it holds the plant's lock."""

    home: Home
    plant: str
    open: dict[str, DeltaTable] = field(default_factory=dict)
    machines: dict[str, int | None] = field(default_factory=dict)  # first moment that is known, None: listed
    types: dict[str, str] = field(default_factory=dict)
    machines_version: int = -1
    machines_ahead: bool = False

    def refresh(self) -> None:
        """What others have done since. To be called before a batch is decoded."""
        hide(self.home, self.plant)
        shown = (visible_versions(self.home, self.plant) or {}).get("machines", 0)
        if shown != self.machines_version or not shown:
            table = open_table(self.home.table(self.plant, "machines"))
            rows = read_whole(table, MACHINES).to_pylist() if table else []
            self.types, self.machines = {}, {}
            for row in rows:
                self.types.setdefault(row["machine"], row["machine_type"])
                moment = to_us(row["valid_from"]) if row["inferred"] and row["valid_from"] else None
                self.machines[row["machine"]] = moment
            self.machines_version, self.machines_ahead = shown, table is not None and table.version() > shown

    def table(self, name: str, schema: pa.Schema, partition_by: Sequence[str] = ()) -> DeltaTable:
        """At its newest version, with at least these columns."""
        found = self.open.get(name)
        if found is not None:
            found.update_incremental()
            if {f.name for f in found.schema().fields} >= set(schema.names):
                return found
        found = table_to_build_on(self.home, self.plant, name, schema, partition_by=partition_by)
        self.open[name] = found
        return found


def commit(tables: Tables, decoded: Decoded) -> dict[str, int]:
    """Every table, then what readers see; the batch's counts. Doing it again changes nothing."""
    home, plan = tables.home, decoded.plan
    batch = Batch(plan, decoded.parsed)
    versions: dict[str, int] = {}
    rows: dict[str, int] = {}
    superseded = 0
    for name, parts in batch.parts.items():
        lost, more = _commit_readings(tables, plan, name, parts)
        superseded += lost
        _note(tables, name, versions, rows, more)
    concerned = _concerns_machines(tables, batch)
    if concerned:
        commit_machines(home, batch)
    if concerned or tables.machines_ahead:  # a killed run has written them, and shown nothing
        table = open_table(home.table(plan.plant, "machines"))
        if table is not None:
            versions["machines"], rows["machines"] = table.version(), table.count()
    entries = _commit_quarantine(tables, plan, [part for parsed in decoded.parsed for part in parsed.quarantine])
    if entries is not None:
        _note(tables, "quarantine", versions, rows, entries)
    new = {parsed.stream: parsed.new_sensors for parsed in decoded.parsed if parsed.new_sensors}
    if new:
        keep(home, plan.plant, new)
    _show(tables, versions, rows, plan.batch)
    shutil.rmtree(work_folder(home, plan), ignore_errors=True)
    counts = batch.counts() | {"rows_superseded": superseded, "messages": len(decoded.received_us)}
    return {key: number for key, number in counts.items() if number}


def tidy(tables: Tables) -> None:
    """Join the small files of every readings table that was written to."""
    for name in [name for name in tables.open if name.startswith("readings/")]:
        table, folder = tables.open[name], tables.home.table(tables.plant, name)
        for month, files in by_month(files_of(table, "", folder)).items():
            small = [file for file in files if file.num_rows <= SMALL_ROWS]
            if len(small) >= SMALL_FILES:
                _join(tables, name, month, small)


def _join(tables: Tables, name: str, month: str, small: Sequence[ReadingFile]) -> None:
    table, folder = tables.open[name], tables.home.table(tables.plant, name)
    whole = read_slice([file.path for file in small], Bounds())
    gone = {file.path for file in small}
    remove = [file for file in written_files(table) if reference(folder / unquote(file.path)) in gone]
    if whole.num_rows != sum(file.num_rows for file in small) or len(remove) != len(small):
        return  # the statistics do not say what is in them: `history compact` says so
    joined = write_part(folder, whole, stem="compact", partition={"month": month})
    try:
        commit_once(
            table, [joined], app_id="millwright.compact", version=table.version() + 1, remove=remove,
            serial=(SERIAL, (table.transaction_version(SERIAL) or 0)), metadata={"millwright.compact": month},
            data_change=False,
        )  # fmt: skip
    except CommitFailedError:
        return
    versions: dict[str, int] = {}
    rows: dict[str, int] = {}
    _note(tables, name, versions, rows, 0)
    _show(tables, versions, rows, f"{TIDY}{secrets.token_hex(3)}")


def _commit_readings(tables: Tables, plan: Plan, name: str, parts: list[Part]) -> tuple[int, int]:
    """Superseded rows, and how many more the table has."""
    path = tables.home.table(plan.plant, name)
    sensors = sorted({sensor for part in parts for sensor in part.sensors})
    for _ in range(RETRIES):
        table = tables.table(name, readings_schema(sensors), ["month"])
        if (table.transaction_version(APP) or 0) >= plan.sequence:
            return _told(path, table.version(), plan.batch)
        files = files_of(table, name.removeprefix("readings/"), path)
        met = _met(parts, files)
        work = tiles(parts, met, plan=plan, folder=path, work=work_folder(tables.home, plan))
        results = [rewrite(tile.model_copy(update={"measured": False})) for tile in work]
        done = _commit_results(table, results, plan)
        if done is not None:
            return done
    raise MillwrightError(
        f"Could not commit {name}", expected="no other writer for a moment", where=path,
        do="Run `millwright follow` again: it goes on where it stopped",
    )


def _commit_results(table: DeltaTable, results: Sequence[Rewritten], plan: Plan) -> tuple[int, int] | None:
    changed = {result.month for result in results if result.changed}
    own = [result for result in results if result.month in changed]
    add = [WrittenFile(**file) for result in own for file in result.files]
    gone = {found for result in own if result.files for found in result.existing}
    lost = sum(result.superseded for result in results)
    if not add:
        return lost, 0
    folder = place_of(results[0].folder)
    remove = [file for file in written_files(table) if reference(folder / unquote(file.path)) in gone] if gone else []
    more = sum(file.rows for file in add) - sum(file.rows for file in remove)
    counts = orjson.dumps({"superseded": lost, "more": more}).decode()
    metadata = {"millwright.batch": plan.batch, "millwright.counts": counts}
    try:
        commit_once(
            table, add, app_id=APP, version=plan.sequence, remove=remove, serial=(SERIAL, plan.sequence),
            metadata=metadata,
        )  # fmt: skip
    except CommitFailedError:
        return None
    return lost, more


def _met(parts: Sequence[Part], files: Sequence[ReadingFile]) -> list[ReadingFile]:
    """Files that hold a row of the batch. Statistics span all machines, so rows of neighbouring batches overlap."""
    near = [f for f in files if any(f"/month={p.month}/" in f.path and overlaps(f, [p]) for p in parts)]
    if not near:
        return []
    keys: set[tuple[str, int]] = set()
    for part in parts:
        rows = read_back(part.path)
        keys |= set(zip(rows["machine"].to_pylist(), rows["time"].to_pylist(), strict=True))
    low, high = min(key[1] for key in keys), max(key[1] for key in keys)
    within = (ds.field("time") >= pa.scalar(low, TIME)) & (ds.field("time") <= pa.scalar(high, TIME))
    found = []
    for file in near:
        rows = read_parquet([file.path], columns=["machine", "time"], filter=within)
        times = rows["time"].cast(pa.int64()).to_pylist()
        if not keys.isdisjoint(zip(rows["machine"].to_pylist(), times, strict=True)):
            found.append(file)
    return found


def _told(path: Place, newest: int, batch: str) -> tuple[int, int]:
    """What the batch's commit said of itself, before a death; it is among the newest."""
    for version in range(newest, max(0, newest - RETRIES), -1):
        info = commit_info(path, version)
        if info.get("millwright.batch") == batch:
            counts = orjson.loads(info.get("millwright.counts", "{}"))
            return int(counts.get("superseded", 0)), int(counts.get("more", 0))
    return 0, 0


def _commit_quarantine(tables: Tables, plan: Plan, wrong: Sequence[str]) -> int | None:
    """Entries that are new in the table; None where the batch has none."""
    if not wrong:
        return None
    path = tables.home.table(plan.plant, "quarantine")
    for _ in range(RETRIES):
        table = tables.table("quarantine", QUARANTINE)
        entries = pa.concat_tables([read_back(part) for part in wrong])
        number = int(entries.num_rows)
        if (table.transaction_version(APP) or 0) >= plan.sequence:
            return number
        written = write_part(path, entries, stem=f"part-{plan.batch}")
        try:
            commit_once(
                table, [written], app_id=APP, version=plan.sequence, serial=(SERIAL, plan.sequence),
                metadata={"millwright.batch": plan.batch},
            )  # fmt: skip
        except CommitFailedError:
            continue
        return number
    raise MillwrightError("Could not commit quarantine", expected="no other writer for a moment", where=path)


def _concerns_machines(tables: Tables, batch: Batch) -> bool:
    step = batch.plan.source.clock.step_us
    for machine, (first, _) in batch.bounds().items():
        if machine not in tables.machines:
            return True
        known = tables.machines[machine]
        if known is not None and first - step < known:
            return True
    return False


def _note(tables: Tables, name: str, versions: dict[str, int], rows: dict[str, int], more: int) -> None:
    table = tables.open[name]
    table.update_incremental()
    versions[name] = table.version()
    state = newest_state(tables.home, tables.plant)
    known = state.rows.get(name) if state else None
    shown = state.versions.get(name) if state else None
    # Told by whoever showed it last, but for a run that was killed between showing and writing down.
    rows[name] = known + more if known is not None and shown != table.version() else table.count()


def _show(tables: Tables, versions: dict[str, int], rows: dict[str, int], cause: str) -> None:
    state = newest_state(tables.home, tables.plant)
    before = state.versions if state else {}
    if state and state.cause == cause and all(before.get(name) == version for name, version in versions.items()):
        return  # a killed run has shown it
    show_versions(
        tables.home, tables.plant, before | versions, cause=cause, rows={**(state.rows if state else {}), **rows}
    )

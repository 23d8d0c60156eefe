"""What happened to a plant's history, in order; and one batch in full."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow.compute as pc
from deltalake import DeltaTable
from pydantic import BaseModel

from cluster.commit import folder_of
from cluster.home import Home
from cluster.places import parquet_file, read_parquet, reference
from cluster.storage import QUARANTINE, visible_table, written_files
from cluster.visibility import State, state_of, states
from jobs.ingesting import live
from jobs.ingesting.plan import Plan, plans
from models.errors import NotFoundError


class Entry(BaseModel):
    """One change. ``before`` and ``after`` are the versions of the tables it changed; ``at``: visible from then on.

    ``rows_added`` are the readings that history has more since; None where that was not written down.
    """

    id: str
    kind: Literal["batch", "live", "compact", "retain", "unknown"]
    at: datetime | None = None
    code_version: str = ""
    description: str = ""
    files: int = 0
    size_bytes: int = 0
    rows_ingested: int = 0
    rows_added: int | None = None
    rows_replaced: int | None = None
    rows_superseded: int = 0
    rows_quarantined: int = 0
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    detail: dict[str, Any] = {}
    finished: bool = True


class LiveRange(BaseModel):
    """Messages of a live batch: ``stream/topic`` (Kafka: and partition), and its first and last offset."""

    topic: str
    first: int
    last: int


class BatchFile(BaseModel):
    path: str
    stream: str
    size_bytes: int
    digest: str


class BatchDetail(BaseModel):
    """``rows``: table -> machine -> rows that the batch brought or changed. ``from_files``: counted where the batch
    wrote them; else retention has removed these files, and counted are the rows that are still the batch's."""

    entry: Entry
    plant: str
    root: str
    created_at: datetime
    files: list[BatchFile]
    rows: dict[str, dict[str, int]]
    sensors: list[str]
    quarantine: dict[str, int]
    configuration: dict[str, Any]
    from_files: bool = True
    messages: list[LiveRange] = []


def entries(home: Home, plant: str) -> list[Entry]:
    """Every batch, compaction and retention in order, unfinished batches last; live batches in a row are one."""
    known = {plan.batch: plan for plan in plans(home, plant)}
    streamed = {batch.batch: batch for batch in live.done_batches(home, plant)}
    found: list[Entry] = []
    before: State | None = None
    for state in _named(states(home, plant)):
        entry = _entry(state, before, known.get(state.cause))
        if state.cause in streamed or state.cause.startswith(live.TIDY):
            entry = _live(state, before, streamed.get(state.cause), entry)
            if found and found[-1].kind == "live":
                found[-1] = _added(found[-1], entry)
            elif state.cause in streamed:
                found.append(entry)
        elif found and found[-1].id == entry.id and entry.kind == "compact":
            found[-1] = _joined(found[-1], entry)
        elif entry.kind != "unknown" or entry.after:
            found.append(entry)
        before = state
    listed = {entry.id for entry in found}
    rest = [_of_plan(plan, Entry(id=plan.batch, kind="batch")) for b, plan in known.items() if b not in listed]
    return [entry for entry in rest if entry.finished] + found + [entry for entry in rest if not entry.finished]


def batch_detail(home: Home, plant: str, batch: str) -> BatchDetail:
    """Everything that is known of a batch. Raises NotFoundError."""
    if (streamed := live.find(home, plant, batch)) is not None:
        return _live_detail(home, plant, streamed)
    plan = plan_of(home, plant, batch)
    entry = next(entry for entry in entries(home, plant) if entry.id == batch)
    rows, from_files = _rows(home, plant, plan.batch) if entry.after else ({}, True)
    brought = {file.stream for file in plan.files}
    sensors = {
        column.sensor
        for stream in plan.source.streams
        if stream.role == "readings" and stream.name in brought
        for column in plan.stream(stream.name).sensors.values()
    }
    return BatchDetail(
        entry=entry, plant=plant, root=plan.source.root, created_at=plan.created_at, rows=rows, from_files=from_files,
        files=[BatchFile(path=f.path, stream=f.stream, size_bytes=f.size, digest=f.digest) for f in plan.files],
        sensors=sorted(sensors), quarantine=_quarantine(home, plant, batch),
        configuration=plan.source.model_dump(mode="json", exclude_defaults=True),
    )  # fmt: skip


def plan_of(home: Home, plant: str, batch: str) -> Plan:
    """The plan of a batch. Raises NotFoundError."""
    found = next((plan for plan in plans(home, plant) if plan.batch == batch), None)
    if found is None:
        raise NotFoundError(
            "No such batch", expected="the id of a batch", found=repr(batch), where=f"plant {plant}",
            do=f"`millwright history --plant {plant}` lists them",
        )  # fmt: skip
    return found


def _named(known: list[State]) -> list[State]:
    """A killed run's state, which nobody named, and the same one that its repair has named are one."""
    found: list[State] = []
    for state in known:
        if found and not found[-1].cause and found[-1].versions == state.versions:
            found[-1] = replace(state, at=found[-1].at)
        else:
            found.append(state)
    return found


def _entry(state: State, before: State | None, plan: Plan | None) -> Entry:
    old = before.versions if before else {}
    changed = sorted(name for name, version in state.versions.items() if old.get(name) != version)
    prefix = state.cause.partition("-")[0]
    kind: Any = "batch" if plan else prefix if prefix in ("compact", "retain") else "unknown"
    entry = Entry(
        id=state.cause, kind=kind, at=state.at, detail=state.detail,
        before={name: old[name] for name in changed if name in old},
        after={name: state.versions[name] for name in changed},
    )  # fmt: skip
    if plan is None:
        return entry
    if state.rows and (before is None or before.rows or not before.versions):
        entry.rows_added = _readings(state.rows) - _readings(before.rows if before else {})
    return _of_plan(plan, entry)


def _of_plan(plan: Plan, entry: Entry) -> Entry:
    counts = plan.counts
    return entry.model_copy(
        update={
            "code_version": plan.code_version, "description": plan.source_digest, "files": len(plan.files),
            "size_bytes": sum(file.size for file in plan.files), "finished": plan.done,
            "rows_ingested": counts.get("rows_ingested", 0), "rows_superseded": counts.get("rows_superseded", 0),
            "rows_quarantined": counts.get("rows_quarantined", 0), "rows_replaced": counts.get("rows_replaced"),
        }
    )  # fmt: skip


def _live(state: State, before: State | None, batch: live.LiveBatch | None, entry: Entry) -> Entry:
    """One live batch, or the joining of small files that goes with it."""
    rows = _readings(state.rows) - _readings(before.rows if before else {})
    counts = batch.counts if batch else {}
    update: dict[str, Any] = {"kind": "live", "rows_added": rows, "detail": {}}
    update |= {key: counts.get(key, 0) for key in ("rows_ingested", "rows_superseded", "rows_quarantined")}
    if batch is not None:
        update |= {"code_version": batch.code_version, "description": batch.source_digest}
        update["detail"] = {"batches": 1, "messages": counts.get("messages", 0), "last": batch.batch}
    return entry.model_copy(update=update)


def _added(first: Entry, more: Entry) -> Entry:
    """Live batches that follow each other as one entry, named after the first; ``detail`` names the last."""
    summed = ("rows_ingested", "rows_superseded", "rows_quarantined")
    update: dict[str, Any] = {key: getattr(first, key) + getattr(more, key) for key in summed}
    update["rows_added"] = (first.rows_added or 0) + (more.rows_added or 0)
    update |= {"before": more.before | first.before, "after": first.after | more.after}
    own = first.detail
    update["detail"] = {
        "batches": own["batches"] + more.detail.get("batches", 0),
        "messages": own["messages"] + more.detail.get("messages", 0), "last": more.detail.get("last", own["last"]),
    }  # fmt: skip
    return first.model_copy(update=update)


def _live_detail(home: Home, plant: str, batch: live.LiveBatch) -> BatchDetail:
    known = states(home, plant)
    at = next((number for number, state in enumerate(known) if state.cause == batch.batch), None)
    entry, from_files = Entry(id=batch.batch, kind="live", finished=at is not None), True
    rows: dict[str, dict[str, int]] = {}
    if at is not None:
        before = known[at - 1] if at else None
        entry = _live(known[at], before, batch, _entry(known[at], before, None))
        rows, from_files = _rows(home, plant, batch.batch)
    source = home.source(plant)
    return BatchDetail(
        entry=entry, plant=plant, root="", created_at=batch.created_at, files=[], rows=rows, from_files=from_files,
        sensors=sorted(source.sensors()), quarantine=_quarantine(home, plant, batch.batch),
        configuration=source.model_dump(mode="json", exclude_defaults=True),
        messages=[LiveRange(topic=t, first=first, last=last) for t, (first, last) in sorted(batch.ranges.items())],
    )  # fmt: skip


def _joined(first: Entry, more: Entry) -> Entry:
    """The months of one compaction as one entry."""
    months = first.detail.get("months", [first.detail])
    return first.model_copy(
        update={
            "at": more.at, "before": more.before | first.before, "after": first.after | more.after,
            "detail": {"months": [*months, more.detail]},
        }
    )


def _readings(rows: dict[str, int]) -> int:
    return sum(count for name, count in rows.items() if name.startswith("readings/"))


def _rows(home: Home, plant: str, batch: str) -> tuple[dict[str, dict[str, int]], bool]:
    versions = state_of(home, plant, batch).versions
    try:
        tables = {name: visible_table(home, plant, name, batch) for name in versions}
        found = {name: _counted(table, batch, named=True) for name, table in tables.items() if table}
        return {name: rows for name, rows in found.items() if rows}, True
    except (NotFoundError, FileNotFoundError):
        tables = {name: visible_table(home, plant, name) for name in versions}
        found = {name: _counted(table, batch, named=False) for name, table in tables.items() if table}
        return {name: rows for name, rows in found.items() if rows}, False


def _counted(table: DeltaTable, batch: str, *, named: bool) -> dict[str, int]:
    """Machine -> rows of the batch; ``named``: only files that it wrote are read. Quarantine has no machines."""
    folder = folder_of(table)
    counts: Counter[str] = Counter()
    for file in written_files(table):
        if named and batch not in unquote(file.path):
            continue
        with parquet_file(reference(folder / unquote(file.path))) as parquet:
            columns = [name for name in ("machine", "source_id") if name in parquet.schema_arrow.names]
            for rows in parquet.iter_batches(columns=columns):
                own = rows.filter(pc.equal(rows["source_id"], batch))
                if "machine" not in columns:
                    counts["rows"] += own.num_rows
                    continue
                for entry in pc.value_counts(own["machine"]).to_pylist():
                    counts[str(entry["values"])] += entry["counts"]
    return dict(sorted(counts.items()))


def _quarantine(home: Home, plant: str, batch: str) -> dict[str, int]:
    table = visible_table(home, plant, "quarantine")
    if table is None:
        return {}
    folder = folder_of(table)
    paths = [reference(folder / unquote(file.path)) for file in written_files(table)]
    if not paths:
        return {}
    found = read_parquet(paths, QUARANTINE, columns=["reason"], filter=pc.field("source_id") == batch)
    counts = pc.value_counts(found["reason"].combine_chunks()).to_pylist()
    return dict(Counter({str(entry["values"]): int(entry["counts"]) for entry in counts}).most_common())

"""Where one row of history comes from: batch by batch, value by value, down to the files.

The one idea: a row names the batch that last gave it a value. What it was before that batch is in the version
before it, and so on back: so every value finds the batch that brought it, and a batch's plan names its files. Of
these, the ones that the row's machine can be in are read again, as ingest read them, for the row itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pydantic import BaseModel

from cluster.home import Home
from cluster.places import read_parquet
from cluster.report import Progress
from cluster.storage import BOOKKEEPING, TIME, AsOf, reading_files, to_us
from cluster.visibility import State, state_of, states
from jobs.ingesting import live
from jobs.ingesting.plan import Plan, PlannedFile
from jobs.sources import reading, readings
from jobs.sources.values import machine_of_file
from jobs.versions.listing import LiveRange, plan_of
from models.errors import MillwrightError, NotFoundError

Row = dict[str, Any]


class Source(BaseModel):
    """A file that holds the row. ``values`` are in canonical units; ``changed_since``: it was written to later."""

    path: str
    stream: str
    digest: str
    values: dict[str, float]
    changed_since: bool = False


class Delivery(BaseModel):
    """One batch's part in a row. ``brought`` are the sensors whose value of today it gave."""

    batch: str
    ingested_at: datetime
    code_version: str
    description: str
    root: str
    brought: dict[str, float]
    files: list[Source]
    unreadable: list[str] = []  # files that may hold it, and are gone
    messages: list[LiveRange] = []  # of a live batch, among which its message was


class Origin(BaseModel):
    """``complete`` is False where older versions, which would name more batches, can no longer be read."""

    plant: str
    machine: str
    time: datetime
    machine_type: str
    values: dict[str, float]
    deliveries: list[Delivery]
    complete: bool = True


def origin(
    home: Home, plant: str, machine: str, moment: datetime, *, as_of: AsOf = None, progress: Progress
) -> Origin:
    """Follow the row of a machine and time to its files, newest batch first. Raises NotFoundError."""
    kind, row = _row(home, plant, machine, moment, as_of)
    found = Origin(
        plant=plant, machine=machine, time=moment, machine_type=kind, values=_values(row), deliveries=[]
    )  # fmt: skip
    left = dict(found.values)
    while row:
        batch = str(row["source_id"])
        before, found.complete = _before(home, plant, machine, moment, batch)
        old = _values(before)
        brought = {name: value for name, value in left.items() if old.get(name) != value or not before}
        left = {name: value for name, value in left.items() if name not in brought}
        progress.step(f"Look into the files of {batch}")
        streamed = live.find(home, plant, batch)
        found.deliveries.append(
            _delivery(plan_of(home, plant, batch), machine, row, brought)
            if streamed is None else _streamed(streamed, machine, row, brought)
        )  # fmt: skip
        row = before if found.complete else {}
    return found


def _row(home: Home, plant: str, machine: str, moment: datetime, as_of: AsOf) -> tuple[str, Row]:
    time_us = to_us(moment)
    for file in reading_files(home, plant, as_of=as_of):
        if file.first_machine <= machine <= file.last_machine and file.first_us <= time_us <= file.last_us:
            condition = (ds.field("machine") == machine) & (ds.field("time") == pa.scalar(time_us, TIME))
            rows = read_parquet([file.path], filter=condition).to_pylist()
            if rows:
                return file.machine_type, rows[0]
    raise NotFoundError(
        "No such row", expected="a reading of that machine at exactly that time", found=f"{machine} at {moment}",
        where=f"plant {plant}", do="Give the time as history holds it, in UTC to the microsecond",
    )  # fmt: skip


def _before(home: Home, plant: str, machine: str, moment: datetime, batch: str) -> tuple[Row, bool]:
    """The row as it was before the batch, or nothing; and whether that can be known."""
    known = states(home, plant)
    try:
        at = known.index(state_of(home, plant, batch))
    except NotFoundError:  # from before states were written down
        return {}, False
    earlier: State | None = known[at - 1] if at else None
    tables = {name: v for name, v in (earlier.versions if earlier else {}).items() if name.startswith("readings/")}
    if not tables:
        return {}, True
    named = ",".join(f"{name}@{version}" for name, version in sorted(tables.items()))
    try:
        return _row(home, plant, machine, moment, named)[1], True
    except NotFoundError as error:
        return {}, error.what == "No such row"


def _values(row: Row) -> dict[str, float]:
    return {name: value for name, value in sorted(row.items()) if name not in BOOKKEEPING and value is not None}


def _delivery(plan: Plan, machine: str, row: Row, brought: dict[str, float]) -> Delivery:
    found = Delivery(
        batch=plan.batch, ingested_at=row["ingested_at"], code_version=plan.code_version,
        description=plan.source_digest, root=plan.source.root, brought=brought, files=[],
    )  # fmt: skip
    for file in _candidates(plan, machine):
        path = Path(plan.source.root) / file.path
        on_disk = Path(str(path).partition("!/")[0])
        if not on_disk.is_file():
            found.unreadable.append(file.path)
            continue
        for values in _rows_of(plan, file, path, machine, to_us(row["time"])):
            found.files.append(
                Source(
                    path=file.path, stream=file.stream, digest=file.digest, values=values,
                    changed_since=on_disk.stat().st_mtime_ns != file.mtime_ns,
                )
            )
    return found


def _streamed(batch: live.LiveBatch, machine: str, row: Row, brought: dict[str, float]) -> Delivery:
    """The topics that name the machine, or all of the batch's where none does."""
    own = {topic: place for topic, place in batch.ranges.items() if machine in topic.split("/")} or batch.ranges
    return Delivery(
        batch=batch.batch, ingested_at=row["ingested_at"], code_version=batch.code_version,
        description=batch.source_digest, root="", brought=brought, files=[],
        messages=[LiveRange(topic=topic, first=first, last=last) for topic, (first, last) in sorted(own.items())],
    )  # fmt: skip


def _candidates(plan: Plan, machine: str) -> Iterator[PlannedFile]:
    """Files of the batch whose stream may hold readings of the machine, in delivery order."""
    for file in plan.files:
        stream = plan.stream(file.stream)
        if stream.role != "readings":
            continue
        named = machine_of_file(file.path, stream.machine) if stream.machine.kind not in ("column", "tag") else machine
        if named == machine:
            yield file


def _rows_of(plan: Plan, file: PlannedFile, path: Path, machine: str, time_us: int) -> Iterator[dict[str, float]]:
    stream = plan.stream(file.stream)
    now_us = to_us(plan.created_at)
    merged: dict[str, float] = {}
    try:
        for chunk in reading.chunks(path, stream):
            table = readings.canonical(chunk, stream, file.path, now_us=now_us).table
            if not table.num_rows:
                continue
            here = table.filter(pc.and_(pc.equal(table["machine"], machine), pc.equal(table["time"], time_us)))
            for row in here.to_pylist():  # long layout: one row a sensor
                merged |= {n: v for n, v in row.items() if n not in BOOKKEEPING and v is not None and not math.isnan(v)}
    except (OSError, MillwrightError):  # the file was replaced by something else since
        return
    if merged:
        yield merged

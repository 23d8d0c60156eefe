"""What is known of the machines themselves: the equipment list, and what readings imply.

The one idea: a machine that only its readings know is a machine too. Its age then counts from one step
before its first reading, which is marked as inferred and moves when earlier readings arrive; a listed
installation replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.storage import EVENTS, MACHINES
from jobs.ingesting.parse import UNUSABLE
from jobs.ingesting.parts import DEFAULT_TYPE, slug
from jobs.sources import logs, reading
from models.source import SourceDescription, Stream

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Bounds = dict[str, tuple[int, int]]  # machine -> first and last time, us


def machine_types(
    source: SourceDescription, listed: Iterable[Path], existing: pa.Table
) -> tuple[dict[str, str], list[str]]:
    """Machine -> type, from history, then from the equipment lists; and what does not agree.

    The first type that a machine gets stays: its readings are kept under it.
    """
    found: dict[str, str] = {}
    for row in existing.to_pylist():
        found.setdefault(row["machine"], row["machine_type"])
    notes: list[str] = []
    streams = [s for s in source.streams if s.role == "machines"]
    root = Path(source.root)
    for stream in streams:
        for path in sorted(set(listed) & set(root.glob(stream.files))):
            for row in _rows(stream, path, root, source.plant):
                if row["machine_type"] is None:
                    continue
                kind = slug(row["machine_type"])
                if found.setdefault(row["machine"], kind) != kind:
                    notes.append(f"{row['machine']} stays a {found[row['machine']]!r}; the list now says {kind!r}")
    return found, notes


def _rows(stream: Stream, path: Path, root: Path, plant: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        for chunk in reading.chunks(path, stream):
            found += logs.canonical(chunk, stream, path.relative_to(root).as_posix(), plant)[0].to_pylist()
    except (OSError, *UNUSABLE):  # the same file goes to quarantine when it is ingested
        return []
    return found


def updated_machines(
    existing: pa.Table, listed: Iterable[pa.Table], seen: Bounds, types: Mapping[str, str],
    default_types: Mapping[str, str], *, step_us: int, batch: str,
) -> pa.Table:  # fmt: skip
    """The whole machines table with a batch's equipment lists and the machines its readings show."""
    rows = {_identity(row): row for row in existing.to_pylist()}
    for table in listed:
        for row in table.to_pylist():
            before = rows.get(_identity(row), {})
            merged = before | {name: value for name, value in row.items() if value is not None}
            merged["machine_type"] = _type(row["machine"], types, default_types)
            if {**merged, "source_id": None} != {**before, "source_id": None}:
                rows[_identity(row)] = {**dict.fromkeys(MACHINES.names), **merged, "source_id": batch}
    known = {row["machine"] for row in rows.values()}
    for machine in sorted(set(seen) - known):
        kind = _type(machine, types, default_types)
        row = dict.fromkeys(MACHINES.names) | {"machine": machine, "machine_type": kind, "inferred": True}
        rows[_identity(row)] = row | {"source_id": batch}
    installed = {row["machine"] for row in rows.values() if not row["inferred"]}
    for key, row in list(rows.items()):
        if row["inferred"] and row["machine"] in installed:
            del rows[key]
        elif row["inferred"] and row["machine"] in seen:
            first = _moment(seen[row["machine"]][0] - step_us)
            if row["valid_from"] is None or first < row["valid_from"]:
                rows[key] = row | {"valid_from": first, "source_id": batch}
    ordered = sorted(rows.values(), key=lambda r: (r["machine"], r["valid_from"] or _EPOCH))
    return pa.Table.from_pylist(_with_ends(ordered), schema=MACHINES)


def ends_of_life(plant: str, last: Bounds, existing: pa.Table) -> pa.Table:
    """A failure at each machine's last reading, known at once; later readings move it."""
    before = {row["event_id"]: row["started_at"] for row in existing.to_pylist() if row["code"] == "run_to_failure"}
    rows = []
    for machine, (_, at_us) in sorted(last.items()):
        event = {"machine": machine, "kind": "failure", "external_id": "run_to_failure"}
        own, at = logs.event_id(plant, event), _moment(at_us)
        at = max(at, before.get(own) or at)
        rows.append(
            {"event_id": own, "machine": machine, "kind": "failure", "code": "run_to_failure", "started_at": at,
             "ended_at": at, "recorded_at": at}
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EVENTS)


def _type(machine: str, types: Mapping[str, str], default_types: Mapping[str, str]) -> str:
    return types.get(machine) or slug(default_types.get(machine) or DEFAULT_TYPE)


def _identity(row: Mapping[str, Any]) -> tuple[str, object]:
    return row["machine"], None if row["inferred"] else row["valid_from"]


def _with_ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # An installation without an end of its own ends where the next one begins.
    for row, following in pairwise(rows):
        start = following["valid_from"]
        if row["machine"] == following["machine"] and (row["valid_to"] is None or row["valid_to"] > start):
            row["valid_to"] = start
    return rows


def _moment(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)

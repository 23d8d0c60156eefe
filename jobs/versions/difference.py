"""What differs between two versions of a plant's history: rows added, changed and removed.

The one idea: a file that both versions name holds the same rows in both and is never read. The others are
compared month by month in slices that fit into memory. A row is its machine and time; it has changed where a
sensor's value has. When a row was ingested, and by which batch, is no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from cluster.home import Home
from cluster.places import gone
from cluster.report import Progress
from cluster.storage import (
    BOOKKEEPING,
    TIME,
    AsOf,
    ReadingFile,
    files_of,
    read_events,
    read_machines,
    visible_table,
    visible_versions,
    written_files,
)
from jobs.ingesting.bounds import Bounds
from jobs.versions.slices import by_month, meeting, read_slice, slices
from models.errors import NotFoundError

MOST_ROWS = 1_000_000  # of both versions together in memory
MOST_EXAMPLES = 3  # of each kind, a table
_WHOLE: dict[str, tuple[Callable[..., pa.Table], tuple[str, ...]]] = {
    "events": (read_events, ("event_id",)), "machines": (read_machines, ("machine", "valid_from")),
}  # small tables, and what identifies a row of theirs
_KEYS = ("machine", "time")
Kind = Literal["added", "changed", "removed"]
Row = dict[str, Any]


class Counts(BaseModel):
    added: int = 0
    changed: int = 0
    removed: int = 0

    def add(self, kind: Kind, number: int) -> None:
        setattr(self, kind, getattr(self, kind) + number)


class Example(BaseModel):
    """One row; ``cells``: column -> its value before and after."""

    kind: Kind
    row: dict[str, str]
    cells: dict[str, tuple[Any, Any]]


class TableDifference(BaseModel):
    """``machines``: rows of each; ``sensors``: values of each. Only what differs is listed.

    ``before`` and ``after`` are versions, None where the table was not there.
    """

    table: str
    before: int | None
    after: int | None
    rows: Counts = Counts()
    machines: dict[str, Counts] = {}
    sensors: dict[str, Counts] = {}
    examples: list[Example] = []
    files_read: int = 0


def difference(
    home: Home, plant: str, first: AsOf, second: AsOf, *, progress: Progress, most_rows: int = MOST_ROWS
) -> list[TableDifference]:
    """From ``first`` to ``second``, each table that is not at the same version in both."""
    old, new = (visible_versions(home, plant, as_of) or {} for as_of in (first, second))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    found = []
    for number, name in enumerate(names, 1):
        entry = TableDifference(table=name, before=old.get(name), after=new.get(name))
        if name in _WHOLE:
            _whole(home, plant, entry, (first, second))
        elif name == "quarantine":
            _appended(home, plant, entry, (first, second))
        else:
            _readings(home, plant, entry, (first, second), most_rows)
        progress.update(number, len(names), "tables")
        found.append(entry)
    return found


def _readings(home: Home, plant: str, entry: TableDifference, as_of: tuple[AsOf, AsOf], most_rows: int) -> None:
    old, new = ({file.path: file for file in _files(home, plant, entry.table, side)} for side in as_of)
    differing = {path: file for path, file in (old | new).items() if not (path in old and path in new)}
    entry.files_read = len(differing)
    if lost := gone(list(differing)):
        raise NotFoundError(
            "A version can no longer be read", expected=f"{len(differing)} files that differ",
            found=f"{len(lost)} of them removed by retention", where=f"plant {plant}", do="Compare later versions",
        )  # fmt: skip
    for files in by_month(differing.values()).values():
        for cut in slices(files, most_rows=most_rows):
            _compare(entry, *(_side([f for f in files if f.path in side], cut) for side in (old, new)))


def _files(home: Home, plant: str, name: str, as_of: AsOf) -> list[ReadingFile]:
    table = visible_table(home, plant, name, as_of)
    return files_of(table, name.removeprefix("readings/"), home.table(plant, name)) if table is not None else []


def _side(files: Sequence[ReadingFile], cut: Bounds) -> pa.Table:
    paths = meeting(files, cut)
    empty = pa.table({"machine": pa.array([], pa.string()), "time": pa.array([], TIME)})
    found = read_slice(paths, cut) if paths else empty
    return found.select([name for name in found.column_names if name in _KEYS or name not in BOOKKEEPING])


def _compare(entry: TableDifference, old: pa.Table, new: pa.Table) -> None:
    """Both sides of one slice, matched by machine and time."""
    cells = sorted((set(old.column_names) | set(new.column_names)) - set(_KEYS))
    joined = _marked(old, cells, "before").join(_marked(new, cells, "after"), keys=list(_KEYS), join_type="full outer")
    was, now = pc.is_valid(joined["before"]), pc.is_valid(joined["after"])
    both, differs = pc.and_(was, now), pa.chunked_array([pa.repeat(False, joined.num_rows)])
    for name in cells:
        left, right = joined[f"{name} before"], joined[f"{name} after"]
        had, has = pc.is_valid(left), pc.is_valid(right)
        other = pc.and_(pc.and_(had, has), pc.fill_null(pc.not_equal(left, right), False))
        changed = pc.or_(other, pc.xor(had, has))
        differs = pc.or_(differs, changed)
        masks: dict[Kind, Any] = {"added": pc.and_not(has, had), "changed": other, "removed": pc.and_not(had, has)}
        _count(entry.sensors, name, {kind: pc.sum(mask).as_py() or 0 for kind, mask in masks.items()})
    rows: dict[Kind, Any] = {
        "added": pc.and_not(now, was), "changed": pc.and_(both, differs), "removed": pc.and_not(was, now),
    }  # fmt: skip
    for kind, mask in rows.items():
        found = joined.filter(mask)
        entry.rows.add(kind, found.num_rows)
        for machine in pc.value_counts(found["machine"].combine_chunks()).to_pylist():
            _count(entry.machines, str(machine["values"]), {kind: machine["counts"]})
        for row in _some(entry, kind, found.sort_by([(key, "ascending") for key in _KEYS])):
            pairs = {name: (row[f"{name} before"], row[f"{name} after"]) for name in cells}
            _example(entry, kind, {key: row[key] for key in _KEYS}, pairs)


def _marked(table: pa.Table, cells: Sequence[str], side: str) -> pa.Table:
    """The keys, every cell under a name of its side, and a mark that the row is there."""
    columns = {key: table[key] for key in _KEYS}
    nothing = pa.nulls(table.num_rows, pa.float32())
    columns |= {f"{name} {side}": table[name] if name in table.column_names else nothing for name in cells}
    return pa.table(columns | {side: pa.repeat(True, table.num_rows)})


def _some(entry: TableDifference, kind: Kind, rows: pa.Table) -> list[Row]:
    held = sum(example.kind == kind for example in entry.examples)
    found: list[Row] = rows.slice(0, max(0, MOST_EXAMPLES - held)).to_pylist()
    return found


def _example(entry: TableDifference, kind: Kind, keys: Row, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    cells = {name: (_shown(a), _shown(b)) for name, (a, b) in pairs.items() if a != b}
    entry.examples.append(Example(kind=kind, row={k: str(_shown(v)) for k, v in keys.items()}, cells=cells))


def _shown(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _count(counts: dict[str, Counts], name: str, numbers: Mapping[Kind, int]) -> None:
    for kind, number in numbers.items():
        if number:
            counts.setdefault(name, Counts()).add(kind, number)


def _whole(home: Home, plant: str, entry: TableDifference, as_of: tuple[AsOf, AsOf]) -> None:
    """A small table, which every batch that changes it writes as a whole."""
    read, keys = _WHOLE[entry.table]
    tables = [read(home, plant, as_of=side) for side in as_of]
    old, new = ({tuple(row[key] for key in keys): row for row in table.to_pylist()} for table in tables)
    cells = [name for name in tables[0].column_names if name not in (*keys, "source_id")]
    for key in sorted(old.keys() | new.keys(), key=str):
        before, after = old.get(key, {}), new.get(key, {})
        pairs = {name: (before.get(name), after.get(name)) for name in cells}
        if before and after and all(a == b for a, b in pairs.values()):
            continue
        kind: Kind = "changed" if before and after else "added" if after else "removed"
        entry.rows.add(kind, 1)
        _count(entry.machines, str((after or before)["machine"]), {kind: 1})
        if sum(example.kind == kind for example in entry.examples) < MOST_EXAMPLES:
            _example(entry, kind, dict(zip(keys, key, strict=True)), pairs)


def _appended(home: Home, plant: str, entry: TableDifference, as_of: tuple[AsOf, AsOf]) -> None:
    """Quarantine only grows: what differs are whole files."""
    tables = (visible_table(home, plant, entry.table, side) for side in as_of)
    old, new = ({file.path: file.rows for file in written_files(table)} if table else {} for table in tables)
    entry.rows.added = sum(rows for path, rows in new.items() if path not in old)
    entry.rows.removed = sum(rows for path, rows in old.items() if path not in new)

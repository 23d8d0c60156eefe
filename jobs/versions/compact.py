"""Compaction: many small or overlapping files of a month become a few sorted ones, with the same rows.

The one idea: it is one more commit of the same kind as a batch's, under the same lock and the same serial name,
marked as changing no data. So it can never build on a version that a batch has left behind; killed anywhere, it
leaves files that no version names. Readers of older versions keep their files until retention.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pydantic import BaseModel, ConfigDict

from cluster.commit import RETRIES, WrittenFile, commit_once, open_table, write_part
from cluster.durability import delta
from cluster.home import Home
from cluster.places import Place, place_of, reference
from cluster.report import Progress
from cluster.storage import ReadingFile, files_of, written_files
from cluster.turns import only_one
from cluster.visibility import newest_state, show_versions, visible_versions
from jobs.ingesting import live
from jobs.ingesting.bounds import Bounds
from jobs.ingesting.numbering import last_sequence
from jobs.ingesting.plan import plans
from jobs.ingesting.tables import SERIAL
from jobs.versions.slices import by_month, is_sorted, meeting, overlap, read_slice, slices
from models.errors import MillwrightError

MOST_ROWS = 2_000_000  # a file; 24 sensors are 110 MB on disk, 230 MB in memory, twice while they are sorted
MOST_BYTES = 128 << 20
APP = "millwright.compact"
STEM = "compact"
_IN_ORDER = ("part-", f"{STEM}-")  # files that we have written are sorted; others are looked at
Row = dict[str, Any]
Spread = Callable[[Callable[[Row], Row], list[Row]], Iterable[Row]]


class Compacted(BaseModel):
    """One month of one table."""

    model_config = ConfigDict(frozen=True)

    table: str
    month: str
    version: int
    rows: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


class Piece(BaseModel):
    """What a task writes as one file."""

    folder: str
    month: str
    files: list[str]
    cut: Bounds


def in_this_process(function: Callable[[Row], Row], items: list[Row]) -> Iterable[Row]:
    """A slice at a time: memory is bounded by one."""
    return map(function, items)


def compact(
    home: Home, plant: str, *, progress: Progress, most_rows: int = MOST_ROWS, spread: Spread = in_this_process
) -> list[Compacted]:
    """Compact every month that gains by it; a batch may come in between two of them.

    Raises MillwrightError where a killed ingest has not been finished: its tables are ahead of what is visible.
    """
    run = f"compact-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    done: list[Compacted] = []
    work = [(name, month) for name in _tables(home, plant) for month in _months(home, plant, name)]
    for number, (name, month) in enumerate(work, 1):
        with only_one(home, plant, progress):
            found = _month(home, plant, name, month, run=run, most_rows=most_rows, spread=spread)
        if found is not None:
            done.append(found)
        progress.update(number, len(work), "months")
    return done


def write_piece(item: Row) -> Row:
    """A task: Ray Data's row in, row out."""
    piece = Piece.model_validate_json(item["piece"])
    table = read_slice(piece.files, piece.cut)
    return write_part(place_of(piece.folder), table, stem=STEM, partition={"month": piece.month}).as_dict()


def _tables(home: Home, plant: str) -> list[str]:
    return sorted(name for name in visible_versions(home, plant) or {} if name.startswith("readings/"))


def _months(home: Home, plant: str, name: str) -> list[str]:
    table = open_table(home.table(plant, name))
    return list(by_month(files_of(table, "", home.table(plant, name)))) if table else []


def _month(
    home: Home, plant: str, name: str, month: str, *, run: str, most_rows: int, spread: Spread
) -> Compacted | None:
    sequence = _last_batch(home, plant)
    folder = home.table(plant, name)
    for _ in range(RETRIES):
        table = delta(folder)
        files = by_month(files_of(table, "", folder)).get(month, [])
        cuts = _wanted(files, most_rows)
        if not cuts:
            return None
        sources = [(cut, meeting(files, cut)) for cut in cuts]
        pieces = [Piece(folder=reference(folder), month=month, files=some, cut=cut) for cut, some in sources if some]
        rows = spread(write_piece, [{"piece": piece.model_dump_json()} for piece in pieces])
        add = [file for row in rows if (file := WrittenFile(**row)).rows]
        _same_rows(files, add, folder, month)
        if _commit(table, add, files, folder, serial=sequence):
            newest = delta(folder).version()
            found = Compacted(
                table=name, month=month, version=newest, rows=sum(f.rows for f in add), files_before=len(files),
                files_after=len(add), bytes_before=sum(f.size_bytes for f in files),
                bytes_after=sum(f.size for f in add),
            )  # fmt: skip
            now = newest_state(home, plant)
            versions = (visible_versions(home, plant) or {}) | {name: newest}
            show_versions(
                home, plant, versions, cause=run, rows=now.rows if now else {}, detail=found.model_dump()
            )
            return found
    raise MillwrightError(
        f"Could not compact {name}", expected="no other writer for a moment", where=folder, do="Run it again"
    )


def _commit(
    table: DeltaTable, add: list[WrittenFile], files: list[ReadingFile], folder: Place, *, serial: int
) -> bool:
    gone = {file.path for file in files}
    remove = [file for file in written_files(table) if reference(folder / unquote(file.path)) in gone]
    try:
        return commit_once(
            table, add, app_id=APP, version=table.version() + 1, remove=remove, serial=(SERIAL, serial),
            metadata={"millwright.compact": add[0].partition["month"] or ""}, data_change=False,
        )  # fmt: skip
    except CommitFailedError:
        return False


def _wanted(files: list[ReadingFile], most_rows: int) -> list[Bounds]:
    """The slices to write, or none where the month is in good shape."""
    if not files:
        return []
    num_rows, num_bytes = sum(file.num_rows for file in files), sum(file.size_bytes for file in files)
    most = max(1, min(most_rows, MOST_BYTES * num_rows // max(1, num_bytes)))
    foreign = [file.path for file in files if not Path(file.path).name.startswith(_IN_ORDER)]
    if len(files) == 1 and not foreign:
        return []
    cuts = slices(files, most_rows=most)
    mixed = overlap(files) or not all(is_sorted(path) for path in foreign)
    return cuts if mixed or len(cuts) < len(files) else []


def _last_batch(home: Home, plant: str) -> int:
    """The newest batch's number. Raises MillwrightError where it is not finished."""
    left = [plan.batch for plan in plans(home, plant) if not (plan.done or plan.held)]
    left += [batch.batch for batch in [live.open_batch(home, plant)] if batch]
    if left:
        raise MillwrightError(
            "A batch is not finished", expected="every batch done", found=left[0], where=f"plant {plant}",
            do=f"Run `millwright ingest --plant {plant}` first",
        )  # fmt: skip
    return last_sequence(home, plant)


def _same_rows(before: list[ReadingFile], after: list[WrittenFile], folder: Place, month: str) -> None:
    found, expected = sum(file.rows for file in after), sum(file.num_rows for file in before)
    if found != expected:
        raise MillwrightError(
            f"Compaction of {month} would lose rows", expected=f"{expected:,} rows", found=f"{found:,}", where=folder,
            do="Nothing was changed. The files' statistics do not say what is in them",
        )  # fmt: skip

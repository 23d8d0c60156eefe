"""A Delta log that survives power loss, and whose errors can be understood.

The one idea: Delta flushes nothing to disk. Whoever commits flushes files before and the log's entry after,
so that what was acknowledged stays; an entry that power loss has cut short was never acknowledged, and is
taken away by whoever opens the table next. In an object store a put is whole and lasting when it returns:
there is nothing to flush or to mend, and Delta's own conditional put keeps two writers apart.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from cluster.files import flush
from cluster.places import Place, Remote
from cluster.stores import explained, reaching
from models.errors import MillwrightError

CHECKPOINT = 100  # versions from one checkpoint to the next
# Not by Delta itself: its checkpoint is not flushed, and with it go the log's old entries, visible or not.
HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class Table(DeltaTable):
    """A Delta table that knows its place, so that whoever commits to it uses the same keys."""

    def __init__(self, place: Place, version: int | None = None) -> None:
        self.place = place
        options = place.options if isinstance(place, Remote) else None
        super().__init__(str(place), version=version, storage_options=options)


def delta(place: Place, version: int | None = None) -> DeltaTable:
    """The table there at a version, the newest unless told. Raises Delta's own errors, a store's in our words."""
    if isinstance(place, Path):
        return Table(place, version)
    with reaching(place):
        return Table(place, version)


def settle(path: Place, *, after: int) -> None:
    """The log's entries since a version to disk; from time to time a checkpoint."""
    if isinstance(path, Remote):
        table = delta(path)
        if table.version() // CHECKPOINT > max(after, 0) // CHECKPOINT:
            table.create_checkpoint()
        return
    log = path / "_delta_log"
    new = list(_entries_after(path, after))
    flush([*new, log])
    if any(int(entry.stem) % CHECKPOINT == 0 for entry in new if int(entry.stem)):
        DeltaTable(str(path)).create_checkpoint()
        flush([*log.glob(f"*{int(new[-1].stem):020}.checkpoint*"), log / "_last_checkpoint", log])


def mend(path: Place) -> bool:
    """The log's newest entry, whoever wrote it, to disk; or away where power loss has cut it short (then True)."""
    if isinstance(path, Remote):
        return False
    entries = _entries(path)
    if not entries:
        return False
    torn = not _is_whole(entries[-1])
    if torn:
        entries[-1].replace(entries[-1].with_suffix(".torn"))
    flush([path / "_delta_log", *([] if torn else entries[-1:])])
    return torn


def drop_torn(path: Place) -> bool:
    """Take away what power loss has cut short, the log's newest entry or a checkpoint; whether there was any."""
    if isinstance(path, Remote):
        return False
    return mend(path) | _drop_torn_checkpoint(path)


def _entries(path: Path) -> list[Path]:
    return sorted(entry for entry in (path / "_delta_log").glob("*.json") if entry.stem.isdigit())


def _entries_after(path: Path, version: int) -> Iterator[Path]:
    """In order. They are asked for by name: a live stream's log has tens of thousands of entries a day."""
    while (entry := path / "_delta_log" / f"{version + 1:020}.json").exists():
        yield entry
        version += 1


def _is_whole(entry: Path) -> bool:
    try:
        return bool([json.loads(line) for line in entry.read_bytes().splitlines()])
    except ValueError:
        return False


def _drop_torn_checkpoint(path: Path) -> bool:
    """A checkpoint only repeats the log's entries, which `HOOKS` keeps."""
    torn = False
    for found in (path / "_delta_log").glob("*.checkpoint*.parquet"):
        try:
            pq.read_metadata(found)
        except (OSError, pa.ArrowException):
            found.replace(found.with_suffix(".torn"))
            (path / "_delta_log" / "_last_checkpoint").unlink(missing_ok=True)
            torn = True
    return torn


@contextmanager
def plainly(path: Place) -> Iterator[None]:
    """Delta's errors in plain words: the disk's as OSError with its number, others as MillwrightError."""
    try:
        yield
    except (CommitFailedError, TableNotFoundError):
        raise
    except (DeltaError, OSError) as error:
        if isinstance(path, Remote):
            raise explained(path, error) from None
        if isinstance(error, OSError) and error.errno is not None:
            raise
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number:
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise MillwrightError(
            "Unusable table", expected="a Delta log as Millwright wrote it",
            found=" ".join(re.sub(r"\x1b\[\d*m|↳", "", str(error)).split())[:300], where=path / "_delta_log",
            do="Put the table's folder back from a backup, or move it away and ingest again",
        ) from error  # fmt: skip

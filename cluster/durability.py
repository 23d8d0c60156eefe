"""A Delta log that survives power loss, and whose errors can be understood.

The one idea: Delta flushes nothing to disk. Whoever commits flushes files before and the log's entry after,
so that what was acknowledged stays; an entry that power loss has cut short was never acknowledged, and is
taken away by whoever opens the table next.
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
from models.errors import MillwrightError

CHECKPOINT = 100  # versions from one checkpoint to the next
# Not by Delta itself: its checkpoint is not flushed, and with it go the log's old entries, visible or not.
HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def settle(path: Path, *, after: int) -> None:
    """The log's entries since a version to disk; from time to time a checkpoint."""
    log = path / "_delta_log"
    new = list(_entries_after(path, after))
    flush([*new, log])
    if any(int(entry.stem) % CHECKPOINT == 0 for entry in new if int(entry.stem)):
        DeltaTable(str(path)).create_checkpoint()
        flush([*log.glob(f"*{int(new[-1].stem):020}.checkpoint*"), log / "_last_checkpoint", log])


def mend(path: Path) -> bool:
    """The log's newest entry, whoever wrote it, to disk; or away where power loss has cut it short (then True)."""
    entries = _entries(path)
    if not entries:
        return False
    torn = not _is_whole(entries[-1])
    if torn:
        entries[-1].replace(entries[-1].with_suffix(".torn"))
    flush([path / "_delta_log", *([] if torn else entries[-1:])])
    return torn


def drop_torn(path: Path) -> bool:
    """Take away what power loss has cut short, the log's newest entry or a checkpoint; whether there was any."""
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
def plainly(path: Path) -> Iterator[None]:
    """Delta's errors in plain words: the disk's as OSError with its number, others as MillwrightError."""
    try:
        yield
    except (CommitFailedError, TableNotFoundError):
        raise
    except (DeltaError, OSError) as error:
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

"""Retention: files that no version of the last days needs, and what killed runs have left behind, are removed.

The one idea: what is kept is found first, from the record of what readers saw: every file of every version from
the oldest that was visible within those days up to the newest. Only what is in no such version and is older than
the days, and than a day in any case, is removed; under the lock, so that no running batch's files are among it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import orjson
from pydantic import BaseModel

from cluster.commit import open_table
from cluster.durability import delta
from cluster.files import flush
from cluster.home import Home
from cluster.places import Found, Place, files_below
from cluster.report import Progress
from cluster.storage import written_files
from cluster.turns import only_one
from cluster.visibility import State, remark, states
from jobs.ingesting.plan import plans

LEAST_AGE = timedelta(days=1)  # no file younger than this is removed, whatever is asked for
_LOG_AGE_S = 30 * 86400  # Delta's own default for its log


class Retained(BaseModel):
    """``oldest``: table -> the oldest version that can still be read. Paths are below the home where they lie in it."""

    plant: str
    files: list[str] = []
    size_bytes: int = 0
    work_folders: list[str] = []
    oldest: dict[str, int] = {}


def retain(
    home: Home, plant: str, *, days: float, dry_run: bool, progress: Progress, now: datetime | None = None
) -> Retained:
    """Remove what nobody needs any more, or with ``dry_run`` only say what that is."""
    found = Retained(plant=plant)
    now = now or datetime.now(UTC)
    with only_one(home, plant, progress):
        known = states(home, plant)
        found.oldest = _oldest(known, now - timedelta(days=days))
        for name, version in sorted(found.oldest.items()):
            folder = home.table(plant, name)
            needed = _needed(folder, version)
            latest = (now - max(LEAST_AGE, timedelta(days=days))).timestamp()
            for file in _data_files(folder):
                if file.path not in needed and file.modified < latest:
                    found.files.append(_named(home, folder / file.path))
                    found.size_bytes += file.size_bytes
                    if not dry_run:
                        (folder / file.path).unlink()
            if not dry_run:
                _clean_log(folder, version)
        for left in _work_folders(home, plant):
            found.work_folders.append(_named(home, left))
            if not dry_run:
                shutil.rmtree(left)
        if not dry_run and (found.files or found.work_folders):
            run = f"retain-{now:%Y%m%dT%H%M%S}"
            counts = {"days": days, "files": len(found.files), "size_bytes": found.size_bytes, "oldest": found.oldest}
            remark(home, plant, run, counts)
    return found


def _oldest(known: list[State], since: datetime) -> dict[str, int]:
    """Table -> the oldest version that was visible after ``since``."""
    before = [state for state in known if state.at <= since]
    kept = before[-1:] + [state for state in known if state.at > since]
    found: dict[str, int] = {}
    for state in kept:
        for name, version in state.versions.items():
            found[name] = min(version, found.get(name, version))
    return found


def _needed(folder: Place, oldest: int) -> set[str]:
    newest = open_table(folder)
    if newest is None:
        return {file.path for file in _data_files(folder)}
    found = {unquote(file.path) for file in written_files(delta(folder, oldest))}
    for version in range(oldest + 1, newest.version() + 1):  # what a version has is the oldest's, or was added since
        entry = folder / "_delta_log" / f"{version:020}.json"
        actions = (orjson.loads(line) for line in entry.read_bytes().splitlines())
        found |= {unquote(action["add"]["path"]) for action in actions if "add" in action}
    return found


def _data_files(folder: Place) -> Iterator[Found]:
    for file in files_below(folder, ".parquet"):
        if not any(part.startswith(("_", ".")) for part in file.path.split("/")):
            yield file


def _clean_log(folder: Place, oldest: int) -> None:
    """Entries of the log before the oldest version that is kept go once they are as old as Delta's default."""
    log, last = folder / "_delta_log", time.time() - _LOG_AGE_S
    entries = [file for file in files_below(log, ".json") if file.path[:20].isdigit()]
    if any(int(file.path[:20]) < oldest and file.modified < last for file in entries):
        table = delta(folder, oldest)
        if not (log / f"{oldest:020d}.checkpoint.parquet").is_file():
            table.create_checkpoint()
        if isinstance(log, Path):
            # The log before a version may go only when the version stands alone, on disk.
            flush([*log.glob(f"{oldest:020d}.checkpoint*"), log / "_last_checkpoint", log])
        table.cleanup_metadata()


def _work_folders(home: Home, plant: str) -> list[Path]:
    """What tasks of batches that are done, or were given up, have left."""
    unfinished = {plan.batch for plan in plans(home, plant) if not plan.done}
    return [path for path in sorted(home.of(plant).plans.glob("*.work")) if path.stem not in unfinished]


def _named(home: Home, path: Place) -> str:
    inside = isinstance(path, Path) and path.is_relative_to(home.path)
    return str(path.relative_to(home.path) if isinstance(path, Path) and inside else path)

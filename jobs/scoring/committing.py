"""Commits of scored units: together where many come, so that a journal of many files does not hold scoring up.

The one idea: what a commit costs grows with the journal, so how often one is made follows from what the last one took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from deltalake.exceptions import CommitFailedError

from cluster.commit import RETRIES, WrittenFile, commit_once, open_or_create
from cluster.home import Home
from cluster.predictions import SCHEMA, TABLE
from models.errors import MillwrightError

COMMIT_EVERY = 19  # times what a commit took, between two of them
Row = dict[str, Any]


def paced(rows: Iterable[Row], clock: Callable[[], float] = time.monotonic) -> Iterator[list[Row]]:
    """What has come, handed on together as often as its commit takes at most a twentieth of the time.

    A commit costs more the more files the journal has; what is held is lost with the driver, and asked for again.
    """
    held: list[Row] = []
    due = clock()
    for row in rows:
        held.append(row)
        if clock() >= due:
            began = clock()
            yield held
            held, due = [], clock() + COMMIT_EVERY * (clock() - began)
    if held:
        yield held


def commit_units(home: Home, plant: str, rows: Sequence[Row]) -> int:
    """Commit the units' new answers in one transaction; returns the new rows.

    The version of each unit's name remembers how many answers the unit has in all. Files of units that another run
    has committed are removed. Raises MillwrightError where other writers never leave a moment.
    """
    folder = home.table(plant, TABLE)
    if not rows:
        return 0
    for _ in range(RETRIES):
        table = open_or_create(folder, SCHEMA)
        waiting = [row for row in rows if not table.transaction_version(row["name"])]
        versions = {row["name"]: row["total"] + 1 for row in waiting}
        name = next(iter(versions), None)
        files = [WrittenFile(**file) for row in waiting for file in row["files"]]
        try:
            if name is None or commit_once(table, files, app_id=name, version=versions.pop(name), also=versions):
                break
        except CommitFailedError:
            continue
    else:
        raise MillwrightError(
            "Could not commit predictions", expected="no other writer for a moment", where=folder,
            do="Run `millwright score` again: it goes on where it stopped",
        )  # fmt: skip
    done = {row["name"] for row in waiting}
    for file in (file for row in rows if row["name"] not in done for file in row["files"]):
        (folder / file["path"]).unlink(missing_ok=True)
    return sum(file["rows"] for row in waiting for file in row["files"])

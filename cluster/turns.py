"""Turns at what several runs may change, a plant's history first of all: one lock, and whoever comes waits."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.home import Home
from cluster.report import Progress


@contextmanager
def only_one(home: Home, plant: str, progress: Progress, *, work: str = "lock") -> Iterator[None]:
    """Ingest, compaction and retention of one plant take turns, and so does other ``work`` of one kind.

    The lock ends with its process, however that ends.
    """
    home.of(plant).make()
    with alone(home.of(plant).plans / work, plant, progress):
        yield


@contextmanager
def alone(lock: Path, what: str, progress: Progress) -> Iterator[None]:
    """Hold a lock's file; where another process has it, say that ``what`` waits, and wait."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"{what}: waiting for another run to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

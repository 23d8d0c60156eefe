"""Turns at a plant's history: whoever changes it holds one lock, and waits for the one before."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.home import Home
from cluster.report import Progress


@contextmanager
def only_one(home: Home, plant: str, progress: Progress, *, work: str = "lock") -> Iterator[None]:
    """Ingest, compaction and retention of one plant take turns, and so does other ``work`` of one kind.

    The lock ends with its process, however that ends.
    """
    home.of(plant).make()
    path = home.of(plant).plans / work
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"{plant}: waiting for another run to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

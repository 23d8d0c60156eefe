"""What a batch of live messages is: a range of the spool, written down before anything of it is.

The one idea: there are tens of thousands of such batches a day, so each is a line of `live.jsonl`, appended when
it is done, and only the newest is looked at: `live.json` holds the one that is open, with the offsets up to its
end. A batch is open as long as it is not the record's last line; whoever finishes it does the same again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.files import flush, write_atomically
from cluster.home import Home
from cluster.report import code_version
from models.errors import MillwrightError

APP = "millwright.follow"  # one id for all live batches, their number its version: a table's log stays small
TIDY = "compact-live-"  # begins the name of what joins small files as they come
_TAIL = 1 << 17


class LiveBatch(BaseModel):
    """Messages ``first`` to ``last`` (exclusive) of the spool; ``at`` is where the first lies: segment and byte.

    Or, with ``delivered``, what the service has received up to that delivery. ``ranges``: ``stream/topic`` (Kafka:
    ``stream/topic/partition``) -> first and last offset: the broker's own with Kafka, the spool's with MQTT, which has
    none, the numbers of deliveries with the service.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plant: str
    sequence: int
    batch: str
    created_at: datetime
    code_version: str
    source_digest: str
    first: int
    last: int
    at: tuple[int, int]
    ranges: dict[str, tuple[int, int]]
    delivered: int | None = None
    counts: dict[str, int] = {}


class _Open(BaseModel):
    """``offsets``: of Kafka's partitions, the next one to be read; the open batch's are counted in."""

    model_config = ConfigDict(extra="forbid")

    batch: LiveBatch
    offsets: dict[str, int]


def new_batch(
    home: Home, plant: str, *, sequence: int, first: int, last: int, at: tuple[int, int],
    ranges: Mapping[str, tuple[int, int]], offsets: Mapping[str, int], source_digest: str, now: datetime,
    delivered: int | None = None,
) -> LiveBatch:  # fmt: skip
    """Persist the next batch."""
    content = f"{plant}\0{sequence}\0{first}\0{last}\0{sorted(ranges.items())}"
    batch = LiveBatch(
        plant=plant, sequence=sequence, batch=f"{sequence:06d}-{hashlib.sha256(content.encode()).hexdigest()[:12]}",
        created_at=now, code_version=code_version(), source_digest=source_digest, first=first, last=last, at=at,
        ranges=dict(ranges), delivered=delivered,
    )  # fmt: skip
    opened = _Open(batch=batch, offsets=dict(offsets))
    write_atomically(_open_path(home, plant), opened.model_dump_json() + "\n")
    return batch


def finish(home: Home, batch: LiveBatch, counts: Mapping[str, int]) -> None:
    """The batch is done."""
    path = _done_path(home, batch.plant)
    new = not path.exists()
    line = batch.model_copy(update={"counts": dict(counts)}).model_dump_json().encode()
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line  # a process died while it wrote
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        flush([path.parent])


def open_batch(home: Home, plant: str) -> LiveBatch | None:
    """The batch that a killed run has left; None where every one is done."""
    opened, done = _opened(home, plant), last_done(home, plant)
    return opened.batch if opened and (done is None or done.sequence < opened.batch.sequence) else None


def next_message(home: Home, plant: str) -> int:
    """The number of the first message of the spool that no batch has."""
    opened = _opened(home, plant)
    return opened.batch.last if opened else 0


def offsets(home: Home, plant: str) -> dict[str, int]:
    """Of Kafka's partitions, the next offset that no batch has."""
    opened = _opened(home, plant)
    return opened.offsets if opened else {}


def last_sequence(home: Home, plant: str) -> int:
    opened = _opened(home, plant)
    return opened.batch.sequence if opened else 0


def last_done(home: Home, plant: str) -> LiveBatch | None:
    """The newest batch that is done, read from the record's end."""
    path = _done_path(home, plant)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
        file.seek(start)
        lines = file.read().splitlines()
    return next((batch for line in reversed(lines) if (batch := _batch(line))), None)


def done_batches(home: Home, plant: str) -> Iterator[LiveBatch]:
    """Every batch that is done, in order. Reads the whole record."""
    path = _done_path(home, plant)
    if path.is_file():
        with path.open("rb") as file:
            yield from (batch for line in file if (batch := _batch(line)))


def find(home: Home, plant: str, batch: str) -> LiveBatch | None:
    """A batch by its id, done or open."""
    opened = _opened(home, plant)
    if opened and opened.batch.batch == batch and open_batch(home, plant):
        return opened.batch
    return next((found for found in done_batches(home, plant) if found.batch == batch), None)


def _batch(line: bytes) -> LiveBatch | None:
    try:
        return LiveBatch.model_validate_json(line)
    except ValidationError:  # half a line: its process died; the batch is done again
        return None


def _opened(home: Home, plant: str) -> _Open | None:
    path = _open_path(home, plant)
    try:
        return _Open.model_validate_json(path.read_bytes()) if path.is_file() else None
    except ValidationError as error:
        raise MillwrightError(
            "Unreadable record of live batches", expected="the file as `follow` wrote it",
            found=error.errors()[0]["msg"], where=path, do="Put it back from a backup: it says what history holds",
        ) from error  # fmt: skip


def _open_path(home: Home, plant: str) -> Path:
    return home.of(plant).plans / "live.json"


def _done_path(home: Home, plant: str) -> Path:
    return home.of(plant).plans / "live.jsonl"

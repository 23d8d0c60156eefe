"""From the spool to history, batch by batch, under the plant's lock; and what a killed run has left, finished.

The one idea: a batch is written down before anything of it is, and what is written down is done first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cluster.home import Home
from cluster.report import Progress
from cluster.turns import only_one
from jobs.following.commit import Tables, commit, tidy
from jobs.following.delivered import SERVICE, decode_delivered, next_deliveries, taken
from jobs.following.parse import Decoded, decode, spool_folder
from jobs.following.spool import Placed, read
from jobs.ingesting import live
from jobs.ingesting.live import LiveBatch
from jobs.ingesting.numbering import last_sequence, plan_files
from jobs.ingesting.plan import digest_of, read_plan
from models.source import SourceDescription

BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class Done:
    """A batch that readers see."""

    batch: LiveBatch
    decoded: Decoded
    counts: dict[str, int]
    reasons: dict[str, int]


@dataclass
class Batches:
    """One plant's, in one process."""

    home: Home
    source: SourceDescription
    progress: Progress
    tables: Tables = field(init=False)
    next: int = field(init=False)
    _last: tuple[int, int] | None = None  # where the message before ``next`` lies
    _finished: dict[Path, int] = field(default_factory=dict)  # plans that are done or held, by time of change

    def __post_init__(self) -> None:
        self.tables = Tables(self.home, self.source.plant)
        self.next = live.next_message(self.home, self.source.plant)

    def commit_next(self, *, most: int, upto: int) -> Done | None:
        """Commit the next messages, at most ``most`` and before number ``upto``.

        None where there are none, or where a killed `ingest` must be finished first.
        """
        home, plant = self.home, self.source.plant
        with only_one(home, plant, self.progress):
            if self.unfinished_plan() is not None:
                return None
            left = live.open_batch(home, plant)
            if left is not None:
                found = self._commit(left)
                self.next = left.last
                return found
            batch = self._cut(most, upto)
            return None if batch is None else self._commit(batch)

    def unfinished_plan(self) -> str | None:
        """The batch of files that a killed run has left; plans that are done are read once."""
        for path in plan_files(self.home, self.source.plant):
            changed = path.stat().st_mtime_ns
            if self._finished.get(path) != changed:
                plan = read_plan(path)
                if not (plan.done or plan.held):
                    return plan.batch
                self._finished[path] = changed
        return None

    def _cut(self, most: int, upto: int) -> LiveBatch | None:
        ranges: dict[str, tuple[int, int]] = {}
        offsets = live.offsets(self.home, self.source.plant)
        first: Placed | None = None
        last, size, at = self.next, 0, self._last
        for placed in self._from_next():
            if placed.number >= min(upto, self.next + most) or size > BATCH_BYTES:
                break
            first = first or placed
            record, last = placed.record, placed.number + 1
            size += len(record.body)
            at = placed.segment, placed.byte
            key, offset = _place(placed)
            ranges[key] = (ranges.get(key, (offset, 0))[0], offset)
            if record.partition >= 0:
                offsets[key] = offset + 1
        if first is None:
            return None
        batch = live.new_batch(
            self.home, self.source.plant, sequence=last_sequence(self.home, self.source.plant) + 1, first=self.next,
            last=last, at=(first.segment, first.byte), ranges=_bounded(ranges), offsets=offsets,
            source_digest=digest_of(self.source), now=datetime.now(UTC),
        )  # fmt: skip
        self.next, self._last = last, at
        return batch

    def _from_next(self) -> Iterator[Placed]:
        folder = spool_folder(self.home, self.source.plant)
        if self._last and (folder / f"{self._last[0]:020d}.seg").is_file():
            return (placed for placed in read(folder, self.next - 1, self._last) if placed.number >= self.next)
        return read(folder, self.next)

    def deliveries(self) -> Iterator[Done]:
        """Commit what the service has received, batch after batch. Whoever calls it holds the plant's lock."""
        plant = self.source.plant
        last = live.last_done(self.home, plant)
        if last is not None and last.delivered is not None:
            taken(self.home, last)  # a killed run may have had no time to say so
        while (found := next_deliveries(self.home, plant)) is not None:
            yield self._commit(
                live.new_batch(
                    self.home, plant, sequence=last_sequence(self.home, plant) + 1, first=self.next, last=self.next,
                    at=(0, 0), ranges={SERVICE: found}, offsets=live.offsets(self.home, plant), delivered=found[1],
                    source_digest=digest_of(self.source), now=datetime.now(UTC),
                )
            )  # fmt: skip

    def _commit(self, batch: LiveBatch) -> Done:
        self.tables.refresh()
        decoding = decode if batch.delivered is None else decode_delivered
        decoded = decoding(self.home, self.source, batch, self.tables.types)
        counts = commit(self.tables, decoded)
        live.finish(self.home, batch, counts)
        if batch.delivered is not None:
            taken(self.home, batch)
        tidy(self.tables)
        reasons: dict[str, int] = {}
        for parsed in decoded.parsed:
            for reason, number in parsed.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + number
        return Done(batch, decoded, counts, reasons)


def finish_left(home: Home, plant: str, progress: Progress) -> LiveBatch | None:
    """Do the live batch that a killed run has left. Whoever calls it holds the plant's lock."""
    batch = live.open_batch(home, plant)
    if batch is not None:
        Batches(home, home.source(plant), progress)._commit(batch)
    return batch


def spooled_offsets(home: Home, plant: str) -> dict[str, int]:
    """Of Kafka's partitions, the next offset that is neither in a batch nor in the spool."""
    found = live.offsets(home, plant)
    for placed in read(spool_folder(home, plant), live.next_message(home, plant)):
        if placed.record.partition >= 0:
            key, offset = _place(placed)
            found[key] = offset + 1
    return found


def _place(placed: Placed) -> tuple[str, int]:
    record = placed.record
    if record.partition < 0:
        return f"{record.stream}/{record.topic}", placed.number
    return f"{record.stream}/{record.topic}/{record.partition}", record.offset


def _bounded(ranges: dict[str, tuple[int, int]], most: int = 24) -> dict[str, tuple[int, int]]:
    """By topic; by stream where a batch has more topics than a line of the record should name."""
    if len(ranges) <= most:
        return ranges
    found: dict[str, tuple[int, int]] = {}
    for key, (first, last) in ranges.items():
        name = key.partition("/")[0]
        before = found.get(name, (first, last))
        found[name] = (min(before[0], first), max(before[1], last))
    return found

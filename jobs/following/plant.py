"""One plant followed: streams into an inbox, the inbox into the spool, the spool into history.

The one idea: three loops that only share the spool. A message is acknowledged between the first two, and shown to
readers at the end of the third; each may fall behind, stop or start anew without the others losing anything.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cluster.home import Home
from cluster.report import Progress
from jobs.following.batches import Batches, Done, spooled_offsets
from jobs.following.kafka import follow_kafka
from jobs.following.mqtt import follow_mqtt
from jobs.following.parse import spool_folder
from jobs.following.report import PlantFollow
from jobs.following.sparkplug import Nodes
from jobs.following.spool import Record, Spool
from jobs.ingesting import live
from models.live import LiveStream

FLUSH_S = 0.04  # messages that come within it are flushed to disk together
MOST_UNPROMISED = 20_000  # messages of QoS 0 that wait in memory; nobody was promised them
AGAIN_S = 3.0  # after a fault of the disk
Pending = tuple[list[Record], Callable[[], None] | None]


@dataclass
class Follower:
    """``run`` ends soon after ``stop``, with everything that was acknowledged in history or in the spool."""

    home: Home
    plant: str
    progress: Progress
    stop: asyncio.Event
    report: PlantFollow
    inbox: list[Pending] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)  # nothing more comes into the spool
    halt: threading.Event = field(default_factory=threading.Event)  # for Kafka's threads
    told: set[str] = field(default_factory=set)

    async def run(self) -> None:
        home, plant, settings = self.home, self.plant, self.home.settings.follow
        source = home.source(plant)
        home.of(plant).make()
        start = live.next_message(home, plant)
        spool = Spool(spool_folder(home, plant), most_bytes=settings.spool_mb << 20, start=start)
        committing = asyncio.create_task(asyncio.to_thread(self._commit, spool))
        flushing = asyncio.create_task(self._flush(spool))
        streams = [asyncio.create_task(self._stream(own, spool)) for own in source.live]
        stopped = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait([*streams, committing, flushing, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop.set()
            self.halt.set()
            await asyncio.gather(*streams, return_exceptions=True)
            await asyncio.gather(flushing, return_exceptions=True)
            self.ended.set()
            await asyncio.gather(committing, return_exceptions=True)
            spool.close()
        for task in (*streams, flushing, committing):
            if (error := task.exception()) is not None:
                raise error

    async def _stream(self, own: LiveStream, spool: Spool) -> None:
        if own.kind == "kafka":
            offsets = spooled_offsets(self.home, self.plant)
            await asyncio.to_thread(
                follow_kafka, self.home, self.plant, own, append=lambda records: self._append(spool, records),
                note=self._note, stop=self.halt, offsets=offsets,
            )  # fmt: skip
            return
        nodes = Nodes(own.name) if own.kind == "sparkplug" else None
        await follow_mqtt(self.home, self.plant, own, take=self._take, note=self._note, stop=self.stop, nodes=nodes)
        if nodes is not None:
            self.report.sparkplug = dict(sorted(nodes.counts.items()))

    def _take(self, records: list[Record], acknowledge: Callable[[], None] | None) -> None:
        if acknowledge is None and len(self.inbox) >= MOST_UNPROMISED:
            self.report.unpromised_lost += len(records)
            return
        self.report.messages += 1
        self.inbox.append((records, acknowledge))

    def _append(self, spool: Spool, records: list[Record]) -> None:
        while spool.is_full and not self.halt.is_set():  # then they are read again by the next run
            self._tell_full()
            time.sleep(0.1)
        if not spool.is_full:
            spool.append(records)
            self.report.messages += len(records)

    async def _flush(self, spool: Spool) -> None:
        """Inbox to disk, then acknowledged. A full spool, or a full disk, acknowledges nothing."""
        while True:
            is_last = self.stop.is_set()
            if self.inbox and not spool.is_full:
                taken, self.inbox = self.inbox, []
                records = [record for records, _ in taken for record in records]
                try:
                    if records:
                        await asyncio.to_thread(spool.append, records)
                except OSError as error:
                    self._once("disk", f"{self.plant}: cannot spool ({error.strerror}); nothing is acknowledged")
                    self.inbox = taken + self.inbox
                    await asyncio.sleep(AGAIN_S)
                else:
                    for _, acknowledge in taken:
                        if acknowledge is not None:
                            with suppress(ValueError, OSError):  # the connection is gone: it comes again
                                acknowledge()
            elif self.inbox:
                self._tell_full()
            if is_last:
                return
            await asyncio.sleep(FLUSH_S)

    def _commit(self, spool: Spool) -> None:
        settings = self.home.settings.follow
        batches = Batches(self.home, self.home.source(self.plant), self.progress)
        oldest = time.monotonic() if spool.next > batches.next else None
        left = live.open_batch(self.home, self.plant) is not None
        while True:
            waiting, now = spool.next - batches.next, time.monotonic()
            if not waiting and not left:
                oldest = None
                if self.ended.wait(0.02) and spool.next == batches.next:
                    return
                continue
            oldest = now if oldest is None else oldest
            is_due = now - oldest >= settings.batch_s or waiting >= settings.batch_messages
            if not (left or is_due or self.ended.is_set()):
                self.ended.wait(0.02)
                continue
            done = self._one(batches, spool)
            left = done is None and live.open_batch(self.home, self.plant) is not None
            if done is None and self.ended.is_set():
                return
            oldest = None

    def _one(self, batches: Batches, spool: Spool) -> Done | None:
        settings = self.home.settings.follow
        try:
            done = batches.commit_next(most=settings.batch_messages, upto=spool.next)
        except OSError as error:
            self._once("commit", f"{self.plant}: cannot write history ({error.strerror}); messages wait in the spool")
            batches.tables.open.clear()
            self.ended.wait(AGAIN_S)
            return None
        if done is None:
            left = batches.unfinished_plan()
            self._once("plan", f"{self.plant}: the batch {left} was left unfinished: run `millwright ingest`")
            self.ended.wait(AGAIN_S)
            return None
        self.told -= {"commit", "plan"}
        spool.drop(done.batch.last)
        self.report.add(done, now_us=time.time_ns() // 1000)
        return done

    def _tell_full(self) -> None:
        self._once("full", f"{self.plant}: the spool is full (follow.spool_mb): messages wait at the broker")

    def _once(self, what: str, text: str) -> None:
        if what not in self.told:
            self.told.add(what)
            self._note(text)

    def _note(self, text: str) -> None:
        if len(self.report.notes) < 100:
            self.report.notes.append(text)
        self.progress.note(text)

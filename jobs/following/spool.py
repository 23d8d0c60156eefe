"""Messages on this machine's disk before anybody is told that they have arrived.

The one idea: a message is acknowledged once it lies here, so the broker may forget it; it goes once its batch
is in history. Segments are appended to and never changed; each record carries its length and a checksum, so
what power loss has cut short is seen, and was never acknowledged. Records are numbered without a gap.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cluster.files import flush
from models.errors import MillwrightError

SEGMENT_BYTES = 16 << 20
_FRAME = struct.Struct("<II")  # length, CRC-32
_HEAD = struct.Struct("<qqiBBHH")  # received us, offset, partition, kind, key's presence, lengths: stream, topic
RAW, ROWS, WRONG = 0, 1, 2  # a payload as it came; rows that Sparkplug's state has decoded; what it refused


@dataclass(frozen=True)
class Record:
    """A message. ``offset`` and ``partition`` are Kafka's, -1 with MQTT; ``key`` is Kafka's."""

    stream: str
    topic: str
    body: bytes
    received_us: int
    kind: int = RAW
    offset: int = -1
    partition: int = -1
    key: bytes | None = None

    def packed(self) -> bytes:
        stream, topic = self.stream.encode(), self.topic.encode("utf-8", "replace")[:65_535]
        key = b"" if self.key is None else struct.pack("<I", len(self.key)) + self.key
        head = _HEAD.pack(
            self.received_us, self.offset, self.partition, self.kind, self.key is not None, len(stream), len(topic)
        )
        return b"".join((head, stream, topic, key, self.body))

    @classmethod
    def unpacked(cls, data: bytes) -> Record:
        received, offset, partition, kind, has_key, of_stream, of_topic = _HEAD.unpack_from(data)
        at = _HEAD.size
        stream = data[at : at + of_stream].decode()
        topic = data[at + of_stream : at + of_stream + of_topic].decode("utf-8", "replace")
        at += of_stream + of_topic
        key = None
        if has_key:
            size = int.from_bytes(data[at : at + 4], "little")
            key, at = data[at + 4 : at + 4 + size], at + 4 + size
        return cls(stream, topic, data[at:], received, kind, offset, partition, key)


@dataclass(frozen=True)
class Placed:
    """A record with its number and where it lies: its segment's first number, and the byte."""

    number: int
    segment: int
    byte: int
    record: Record


class Spool:
    """One plant's messages. Several threads may append, one drops; a number is given once and for all."""

    def __init__(self, folder: Path, *, most_bytes: int, start: int = 0) -> None:
        """``start``: the number that a spool without any segment begins with."""
        self.folder, self.most_bytes = folder, most_bytes
        self.segment_bytes = min(SEGMENT_BYTES, most_bytes // 4)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._sizes = {int(path.stem): path.stat().st_size for path in segments(folder)}
        last = max(self._sizes, default=None)
        if last is None:
            self.next = start
            self._begin(start)
        else:
            count, good = _whole(_path(folder, last))
            if good < self._sizes[last]:
                os.truncate(_path(folder, last), good)
                self._sizes[last] = good
            self.next = last + count
            self._segment = last
            self._file = _path(folder, last).open("ab")
            if self.next < start:  # what the record of batches names was never lost: the folder was emptied by hand
                self.next = start
                self._roll()

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return sum(self._sizes.values())

    @property
    def is_full(self) -> bool:
        return self.size_bytes >= self.most_bytes

    def append(self, records: Sequence[Record]) -> int:
        """On disk when this returns; the number after the last one."""
        framed = []
        for record in records:
            data = record.packed()
            framed.append(_FRAME.pack(len(data), zlib.crc32(data)) + data)
        whole = b"".join(framed)
        with self._writing:
            if self._sizes[self._segment] >= self.segment_bytes:
                self._roll()
            self._file.write(whole)
            self._file.flush()
            os.fsync(self._file.fileno())
            with self._lock:
                self._sizes[self._segment] += len(whole)
                self.next += len(records)
            return self.next

    def drop(self, before: int) -> None:
        """Remove the segments whose records all come before a number; a newest one that is not yet large stays."""
        with self._writing:
            if before >= self.next and self._sizes[self._segment] >= self.segment_bytes:
                self._roll()  # else a spool that is full of what is done would take nothing more
        firsts = sorted(self._sizes)
        for first, following in pairwise(firsts):
            if following > before:
                break
            _path(self.folder, first).unlink(missing_ok=True)
            with self._lock:
                del self._sizes[first]

    def close(self) -> None:
        self._file.close()

    def _roll(self) -> None:
        self._file.close()
        self._begin(self.next)

    def _begin(self, first: int) -> None:
        path = _path(self.folder, first)
        self._file = path.open("ab")
        flush([self.folder])
        with self._lock:
            self._segment = first
            self._sizes[first] = path.stat().st_size


def segments(folder: Path) -> list[Path]:
    """In order."""
    return sorted(folder.glob("[0-9]*.seg"))


def read(folder: Path, number: int, at: tuple[int, int] | None = None) -> Iterator[Placed]:
    """Records from a number on, as far as they are whole; ``at`` is where the first lies, where that is known.

    Raises MillwrightError where a record before the newest ones is damaged or gone.
    """
    firsts = [int(path.stem) for path in segments(folder)]
    own = [first for first in firsts if first <= number]
    if not own:
        if firsts:
            raise _damaged(folder, number)
        return
    for first in firsts[firsts.index(own[-1]) :]:
        start = at if at and at[0] == first else (first, 0)
        count = number if at and at[0] == first else first
        for placed in _records(_path(folder, first), first, start[1], count):
            if placed.number >= number:
                yield placed
            count = placed.number + 1
        following = next((other for other in firsts if other > first), None)
        if following is not None and count < following and number < following:
            raise _damaged(_path(folder, first), count)


def _records(path: Path, segment: int, byte: int, number: int) -> Iterator[Placed]:
    with path.open("rb") as file:
        file.seek(byte)
        while len(frame := file.read(_FRAME.size)) == _FRAME.size:
            size, crc = _FRAME.unpack(frame)
            data = file.read(size)
            if len(data) < size or zlib.crc32(data) != crc:
                return
            yield Placed(number, segment, byte, Record.unpacked(data))
            byte += _FRAME.size + size
            number += 1


def _whole(path: Path) -> tuple[int, int]:
    """Records of a segment, and the byte after the last whole one."""
    count, end = 0, 0
    for placed in _records(path, 0, 0, 0):
        count, end = count + 1, placed.byte + _FRAME.size + len(placed.record.packed())
    return count, end


def _path(folder: Path, first: int) -> Path:
    return folder / f"{first:020d}.seg"


def _damaged(where: Path, number: int) -> MillwrightError:
    return MillwrightError(
        "Damaged spool of live messages", expected=f"message {number} and those behind it", found="a broken record",
        where=where, do="Put the file back from a backup, or move the folder away: only messages in it are lost",
    )

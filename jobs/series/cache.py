"""Series on disk: what a unit's rows become once, mapped into memory as often as they are asked for.

The one idea: a unit's file is named by all that its bytes follow from (files, clock, window, sensors, logs), so it is
written once, whoever needs it and however many epochs and trials read it; what is mapped is the page cache's to keep
or to drop, never a process's own memory. A file is float32 rows [T, C], one series after the other; its index is JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.files import write_atomically
from cluster.manifest import Unit, describe
from jobs.series.stream import Shape
from models.windows import CONTEXT, Float, MachineEvents, Series

FORMAT = "millwright-series/1"
IN_USE_S = 86_400.0  # what was used within a day is never removed: another job may be reading it
_VALUES = ".f32"


@dataclass(frozen=True)
class Chunk:
    """A series in a unit's file: ``row`` is where it begins there."""

    machine: str
    first_tick: int
    lead: int
    num_ticks: int
    row: int

    @property
    def first_own(self) -> int:
        """The first tick that is not context."""
        return self.first_tick + self.lead

    @property
    def last_tick(self) -> int:
        return self.first_tick + self.num_ticks - 1


@dataclass(frozen=True)
class StoredUnit:
    """A unit's file and the series in it, by machine and time."""

    path: str
    num_channels: int
    chunks: tuple[Chunk, ...]

    @property
    def num_rows(self) -> int:
        return sum(chunk.num_ticks for chunk in self.chunks)

    @property
    def size_bytes(self) -> int:
        return 4 * self.num_rows * self.num_channels

    def values(self) -> Float:
        """All rows [T, C], mapped read-only."""
        shape = (self.num_rows, self.num_channels)
        if not shape[0]:
            return np.empty(shape, np.float32)
        used(self.path)
        found: Float = np.memmap(self.path, np.dtype("<f4"), "r", shape=shape)
        return found.view(np.ndarray)


def series_at(values: Float, chunk: Chunk) -> Series:
    """A chunk as a series, a view of its unit's ``values``."""
    own = values[chunk.row : chunk.row + chunk.num_ticks]
    return Series(chunk.machine, chunk.first_tick, chunk.lead, own)


def unit_digests(units: Sequence[Unit], shape: Shape, known: Mapping[str, MachineEvents]) -> list[str]:
    """Names of all that each unit's series follow from."""
    names, logs = sorted(known), dict[tuple[str | None, str | None], bytes]()
    extra = tuple(channel.name for channel in shape.context if channel not in CONTEXT)
    about = json.dumps(
        [FORMAT, shape.sensors, shape.clock.model_dump(), shape.window.model_dump(), *([extra] if extra else [])]
    ).encode()
    found = []
    for unit in units:
        machines = (unit.low, unit.high)
        if machines not in logs:
            start = bisect_left(names, unit.low) if unit.low is not None else 0
            stop = bisect_left(names, unit.high) if unit.high is not None else len(names)
            logs[machines] = _of_logs(names[start:stop], known, extra)
        found.append(hashlib.sha256(about + describe(unit).encode() + logs[machines]).hexdigest()[:32])
    return found


def _of_logs(machines: Sequence[str], known: Mapping[str, MachineEvents], extra: Sequence[str]) -> bytes:
    digest, none = hashlib.sha256(), np.empty(0, np.int64)
    for machine in machines:
        events = known[machine]
        digest.update(f"{machine}\0{events.installed_us}\0".encode())
        told = [events.renewed_us, events.renewed_known_us, events.errors_known_us]
        for name in extra:
            what, _, which = name.partition(".")
            own = events.parts.get(which, (none, none)) if what == "since_service" else (events.codes.get(which, none),)
            told += own
        for times in told:
            digest.update(len(times).to_bytes(8, "little") + np.asarray(times, "<i8").tobytes())
    return digest.digest()


def stored(folder: Path, digest: str) -> StoredUnit | None:
    """The unit's file where it is there and whole."""
    index, values = folder / f"{digest}.json", folder / f"{digest}{_VALUES}"
    try:
        found: dict[str, Any] = json.loads(index.read_bytes())
        unit = StoredUnit(str(values), found["num_channels"], tuple(Chunk(*entry) for entry in found["chunks"]))
        if values.stat().st_size != unit.size_bytes:
            return None
        used(values)
        used(index)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return unit


def store(folder: Path, digest: str, series: Iterable[Series], *, num_channels: int) -> StoredUnit:
    """Write a unit's series as they come; two writers of one unit write the same bytes, and the last rename stays."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    values = folder / f"{digest}{_VALUES}"
    partial = values.with_name(f".{values.name}.{os.getpid()}-{os.urandom(4).hex()}")
    chunks, row = [], 0
    try:
        with partial.open("wb") as file:
            for found in series:
                file.write(np.ascontiguousarray(found.values, "<f4").data)
                chunks.append((found.machine, found.first_tick, found.lead, len(found.values), row))
                row += len(found.values)
        partial.replace(values)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    write_atomically(folder / f"{digest}.json", json.dumps({"num_channels": num_channels, "chunks": chunks}))
    return StoredUnit(str(values), num_channels, tuple(Chunk(*entry) for entry in chunks))


def prune(folder: Path, *, most_bytes: int, now_s: float | None = None) -> int:
    """Remove what was not used for longest until at most ``most_bytes`` are left; returns the bytes removed."""
    now = time.time() if now_s is None else now_s
    found = []
    for path in folder.glob("*"):
        try:
            about = path.stat()
        except FileNotFoundError:  # another run has renamed or removed it
            continue
        if stat.S_ISREG(about.st_mode):
            found.append((about.st_mtime, about.st_size, path))
    total, removed = sum(size for _, size, _ in found), 0
    for since, size, path in sorted(found, key=lambda entry: entry[0]):
        if total - removed <= most_bytes or now - since < IN_USE_S:
            break
        removed += size
        path.unlink(missing_ok=True)
    return removed


def used(path: str | Path) -> None:
    """Tell `prune` that a file is in use; one that may not be touched is simply older."""
    with suppress(OSError):
        os.utime(path)


def num_channels_of(shape: Shape) -> int:
    return len(shape.sensors) + len(shape.context)

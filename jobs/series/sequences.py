"""A part of a plant's history as training sequences that stay on disk.

The one idea: labels are computed once by the tasks that hold a unit, and lie beside its values; a study carries the
places of its sequences and nothing else, so it is small in the object store, and whoever trains maps what it reads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from jobs.series.cache import StoredUnit, used
from models.features import Sequence as History

_COLUMNS = (("time", "<f4"), ("event", "?"), ("usable", "?"), ("mode", "i1"), ("ended_by", "i1"))


@dataclass(frozen=True)
class StoredSequence:
    """Rows ``start`` to ``stop`` of a unit's file, and their labels from row ``label`` of the labels' file on."""

    machine: str
    values: str
    num_channels: int
    num_rows: int  # of the whole file
    start: int
    stop: int
    labels: str
    num_labels: int  # in the whole file
    label: int
    first_tick: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class StoredSequences(Sequence[History]):
    """Training sequences, mapped when they are asked for."""

    places: tuple[StoredSequence, ...]
    _open: dict[tuple[str, int], Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> History: ...
    @overload
    def __getitem__(self, index: slice) -> StoredSequences: ...
    def __getitem__(self, index: int | slice) -> History | StoredSequences:
        if isinstance(index, slice):
            return StoredSequences(self.places[index])
        place = self.places[index]
        values = self._mapped(place.values, "<f4", 0, (place.num_rows, place.num_channels))
        total, own = place.num_labels, slice(place.label, place.label + len(place))
        time = self._mapped(place.labels, "<f4", 0, (total,))
        event, usable = (self._mapped(place.labels, "?", at * total, (total,)) for at in (4, 5))
        mode, ended_by = (self._mapped(place.labels, "i1", at * total, (total,)) for at in (6, 7))
        rows = values[place.start : place.stop]
        return History(
            place.machine, rows, time[own], event[own], usable[own], place.first_tick, mode[own], ended_by[own]
        )

    def __iter__(self) -> Iterator[History]:
        return (self[index] for index in range(len(self.places)))

    def __reduce__(self) -> tuple[type[StoredSequences], tuple[tuple[StoredSequence, ...]]]:
        return StoredSequences, (self.places,)  # a map of one process is nothing to another

    @property
    def size_bytes(self) -> int:
        return sum(len(place) * (4 * place.num_channels + 8) for place in self.places)

    def _mapped(self, path: str, kind: str, offset: int, shape: tuple[int, ...]) -> Any:
        key = (path, offset)
        if key not in self._open:
            used(path)  # each trial maps it anew: in use, however long a study lasts
            mapped = np.memmap(path, np.dtype(kind), "r", offset=offset, shape=shape)
            self._open[key] = mapped.view(np.ndarray)
        return self._open[key]


def store_labels(unit: StoredUnit, found: Sequence[tuple[int, History]]) -> list[StoredSequence]:
    """Write the labels of a unit's sequences, each with the row it begins at, beside it; returns their places.

    The file is named by what is in it: the same labels are written once.
    """
    if not found:
        return []
    joined = [(np.concatenate([getattr(history, name) for _, history in found]), kind) for name, kind in _COLUMNS]
    content = b"".join(column.astype(kind).tobytes() for column, kind in joined)
    total = len(joined[0][0])
    path = Path(unit.path).with_suffix(f".{hashlib.sha256(content).hexdigest()[:16]}.labels")
    if not path.is_file():
        partial = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
        partial.write_bytes(content)
        partial.replace(path)
    used(path)
    places, at = [], 0
    for start, history in found:
        length = len(history.time)
        places.append(
            StoredSequence(
                history.machine, unit.path, unit.num_channels, unit.num_rows, start, start + length, str(path),
                total, at, history.first_tick,
            )
        )  # fmt: skip
        at += length
    return places

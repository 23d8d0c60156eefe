"""Parsed readings on their way from parsing to merging: files of rows by machine type and month.

The one idea: a part is sorted by machine and time and knows how many rows each machine has, so whoever
merges a few machines reads their rows alone, and reading all of it costs the same in one piece or in many.
Rows of one identity keep the order in which they were delivered.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel

from jobs.ingesting.bounds import Bounds

FLUSH_CELLS = 3_000_000  # held before they are written; machine, time and what sorting takes count as cells
ROW_CELLS = 6
BATCH_ROWS = 65_536  # read at a time
DEFAULT_TYPE = "machine"
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Part(BaseModel):
    """Rows of one readings table and month in one file, sorted by machine and time.

    ``machines``: rows, first and last time (us) of each, in that order. ``order``, ``piece`` and
    ``number`` are its place in the delivery, ``file`` and ``stream`` are where it comes from.
    """

    file: str
    stream: str
    order: int
    piece: int
    number: int
    machine_type: str
    month: str
    path: str
    rows: int
    sensors: list[str]
    machines: dict[str, tuple[int, int, int]]

    @property
    def place(self) -> tuple[int, int, int]:
        return self.order, self.piece, self.number

    def slice(self, low: str | None, high: str | None) -> Slice:
        """The rows of machines in ``[low, high)``; None is no bound."""
        cut = Bounds(low=low, high=high)
        start = sum(n for name, (n, _, _) in self.machines.items() if low is not None and name < low)
        rows = sum(n for name, (n, _, _) in self.machines.items() if cut.holds(name))
        return Slice(path=self.path, start=start, rows=rows, file=self.file, stream=self.stream)


class Slice(BaseModel):
    """Rows of a part that follow each other."""

    path: str
    start: int
    rows: int
    file: str
    stream: str

    def read(self, since_us: int | None = None, until_us: int | None = None) -> pa.Table:
        """The rows, or those of times in ``[since_us, until_us)``."""
        first, last = self.start // BATCH_ROWS, (self.start + self.rows - 1) // BATCH_ROWS
        batches = []
        with pa.OSFile(self.path, "rb") as file:
            opened = pa.ipc.open_file(file)
            for number in range(first, last + 1):
                start = max(0, self.start - number * BATCH_ROWS)
                end = min(BATCH_ROWS, self.start + self.rows - number * BATCH_ROWS)
                batches.append(_between(opened.get_batch(number).slice(start, end - start), since_us, until_us))
            return pa.Table.from_batches(batches, opened.schema)


def slug(machine_type: str) -> str:
    """A machine type as the name of a folder: lower case, ``_`` for whatever is no letter or digit."""
    return "".join(c if c.isalnum() else "_" for c in machine_type.strip().lower()).strip("_") or DEFAULT_TYPE


@dataclass(frozen=True)
class _Keys:
    """Every row's machine type, month and machine as numbers that sort as the names do."""

    kinds: list[str]
    names: list[str]
    kind: Ints
    month: Ints
    machine: Ints
    time: Ints


@dataclass(frozen=True)
class Origin:
    """Where readings come from, and which machine is of which type."""

    file: str
    stream: str
    order: int
    piece: int
    types: Mapping[str, str]
    default_type: str | None


Watch = Callable[[list[str], Ints, Ints, dict[str, Floats]], None]


class PartWriter:
    """Holds canonical readings and writes them by machine type and month.

    ``watch`` sees them before they are sorted: machine names, codes, times (us) and columns.
    """

    def __init__(self, folder: Path, origin: Origin, watch: Watch | None = None) -> None:
        self.folder, self.origin, self.watch = folder, origin, watch
        self.held: list[pa.Table] = []
        self.cells = 0
        self.parts: list[Part] = []

    def add(self, table: pa.Table) -> None:
        """``machine``, ``time`` (int64 us) and sensors (float32)."""
        if table.num_rows:
            self.held.append(table)
            self.cells += table.num_rows * (table.num_columns + ROW_CELLS)
        if self.cells >= FLUSH_CELLS:
            self._flush()

    def finish(self) -> list[Part]:
        self._flush()
        return self.parts

    def _flush(self) -> None:
        if not self.held:
            return
        table = pa.concat_tables(self.held, promote_options="default").combine_chunks()
        self.held, self.cells = [], 0
        keys = self._keys(table)
        if self.watch:
            columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("machine", "time")}
            self.watch(keys.names, keys.machine, keys.time, columns)
        order = _order(keys)
        if order is not None:
            table = table.take(pa.array(order))
        in_order = slice(None) if order is None else order
        kind, month, machine, time = (k[in_order] for k in (keys.kind, keys.month, keys.machine, keys.time))
        turns = np.flatnonzero((np.diff(kind) != 0) | (np.diff(month) != 0) | (np.diff(machine) != 0)) + 1
        starts = np.concatenate([[0], turns, [len(time)]])
        pieces: dict[tuple[int, int], dict[str, tuple[int, int, int]]] = {}
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            own = pieces.setdefault((int(kind[start]), int(month[start])), {})
            own[keys.names[machine[start]]] = (end - start, int(time[start]), int(time[end - 1]))
        at = 0
        for (of_kind, of_month), machines in pieces.items():
            rows = sum(n for n, _, _ in machines.values())
            self._write(table.slice(at, rows), keys.kinds[of_kind], str(np.datetime64(of_month, "M")), machines)
            at += rows

    def _keys(self, table: pa.Table) -> _Keys:
        encoded = table["machine"].combine_chunks().dictionary_encode()
        seen: list[str] = encoded.dictionary.to_pylist()
        names = sorted(seen)
        rank = np.asarray(_ranks(seen, names), np.int64)
        machine = rank[np.asarray(encoded.indices, np.int64)]
        default = slug(self.origin.default_type or DEFAULT_TYPE)
        types = [self.origin.types.get(name) or default for name in names]
        kinds = sorted(set(types))
        kind = np.asarray([kinds.index(t) for t in types], np.int64)[machine]
        time = table["time"].to_numpy()
        month = time.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        return _Keys(kinds, names, kind, month, machine, time)

    def _write(self, table: pa.Table, kind: str, month: str, machines: dict[str, tuple[int, int, int]]) -> None:
        own = self.origin
        path = write_ipc(self.folder, f"{own.order:06d}-{own.piece:06d}", table)
        self.parts.append(
            Part(
                file=own.file, stream=own.stream, order=own.order, piece=own.piece, number=len(self.parts),
                machine_type=kind, month=month, path=path, rows=table.num_rows, machines=machines,
                sensors=[name for name in table.column_names if name not in ("machine", "time")],
            )
        )  # fmt: skip


def _between(batch: pa.RecordBatch, since_us: int | None, until_us: int | None) -> pa.RecordBatch:
    if since_us is None and until_us is None:
        return batch
    time, far = batch["time"].to_numpy(), np.iinfo(np.int64)
    low, high = far.min if since_us is None else since_us, far.max if until_us is None else until_us
    return batch.filter(pa.array((time >= low) & (time < high)))


def write_ipc(folder: Path, stem: str, table: pa.Table) -> str:
    """A new file of a batch's work folder, in record batches of `BATCH_ROWS` rows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{uuid.uuid4().hex[:12]}.arrow"
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    whole = table.combine_chunks()  # chunks would end record batches early
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(whole, max_chunksize=BATCH_ROWS)
    return str(path)


def read_back(path: str) -> pa.Table:
    """What `write_ipc` has written."""
    with pa.OSFile(path, "rb") as file:
        return pa.ipc.open_file(file).read_all()


def _ranks(seen: list[str], names: list[str]) -> list[int]:
    place = {name: number for number, name in enumerate(names)}
    return [place[name] for name in seen]


def _order(keys: _Keys) -> Ints | None:
    """A stable order by machine type, month, machine and time; None where the rows have it already."""
    low, high = int(keys.time.min()), int(keys.time.max())
    span, machines = high - low + 1, len(keys.names)
    months = keys.month - keys.month.min()
    outer = (keys.kind * (int(months.max()) + 1) + months) * machines + keys.machine
    if (int(outer.max()) + 1) * span < 2**62:  # one key sorts three times as fast as two
        key = outer * span + (keys.time - low)
        return None if bool((np.diff(key) >= 0).all()) else np.argsort(key, kind="stable")
    return np.lexsort((keys.time, outer))

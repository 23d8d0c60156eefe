"""Files of one month cut into slices that fit into memory, and one slice read in order.

The one idea: a slice is a range of whole machines with at most so many rows, or a span of time of one machine
that has more. Slices of a month do not overlap and leave nothing out, whatever the files look like.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.places import parquet_file, read_parquet
from cluster.storage import BOOKKEEPING, ReadingFile
from jobs.ingesting.bounds import Bounds


def month_of(file: ReadingFile) -> str:
    """The month in a file's path, or empty where there is none."""
    part = next((part for part in file.path.split("/") if part.startswith("month=")), "")
    return part.removeprefix("month=")


def by_month(files: Iterable[ReadingFile]) -> dict[str, list[ReadingFile]]:
    found: dict[str, list[ReadingFile]] = {}
    for file in files:
        found.setdefault(month_of(file), []).append(file)
    return dict(sorted(found.items()))


def slices(files: Sequence[ReadingFile], *, most_rows: int) -> list[Bounds]:
    """Slices in the order of machine and time. Reads the files' machine column only."""
    counts = _rows_by_machine(files)
    found: list[Bounds] = []
    low: str | None = None
    held = 0
    for machine, rows in sorted(counts.items()):
        if held and held + rows > most_rows:
            found.append(Bounds(low=low, high=machine))
            low, held = machine, 0
        if rows > most_rows:
            after = _successor(machine)
            found += _spans(files, machine, rows, low=low, high=after, most_rows=most_rows)
            low = after
        else:
            held += rows
    if held or not found:
        found.append(Bounds(low=low))
    return [*found[:-1], found[-1].model_copy(update={"high": None})]


def read_slice(files: Sequence[str], cut: Bounds) -> pa.Table:
    """The slice's rows sorted by machine and time, every column of the files, bookkeeping last."""
    schema = pa.unify_schemas([parquet_file(path).schema_arrow.remove_metadata() for path in files])
    sensors = sorted(name for name in schema.names if name not in BOOKKEEPING)
    order = ["machine", "time", *sensors, "ingested_at", "source_id"]
    wanted = pa.schema([schema.field(name) for name in order if name in schema.names])
    found = read_parquet(files, wanted, filter=cut.condition(), batch_readahead=2, fragment_readahead=1)
    return found.take(pc.sort_indices(found, sort_keys=[("machine", "ascending"), ("time", "ascending")]))


def meeting(files: Iterable[ReadingFile], cut: Bounds) -> list[str]:
    """Paths of the files that may hold rows within the bounds."""
    return [file.path for file in files if cut.meets(file)]


def is_sorted(path: str) -> bool:
    """Whether the rows come by machine and time."""
    last: tuple[str, int] | None = None
    for batch in parquet_file(path).iter_batches(columns=["machine", "time"]):
        if not batch.num_rows:
            continue
        machine, time = batch["machine"].cast(pa.string()), np.asarray(batch["time"].cast(pa.int64()))
        first = (machine[0].as_py(), int(time[0]))
        up = np.asarray(pc.greater(machine[1:], machine[:-1]))
        same = np.asarray(pc.equal(machine[1:], machine[:-1]))
        if not (up | (same & (np.diff(time) >= 0))).all() or (last is not None and first < last):
            return False
        last = (machine[-1].as_py(), int(time[-1]))
    return True


def overlap(files: Sequence[ReadingFile]) -> bool:
    """Whether two files may hold rows of one machine and one span of time."""
    ordered = sorted(files, key=lambda file: (file.first_machine, file.last_machine, file.first_us))
    reach = ""
    for file in ordered:
        if file.first_machine < reach:
            return True
        reach = max(reach, file.last_machine)
    return any(
        a.last_machine == b.first_machine and not (a.first_machine == b.last_machine and a.last_us < b.first_us)
        for a, b in pairwise(ordered)
    )


def _rows_by_machine(files: Sequence[ReadingFile]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for file in files:
        if file.first_machine == file.last_machine:
            counts[file.first_machine] += file.num_rows
            continue
        for batch in parquet_file(file.path).iter_batches(columns=["machine"]):
            for entry in batch["machine"].value_counts().to_pylist():
                counts[str(entry["values"])] += entry["counts"]
    return counts


def _spans(
    files: Sequence[ReadingFile], machine: str, rows: int, *, low: str | None, high: str, most_rows: int
) -> list[Bounds]:
    """One machine with more rows than a slice may have, cut into equal spans of time."""
    own = [file for file in files if file.first_machine <= machine <= file.last_machine]
    first, last = min(file.first_us for file in own), max(file.last_us for file in own)
    bounds = np.linspace(first, last + 1, math.ceil(rows / most_rows) + 1).astype(np.int64).tolist()
    spans = [None, *bounds[1:-1], None]
    return [Bounds(low=low, high=high, since_us=since, until_us=until) for since, until in pairwise(spans)]


def _successor(text: str) -> str:
    """The text that sorts next."""
    return text + "\0"

"""A stream's file -> raw chunks, whatever its format; and what its columns are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.sources import archive, csv, jsonl, logs, parquet, readings
from jobs.sources.judging import numbers_of, times_of
from jobs.sources.passes import Passes
from jobs.sources.raw import Chunk, Chunks, Reason, Span, Wanted, Wrong, only_wrong
from jobs.sources.values import encoded
from models.source import SensorColumn, Stream

MOST_LOST = 200_000  # lines that cannot be read, after which a file that has more of them than rows is given up
LOOK_BACK_BYTES = 1 << 20  # before a piece that begins in a doubled hour; more where that is not enough
_BEHIND_ANY_HEADER = 1 << 40
_PARQUET = b"PAR1"


def wanted(stream: Stream, names: Iterable[str] = ()) -> Wanted:
    """The raw columns that a stream's rows are made of; ``names`` are those that a file has."""
    found = readings.wanted(stream, names) if stream.role == "readings" else logs.wanted(stream)
    return {**dict.fromkeys(stream.where, "name"), **found}


def required(stream: Stream) -> list[str]:
    """Raw columns without which no row of the stream means anything."""
    found = readings.required(stream) if stream.role == "readings" else logs.required(stream)
    return [*found, *(column for column in stream.where if column not in found)]


def header(path: Path, stream: Stream) -> list[str] | None:
    """The file's columns as far as its head tells, or None where it is empty or unreadable. Raises OSError."""
    if archive.size(path) == 0:
        return None
    if stream.format == "parquet":
        return parquet.header(path)
    if stream.format == "csv":
        return csv.header(path, stream.csv)
    return jsonl.header(path, array=stream.format == "json")


def chunks(path: Path, stream: Stream, span: Span | None = None) -> Chunks:
    """Every raw row of a file, or of a ``span`` of one that is `text.splittable`, whose lines count from the
    file's start. A file that cannot be used is one entry of quarantine, in the span that begins it. Raises OSError.
    """
    passes = Passes(partial(_shown_before, path, stream, span.start) if span and span.start else None)
    rows = lost = 0
    for chunk in _chunks(path, stream, span):
        yield replace(chunk, passes=passes)
        rows += chunk.table.num_rows
        lost += sum(entry.scope == "row" for entry in chunk.wrong)
        if lost > max(rows, MOST_LOST):
            detail = f"over {MOST_LOST} lines are wrong, more than are good: not read further"
            yield only_wrong(Wrong(Reason.UNREADABLE, detail=detail, scope="file"))
            return


def _shown_before(path: Path, stream: Stream, end: int, known: dict[str, int]) -> Iterator[tuple[Passes, int | None]]:
    """What ever more of the rows before byte ``end`` show of hours that are shown twice, and their first time."""
    size, start = LOOK_BACK_BYTES, end
    while start > 0:
        start = _line_start(path, max(0, end - size))
        passes, first_us = Passes(known=known), None
        for chunk in _chunks(path, stream, Span(start, end, 1 if start == 0 else _BEHIND_ANY_HEADER)):
            if chunk.table.num_rows:
                times = times_of(replace(chunk, passes=passes), stream).drop_null()
                first_us = times[0].as_py() if first_us is None and len(times) else first_us
        yield passes, first_us
        size *= 4


def _line_start(path: Path, at: int) -> int:
    """The first start of a line from byte ``at`` on."""
    with path.open("rb") as file:
        file.seek(max(0, at - 1))
        return file.tell() + len(file.readline()) if at else 0


def _chunks(path: Path, stream: Stream, span: Span | None) -> Chunks:
    begins = span is None or span.start == 0
    if wrong := _unusable(path, stream):
        if begins:
            yield only_wrong(wrong)
        return
    names = header(path, stream)
    if names is None and stream.format != "parquet":
        # Nothing readable at its head: let the reader say what it finds.
        told = False
        for chunk in _of_format(path, stream, span, []):
            told = told or bool(chunk.wrong or chunk.table.num_rows)
            yield chunk
        if not told and begins:
            yield only_wrong(Wrong(Reason.EMPTY, detail="no rows", scope="file"))
        return
    if missing := _missing(stream, names):
        if begins:
            found = ", ".join(names or [])[:300].replace("\0", "\\0")
            detail = f"no column {missing!r}; found {found}"
            yield only_wrong(Wrong(Reason.MISSING_COLUMN, 1, detail=detail, scope="file"))
        return
    yield from _of_format(path, stream, span, names or [])


def _unusable(path: Path, stream: Stream) -> Wrong | None:
    if archive.split(path)[1] is not None:
        return None  # what is wrong with a member shows when it is opened
    with path.open("rb") as file:
        head = file.read(len(_PARQUET))
    if not head:
        return Wrong(Reason.EMPTY, detail="the file has no bytes", scope="file")
    if head == _PARQUET and stream.format != "parquet":
        return Wrong(Reason.UNREADABLE, detail=f"a Parquet file, where {stream.format} is described", scope="file")
    return None


def _missing(stream: Stream, names: list[str] | None) -> str | None:
    """A column without which the file means nothing."""
    if names is None:
        return None
    if missing := [column for column in required(stream) if column not in names]:
        return missing[0]
    if stream.role != "readings" or stream.layout != "wide" or not stream.sensors:
        return None
    in_names = stream.machine.kind == "tag"
    known = readings.of_columns(stream, names) if in_names else set(stream.sensors) & set(names)
    return None if known else next(iter(stream.sensors))


def is_numeric(path: Path, stream: Stream, column: str) -> bool:
    """Whether most of a column's first values are numbers."""
    probe = stream.model_copy(update={"sensors": {column: SensorColumn(sensor="probe")}})
    for chunk in chunks(path, probe):
        if chunk.table.num_rows and column in chunk.table.column_names:
            values, no_number = numbers_of(chunk, column, stream.csv.decimal)
            return bool((~np.isnan(values[:1000])).sum() > no_number[:1000].sum())
    return False


def _of_format(path: Path, stream: Stream, span: Span | None, names: list[str]) -> Chunks:
    columns = wanted(stream, names)
    if stream.format == "parquet":
        found = parquet.chunks(path, columns)
    elif stream.format == "csv":
        found = csv.chunks(path, stream.csv, columns, span)
    else:
        found = jsonl.chunks(path, columns, span, array=stream.format == "json")
    return found if not stream.where else (_kept(chunk, stream) for chunk in found)


def _kept(chunk: Chunk, stream: Stream) -> Chunk:
    """The rows that are the stream's."""
    kept = np.ones(chunk.table.num_rows, bool)
    for column, accepted in stream.where.items():
        if column in chunk.table.column_names:
            codes, names = encoded(chunk.table[column])
            kept &= np.asarray([*(name in accepted for name in names), False])[codes]
    rows = np.flatnonzero(kept)
    texts = {
        column: {int(np.searchsorted(rows, row)): text for row, text in cells.items() if kept[row]}
        for column, cells in chunk.texts.items()
    }

    def locate(indices: Sequence[int]) -> list[tuple[int, str]]:
        return chunk.locate(rows[list(indices)].tolist())

    return Chunk(chunk.table.filter(pa.array(kept)), locate, chunk.wrong, texts)

"""A stream's file -> raw chunks, whatever its format; and what its columns are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.sources import csv, jsonl, logs, parquet, readings
from jobs.sources.raw import Chunks, Reason, Wanted, Wrong, only_wrong
from jobs.sources.values import to_float
from models.source import SensorColumn, Stream


def wanted(stream: Stream) -> Wanted:
    return readings.wanted(stream) if stream.role == "readings" else logs.wanted(stream)


def required(stream: Stream) -> list[str]:
    return readings.required(stream) if stream.role == "readings" else logs.required(stream)


def header(path: Path, stream: Stream) -> list[str] | None:
    """The file's columns as far as its head tells, or None where it is empty or unreadable. Raises OSError."""
    if path.stat().st_size == 0:
        return None
    if stream.format == "parquet":
        return parquet.header(path)
    if stream.format == "csv":
        return csv.header(path, stream.csv)
    return jsonl.header(path, array=stream.format == "json")


def chunks(path: Path, stream: Stream) -> Chunks:
    """Every raw row of a file; a file that cannot be used is one entry of quarantine. Raises OSError."""
    if path.stat().st_size == 0:
        yield only_wrong(Wrong(Reason.EMPTY, detail="the file has no bytes", scope="file"))
        return
    names = header(path, stream)
    if names is None and stream.format != "parquet":
        # Nothing readable at its head: let the reader say what it finds.
        found = list(_of_format(path, stream))
        yield from found
        if not any(chunk.wrong for chunk in found):
            yield only_wrong(Wrong(Reason.EMPTY, detail="no rows", scope="file"))
        return
    missing = [column for column in required(stream) if names is not None and column not in names]
    sensors = list(stream.sensors) if stream.role == "readings" and stream.layout == "wide" else []
    if not missing and sensors and names is not None and not set(sensors) & set(names):
        missing = sensors
    if missing:
        detail = f"no column {missing[0]!r}; found {', '.join(names or [])[:300]}"
        yield only_wrong(Wrong(Reason.MISSING_COLUMN, 1, detail=detail, scope="file"))
        return
    yield from _of_format(path, stream)


def is_numeric(path: Path, stream: Stream, column: str) -> bool:
    """Whether most of a column's first values are numbers."""
    probe = stream.model_copy(update={"sensors": {column: SensorColumn(sensor="probe")}})
    for chunk in chunks(path, probe):
        if chunk.table.num_rows and column in chunk.table.column_names:
            values, no_number = to_float(chunk.table[column].slice(0, 1000), stream.csv.decimal)
            return bool((~np.isnan(values)).sum() > no_number.sum())
    return False


def _of_format(path: Path, stream: Stream) -> Chunks:
    if stream.format == "parquet":
        return parquet.chunks(path, wanted(stream))
    if stream.format == "csv":
        return csv.chunks(path, stream.csv, wanted(stream))
    return jsonl.chunks(path, wanted(stream), array=stream.format == "json")

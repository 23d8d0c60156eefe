"""Parquet, one row group's batches at a time. A row's line is its number from 1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sources.raw import MAX_RAW, Chunk, Chunks, Reason, Wanted, Wrong, only_wrong

BATCH_ROWS = 262_144


def header(path: Path) -> list[str] | None:
    """The file's columns, or None where it is no readable Parquet. Raises OSError."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, EOFError):
        return None


def chunks(path: Path, wanted: Wanted) -> Chunks:
    """Every row of the file, in order; from the first unreadable page on, the file is wrong."""
    row = 0
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            present = [name for name in file.schema_arrow.names if name in wanted]
            for batch in file.iter_batches(BATCH_ROWS, columns=present, use_threads=False):
                table = pa.Table.from_batches([batch])
                yield Chunk(_plain(table), _locator(table, row + 1))
                row += table.num_rows
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield only_wrong(Wrong(Reason.UNREADABLE, row + 1 if row else None, detail=str(error)[:200], scope="file"))


def _plain(table: pa.Table) -> pa.Table:
    """Dictionary columns as their values, decimals as floats."""
    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_dictionary(kind):
            columns.append(column.cast(kind.value_type))
        else:
            columns.append(column.cast(pa.float64()) if pa.types.is_decimal(kind) else column)
    return pa.table(columns, names=table.column_names)


def _locator(table: pa.Table, first: int):  # type: ignore[no-untyped-def]
    def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
        found = table.take(pa.array(rows, pa.int64())).to_pylist()
        return [
            (first + row, json.dumps(values, default=str, ensure_ascii=False)[:MAX_RAW])
            for row, values in zip(rows, found, strict=True)
        ]

    return locate

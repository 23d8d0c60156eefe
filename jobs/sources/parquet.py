"""Parquet, a batch of a row group at a time. A row's line is its number from 1.

The one idea: a footer may claim anything, so nothing is allotted by its word: text that repeats stays a
dictionary, a row group is streamed, and one that says it is huge is not begun.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sources import archive
from jobs.sources.raw import MAX_RAW, Chunk, Chunks, Reason, Wanted, Wrong, only_wrong

BATCH_ROWS = 262_144
MAX_MEMBER = 512 << 20  # bytes of a Parquet file in a zip archive, which is read whole
_MAX_GROUP = 4 << 30  # bytes of the wanted columns of a row group
_MAX_FOOTER = 64 << 20
# KeyError: a column of names that is no column of text.
_FAULTS = (pa.ArrowException, OSError, EOFError, MemoryError, OverflowError, KeyError, zipfile.BadZipFile)


def header(path: Path) -> list[str] | None:
    """The file's columns, or None where it is no readable Parquet. Raises OSError."""
    try:
        with _opened(path) as file:
            return list(file.schema_arrow.names)
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return None


def chunks(path: Path, wanted: Wanted) -> Chunks:
    """Every row of the file, in order; from the first unreadable page on, the file is wrong."""
    row = 0
    try:
        with _opened(path, [name for name, kind in wanted.items() if kind == "name"]) as file:
            present = [name for name in file.schema_arrow.names if name in wanted]
            for group in range(file.num_row_groups):
                _check_size(file, group, set(present))
                for batch in file.iter_batches(BATCH_ROWS, [group], columns=present, use_threads=False):
                    table = pa.Table.from_batches([batch])
                    yield Chunk(_plain(table), _locator(table, row + 1))
                    row += table.num_rows
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        detail = str(error)[:200] or type(error).__name__
        yield only_wrong(Wrong(Reason.UNREADABLE, row + 1 if row else None, detail=detail, scope="file"))


@contextmanager
def _opened(path: Path, names: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """``names``: columns whose text comes again and again."""
    limits = {"thrift_string_size_limit": _MAX_FOOTER, "thrift_container_size_limit": _MAX_FOOTER // 8}
    options = {"read_dictionary": list(names), "pre_buffer": False, "buffer_size": 1 << 20, "memory_map": False}
    if archive.split(path)[1] is None:
        with pq.ParquetFile(path, **options, **limits) as file:
            yield file
        return
    with archive.opened(path) as stream:
        data = stream.read(MAX_MEMBER + 1)
    if len(data) > MAX_MEMBER:
        raise pa.ArrowInvalid(f"over {MAX_MEMBER >> 20} MB unpacked, more than is read of a Parquet file in an archive")
    with pq.ParquetFile(pa.BufferReader(data), **options, **limits) as file:
        yield file


def _check_size(file: pq.ParquetFile, group: int, present: set[str]) -> None:
    """Raises pa.ArrowInvalid."""
    about = file.metadata.row_group(group)
    columns = (about.column(i) for i in range(about.num_columns))
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in present)
    if size > _MAX_GROUP:
        raise pa.ArrowInvalid(f"a row group of {size / 1e9:.1f} GB, more than the {_MAX_GROUP >> 30} GB that are read")


def _plain(table: pa.Table) -> pa.Table:
    """Decimals as floats, and dictionaries of anything but text as their values."""
    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_dictionary(kind) and not pa.types.is_string(kind.value_type):
            columns.append(column.cast(kind.value_type))
        else:
            columns.append(column.cast(pa.float64()) if pa.types.is_decimal(kind) else column)
    return pa.table(columns, names=table.column_names)


def _locator(table: pa.Table, first: int) -> Callable[[Sequence[int]], list[tuple[int, str]]]:
    def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
        found = table.take(pa.array(rows, pa.int64())).to_pylist()
        return [
            (first + row, json.dumps(values, default=str, ensure_ascii=False)[:MAX_RAW])
            for row, values in zip(rows, found, strict=True)
        ]

    return locate

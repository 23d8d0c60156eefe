"""How a file is written: encoding, comment lines, and the text table below them; or JSON, or Parquet.

The one idea: every format ends as a ``Table`` of text cells, so that what follows looks at one thing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.infer import sampling
from jobs.infer.dialect import Dialect, dialect, split
from jobs.infer.heading import heading
from jobs.infer.numerals import signs
from jobs.infer.sampling import UnreadableError
from jobs.sources.csv import unique_names
from models.source import CsvFormat

Format = Literal["csv", "jsonl", "json", "parquet"]
_COMMENTS = ("#", "%", "//")
_LINES = 400  # that decide the dialect
_PARQUET_ROWS = 3000  # from the beginning of each row group that is looked at
_GROUPS = 8


@dataclass(frozen=True)
class Shape:
    """How a file is written and its columns. ``units`` is a row of units below the header, by column."""

    format: Format
    csv: CsvFormat
    columns: tuple[str, ...]
    comments: tuple[str, ...] = ()  # and the lines of a preamble
    units: dict[str, str] = field(default_factory=dict)
    given: bool = False  # the names are the file's, but not in a line that can be read as its header

    @property
    def named(self) -> bool:
        return self.csv.columns is None or self.given


@dataclass(frozen=True)
class Table:
    """Sampled cells as text, "" where there is none. The first ``num_head`` rows follow each other in the file.

    ``zones`` holds the columns that are timestamps by type, each with its zone or "".
    """

    cells: dict[str, list[str]]
    num_head: int
    zones: dict[str, str] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return max(map(len, self.cells.values()), default=0)


def read(path: Path, *, head: int = sampling.HEAD, slices: bool = True) -> tuple[Shape, Table]:
    """Sample one file. Raises UnreadableError saying why it cannot be read."""
    first = sampling.magic(path)
    if first[:4] == b"PAR1":
        return _parquet(path, rows=_PARQUET_ROWS if slices else 0)
    if first[:4] in sampling.ZIP:
        raise UnreadableError(sampling.why_not_unpacked(path))
    found = sampling.piece(path, first, head=head, slices=slices)
    encoding = _encoding(found.head)
    text = _decoded(found.head, encoding)
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start == "[":
        try:
            return _json_array(text, encoding)
        except RecursionError as error:
            raise UnreadableError("JSON that is nested too deeply") from error
    if not found.whole:
        text, newline, _ = text.rpartition("\n")
        if not newline and head < sampling.HEAD:
            return read(path, slices=slices)
        if not newline:
            raise UnreadableError(f"no line break in the first {len(found.head):,} bytes")
    # A slice of UTF-16 may start amid a character; other encodings recover at the next line.
    pieces = [] if encoding.startswith("utf-16") else [_decoded(part, encoding) for part in found.slices]
    later = [line for part in pieces for line in part.split("\n")[1:-1]]
    if start == "{":
        return _json_lines(text, later, encoding)
    return _csv(text.splitlines(), later, encoding)


def _encoding(head: bytes) -> str:
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if head.startswith(mark):
            return name
    if b"\x00" in head[:4096]:
        even, odd = head[:4096:2].count(0), head[1:4096:2].count(0)
        if max(even, odd) > len(head[:4096]) * 0.4 and min(even, odd) == 0:
            return "utf-16-le" if odd else "utf-16-be"
        raise UnreadableError("binary, not a text table")
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else a character cut by the sample's end
            return "cp1252"
    return "utf-8"


def _decoded(data: bytes, encoding: str) -> str:
    return data.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _csv(lines: list[str], later: list[str], encoding: str) -> tuple[Shape, Table]:
    mark = next((mark for mark in _COMMENTS if lines and lines[0].startswith(mark)), None)
    comments = list(takewhile(lambda line: mark and line.startswith(mark), lines))
    body = lines[len(comments) :]
    decisive = [line for line in body[:_LINES] if line.strip()]
    if not decisive:
        raise UnreadableError("no row" + (" but comments" if comments else ""))
    by = dialect(decisive)
    head = heading(body, by, comments, mark)
    names = unique_names(list(head.names)) if head.names else [f"column_{i + 1}" for i in range(by.width)]
    own = head.names is not None and not head.given  # the file's own line is its header
    start = head.skip + own + head.after
    data = _rows(body[start:], by)
    columns = _columns(names, data, _rows(later, by))
    decimal, thousands = signs(cells[:_LINES] for cells in columns.values())
    written = CsvFormat(
        delimiter=by.delimiter, widths=by.widths, quote=by.quote, decimal=decimal, thousands=thousands,
        encoding=encoding, columns=None if own else tuple(names), comment=mark, skip_rows=head.skip,
        skip_after_header=head.after,
    )  # fmt: skip
    units = dict(zip(names, head.units, strict=True)) if head.units else {}
    said = (*comments, *body[: head.skip])
    return Shape("csv", written, tuple(names), said, units, head.given), Table(columns, len(data))


def _rows(lines: list[str], by: Dialect) -> list[list[str]]:
    """The rows that are cut as most are; the others are told when they are read."""
    return [row for row in split(lines, by) if len(row) == by.width] if lines else []


def _columns(names: list[str], *parts: list[list[str]]) -> dict[str, list[str]]:
    rows = [row for part in parts for row in part if any(cell.strip() for cell in row)]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: [cell.strip() for cell in column] for name, column in zip(names, columns, strict=True)}


def _json_lines(text: str, later: list[str], encoding: str) -> tuple[Shape, Table]:
    head = [_object(line) for line in text.splitlines() if line.strip()]
    rows = [row for row in head if row is not None]
    if not rows:
        raise UnreadableError("no line of it is a JSON object")
    tail = [row for line in later if (row := _object(line)) is not None]
    return _records("jsonl", rows, tail, encoding)


def _json_array(text: str, encoding: str) -> tuple[Shape, Table]:
    decoder, rows, at = json.JSONDecoder(), [], text.index("[") + 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            row, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        rows.append(row)
    objects = [row for row in rows if isinstance(row, dict)]
    if not objects:
        raise UnreadableError("a JSON array without an object")
    return _records("json", objects, [], encoding)


def _object(line: str) -> dict[str, Any] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _records(
    name: Format, head: list[dict[str, Any]], tail: list[dict[str, Any]], encoding: str
) -> tuple[Shape, Table]:
    columns = tuple(dict.fromkeys(key for row in (*head, *tail) for key in row))
    cells = {key: [_text(row.get(key)) for row in (*head, *tail)] for key in columns}
    texts = ([v for row in head[:_LINES] if isinstance(v := row.get(key), str)] for key in columns)
    decimal, thousands = signs(texts)
    written = CsvFormat(encoding=encoding, decimal=decimal, thousands=thousands)
    return Shape(name, written, columns), Table(cells, len(head))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _parquet(path: Path, *, rows: int) -> tuple[Shape, Table]:
    try:
        with sampling.seekable(path) as source:
            # Buffered: a column of a row group is read in pieces, however large the group is.
            file = pq.ParquetFile(source, buffer_size=64 * 1024, pre_buffer=False)
            last = file.metadata.num_row_groups - 1
            chosen = sorted({last * part // _GROUPS for part in range(_GROUPS + 1)}) if rows and last >= 0 else []
            parts = [batch for at in chosen if (batch := _first_rows(file, at, rows)) is not None]
            head = pa.Table.from_batches(parts[:1], file.schema_arrow)
            table = pa.Table.from_batches(parts, file.schema_arrow)
    except (OSError, pa.ArrowException) as error:
        raise UnreadableError(str(error).splitlines()[0].lower()) from error
    zones = {c.name: str(c.type.tz or "") for c in table.schema if pa.types.is_timestamp(c.type)}
    zones |= {c.name: "" for c in table.schema if pa.types.is_date(c.type)}
    cells = {name: _arrow_text(table.column(name)) for name in table.schema.names}
    return Shape("parquet", CsvFormat(), tuple(table.schema.names)), Table(cells, head.num_rows, zones)


def _first_rows(file: pq.ParquetFile, group: int, rows: int) -> pa.RecordBatch | None:
    return next(file.iter_batches(batch_size=rows, row_groups=[group]), None)


def _arrow_text(column: Any) -> list[str]:
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return ["" if value is None else str(value) for value in column.to_pylist()]
    text = pc.fill_null(pc.cast(column, pa.string()), "").to_pylist()
    if not pa.types.is_timestamp(column.type):
        return [cell.strip() for cell in text]
    return [re.sub(r"(\.\d{6})\d+", r"\1", cell) for cell in text]  # nanoseconds are past `datetime`

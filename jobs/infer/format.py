"""How a file is written: encoding, comment lines, delimiter, decimal sign, header, units row; or JSON, or Parquet.

The one idea: every format ends as a ``Table`` of text cells, so that what follows looks at one thing.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.infer import sampling
from jobs.infer.names import split_unit
from jobs.infer.sampling import UnreadableError
from jobs.sources.csv import unique_names
from models.source import CsvFormat

Format = Literal["csv", "jsonl", "json", "parquet"]
NUMBER = {".": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"), ",": re.compile(r"[+-]?(\d+,?\d*|,\d+)")}
_DATE = re.compile(r"\d{1,4}[-/.](\d{1,2}|[A-Za-z]{3})[-/.]\d{1,4}")
_COMMENTS = ("#", "%", "//")
_DELIMITERS = (";", "\t", "|", ",")  # a decimal comma can look like a delimiter, so the comma comes last
_LINES = 400  # that decide the dialect
_PARQUET_ROWS = 3000


@dataclass(frozen=True)
class Shape:
    """How a file is written and its columns. ``units`` is a row of units below the header, by column."""

    format: Format
    csv: CsvFormat
    columns: tuple[str, ...]
    comments: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)

    @property
    def named(self) -> bool:
        return self.csv.columns is None


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
    if first[:4] == b"PK\x03\x04":
        raise UnreadableError("a zip or Excel file; unpack it, or export it as CSV")
    found = sampling.piece(path, head=head, slices=slices)
    encoding = _encoding(found.head)
    text = _decoded(found.head, encoding)
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start == "[":
        return _json_array(text, encoding)
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
    if not any(line.strip() for line in body):
        raise UnreadableError("no row" + (" but comments" if comments else ""))
    delimiter, width = _dialect([line for line in body[:_LINES] if line.strip()])
    skip = next(i for i, line in enumerate(body) if len(_split([line], delimiter)[0]) == width)
    rows = [row for row in _split(body[skip:], delimiter) if len(row) == width]
    header = _is_header(rows)
    names = unique_names(rows[0]) if header else [f"column_{i + 1}" for i in range(width)]
    units = _units(rows[1:4]) if header else []
    data = rows[header + bool(units) :]
    tail = [row for row in _split(later, delimiter) if len(row) == width]
    shape = Shape(
        "csv",
        CsvFormat(
            delimiter=delimiter, decimal=_decimal(data[:_LINES]), encoding=encoding,
            columns=None if header else tuple(names), comment=mark, skip_rows=skip,
            skip_after_header=int(bool(units)),
        ),
        tuple(names), tuple(comments), dict(zip(names, units, strict=True)) if units else {},
    )  # fmt: skip
    columns = zip(*data, *tail, strict=True) if data or tail else [()] * width
    cells = {name: [cell.strip() for cell in column] for name, column in zip(names, columns, strict=True)}
    return shape, Table(cells, len(data))


def _dialect(lines: list[str]) -> tuple[str, int]:
    """The delimiter that cuts most lines into the same number of cells, and that number."""
    best, share, width = ",", 0.0, 1
    for delimiter in _DELIMITERS:
        counts = Counter(len(row) for row in _split(lines, delimiter) if len(row) > 1)
        if counts and (found := counts.most_common(1)[0])[1] / len(lines) > max(share, 0.7 - 1e-9):
            best, share, width = delimiter, found[1] / len(lines), found[0]
    if width == 1:
        found = Counter(len(line.split()) for line in lines).most_common(1)[0]
        if found[0] > 1 and found[1] / len(lines) >= 0.9:
            return "whitespace", found[0]
    return best, width


def _split(lines: list[str], delimiter: str) -> list[list[str]]:
    if delimiter == "whitespace":
        return [line.split() for line in lines]
    try:
        return list(csv.reader([line + "\n" for line in lines], delimiter=delimiter)) or [[]]
    except csv.Error as error:
        raise UnreadableError(f"no readable table: {error}") from error


def is_value(cell: str) -> bool:
    text = cell.strip()
    return bool(NUMBER["."].fullmatch(text) or NUMBER[","].fullmatch(text) or _DATE.match(text))


def _is_header(rows: list[list[str]]) -> bool:
    first = rows[0]
    if any(is_value(cell) for cell in first) or not any(cell.strip() for cell in first):
        return False
    if any(is_value(cell) for row in rows[1:50] for cell in row):
        return True
    later = {cell for row in rows[1:50] for cell in row}
    return not any(cell in later for cell in first if cell.strip())


def _units(rows: list[list[str]]) -> list[str]:
    """The row below the header where it holds units (numbers begin one row later), else nothing."""
    if len(rows) < 2 or any(is_value(cell) for cell in rows[0]) or not any(is_value(cell) for cell in rows[1]):
        return []
    below = [cell.strip() for cell, value in zip(rows[0], rows[1], strict=True) if is_value(value) and cell.strip()]
    return rows[0] if sum(split_unit(f"x [{cell}]")[1] is not None for cell in below) > len(below) / 2 else []


def _decimal(rows: list[list[str]]) -> Literal[".", ","]:
    cells = [cell.strip() for row in rows for cell in row]
    commas = sum("," in cell and bool(NUMBER[","].fullmatch(cell)) for cell in cells)
    points = sum("." in cell and bool(NUMBER["."].fullmatch(cell)) for cell in cells)
    return "," if commas > points else "."


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
    return Shape(name, CsvFormat(encoding=encoding), columns), Table(cells, len(head))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _parquet(path: Path, *, rows: int) -> tuple[Shape, Table]:
    try:
        file = pq.ParquetFile(path)
        groups = range(file.metadata.num_row_groups)
        chosen = sorted({0, len(groups) // 2, len(groups) - 1} & set(groups)) if rows else []
        table = file.read_row_groups(chosen) if chosen else file.schema_arrow.empty_table()
    except (OSError, pa.ArrowException) as error:
        raise UnreadableError(str(error).splitlines()[0].lower()) from error
    head = table.slice(0, rows)
    step = max(1, table.num_rows // _PARQUET_ROWS)
    spread = table.take(pa.array(range(head.num_rows, table.num_rows, step), pa.int64()))
    table = pa.concat_tables([head, spread])
    zones = {c.name: str(c.type.tz or "") for c in table.schema if pa.types.is_timestamp(c.type)}
    zones |= {c.name: "" for c in table.schema if pa.types.is_date(c.type)}
    cells = {name: _arrow_text(table.column(name)) for name in table.schema.names}
    return Shape("parquet", CsvFormat(), tuple(table.schema.names)), Table(cells, head.num_rows, zones)


def _arrow_text(column: Any) -> list[str]:
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return ["" if value is None else str(value) for value in column.to_pylist()]
    text = pc.fill_null(pc.cast(column, pa.string()), "").to_pylist()
    if not pa.types.is_timestamp(column.type):
        return [cell.strip() for cell in text]
    return [re.sub(r"(\.\d{6})\d+", r"\1", cell) for cell in text]  # nanoseconds are past `datetime`

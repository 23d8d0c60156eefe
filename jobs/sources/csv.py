"""CSV and its relatives: any delimiter, decimal comma, comment lines, no header, a row of units.

The one idea: a block is parsed by Arrow straight into numbers; only where that fails (one bad value
fails a block) it is parsed again as text, so that the wrong rows can be told one by one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from jobs.sources.raw import MAX_RAW, Chunk, Chunks, Reason, Wanted, Wrong, only_wrong
from jobs.sources.text import Block, blocks
from models.source import CsvFormat

NULLS = ["", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "null", "NULL", "Null", "None", "-"]
_BLANKS = re.compile(rb"[ \t]+")
_EDGES = re.compile(rb"^ +| +$", re.MULTILINE)


def header(path: Path, form: CsvFormat) -> list[str] | None:
    """The file's columns, or None where it has no line for them. Raises OSError."""
    for block in blocks(path, encoding=form.encoding, size=1 << 16):
        return _open(block, form)[0]
    return None


def chunks(path: Path, form: CsvFormat, wanted: Wanted) -> Chunks:
    """Every row of the file, in order. Raises OSError where the file cannot be opened."""
    names: list[str] | None = None
    for block in blocks(path, encoding=form.encoding, quoted=form.delimiter != "whitespace"):
        body = block
        if names is None and block.data:
            names, body = _open(block, form)
        if block.wrong:
            yield only_wrong(*block.wrong)
        if names is not None and body.data.strip():
            yield _parse(body, names, form, wanted)


def _open(block: Block, form: CsvFormat) -> tuple[list[str] | None, Block]:
    """Names of the columns, and the block without what comes before the first row."""
    data, line = block.data, block.first_line

    def skip(data: bytes, line: int) -> tuple[bytes, bytes, int]:
        first, _, rest = data.partition(b"\n")
        return first, rest, line + 1

    while data and form.comment and data.startswith(form.comment.encode()):
        _, data, line = skip(data, line)
    for _ in range(form.skip_rows):
        _, data, line = skip(data, line)
    names = list(form.columns) if form.columns is not None else None
    while names is None and data:
        first, data, line = skip(data, line)
        if first.strip():
            names = _names(first.decode("utf-8", "replace"), form.delimiter)
    for _ in range(form.skip_after_header):
        _, data, line = skip(data, line)
    return names, Block(data, line)


def _names(line: str, delimiter: str) -> list[str]:
    """Names of a header."""
    fields = line.split() if delimiter == "whitespace" else next(csv.reader([line], delimiter=delimiter))
    return unique_names(fields)


def unique_names(fields: list[str]) -> list[str]:
    """Stripped; a name seen before gets a number, an empty one its position."""
    names: list[str] = []
    for position, name in enumerate(field.strip() for field in fields):
        unique, number = name or f"column_{position + 1}", 1
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names


def _parse(block: Block, names: list[str], form: CsvFormat, wanted: Wanted) -> Chunk:
    data, wrong = _without_bad_bytes(block)
    if form.delimiter == "whitespace":
        data = _EDGES.sub(b"", _BLANKS.sub(b" ", data))
    numbers = {name: pa.float64() for name in names if wanted.get(name) == "number"}
    table, skipped = _read(data, names, form, wanted, numbers)
    while stray := next((row.text for row in skipped if "\n" in row.text), None):
        # A quote that never closes swallows good rows: take its line away and read again.
        line, data = _without_line(data, stray.encode(), block.first_line)
        wrong.append(Wrong(Reason.COLUMNS, line, stray.partition("\n")[0][:MAX_RAW], "a quote that does not close"))
        table, skipped = _read(data, names, form, wanted, numbers)
    lines = _Lines(data, block.first_line, table.num_rows, [row.number for row in skipped])
    for row in skipped:
        detail = f"{row.actual_columns} instead of {row.expected_columns}"
        wrong.append(Wrong(Reason.COLUMNS, lines.number(row.number), row.text[:MAX_RAW], detail))
    return Chunk(table, lines.locate, wrong)


def _read(
    data: bytes, names: list[str], form: CsvFormat, wanted: Wanted, numbers: dict[str, pa.DataType]
) -> tuple[pa.Table, list[Any]]:
    """The table, with numbers where all of them are, and the rows with another number of columns."""
    skipped: list[Any] = []
    try:
        return _read_as(data, names, form, wanted, numbers=numbers, skipped=skipped), skipped
    except pa.ArrowInvalid:
        if not numbers:
            raise
        return _read(data, names, form, wanted, {})


def _read_as(
    data: bytes,
    names: list[str],
    form: CsvFormat,
    wanted: Wanted,
    *,
    numbers: dict[str, pa.DataType],
    skipped: list[Any],
) -> pa.Table:
    present = [name for name in names if name in wanted]

    def skip(row: Any) -> str:
        skipped.append(row)
        return "skip"

    try:
        return pyarrow.csv.read_csv(
            pa.py_buffer(data),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=" " if form.delimiter == "whitespace" else form.delimiter, newlines_in_values=b'"' in data,
                invalid_row_handler=skip,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: numbers.get(name, pa.string()) for name in present},
                # One column at least, or the number of rows is lost.
                include_columns=present or names[:1], decimal_point=form.decimal, null_values=NULLS,
                strings_can_be_null=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):  # every row had the wrong number of columns
            return pa.table({name: pa.array([], pa.string()) for name in present})
        raise


def _without_line(data: bytes, record: bytes, first_line: int) -> tuple[int, bytes]:
    start = data.index(record)
    end = data.index(b"\n", start)
    return first_line + data.count(b"\n", 0, start), data[:start] + data[end:]


def _without_bad_bytes(block: Block) -> tuple[bytes, list[Wrong]]:
    """The block with every line that is not UTF-8 or holds a NUL left empty."""
    try:
        block.data.decode()
        if b"\0" not in block.data:
            return block.data, []
    except UnicodeDecodeError:
        pass
    lines, wrong = block.data.split(b"\n"), []
    for index, line in enumerate(lines):
        text = line.decode("utf-8", "replace")
        if "\ufffd" in text or "\0" in text:
            shown = text.replace("\0", "\\0")[:MAX_RAW]
            wrong.append(Wrong(Reason.ENCODING, block.first_line + index, shown, "not UTF-8, or a NUL byte"))
            lines[index] = b""
    return b"\n".join(lines), wrong


class _Lines:
    """From a row's index to its line and text, worked out when first asked.

    ``skipped`` are the numbers (from 1, blank lines not counted) of records that are not in the table.
    """

    def __init__(self, data: bytes, first_line: int, num_rows: int, skipped: Sequence[int]) -> None:
        self.data, self.first_line, self.num_records = data, first_line, num_rows + len(skipped)
        self.skipped = np.asarray(skipped, np.int64) - 1

    def number(self, record: int) -> int:
        return self._records[record - 1][0]

    def locate(self, rows: Sequence[int]) -> list[tuple[int, str]]:
        kept = np.delete(np.arange(len(self._records)), self.skipped)
        return [(self._records[kept[row]][0], self._records[kept[row]][1][:MAX_RAW]) for row in rows]

    @cached_property
    def _records(self) -> list[tuple[int, str]]:
        lines = self.data.decode().split("\n")
        plain = [(self.first_line + i, line) for i, line in enumerate(lines) if line]
        if len(plain) == self.num_records:
            return plain
        records, held, start = [], "", 0  # quoted fields that span lines
        for index, line in enumerate(lines):
            start = start if held else index
            held = f"{held}\n{line}" if held else line
            if held.count('"') % 2 == 0 and held:
                records.append((self.first_line + start, held))
                held = ""
        return records

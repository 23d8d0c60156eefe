"""CSV and its relatives: any delimiter, decimal comma, comment lines, no header, a row of units, fixed widths.

The one idea: whatever stands before the first row is read once, from the file's start; every block after
it, wherever it lies, is rows alone.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from jobs.sources import delimited
from jobs.sources.raw import Chunk, Chunks, Span, Wanted, only_wrong
from jobs.sources.text import Block, blocks, pieces
from models.source import CsvFormat

_BLANKS = re.compile(rb"[ \t]+")
_EDGES = re.compile(rb"^ +| +$", re.MULTILINE)
_UNIT = "\x1f"  # ASCII's own separator of fields
_DELIMITERS = {"whitespace": " ", "fixed": _UNIT}


def header(path: Path, form: CsvFormat) -> list[str] | None:
    """The file's columns, or None where it has no line for them. Raises OSError."""
    for block in blocks(path, encoding=form.encoding, size=1 << 16):
        return _open(block, form)[0]
    return None


def chunks(path: Path, form: CsvFormat, wanted: Wanted, span: Span | None = None) -> Chunks:
    """Every row of the file, or of a ``span`` of it, in order. Raises OSError where the file cannot be opened."""
    names: list[str] | None = None
    first_row = 1
    if span is not None and span.start > 0:
        for head in blocks(path, encoding=form.encoding, size=1 << 16):
            names, body = _open(head, form)
            first_row = body.first_line
            break
    table = delimited.Table(names or [], form, wanted, _DELIMITERS.get(form.delimiter, form.delimiter))
    quote = "" if form.delimiter in _DELIMITERS else form.quote
    for block in blocks(path, encoding=form.encoding, quote=quote, span=span):
        body = block
        if names is None and block.data:
            names, body = _open(block, form)
            table.names = names or []
        elif block.first_line < first_row:
            body = _from_line(block, first_row)
        if block.wrong:
            yield only_wrong(*block.wrong)
        if names is not None:
            for piece in pieces(body, quote=quote):
                yield _parsed(piece, table)


def _parsed(block: Block, table: delimited.Table) -> Chunk:
    if table.form.delimiter == "whitespace":
        return delimited.parse(replace(block, data=_EDGES.sub(b"", _BLANKS.sub(b" ", block.data))), table)
    if table.form.delimiter == "fixed":
        lines = [_UNIT.join(_fields(line.decode("utf-8", "replace"), table.form)) for line in block.data.split(b"\n")]
        return delimited.parse(replace(block, data="\n".join(lines).encode()), table, block.data)
    return delimited.parse(block, table)


def _fields(line: str, form: CsvFormat) -> list[str]:
    """Cells of a line of fixed width; what an editor cut off at its end is empty."""
    if not line.strip():
        return []
    bounds = [0, *accumulate(form.widths or ())]
    starts, stops = bounds[:-1], [*bounds[1:-1], None]
    return [line[start:stop].strip().replace(_UNIT, " ") for start, stop in zip(starts, stops, strict=True)]


def _from_line(block: Block, line: int) -> Block:
    """The block without its lines before ``line``."""
    rest = block.data.split(b"\n", line - block.first_line)[-1]
    found = block.first_line + block.data[: len(block.data) - len(rest)].count(b"\n")
    return Block(rest, found) if found == line else Block(b"", line)


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
            names = _names(first.decode("utf-8", "replace"), form)
    for _ in range(form.skip_after_header):
        _, data, line = skip(data, line)
    return names, Block(data, line)


def _names(line: str, form: CsvFormat) -> list[str]:
    """Names of a header."""
    if form.delimiter == "fixed":
        return unique_names(_fields(line, form))
    if form.delimiter == "whitespace":
        return unique_names(line.split())
    if not form.quote:
        return unique_names(line.split(form.delimiter))
    return unique_names(next(csv.reader([line], delimiter=form.delimiter, quotechar=form.quote)))


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

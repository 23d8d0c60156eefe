"""JSON lines, and a JSON array of objects.

The one idea: as in CSV, a block goes through Arrow's parser with the wanted types, and only a block
that fails is read again line by line, so that one bad line costs one block's time and no good row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json

from jobs.sources.raw import MAX_RAW, Chunk, Chunks, Reason, Wanted, Wrong, only_wrong
from jobs.sources.text import Block, blocks

_PIECE = 1 << 18  # smaller ones cost more in Arrow's set-up than the bad lines' neighbours do
_SAMPLE = 200  # lines whose keys are taken for the file's columns


def header(path: Path, *, array: bool = False) -> list[str] | None:
    """Keys of the first rows, or None where there is no row. Raises OSError."""
    found: dict[str, None] = {}
    for block in blocks(path, size=1 << 16) if not array else ():
        for line in block.data.split(b"\n")[:_SAMPLE]:
            row = _loads(line)
            found |= dict.fromkeys(row) if isinstance(row, dict) else {}
        break
    if array:
        for row in (_array(path)[0] or [])[:_SAMPLE]:
            found |= dict.fromkeys(row) if isinstance(row, dict) else {}
    return list(found) or None


def chunks(path: Path, wanted: Wanted, *, array: bool = False) -> Chunks:
    """Every row of the file, in order. Raises OSError where the file cannot be opened."""
    if array:
        yield _chunk_of_array(path, wanted)
        return
    for block in blocks(path):
        if block.wrong:
            yield only_wrong(*block.wrong)
        if block.data.strip():
            yield from _parse(block, wanted)


def _parse(block: Block, wanted: Wanted) -> Chunks:
    """One chunk where every line is good, else as few as the columns' types allow."""
    table = _by_arrow(block.data, wanted)
    if table is not None:
        yield Chunk(table, _Lines(block, set()).locate)
        return
    run: list[tuple[Block, pa.Table, list[Wrong]]] = []
    for piece in _pieces(block):
        table, wrong = _by_arrow(piece.data, wanted), list[Wrong]()
        if table is None:
            table, wrong = _line_by_line(piece, wanted)
        if run and run[0][1].schema != table.schema:
            yield _joined(run)
            run = []
        run.append((piece, table, wrong))
    yield _joined(run)


def _by_arrow(data: bytes, wanted: Wanted) -> pa.Table | None:
    schema = pa.schema([(name, pa.float64() if kind == "number" else pa.string()) for name, kind in wanted.items()])
    try:
        return pyarrow.json.read_json(
            pa.py_buffer(data),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None


def _pieces(block: Block) -> Iterator[Block]:
    """The block in smaller ones, so that a bad line costs its neighbours' time only."""
    start, line = 0, block.first_line
    while start < len(block.data):
        end = block.data.find(b"\n", min(start + _PIECE, len(block.data) - 1)) + 1
        data = block.data[start:end]
        yield Block(data, line)
        start, line = end, line + data.count(b"\n")


def _joined(run: Sequence[tuple[Block, pa.Table, list[Wrong]]]) -> Chunk:
    block = Block(b"".join(piece.data for piece, _, _ in run), run[0][0].first_line)
    wrong = [entry for _, _, entries in run for entry in entries]
    bad = {entry.line for entry in wrong if entry.line is not None}
    return Chunk(pa.concat_tables([table for _, table, _ in run]), _Lines(block, bad).locate, wrong)


def _line_by_line(block: Block, wanted: Wanted) -> tuple[pa.Table, list[Wrong]]:
    rows: list[dict[str, Any]] = []
    wrong: list[Wrong] = []
    for index, line in enumerate(block.data.split(b"\n")):
        if not line.strip():
            continue
        row = _loads(line)
        if isinstance(row, dict):
            rows.append(row)
        else:
            text = line[:MAX_RAW].decode("utf-8", "replace").replace("\0", "\\0")
            wrong.append(Wrong(Reason.JSON, block.first_line + index, text, "not a JSON object"))
    return _table(rows, wanted), wrong


def _chunk_of_array(path: Path, wanted: Wanted) -> Chunk:
    found, wrong = _array(path)
    rows = [row for row in found or [] if isinstance(row, dict)]
    for number, row in enumerate(found or [], 1):
        if not isinstance(row, dict):
            wrong.append(Wrong(Reason.JSON, number, _dumps(row), "not a JSON object"))

    def locate(indices: Sequence[int]) -> list[tuple[int, str]]:
        return [(index + 1, _dumps(rows[index])) for index in indices]

    return Chunk(_table(rows, wanted), locate, wrong)


def _array(path: Path) -> tuple[list[Any] | None, list[Wrong]]:
    wrong: list[Wrong] = []
    data = []
    for block in blocks(path):
        wrong += block.wrong
        data.append(block.data)
    found = _loads(b"".join(data))
    if isinstance(found, list):
        return found, wrong
    return None, wrong or [Wrong(Reason.JSON, detail="not a JSON array", scope="file")]


def _table(rows: Sequence[dict[str, Any]], wanted: Wanted) -> pa.Table:
    return pa.table({name: _column([row.get(name) for row in rows], kind) for name, kind in wanted.items()})


def _column(values: list[Any], kind: str) -> pa.Array:
    """Floats where all are numbers and numbers are wanted, else text, which the next stage judges one by one."""
    if kind == "number" and {type(value) for value in values} <= {int, float, type(None)}:
        try:
            return pa.array(values, pa.float64())
        except (OverflowError, pa.ArrowInvalid):
            pass
    return pa.array([v if v is None or isinstance(v, str) else _text(v) for v in values], pa.string())


def _text(value: Any) -> str:
    return str(value) if type(value) in (int, float) else _dumps(value)


def _loads(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)  # NaN and Infinity, which are no JSON but are written
        except (ValueError, RecursionError):
            return None


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:MAX_RAW]


class _Lines:
    """From a row's index to its line and text, worked out when first asked."""

    def __init__(self, block: Block, bad: set[int]) -> None:
        self.block, self.bad = block, bad

    def locate(self, rows: Sequence[int]) -> list[tuple[int, str]]:
        return [(self._good[row][0], self._good[row][1][:MAX_RAW].decode("utf-8", "replace")) for row in rows]

    @cached_property
    def _good(self) -> list[tuple[int, bytes]]:
        numbered = enumerate(self.block.data.split(b"\n"), self.block.first_line)
        return [(number, line) for number, line in numbered if line.strip() and number not in self.bad]

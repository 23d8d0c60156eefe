"""JSON lines, and a JSON array of objects.

The one idea: an array is cut where a comma lies in no string and no bracket, and is then lines too; so
both go through one parser, and neither is ever held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jobs.sources.decoded import bytes_of
from jobs.sources.objects import Keys, flat_keys, loads, parse
from jobs.sources.raw import MAX_RAW, Chunks, Reason, Span, Wanted, Wrong, only_wrong
from jobs.sources.text import BLOCK_BYTES, Block, blocks, pieces

_SAMPLE = 200  # rows whose keys are taken for the file's columns
_MARKS = np.zeros(256, bool)
_MARKS[list(b'"{}[],')] = True
_STEP = np.zeros(256, np.int8)
_STEP[list(b"{[")], _STEP[list(b"}]")] = 1, -1


def header(path: Path, *, array: bool = False) -> list[str] | None:
    """Keys of the first rows (``a.b`` for a key in an object), or None where there is no row. Raises OSError."""
    found: dict[str, None] = {}
    for row in _first_rows(path, array):
        found |= dict.fromkeys(flat_keys(row))
    return list(found) or None


def chunks(path: Path, wanted: Wanted, span: Span | None = None, *, array: bool = False) -> Chunks:
    """Every row of the file, or of a ``span`` of its lines, in order; of an array, a row's line is its number.

    Raises OSError where the file cannot be opened.
    """
    keys = Keys.of(wanted, _first_rows(path, array) if any("." in name for name in wanted) else [])
    for block in elements(path) if array else blocks(path, span=span):
        if block.wrong:
            yield only_wrong(*block.wrong)
        for piece in pieces(block):
            yield parse(piece, keys)


def _first_rows(path: Path, array: bool) -> list[dict[str, Any]]:
    found = elements(path, 1 << 16) if array else blocks(path, size=1 << 16)
    lines = (line for block in islice(found, 1) for line in block.data.split(b"\n")[:_SAMPLE])
    return [row for line in lines if isinstance(row := loads(line), dict)]


def elements(path: Path, size: int = BLOCK_BYTES // 2) -> Iterator[Block]:
    """The elements of an array, one a line; ``first_line`` is the first one's number. Raises OSError."""
    cutter = _Elements()
    held: list[bytes] = []
    fault: Wrong | None = None
    for part in bytes_of(path):
        if isinstance(part, Wrong):
            fault = part
            break
        held.append(part)
        if sum(map(len, held)) >= size:
            yield from cutter.feed(b"".join(held))
            held = []
        if cutter.done:
            return
    yield from cutter.feed(b"".join(held))
    yield from cutter.end(fault)


class _Elements:
    """Cuts an array's text. ``depth``: -1 before the array, 0 in it, 1 behind it."""

    def __init__(self) -> None:
        self.rest, self.number = b"", 1
        self.opened = self.closed = self.done = False

    def feed(self, data: bytes) -> Iterator[Block]:
        data = self.rest + data
        if not self.opened:
            data = data.lstrip()
            self.rest = data
            if not data:
                return
            if not data.startswith(b"["):
                yield self._stop(Wrong(Reason.JSON, detail="not a JSON array", scope="file"))
                return
            self.opened, data = True, data[1:]
        if self.closed:
            self.rest = data
            return
        cuts, end = _cuts(data)
        self.closed = end is not None
        stop = end if end is not None else cuts[-1] + 1 if len(cuts) else 0
        self.rest = data[stop + 1 :] if end is not None else data[stop:]
        if stop:
            yield self._block(data[:stop], cuts)
        if len(self.rest) > BLOCK_BYTES:
            detail = f"over {BLOCK_BYTES} bytes without an element's end: a quote or bracket that does not close"
            yield self._stop(Wrong(Reason.JSON, self.number, _shown(self.rest), detail, "file"))

    def end(self, fault: Wrong | None) -> Iterator[Block]:
        if self.done:
            return
        if not self.opened and fault is None:
            return
        if self.closed:
            if self.rest.strip():
                yield self._stop(Wrong(Reason.JSON, self.number, _shown(self.rest), "text behind the array", "file"))
            return
        if isinstance(loads(self.rest), dict):
            yield self._block(self.rest, np.empty(0, np.int64))
            self.rest = b""
        detail = fault.detail if fault else "the array does not end"
        reason = fault.reason if fault else Reason.TRUNCATED
        yield self._stop(Wrong(reason, self.number, _shown(self.rest), detail, "file"))

    def _stop(self, wrong: Wrong) -> Block:
        self.done, self.rest = True, b""
        return Block(b"", self.number, [wrong])

    def _block(self, data: bytes, cuts: np.ndarray[Any, Any]) -> Block:
        marked = np.frombuffer(data.replace(b"\n", b" "), np.uint8).copy()
        marked[cuts] = ord("\n")
        lines = [line.strip() for line in marked.tobytes().split(b"\n")]
        if not lines[-1]:  # behind the last comma: the next element, or an array's end
            lines.pop()
        wrong = []
        for index, line in enumerate(lines):
            if not line:
                wrong.append(Wrong(Reason.JSON, self.number + index, "", "not a JSON object"))
        block = Block(b"".join(line + b"\n" for line in lines), self.number, wrong)
        self.number += len(lines)
        return block


def _cuts(data: bytes) -> tuple[np.ndarray[Any, Any], int | None]:
    """Where commas part elements, and where the array ends."""
    plain = data
    if b"\\" in data:
        plain = data.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    found = np.frombuffer(plain, np.uint8)
    at = np.flatnonzero(_MARKS[found])
    marks = found[at]
    quotes = marks == ord('"')
    outside = (np.cumsum(quotes) % 2 == 0) & ~quotes
    at, marks = at[outside], marks[outside]
    depth = np.cumsum(_STEP[marks], dtype=np.int64)
    closing = np.flatnonzero(depth < 0)
    end = int(closing[0]) if len(closing) else len(at)
    cuts = at[:end][(marks[:end] == ord(",")) & (depth[:end] == 0)]
    return cuts, int(at[end]) if len(closing) else None


def _shown(data: bytes) -> str:
    return data[:MAX_RAW].decode("utf-8", "replace").replace("\0", "\\0")[:MAX_RAW]

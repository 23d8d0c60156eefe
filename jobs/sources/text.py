"""A text file as blocks of whole lines, in bounded memory.

The one idea: a file of any size is a stream of blocks of about 8 MB that end at a line's end; what
cannot be read (a cut-off archive, an endless line) is told with its line and never ends the stream early.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobs.sources.decoded import bytes_of, is_plain
from jobs.sources.raw import MAX_RAW, Reason, Span, Wrong
from models.source import Stream

BLOCK_BYTES = 8 << 20  # also the longest line that is read
MOST_BARREN = 256 << 20  # bytes without a row, blank lines or one endless one, after which a file is given up
_TRIED = 64  # line ends, for one outside of quotes
_SMALL, _SHORT_LINE = 1 << 18, 16


@dataclass(frozen=True)
class Block:
    """Whole lines in UTF-8, the last one ended; ``first_line`` counts from 1."""

    data: bytes
    first_line: int
    wrong: list[Wrong] = field(default_factory=list)
    num_lines: int | None = None  # where it was counted


def blocks(
    path: Path, *, encoding: str = "utf-8", quote: str = "", size: int = BLOCK_BYTES, span: Span | None = None
) -> Iterator[Block]:
    """Every line of the file, or of a ``span`` of it, in order. ``quote``: never cut between two of them.

    A fault in the file comes as ``wrong`` of a block, after every good line before it. Raises OSError
    where the file cannot be opened.
    """
    cutter = _Cutter(size, quote.encode(), span.first_line if span else 1)
    fault: Wrong | None = None
    for part in bytes_of(path, encoding, span):
        if isinstance(part, Wrong):
            fault = part
        else:
            yield from cutter.feed(part)
        if cutter.barren > MOST_BARREN:
            detail = f"{MOST_BARREN >> 20} MB without a row: not read further"
            fault = Wrong(Reason.LONG_LINE, detail=detail, scope="file")
            break
    yield from cutter.end(fault)


def splittable(path: Path, stream: Stream) -> bool:
    """Whether spans of the file can be read apart: lines of plain text, one byte a line end. Raises OSError."""
    if stream.format not in ("csv", "jsonl"):
        return False
    return is_plain(path, stream.csv.encoding if stream.format == "csv" else "utf-8")


def pieces(block: Block, *, quote: str = "") -> Iterator[Block]:
    """The block, in smaller ones where its lines are so short that a row of each would fill the memory."""
    if not block.data or block.data.isspace():
        return
    if len(block.data) < _SMALL or (block.num_lines or block.data.count(b"\n")) * _SHORT_LINE < len(block.data):
        yield block
        return
    cutter = _Cutter(_SMALL, quote.encode(), block.first_line)
    for start in range(0, len(block.data), _SMALL):
        yield from cutter.feed(block.data[start : start + _SMALL])
    yield from cutter.end(None)


def without_bad_bytes(block: Block) -> tuple[bytes, list[Wrong]]:
    """The block with every line that is not UTF-8 or holds a NUL left empty."""
    try:
        block.data.decode()
        if b"\0" not in block.data:
            return block.data, []
    except UnicodeDecodeError:
        pass
    lines, wrong = block.data.split(b"\n"), []
    for index, line in enumerate(lines):
        if _is_text(line):
            continue
        shown = line[:MAX_RAW].decode("utf-8", "replace").replace("\0", "\\0")[:MAX_RAW]
        wrong.append(Wrong(Reason.ENCODING, block.first_line + index, shown, "not UTF-8, or a NUL byte"))
        lines[index] = b""
    return b"\n".join(lines), wrong


def _is_text(line: bytes) -> bool:
    try:
        return "\0" not in line.decode()
    except UnicodeDecodeError:
        return False


class _Cutter:
    """Cuts a stream of bytes into blocks of whole lines."""

    def __init__(self, size: int, quote: bytes, first_line: int) -> None:
        self.size, self.quote = size, quote
        self.rest: list[bytes] = []
        self.pending = 0
        self.line = first_line
        self.skipping = False  # inside a line that is too long
        self.barren = 0  # bytes since the last line that holds something

    def feed(self, data: bytes) -> Iterator[Block]:
        if self.skipping:
            end = data.find(b"\n")
            if end < 0:
                self.barren += len(data)
                return
            self.skipping, self.line, data = False, self.line + 1, data[end + 1 :]
        self.rest.append(data)
        self.pending += len(data)
        if self.pending >= self.size:
            yield from self._cut()

    def end(self, fault: Wrong | None) -> Iterator[Block]:
        data = b"".join(self.rest)
        if fault is not None:
            data, _, half = data.rpartition(b"\n")
            if data:
                yield self._block(data + b"\n")
            wrong = [Wrong(fault.reason, self.line, _text(half), fault.detail)] if half.strip() else []
            yield Block(b"", self.line, [*wrong, replace(fault, line=self.line)])
        elif data:
            yield self._block(data if data.endswith(b"\n") else data + b"\n")

    def _cut(self) -> Iterator[Block]:
        data = b"".join(self.rest)
        end = self._end_of_lines(data) + 1
        rest = data[end:]
        if end:
            yield self._block(data[:end])
        if len(rest) >= self.size:
            yield Block(b"", self.line, [Wrong(Reason.LONG_LINE, self.line, _text(rest), f"over {self.size} bytes")])
            self.skipping, self.barren, rest = True, self.barren + len(rest), b""
        self.rest, self.pending = [rest] if rest else [], len(rest)

    def _end_of_lines(self, data: bytes) -> int:
        last = end = data.rfind(b"\n")
        quotes = data.count(self.quote, 0, end + 1) if self.quote else 0
        for _ in range(_TRIED):
            if quotes % 2 == 0 or end < 0:
                break
            before = data.rfind(b"\n", 0, end)
            quotes -= data.count(self.quote, before + 1, end + 1)
            end = before
        return last if end < 0 or quotes % 2 else end  # a stray quote: better to cut than to hold the whole file

    def _block(self, data: bytes) -> Block:
        self.barren = self.barren + len(data) if data.isspace() else 0
        block = Block(data, self.line, num_lines=data.count(b"\n"))
        self.line += block.num_lines or 0
        return block


def _text(data: bytes) -> str:
    return data[:MAX_RAW].decode("utf-8", "replace").replace("\0", "\\0")[:MAX_RAW]

"""Bytes of a text file as blocks of whole lines: decompressed, in UTF-8, in bounded memory.

The one idea: a file of any size is a stream of blocks of about 8 MB that end at a line's end; what
cannot be read (a cut-off archive, an endless line) is told with its line and never ends the stream early.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.sources.raw import MAX_RAW, Reason, Wrong

BLOCK_BYTES = 8 << 20  # also the longest line that is read
_PIECE = 1 << 20
_UTF8 = ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Block:
    """Whole lines in UTF-8, the last one ended; ``first_line`` counts from 1."""

    data: bytes
    first_line: int
    wrong: list[Wrong] = field(default_factory=list)


def blocks(path: Path, *, encoding: str = "utf-8", quoted: bool = False, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """Every line of the file, in order. ``quoted``: never cut between two quotes of a quoted field.

    A fault in the file comes as ``wrong`` of a block, after every good line before it. Raises OSError
    where the file cannot be opened.
    """
    cutter = _Cutter(size, quoted)
    fault: Wrong | None = None
    try:
        for data in _decoded(path, encoding):
            yield from cutter.feed(data)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        fault = Wrong(Reason.TRUNCATED, detail=str(error), scope="file")
    except UnicodeError as error:
        fault = Wrong(Reason.ENCODING, detail=f"not {encoding}: {error!s:.200}", scope="file")
    yield from cutter.end(fault)


class _Cutter:
    """Cuts a stream of bytes into blocks of whole lines."""

    def __init__(self, size: int, quoted: bool) -> None:
        self.size, self.quoted = size, quoted
        self.rest: list[bytes] = []
        self.pending = 0
        self.line = 1
        self.skipping = False  # inside a line that is too long

    def feed(self, data: bytes) -> Iterator[Block]:
        if self.skipping:
            end = data.find(b"\n")
            if end < 0:
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
            self.skipping, rest = True, b""
        self.rest, self.pending = [rest] if rest else [], len(rest)

    def _end_of_lines(self, data: bytes) -> int:
        last = end = data.rfind(b"\n")
        if self.quoted and data.count(b'"', 0, end + 1) % 2:
            for _ in range(64):
                end = data.rfind(b"\n", 0, end)
                if end < 0 or data.count(b'"', 0, end + 1) % 2 == 0:
                    break
        return last if end < 0 else end  # a stray quote: better to cut than to hold the whole file

    def _block(self, data: bytes) -> Block:
        block = Block(data, self.line)
        self.line += data.count(b"\n")
        return block


def _decoded(path: Path, encoding: str) -> Iterator[bytes]:
    """The file's text as UTF-8 without a byte order mark, and with ``\\n`` for every line end."""
    first, decoder, returned = True, None, False
    for data in _unpacked(path):
        if first:
            first = False
            bom, found = next(((b, e) for b, e in _BOMS if data.startswith(b)), (b"", encoding))
            if found.lower() in _UTF8:
                data = data[len(bom) :]  # noqa: PLW2901
            else:
                decoder = codecs.getincrementaldecoder(found)()
        text = decoder.decode(data).encode() if decoder else data
        if b"\r" in text or returned:
            text, returned = _line_ends(text, returned)
        yield text
    if decoder:
        yield decoder.decode(b"", True).encode()
    if returned:
        yield b"\n"


def _line_ends(text: bytes, returned: bool) -> tuple[bytes, bool]:
    # A \r at the very end waits for the next piece: it may be half of \r\n.
    text = (b"\r" if returned else b"") + text
    waits = text.endswith(b"\r")
    return (text[:-1] if waits else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n"), waits


def _unpacked(path: Path) -> Iterator[bytes]:
    """Bytes of the file, unpacked by its first bytes: gzip, zstd, bzip2, xz, or as they are."""
    with path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(b"\x28\xb5\x2f\xfd"):
            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
                yield from iter(lambda: stream.read(_PIECE), b"")
            return
        # `read1` hands out what it has before an archive's fault is told; `read` would lose it.
        opened: Any = file
        if magic.startswith(b"\x1f\x8b"):
            opened = gzip.GzipFile(fileobj=file)
        elif magic.startswith(b"BZh"):
            opened = bz2.BZ2File(file)
        elif magic.startswith(b"\xfd7zXZ"):
            opened = lzma.LZMAFile(file)  # noqa: SIM115 closed with `file`, which it does not own
        yield from iter(lambda: opened.read1(_PIECE), b"")


def _text(data: bytes) -> str:
    return data[:MAX_RAW].decode("utf-8", "replace")

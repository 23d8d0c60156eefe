"""Bytes of a text file: unpacked, in UTF-8, with one kind of line end.

The one idea: how a file is packed and encoded is told by its first bytes, whatever it is called; and what
is wrong with it (cut off, of another encoding, unpacking without end) comes as the last piece of its text.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from jobs.sources import archive
from jobs.sources.raw import Reason, Span, Wrong

_PIECE = 1 << 20
_MOST_UNPACKED, _MOST_TIMES = 1 << 30, 1000  # from so many bytes on, no honest file unpacks to so many times its own
_UTF8 = ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii")
_GZIP, _ZSTD, _BZIP2, _XZ = _PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def bytes_of(path: Path, encoding: str = "utf-8", span: Span | None = None) -> Iterator[bytes | Wrong]:
    """The file's text in UTF-8, piece by piece; a fault in the file is the last one. Raises OSError."""
    started = False
    try:
        for data in _decoded(path, encoding, span):
            started = started or bool(data)
            yield data
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        reason = Reason.TRUNCATED if started or not isinstance(error, zipfile.BadZipFile) else Reason.UNREADABLE
        yield Wrong(reason, detail=str(error), scope="file")
    except OverflowError as error:
        yield Wrong(Reason.UNREADABLE, detail=str(error), scope="file")
    except UnicodeError as error:
        yield Wrong(Reason.ENCODING, detail=f"not {encoding}: {error!s:.200}", scope="file")


def is_plain(path: Path, encoding: str) -> bool:
    """Whether each byte of the file can be read by itself, and a line ends in ``\\n``. Raises OSError."""
    if archive.split(path)[1] is not None:
        return False
    with path.open("rb") as file:
        head = file.read(256)
        if b"\0" in head or head.startswith((*_PACKED, *archive.MAGIC, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return False
        if not (encoding.lower() in _UTF8 or _one_byte(encoding)):
            return False
        file.seek(0)
        return not any(_lone_returns(data) for data in iter(lambda: _whole_ends(file), b""))


def _one_byte(encoding: str) -> bool:
    """Whether every character is one byte, and ASCII is itself."""
    try:
        found = bytes(range(256)).decode(encoding, "replace")
    except (LookupError, UnicodeError):
        return False
    return len(found) == 256 and found[:128] == bytes(range(128)).decode()


def _whole_ends(file: IO[bytes]) -> bytes:
    data = file.read(_PIECE)
    return data + file.read(1) if data.endswith(b"\r") else data


def _lone_returns(data: bytes) -> bool:
    return b"\r" in data and data.count(b"\r") > data.count(b"\r\n")


def _decoded(path: Path, encoding: str, span: Span | None) -> Iterator[bytes]:
    """The file's text as UTF-8 without a byte order mark, and with ``\\n`` for every line end."""
    first, decoder, returned = True, None, False
    for data in _unpacked(path) if span is None else _spanned(path, span):
        if first:
            first = False
            bom, found = next(((b, e) for b, e in _BOMS if data.startswith(b)), (b"", encoding))
            found = found if bom else _without_mark(data) or found
            if found.lower() in _UTF8:
                data = data[len(bom) :]  # noqa: PLW2901
            else:
                decoder = codecs.getincrementaldecoder(found)("replace" if _one_byte(found) else "strict")
        # A byte that stands for no character becomes a NUL, which costs its line.
        text = decoder.decode(data).replace("\ufffd", "\0").encode() if decoder else data
        if b"\r" in text or returned:
            text, returned = _line_ends(text, returned)
        yield text
    if decoder:
        yield decoder.decode(b"", True).encode()
    if returned:
        yield b"\n"


def _without_mark(data: bytes) -> str | None:
    """UTF-16 without a byte order mark, as zeros in every other byte show."""
    head = data[:256]
    zeros = head[::2].count(0), head[1::2].count(0)
    if len(head) < 4 or min(zeros) or max(zeros) * 10 < len(head) // 2 * 9:
        return None
    return "utf-16-le" if zeros[1] else "utf-16-be"


def _line_ends(text: bytes, returned: bool) -> tuple[bytes, bool]:
    # A \r at the very end waits for the next piece: it may be half of \r\n.
    text = (b"\r" if returned else b"") + text
    waits = text.endswith(b"\r")
    return (text[:-1] if waits else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n"), waits


def _spanned(path: Path, span: Span) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(span.start)
        left = span.stop - span.start
        while left > 0 and (data := file.read(min(_PIECE, left))):
            left -= len(data)
            yield data


def _unpacked(path: Path) -> Iterator[bytes]:
    """Bytes of the file, unpacked by its first bytes: gzip, zstd, bzip2, xz, or as they are."""
    with archive.opened(path) as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(archive.MAGIC):
            raise zipfile.BadZipFile(_inside(path))
        if magic.startswith(_ZSTD):
            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
                yield from _bounded(lambda: stream.read(_PIECE), file)
            return
        # `read1` hands out what it has before an archive's fault is told; `read` would lose it.
        opened: Any = file
        if magic.startswith(_GZIP):
            opened = gzip.GzipFile(fileobj=file)
        elif magic.startswith(_BZIP2):
            opened = bz2.BZ2File(file)
        elif magic.startswith(_XZ):
            opened = lzma.LZMAFile(file)  # noqa: SIM115 closed with `file`, which it does not own
        yield from _bounded(lambda: opened.read1(_PIECE), file)


def _bounded(read: Callable[[], bytes], file: IO[bytes]) -> Iterator[bytes]:
    """Raises OverflowError where a small file unpacks without end."""
    total = 0
    for data in iter(read, b""):
        total += len(data)
        if total > _MOST_UNPACKED and total > _MOST_TIMES * file.tell():
            raise OverflowError(f"unpacks to over {_MOST_TIMES} times its size")
        yield data


def _inside(path: Path) -> str:
    return f"a zip archive with {'files of its own' if archive.members(path) else 'no readable file'}"

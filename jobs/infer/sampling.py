"""A bounded sample of raw files: which there are, and enough of each to tell what it is.

The one idea: a sample must see the whole file's breadth, not its head alone (a historian's export may
hold one tag for megabytes), so it is a head and thin slices at even distances. The only module of the
package that reads files.
"""

from __future__ import annotations

import glob
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from models.errors import InputError, NotFoundError

HEAD = 256 * 1024  # bytes of text that are read in one piece
SLICE = 4 * 1024  # of each later slice
STRIDE = 64 * 1024  # between slices of a compressed file, which can only be read in order
SCAN = 24 * 1024 * 1024  # decompressed bytes after which a compressed file's sample ends
MAX_SLICES = 256  # of a file that can be jumped in
MAX_FILES = 100_000
SUFFIXES = (".gz", ".zst", ".csv", ".tsv", ".txt", ".dat", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".log")


class UnreadableError(Exception):
    """A file that cannot be sampled; the text says why, to be told in a doubt or in an InputError."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Piece:
    """Raw bytes of a file: its ``head``, and ``slices`` that each start and end amid a line."""

    head: bytes
    slices: tuple[bytes, ...]
    whole: bool  # the head is the whole file


def find(path: Path) -> tuple[Path, list[Path]]:
    """The root and the files below it, sorted; ``path`` is a folder, a file or a glob. Hidden ones never count.

    Raises NotFoundError where there is nothing, InputError where a folder holds no file.
    """
    text = str(path)
    if not path.exists() and glob.has_magic(text):
        first = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        root = Path(*path.parts[:first]) if first else Path()
        files = _visible(root.glob(str(Path(*path.parts[first:])))) if root.is_dir() else []
        if not files:
            raise NotFoundError("No such files", expected="a folder, a file or a glob", found=repr(text))
        return root.resolve(), [root.resolve() / f.relative_to(root) for f in files]
    if not path.exists():
        raise NotFoundError(
            "No such path", expected="a folder, a file or a glob", found="nothing", where=path, do="Check PATH"
        )
    resolved = path.resolve()
    if resolved.is_file():
        return resolved.parent, [resolved]
    files = [f for f in _visible(resolved.rglob("*")) if not _hidden(f.relative_to(resolved))]
    if not files:
        raise InputError("An empty folder", expected="a plant's raw files", found="no file", where=path)
    if len(files) > MAX_FILES:
        raise InputError(
            "Too many files", expected=f"at most {MAX_FILES:,} files", found=f"{len(files):,}", where=path,
            do="Name the plant's own folder, or a glob",
        )  # fmt: skip
    return resolved, files


def magic(path: Path) -> bytes:
    """The first bytes. Raises UnreadableError."""
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise UnreadableError(str(error.strerror or error).lower()) from error


def piece(path: Path, *, head: int = HEAD, slices: bool = True) -> Piece:
    """Sample a text file, compressed or not. Raises UnreadableError where not even a head can be read."""
    first = magic(path)
    if not first:
        raise UnreadableError("empty")
    try:
        if first[:2] == b"\x1f\x8b":
            with gzip.open(path, "rb") as file:
                return _in_order(file, head, slices)
        if first[:4] == b"\x28\xb5\x2f\xfd":
            with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as file:
                return _in_order(file, head, slices)
        return _by_jumps(path, head, slices)
    except OSError as error:
        raise UnreadableError(str(error).lower()) from error


def stem(path: str) -> str:
    """A file's name without the suffixes that say how it is written."""
    name = path.rsplit("/", 1)[-1]
    while (at := name.rfind(".")) > 0 and name[at:].lower() in SUFFIXES:
        name = name[:at]
    return name


def _in_order(file: _Readable, head: int, slices: bool) -> Piece:
    got, whole, broken = _read(file, head)
    if not got:
        raise UnreadableError("a compressed file without readable content" if broken else "empty")
    found: list[bytes] = []
    position = len(got)
    while slices and not whole and not broken and position < SCAN:
        chunk, ended, broken = _read(file, STRIDE)
        found.append(chunk[:SLICE])
        position += len(chunk)
        if ended:
            break
    return Piece(got, tuple(found), whole)


def _by_jumps(path: Path, head: int, slices: bool) -> Piece:
    size = path.stat().st_size
    with path.open("rb") as file:
        got = file.read(head)
        whole = len(got) >= size
        found: list[bytes] = []
        if slices and not whole:
            step = max(STRIDE, (size - head) // MAX_SLICES)
            for position in [*range(head, size - SLICE, step), max(head, size - SLICE)]:
                file.seek(position)
                found.append(file.read(SLICE))
    return Piece(got, tuple(found), whole)


def _read(file: _Readable, size: int) -> tuple[bytes, bool, bool]:
    """Up to ``size`` bytes, whether the file ended, and whether it is broken there (what came before counts)."""
    parts: list[bytes] = []
    left = size
    read = getattr(file, "read1", file.read)  # hands out what an archive has before it tells its fault
    try:
        while left > 0:
            part = read(min(left, STRIDE))
            if not part:
                return b"".join(parts), True, False
            parts.append(part)
            left -= len(part)
    except (EOFError, OSError, zlib.error):
        return b"".join(parts), False, True
    return b"".join(parts), False, False


def _visible(paths: Iterator[Path]) -> list[Path]:
    return sorted(p for p in paths if p.is_file() and not p.name.startswith("."))


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)

"""A bounded sample of raw files: which there are, and enough of each to tell what it is.

The one idea: a sample must see the whole file's breadth, not its head alone (a historian's export may
hold one tag for megabytes), so it is a head and thin slices at even distances. The only module of the
package that reads files; a file inside a zip archive is one more file, ``export.zip!/inner/a.csv``.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from jobs.sources import archive
from models.errors import InputError, NotFoundError

HEAD = 256 * 1024  # bytes of text that are read in one piece
SLICE = 4 * 1024  # of each later slice
STRIDE = 64 * 1024  # between slices of a compressed file, which can only be read in order
SCAN = 24 * 1024 * 1024  # decompressed bytes after which a compressed file's sample ends
MAX_SLICES = 256  # of a file that can be jumped in
MAX_FILES = 100_000
MAX_LISTING = 64 * 1024 * 1024  # bytes of an archive's list of members
MAX_MEMBER = 64 * 1024 * 1024  # unpacked bytes of a member that can only be read as a whole (Parquet)
ZIP = archive.MAGIC
SUFFIXES = (
    ".gz", ".zst", ".bz2", ".xz", ".csv", ".tsv", ".tab", ".txt", ".dat", ".asc", ".prn", ".lst", ".out", ".lvm",
    ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".log",
)  # fmt: skip
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_PACKED: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"\x28\xb5\x2f\xfd", lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
)


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
    """The root and the files below it, sorted; members of zip archives are files.

    ``path`` is a folder, a file, a glob, or members of an archive (``export.zip!/*.csv``). Hidden files never
    count. Raises NotFoundError where there is nothing, InputError where a folder holds no file or is closed.
    """
    whole, mark, member = _cut(str(path))
    try:
        root, files = _on_disk(Path(whole))
    except OSError as error:
        raise InputError(
            "Cannot look into it", expected="a folder, a file or a glob", found=error.strerror, where=path,
            do="Check PATH",
        ) from error  # fmt: skip
    if not utf8(str(root)):
        raise InputError(
            "A folder whose name is not UTF-8", expected="a name that can be written down", found=shown(str(root)),
            do="Rename it",
        )  # fmt: skip
    found = [inside for file in files for inside in _inside(file, member if mark else None)]
    if not found:
        raise NotFoundError(
            "No such member", expected="a file in the archive, or a glob", found=repr(member), where=whole
        )
    if len(found) > MAX_FILES:
        raise InputError(
            "Too many files", expected=f"at most {MAX_FILES:,} files", found=f"{len(found):,}", where=path,
            do="Name the plant's own folder, or a glob",
        )  # fmt: skip
    return root, found


def _cut(text: str) -> tuple[str, str, str]:
    """What lies on the disk, the mark, and the members; a folder whose own name ends with ``!`` is no archive."""
    at = text.find(archive.MARK)
    while at >= 0 and Path(text[: at + 1]).is_dir() and not Path(text[:at]).is_file():
        at = text.find(archive.MARK, at + 1)
    return (text[:at], archive.MARK, text[at + len(archive.MARK) :]) if at >= 0 else (text, "", "")


def utf8(name: str) -> bool:
    """Whether a path's text can be written into a file; bytes of other encodings cannot."""
    return shown(name) == name


def shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _on_disk(path: Path) -> tuple[Path, list[Path]]:
    text = str(path)
    if not path.exists() and glob.has_magic(text):
        first = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        root = Path(*path.parts[:first]) if first else Path()
        try:
            files = _visible(root.glob(str(Path(*path.parts[first:])))) if root.is_dir() else []
        except ValueError as error:
            raise InputError(
                "Not a glob", expected="a pattern such as readings/**/*.csv", found=f"{text!r}: {error}",
                do="Correct PATH",
            ) from error  # fmt: skip
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
    return resolved, files


def matched(root: Path, pattern: str) -> set[str]:
    """The files below ``root`` that a glob names; behind ``.zip!/`` stands a glob of an archive's members."""
    files, mark, member = pattern.partition(archive.MARK)
    found = [p for p in root.glob(files) if p.is_file() and not p.name.startswith(".")]
    inside = (each for file in found for each in (_inside(file, member) if mark else [file]))
    return {path.relative_to(root).as_posix() for path in inside}


def _inside(file: Path, pattern: str | None) -> list[Path]:
    """The members of an archive that match (all without a pattern); any other file is itself."""
    if pattern is None and file.suffix.lower() != ".zip":
        return [file]
    try:
        names = archive.members(file, pattern) if _listing_bytes(file) <= MAX_LISTING else []
    except OSError:
        names = []
    return [Path(f"{file}{archive.MARK}{name}") for name in names] or ([file] if pattern is None else [])


def _listing_bytes(file: Path) -> int:
    """Size of an archive's list of members, which `zipfile` reads into memory as a whole."""
    with file.open("rb") as opened:
        size = opened.seek(0, io.SEEK_END)
        opened.seek(max(0, size - 66_000))
        tail = opened.read()
    at = tail.rfind(b"PK\x05\x06")
    return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0


def why_not_unpacked(path: Path) -> str:
    """Why a file that begins like a zip archive is not one whose members are read."""
    if archive.split(path)[1] is not None:
        return "an archive within an archive; unpack it"
    try:
        if _listing_bytes(path) > MAX_LISTING:
            return "a zip archive with too many members; unpack it"
        names = archive.members(path)
    except OSError as error:
        return str(error.strerror or error).lower()
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook; export it as CSV"
    return "a zip archive; name it .zip" if names else "a broken or empty zip archive, or a workbook; export it as CSV"


def magic(path: Path) -> bytes:
    """The first bytes. Raises UnreadableError."""
    try:
        with archive.opened(path) as file:
            return file.read(8)
    except _BROKEN as error:
        raise UnreadableError(str(getattr(error, "strerror", None) or error).lower()) from error


@contextmanager
def seekable(path: Path) -> Iterator[Any]:
    """A file that can be jumped in: on disk, or a member that is small enough. Raises UnreadableError."""
    if archive.split(path)[1] is None:
        yield path
        return
    with archive.opened(path) as file:
        data = file.read(MAX_MEMBER + 1)
    if len(data) > MAX_MEMBER:
        raise UnreadableError(f"more than {MAX_MEMBER // 2**20} MiB within an archive; unpack it")
    yield io.BytesIO(data)


def piece(path: Path, first: bytes, *, head: int = HEAD, slices: bool = True) -> Piece:
    """Sample a text file, compressed or not; ``first`` are its first bytes.

    Raises UnreadableError where not even a head can be read.
    """
    if not first:
        raise UnreadableError("empty")
    unpack = next((unpack for mark, unpack in _PACKED if first.startswith(mark)), None)
    try:
        if unpack is None and archive.split(path)[1] is None:
            return _by_jumps(path, head, slices)
        with archive.opened(path) as file:
            if unpack is None:
                return _in_order(file, head, slices)
            with unpack(file) as unpacked:
                return _in_order(unpacked, head, slices)
    except _BROKEN as error:
        raise UnreadableError(str(error).lower()) from error


def stem(path: str) -> str:
    """A file's name without the suffixes that say how it is written."""
    name = path.rsplit("/", 1)[-1]
    while (at := name.rfind(".")) > 0 and name[at:].lower() in SUFFIXES:
        name = name[:at]
    return name


def _in_order(file: _Readable | IO[bytes], head: int, slices: bool) -> Piece:
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


def _read(file: _Readable | IO[bytes], size: int) -> tuple[bytes, bool, bool]:
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
    except _BROKEN:
        return b"".join(parts), False, True
    return b"".join(parts), False, False


def _visible(paths: Iterator[Path]) -> list[Path]:
    return sorted(p for p in paths if p.is_file() and not p.name.startswith("."))


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)

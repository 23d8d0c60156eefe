"""Files inside zip archives, addressed as ``export.zip!/inner/a.csv``.

The one idea: such an address is used everywhere as a path is, and only where the part before ``!/`` is
an existing plain file; a member is unpacked as it is read, so that it never lies on a disk or in memory whole.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

MARK = "!/"
MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # a first member, or the end of an archive without any
MAX_MEMBERS = 100_000
_ENCRYPTED = 0x1


def split(path: Path) -> tuple[Path, str | None]:
    """The file on disk, and the member of it that is meant."""
    text, start = str(path), 0
    while (start := text.find(MARK, start)) >= 0:
        if Path(text[:start]).is_file():
            return Path(text[:start]), text[start + len(MARK) :]
        start += len(MARK)
    return path, None


def is_zip(path: Path) -> bool:
    """Whether the file begins as a zip archive does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def members(path: Path, pattern: str | None = None) -> list[str]:
    """Names of the archive's files that match, sorted; ``*`` crosses ``/`` too. Raises OSError.

    Hidden files and names that lead out of the archive are left out. An archive that cannot be read has
    none: give its own path to `reading.chunks`, which says what is wrong with it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {entry.filename for entry in archive.infolist()[:MAX_MEMBERS] if not entry.is_dir()}
    except _BROKEN:
        return []
    return sorted(name for name in names if _plain(name) and (pattern is None or fnmatchcase(name, pattern)))


def size(path: Path) -> int:
    """Bytes of a file, or of a member unpacked as its archive says (0 where it says nothing). Raises OSError."""
    file, member = split(path)
    if member is None:
        return file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.getinfo(member).file_size
    except (*_BROKEN, KeyError):
        return 0


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file on disk or a member of an archive, from its first byte.

    Raises zipfile.BadZipFile where the archive or the member cannot be unpacked, OSError where the file
    cannot be opened.
    """
    file, member = split(path)
    if member is None:
        with file.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(file) as archive:
        try:
            entry = archive.getinfo(member)
            if entry.flag_bits & _ENCRYPTED:
                raise zipfile.BadZipFile("the member is encrypted")
            inside = archive.open(entry)
        except (KeyError, RuntimeError) as error:  # no such member, or packed in a way that Python does not know
            raise zipfile.BadZipFile(str(error.args[0] if error.args else error)) from error
        with inside:
            yield inside


_BROKEN = (zipfile.BadZipFile, RuntimeError, UnicodeDecodeError, EOFError)


def _plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    outside = name.startswith("/") or "\\" in name or ".." in parts or ":" in parts[0]
    return not outside and not any(part.startswith(".") or part == "__MACOSX" for part in parts)

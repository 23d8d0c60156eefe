"""The files that a public benchmark is given: a folder, each file plain or packed with gzip."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from models.errors import InputError

UNREADABLE = (OSError, EOFError, ValueError, zlib.error)  # of ``unpacked``, and of reading what it gives


def require_folder(data: Path, whose: str) -> None:
    """Raises InputError where the folder of somebody's files is not there."""
    if not data.is_dir():
        raise InputError("No such folder", expected=f"a folder with {whose}", found=str(data), do="Check --data")


def given_file(data: Path, name: str, suffix: str, whose: str) -> Path:
    """``name.suffix``, or the same with ``.gz``. Raises InputError where neither is there.

    The plain file where both are there: one of them must not be read as a second delivery.
    """
    for ending in (suffix, f"{suffix}.gz"):
        if (path := data / f"{name}.{ending}").is_file():
            return path
    raise InputError(
        "A file is missing", expected=f"{name}.{suffix} or .{suffix}.gz", found="none", where=data,
        do=f"Name the folder of {whose} with --data",
    )  # fmt: skip


def unpacked(path: Path) -> bytes:
    """The file's content. Raises what ``UNREADABLE`` lists."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

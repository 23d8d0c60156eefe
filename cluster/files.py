"""Files that are read while they are written: a reader sees the old content or the new, never half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cluster.places import Place, Remote


def write_atomically(path: Place, content: str | bytes, *, private: bool = False) -> None:
    """Write, rename, each on disk before this returns. ``private`` leaves it readable by its owner alone."""
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, Remote):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o600 if private else 0o644)
        Path(name).replace(path)
        flush([path.parent])
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def flush(paths: Iterable[Path]) -> None:
    """Files and folders to disk; a folder holds its files' names."""
    for path in sorted(paths):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

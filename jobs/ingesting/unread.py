"""What a plant's folder and its description do not have in common: files without a stream, streams without a file."""

from __future__ import annotations

from pathlib import Path

from jobs.ingesting.plan import is_ours
from models.source import SourceDescription


def strangers(source: SourceDescription, since_ns: int) -> list[str]:
    """Files that have come after ``since_ns`` and that no stream names: nobody would ever read them."""
    root = Path(source.root)
    named = {path for stream in source.streams for path in root.glob(stream.files)}
    others = (p for p in root.rglob("*") if p not in named and is_ours(p, root))
    return sorted(p.relative_to(root).as_posix() for p in others if p.stat().st_ctime_ns > since_ns)


def barren(source: SourceDescription) -> list[str]:
    """Streams that no file is there for."""
    root = Path(source.root)
    streams = (s for s in source.streams if s.role != "ignored")
    return [f"{s.name} ({s.files})" for s in streams if not any(is_ours(path, root) for path in root.glob(s.files))]

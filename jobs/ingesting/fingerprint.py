"""A file's digest, and where a large text file may be cut: one pass over its bytes.

The one idea: a cut lies behind a line's end at which every quote that was opened is closed, so a piece
can be parsed by itself and its lines still be told by their number in the file. What cuts a file is
persisted in the plan: a resumed batch has the same pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.sources import archive, text
from models.source import Stream

SPAN_BYTES = 32 << 20  # of a piece: a task holds a few times as much
_READ = 4 << 20
_NEWLINE = 10
Spans = tuple[tuple[int, int, int], ...]  # first byte, end, number of the first line


@dataclass(frozen=True)
class Fingerprint:
    """``digest`` is the SHA-256 of the file on disk, empty where it cannot be read; no ``spans``: one piece."""

    digest: str
    spans: Spans = ()


def fingerprints(paths: Mapping[Path, Stream | None]) -> dict[Path, Fingerprint]:
    """By path; a member of a zip archive has its archive's. ``None`` as stream: the digest alone."""
    whole: dict[Path, Stream | None] = {}
    for path, stream in paths.items():
        file, member = archive.split(path)
        whole.setdefault(file, None if member else stream)
    with ThreadPoolExecutor(4) as pool:  # hashlib and numpy work beside other threads
        found = dict(zip(whole, pool.map(_fingerprint, whole, whole.values()), strict=True))
    return {path: found[archive.split(path)[0]] for path in paths}


def digests(paths: Iterable[Path]) -> dict[Path, str]:
    return {path: found.digest for path, found in fingerprints(dict.fromkeys(paths)).items()}


def _fingerprint(path: Path, stream: Stream | None) -> Fingerprint:
    try:
        cut = stream is not None and path.stat().st_size > SPAN_BYTES and text.splittable(path, stream)
        with path.open("rb") as file:
            if not cut or stream is None:
                return Fingerprint(hashlib.file_digest(file, "sha256").hexdigest())
            digest, cutter = hashlib.sha256(), _Cutter(_quote(stream))
            while data := file.read(_READ):
                digest.update(data)
                cutter.feed(data)
            return Fingerprint(digest.hexdigest(), cutter.spans())
    except OSError:
        return Fingerprint("")


def _quote(stream: Stream) -> bytes:
    return stream.csv.quote.encode() if stream.format == "csv" and stream.csv.delimiter != "fixed" else b""


class _Cutter:
    """Finds the first allowed cut behind every ``SPAN_BYTES``."""

    def __init__(self, quote: bytes) -> None:
        self.quote = quote
        self.position, self.line, self.inside = 0, 1, False
        self.cuts: list[tuple[int, int]] = [(0, 1)]

    def feed(self, data: bytes) -> None:
        at = 0
        while self.position + len(data) - at >= (target := self.cuts[-1][0] + SPAN_BYTES):
            end = data.find(b"\n", max(at, target - 1 - self.position + at)) + 1
            if not end:
                break
            self._pass(data[at:end])
            at = end
            if not self.inside:
                self.cuts.append((self.position, self.line))
            else:
                at = self._to_closed(data, at)
        self._pass(data[at:])

    def _to_closed(self, data: bytes, at: int) -> int:
        """On to the first line's end at which no quote is open; the data's end where there is none."""
        while self.inside and (end := data.find(b"\n", at) + 1):
            self._pass(data[at:end])
            at = end
            if not self.inside:
                self.cuts.append((self.position, self.line))
        if self.inside:
            self._pass(data[at:])
            return len(data)
        return at

    def _pass(self, data: bytes) -> None:
        self.position += len(data)
        self.line += int(np.count_nonzero(np.frombuffer(data, np.uint8) == _NEWLINE))
        if self.quote:
            self.inside ^= bool(data.count(self.quote) % 2)

    def spans(self) -> Spans:
        cuts = [cut for cut in self.cuts if cut[0] < self.position]
        ends = [start for start, _ in cuts[1:]] + [self.position]
        return tuple((start, end, line) for (start, line), end in zip(cuts, ends, strict=True)) if len(cuts) > 1 else ()

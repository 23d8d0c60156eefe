"""Texts of logs as the tables' canonical values: ``Kalender`` is ``calendar``, ``getauscht`` is ``replaced``."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.infer import words
from jobs.infer.names import folded

_MOST = 200  # texts of one field that are listed; more is prose, not a code


def canonical(field: str, texts: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Raw text -> canonical value for the texts that are understood, and those that are not."""
    found: dict[str, str] = {}
    unknown: list[str] = []
    for text in list(texts)[:_MOST]:
        value = _value(field, folded(text))
        if value is None:
            unknown.append(text)
        else:
            found[text] = value
    return found, unknown


def type_name(text: str) -> str:
    """A machine type as a folder and a URL can carry it: ``Kreiselpumpe (groß)`` -> ``kreiselpumpe_gross``."""
    return folded(text)[:64].strip("_") or "machine"


def _value(field: str, text: str) -> str | None:
    for value, pieces in words.VALUES[field]:
        if text == value or any(_within(piece, text) for piece in pieces.split()):
            return value
    return None


def _within(piece: str, text: str) -> bool:
    # Short pieces (`pm`, `fix`) only as a word of their own.
    return piece in text.split("_") if len(piece) < 4 else piece in f"{text}_"

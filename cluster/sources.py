"""Source descriptions on disk: ``sources/<plant>.toml``, commented, written whole or not at all.

The one idea: the file belongs to the person who reads it. Its first line carries a digest of the
rest, so that ``connect`` can tell its own text from one that somebody has corrected by hand.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from tomlkit.items import AoT, InlineTable, Table

from cluster.files import write_atomically
from models.errors import InputError, NotFoundError
from models.source import SensorColumn, SourceDescription, Stream

_SEAL = "# connect "  # first line: this, the digest of everything below it, and what it is for
_WHY = "(digest of the rest: connect overwrites this file only while nobody has edited it)"
_INLINE = ("csv", "where", "time", "machine")
_TABLES = ("fields", "values", "times", "sensors")

Notes = Mapping[str, str]  # dotted key, such as "streams.pumps.time" -> comment


def read_source(path: Path) -> SourceDescription:
    """Read a description. Raises NotFoundError, or InputError naming the file and the key."""
    try:
        tree = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise NotFoundError("No source description", expected="a TOML file", found="nothing", where=path) from error
    except OSError as error:
        raise InputError("Cannot read the source description", found=error.strerror, where=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            "Unreadable source description", expected="TOML", found=str(error), where=path,
            do="Correct that line, or run `millwright connect` again",
        ) from error  # fmt: skip
    try:
        return SourceDescription.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"Wrong source description at {_key(tree, first['loc'])!r}",
            expected=_expected(first), found=_shortened(first.get("input")),
            where=path, do="Correct that key, or run `millwright connect` again",
        ) from error  # fmt: skip


def write_source(path: Path, description: SourceDescription, notes: Notes | None = None) -> None:
    """Write a commented description atomically. ``notes`` go above the keys they name (sensors: behind)."""
    body = _body(description, notes or {})
    digest = hashlib.sha256(body.encode()).hexdigest()
    try:
        write_atomically(path, f"{_SEAL}{digest} {_WHY}\n{body}")
    except OSError as error:
        raise InputError(
            "Cannot write the source description", expected="a writable folder", found=error.strerror, where=path
        ) from error


def edited(path: Path) -> bool:
    """Whether the file's text differs from what ``write_source`` wrote, or was never written by it."""
    first, _, body = path.read_text("utf-8", errors="replace").partition("\n")
    parts = first.removeprefix(_SEAL).split()
    return not first.startswith(_SEAL) or not parts or parts[0] != hashlib.sha256(body.encode()).hexdigest()


def _key(tree: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """``streams.readings.time.column`` rather than ``streams.0.time.column``."""
    parts = [str(part) for part in location]
    if len(location) > 1 and location[0] in ("streams", "live") and isinstance(location[1], int):
        stream = tree[location[0]][location[1]]
        parts[1] = str(stream.get("name", location[1])) if isinstance(stream, dict) else parts[1]
    return ".".join(parts) or "the whole file"


def _expected(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "a key that is known here"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "string_pattern_mismatch":
        return "one character, 'whitespace' or 'fixed'"
    return text[:1].lower() + text[1:]


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _body(description: SourceDescription, notes: Notes) -> str:
    document = tomlkit.document()
    for line in (
        f"What the raw files of plant {description.plant!r} mean. Correct by hand what is wrong: all of it is read.",
        "Each `confidence` says how sure connect was and what it went by. Nothing is read that is not listed here.",
    ):
        document.add(tomlkit.comment(_line(line)))
    document.add("plant", tomlkit.item(description.plant))
    document.add("root", tomlkit.item(description.root))
    document.add(tomlkit.nl())
    document.add("doubts", _doubts(description.doubts))
    clock = tomlkit.table()
    _comment(clock, notes.get("clock"))
    clock.update(description.clock.model_dump())
    document.add("clock", clock)
    if own := description.checks.model_dump(exclude_defaults=True):
        document.add("checks", tomlkit.item(own))
    streams: AoT = tomlkit.aot()
    for stream in description.streams:
        prefix = f"streams.{stream.name}."
        own = {key.removeprefix(prefix): text for key, text in notes.items() if key.startswith(prefix)}
        streams.append(_stream(stream, own))
    if description.streams:
        document.add("streams", streams)
    if description.live_sensors:
        document.add("live_sensors", _table("sensors", description.live_sensors, {}))
    live: AoT = tomlkit.aot()
    for own_live in description.live:
        table = tomlkit.table()
        table.update(own_live.model_dump(mode="json", exclude_defaults=True, exclude_none=True))
        live.append(table)
    if description.live:
        document.add("live", live)
    return tomlkit.dumps(document)


def _doubts(doubts: Mapping[str, str]) -> Table:
    table = tomlkit.table()
    open_ones = "What connect could not settle. Delete a line once you have checked it."
    table.add(tomlkit.comment(open_ones if doubts else "Nothing is in doubt."))
    for code, question in doubts.items():
        table.add(_literal_key(code), question)
    return table


def _stream(stream: Stream, notes: Notes) -> Table:
    tree = stream.model_dump(exclude_defaults=True, exclude_none=True)
    table = tomlkit.table()
    _comment(table, notes.get(""))
    for key, value in tree.items():
        if key in _TABLES:
            continue
        _comment(table, notes.get(key))
        table.add(key, _inline(value) if key in _INLINE else value)
    for key in _TABLES:
        if key in tree:
            table.add(key, _table(key, getattr(stream, key), notes))
    return table


def _table(key: str, entries: Mapping[str, Any], notes: Notes) -> Table:
    table = tomlkit.table()
    _comment(table, notes.get(key))
    for name, entry in entries.items():
        if hasattr(entry, "model_dump"):
            tree = entry.model_dump(exclude_none=True, exclude_defaults=True)
            if isinstance(entry, SensorColumn):  # kind and unit are worth reading even where they are the default
                tree = {"sensor": entry.sensor, "kind": entry.kind, "unit": entry.unit} | tree
        else:
            tree = entry
        item = _inline(tree) if isinstance(tree, Mapping) else tomlkit.item(tree)
        if note := notes.get(f"{key}.{name}"):
            item.comment(_line(note))
        table.add(_literal_key(name), item)
    return table


def _inline(tree: Mapping[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    for key, value in tree.items():
        nested = _inline(value) if isinstance(value, Mapping) else value
        table.add(_literal_key(key), list(nested) if isinstance(nested, tuple) else nested)
    return table


def _literal_key(name: str) -> tomlkit.items.Key:
    return tomlkit.key([name])  # a list: dots in a raw column's name are no path


def _comment(table: Table, text: str | None) -> None:
    if text:
        table.add(tomlkit.comment(_line(text)))


def _line(text: str) -> str:
    """One printable line: names in raw files may hold anything, and a comment must not end early."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())

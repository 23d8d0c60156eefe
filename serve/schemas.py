"""Readings in requests as arrays, and what bodies have in common.

The one idea: JSON goes through orjson straight into numpy, since checking nested lists with pydantic costs more than
scoring them. What is wrong is named by its place in the body; a number that no sensor can read becomes no value, as in
ingest, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from cluster.received import Rows
from models.errors import InputError
from models.quality import Scale
from serve.plant import Plant

MAX_ROWS = 50_000
MAX_CELLS = 4_000_000  # as rows in memory: 0.2 GB
MAX_MACHINES = 5_000  # a prediction each is 10 MB of answer
MAX_MACHINE = 128
_MILLISECONDS = 1e11  # epoch seconds beyond the year 5138
_MOST_CYCLES = 1e9
_MOST_UNKNOWN = 20
_LONGEST_NAME = 80  # of what is repeated in answers
LAST_US = 221_845_392_000_000_000  # 9000-01-01: a tick after it still has a date


@dataclass(frozen=True)
class Delivery:
    """Readings of one request; ``dropped`` counts values that no sensor can give."""

    rows: Rows
    unknown: tuple[str, ...] = ()  # names that no stream of the plant has
    dropped: int = 0

    @property
    def machines(self) -> list[str]:
        return list(dict.fromkeys(self.rows.machines))


@dataclass
class _Columns:
    """Where each name's values go; filled while rows are read."""

    plant: Plant
    units: Mapping[str, str]
    sensors: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    _found: dict[str, tuple[int, Scale] | None] = field(default_factory=dict)

    def of(self, name: str) -> tuple[int, Scale] | None:
        """Column and scale of a name; None where the plant has no such sensor."""
        if name not in self._found:
            scale = self.plant.scale(name, self.units.get(name))
            if scale is None:
                self.unknown.append(name)
            elif scale.sensor not in self.sensors:
                self.sensors.append(scale.sensor)
            self._found[name] = None if scale is None else (self.sensors.index(scale.sensor), scale)
        return self._found[name]


def parse_json(body: bytes) -> dict[str, Any]:
    """The body's object. Raises InputError where it is not one."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError("Not JSON", expected="a JSON object", found=str(error)[:120], where="body") from error
    if not isinstance(found, dict):
        raise InputError("Wrong body", expected="a JSON object", found=named(found), where="body")
    return found


def parse_readings(body: bytes, plant: Plant, *, machine: str | None, latest_us: int) -> Delivery:
    """Readings in canonical units. ``machine`` comes from the path, else every row names its own.

    Raises InputError for the first thing that is wrong, and takes nothing then.
    """
    found = checked_fields(parse_json(body), {"readings", "columns", "units"})
    if ("readings" in found) == ("columns" in found):
        raise InputError(
            "Wrong body", expected="either `readings` (a list of rows) or `columns` (lists of equal length)",
            found=", ".join(found) or "neither", where="body",
        )  # fmt: skip
    rows = _rows(found["readings"]) if "readings" in found else _transposed(found["columns"])
    units = found.get("units") or {}
    if not isinstance(units, dict) or not all(isinstance(u, str) for u in units.values()):
        raise InputError("Wrong units", expected="an object of name: unit", found=named(units), where="units")
    return _delivery(rows, _Columns(plant, units), machine, latest_us)


def _delivery(rows: Sequence[Mapping[str, Any]], columns: _Columns, machine: str | None, latest_us: int) -> Delivery:
    machines, times = [], np.empty(len(rows), np.int64)
    cells: list[tuple[int, int, float]] = []
    dropped = 0
    for i, row in enumerate(rows):
        machines.append(machine or checked_machine(row.get("machine"), f"readings[{i}].machine"))
        times[i] = parse_time(row.get("time"), columns.plant, f"readings[{i}].time", latest_us)
        for name, value in row.items():
            if name == "time" or (name == "machine" and machine is None):
                continue
            place = columns.of(name)
            if place is None or value is None:
                continue
            if type(value) not in (float, int):
                raise InputError(
                    "Not a number", expected="a number or null", found=named(value), where=f"readings[{i}].{name}"
                )
            column, scale = place
            canonical = value * scale.factor + scale.offset
            if scale.low <= canonical <= scale.high:
                cells.append((i, column, canonical))
            else:
                dropped += 1
    if not columns.sensors:
        raise InputError(
            "No known sensor", expected=f"one of {', '.join(sorted(columns.plant.columns)[:20])}",
            found=", ".join(columns.unknown[:_MOST_UNKNOWN]) or "no values", where="readings",
        )  # fmt: skip
    if (num := len(set(machines))) > MAX_MACHINES:
        raise TooLargeError("Too many machines", expected=f"at most {MAX_MACHINES} a request", found=num)
    values = np.full((len(rows), len(columns.sensors)), np.nan, np.float32)
    for i, column, canonical in cells:
        values[i, column] = canonical
    unknown = tuple(name[:_LONGEST_NAME] for name in columns.unknown[:_MOST_UNKNOWN])
    return Delivery(Rows(machines, times, tuple(columns.sensors), values), unknown, dropped)


def parse_time(value: Any, plant: Plant, where: str, latest_us: int) -> int:
    """Microseconds UTC from ISO 8601 with an offset, epoch seconds, or a cycle where the plant counts them."""
    cycles = plant.clock.life_unit == "cycle"
    expected = "a cycle number" if cycles else "ISO 8601 with an offset such as 2025-01-31T13:00:00Z, or epoch seconds"
    found: int | None = None
    if isinstance(value, str) and not cycles:
        found = _iso_us(value)
    elif type(value) in (int, float) and abs(value) < (_MOST_CYCLES if cycles else _MILLISECONDS):
        found = round(value * (plant.clock.step_us if cycles else 1_000_000))
    if found is None:
        raise InputError("Wrong time", expected=expected, found=named(value), where=where)
    if not 0 <= found <= latest_us:
        raise InputError("Time out of range", expected="a time from 1970 to now", found=named(value), where=where)
    return found


def checked_machine(name: Any, where: str) -> str:
    """A machine's name as a plant writes it. Raises InputError."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_MACHINE or not name.isprintable():
        raise InputError(
            "Wrong machine", expected=f"1 to {MAX_MACHINE} printable characters", found=named(name), where=where
        )
    return name


class TooLargeError(InputError):
    """More than one request may hold."""

    status = 413


def _rows(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise InputError(
            "Wrong readings", expected="a list of at least one object", found=named(found), where="readings"
        )
    return _limited(found)


def _transposed(found: Any) -> list[dict[str, Any]]:
    lists = isinstance(found, dict) and all(isinstance(column, list) for column in found.values())
    lengths = {len(column) for column in found.values()} if lists else set()
    if len(lengths) != 1 or not max(lengths):
        raise InputError(
            "Wrong columns", expected="an object of lists of one length, at least 1",
            found=f"lengths {sorted(lengths)}" if lists else named(found), where="columns",
        )  # fmt: skip
    if max(lengths) > MAX_ROWS:
        raise TooLargeError("Too many readings", expected=f"at most {MAX_ROWS} a request", found=max(lengths))
    if (cells := len(found) * max(lengths)) > MAX_CELLS:
        raise TooLargeError("Too many values", expected=f"at most {MAX_CELLS} a request", found=cells)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _limited(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(rows) > MAX_ROWS:
        raise TooLargeError("Too many readings", expected=f"at most {MAX_ROWS} a request", found=len(rows))
    return rows


def checked_fields(found: dict[str, Any], known: set[str], where: str = "body") -> dict[str, Any]:
    unknown = sorted(set(found) - known)
    if unknown:
        raise InputError(
            "Unknown field", expected=f"only {', '.join(sorted(known))}", found=", ".join(unknown[:20]), where=where
        )
    return found


def _iso_us(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def named(value: Any) -> str:
    """A short text for what a request holds."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return "nothing" if value is None else repr(value)[:80]


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

"""Bodies of requests as arrays, and what the documentation says of them.

The one idea: JSON goes through orjson straight into numpy, since checking a window of nested lists
with pydantic costs more than scoring it. What is wrong is named by its place in the body; a number
that no sensor can read becomes no value, as in ingest, and the answer says so.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cluster.received import Rows
from models.errors import InputError
from models.quality import Scale
from models.windows import Float
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
_NUMBER = frozenset((int, float, type(None)))


@dataclass(frozen=True)
class Delivery:
    """Readings of one request; ``dropped`` counts values that no sensor can give."""

    rows: Rows
    unknown: tuple[str, ...] = ()  # names that no stream of the plant has
    dropped: int = 0

    @property
    def machines(self) -> list[str]:
        return list(dict.fromkeys(self.rows.machines))


@dataclass(frozen=True)
class Windows:
    """Windows [B, W, C] to score; ``as_of_us`` is None where the request does not say."""

    values: Float
    machines: list[str]
    as_of_us: list[int | None]
    missing: tuple[str, ...] = ()  # channels of the model that the request does not have


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
        raise InputError("Wrong body", expected="a JSON object", found=_named(found), where="body")
    return found


def parse_readings(body: bytes, plant: Plant, *, machine: str | None, latest_us: int) -> Delivery:
    """Readings in canonical units. ``machine`` comes from the path, else every row names its own.

    Raises InputError for the first thing that is wrong, and takes nothing then.
    """
    found = _checked(parse_json(body), {"readings", "columns", "units"})
    if ("readings" in found) == ("columns" in found):
        raise InputError(
            "Wrong body", expected="either `readings` (a list of rows) or `columns` (lists of equal length)",
            found=", ".join(found) or "neither", where="body",
        )  # fmt: skip
    rows = _rows(found["readings"]) if "readings" in found else _transposed(found["columns"])
    units = found.get("units") or {}
    if not isinstance(units, dict) or not all(isinstance(u, str) for u in units.values()):
        raise InputError("Wrong units", expected="an object of name: unit", found=_named(units), where="units")
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
                    "Not a number", expected="a number or null", found=_named(value), where=f"readings[{i}].{name}"
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
        raise InputError("Wrong time", expected=expected, found=_named(value), where=where)
    if not 0 <= found <= latest_us:
        raise InputError("Time out of range", expected="a time from 1970 to now", found=_named(value), where=where)
    return found


def parse_windows(body: bytes, plant: Plant, *, channels: Sequence[str], length: int, max_windows: int) -> Windows:
    """Complete windows in canonical units. Raises InputError naming the window."""
    found = _checked(parse_json(body), {"windows", "channels"})
    windows = found.get("windows")
    if not isinstance(windows, list) or not windows:
        raise InputError("No windows", expected="`windows`, a list of some", found=_named(windows), where="body")
    if len(windows) > max_windows:
        raise TooLargeError("Too many windows", expected=f"at most {max_windows}", found=len(windows), where="windows")
    given = found.get("channels") or channels
    order = None if given is channels else _channel_order(given, channels)
    values, machines, as_of = [], list[str](), list[int | None]()
    plain = _all_numbers(body)
    for i, window in enumerate(windows):
        if not isinstance(window, dict):
            where = f"windows[{i}]"
            raise InputError("Wrong window", expected="an object with `values`", found=_named(window), where=where)
        _checked(window, {"machine", "values", "as_of"}, f"windows[{i}]")
        values.append(matrix(window.get("values"), (length, len(given)), f"windows[{i}].values", plain=plain))
        name = window.get("machine")
        machines.append("" if name is None else checked_machine(name, f"windows[{i}].machine"))
        at = window.get("as_of")
        as_of.append(None if at is None else parse_time(at, plant, f"windows[{i}].as_of", LAST_US))
    stacked = np.stack(values)
    if order is None:
        return Windows(stacked, machines, as_of)
    whole = np.full((len(windows), length, len(channels)), np.nan, np.float32)
    whole[:, :, order] = stacked
    return Windows(whole, machines, as_of, tuple(c for c in channels if c not in given))


def _all_numbers(body: bytes) -> bool:
    """Whether no ``true`` or ``false`` is in the body, which would pass for numbers."""
    # A byte is found ten times as fast as a word, and is mostly not there.
    return (b"t" not in body or b"true" not in body) and (b"f" not in body or b"false" not in body)


def matrix(found: Any, shape: tuple[int, ...], where: str, *, plain: bool = False) -> Float:
    """Nested lists of numbers and nulls as float32 of that shape; infinite counts as null.

    ``plain``: there is no truth value in it. Raises InputError.
    """
    numbers = _packed(found, shape) if plain and len(shape) == 2 else None
    return _float32(_checked_numbers(found, shape, where) if numbers is None else numbers, shape)


def _packed(found: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Rows of numbers alone, the usual case; None for all else. Packing is three times as fast as numpy's look."""
    rows, columns = shape
    if type(found) is not list or len(found) != rows or set(map(type, found)) != {list}:
        return None
    if set(map(len, found)) != {columns}:
        return None
    try:
        return np.frombuffer(struct.pack(f"{rows * columns}d", *chain.from_iterable(found)), np.float64)
    except (struct.error, OverflowError):  # a null, a text, a list, a number beyond all bounds
        return None


def _float32(numbers: NDArray[np.float64], shape: tuple[int, ...]) -> Float:
    with np.errstate(over="ignore"):
        out = numbers.astype(np.float32).reshape(shape)
    out[np.isinf(out)] = np.nan
    return out


def _checked_numbers(found: Any, shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    # Before numpy sees them: one long text among numbers would make every cell of the array as long.
    level: list[Any] = [found]
    for size in shape:
        for part in level:
            if type(part) is not list or len(part) != size:
                raise InputError("Wrong values", expected=f"numbers {list(shape)}", found=_sizes(found), where=where)
        level = list(chain.from_iterable(level))
    if not _NUMBER.issuperset(map(type, level)):
        wrong = next(cell for cell in level if type(cell) not in _NUMBER)
        raise InputError("Wrong values", expected=f"numbers {list(shape)}", found=_named(wrong), where=where)
    return np.array(level, np.float64)


def checked_machine(name: Any, where: str) -> str:
    """A machine's name as a plant writes it. Raises InputError."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_MACHINE or not name.isprintable():
        raise InputError(
            "Wrong machine", expected=f"1 to {MAX_MACHINE} printable characters", found=_named(name), where=where
        )
    return name


class TooLargeError(InputError):
    """More than one request may hold."""

    status = 413


def _channel_order(given: Any, channels: Sequence[str]) -> list[int]:
    if not isinstance(given, list) or len(set(map(str, given))) != len(given):
        raise InputError("Wrong channels", expected="a list of different names", found=_named(given), where="channels")
    unknown = [str(name) for name in given if name not in channels]
    if unknown:
        raise InputError(
            "Unknown channel",
            expected=f"some of {', '.join(channels)}", found=", ".join(unknown[:20]), where="channels",
        )  # fmt: skip
    return [channels.index(name) for name in given]


def _rows(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise InputError(
            "Wrong readings", expected="a list of at least one object", found=_named(found), where="readings"
        )
    return _limited(found)


def _transposed(found: Any) -> list[dict[str, Any]]:
    lists = isinstance(found, dict) and all(isinstance(column, list) for column in found.values())
    lengths = {len(column) for column in found.values()} if lists else set()
    if len(lengths) != 1 or not max(lengths):
        raise InputError(
            "Wrong columns", expected="an object of lists of one length, at least 1",
            found=f"lengths {sorted(lengths)}" if lists else _named(found), where="columns",
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


def _checked(found: dict[str, Any], known: set[str], where: str = "body") -> dict[str, Any]:
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


def _sizes(found: Any) -> str:
    """How long lists within lists are, by their first ones."""
    sizes: list[int] = []
    while type(found) is list and len(sizes) < 4:
        sizes.append(len(found))
        found = found[0] if found else None
    return str(sizes)


def _named(value: Any) -> str:
    """A short text for what a request holds."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return "nothing" if value is None else repr(value)[:80]


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

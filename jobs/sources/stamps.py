"""Times that are written with the same number of characters, read by their digits' columns.

The one idea: such texts are a table of bytes; a date is a few sums over its columns, and is exact: a digit,
a mark or a day of the month that is not what it should be leaves the row to a slower reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
SECOND_US = 1_000_000
_FIRST_YEAR, _LAST_YEAR = 1890, 2210  # beyond what `times` lets pass
_WIDTH = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_MOST = {"H": 23, "M": 59, "S": 59}
_ISO_DATE, _ISO_MINUTE = "%Y-%m-%d", "%Y-%m-%d?%H:%M"
_ISO = {10: _ISO_DATE, 16: _ISO_MINUTE, 19: _ISO_MINUTE + ":%S", 20: _ISO_MINUTE + ":%SZ"}
_ISO |= {25: _ISO_MINUTE + ":%S%z", 23: _ISO_MINUTE + ":%S.%f", 24: _ISO_MINUTE + ":%S.%fZ"}
_ISO |= {26: _ISO_MINUTE + ":%S.%f", 27: _ISO_MINUTE + ":%S.%fZ", 29: _ISO_MINUTE + ":%S.%f%z"}
_ISO |= {32: _ISO_MINUTE + ":%S.%f%z"}


@dataclass(frozen=True)
class _Layout:
    """``fields``: name and place of what is counted; ``marks``: place and accepted bytes of what is not."""

    fields: tuple[tuple[str, int, int], ...]
    marks: tuple[tuple[int, bytes], ...]
    width: int
    utc: bool


def read(texts: pa.Array, pattern: str) -> tuple[Ints, Mask, bool]:
    """Microseconds, the rows where they hold, and whether they are UTC (else local).

    ``pattern`` is ``iso`` or a strptime pattern. Only the rows of the most common length are read.
    """
    nothing = np.zeros(len(texts), np.int64), np.zeros(len(texts), bool), False
    lengths = np.asarray(pc.fill_null(pc.binary_length(texts), 0))
    if not len(texts) or (most := int(np.bincount(np.minimum(lengths, 64)).argmax())) == 64:
        return nothing
    layout = _layout(_ISO.get(most, "") if pattern == "iso" else pattern, most)
    if layout is None or layout.width != most:
        return nothing
    own = lengths == most
    whole = bool(own.all())
    us, good = _of_columns(_columns(texts if whole else texts.filter(pa.array(own)), most), layout)
    if whole:
        return us, good, layout.utc
    found, ok, _ = nothing
    found[own], ok[own] = us, good
    return found, ok, layout.utc


def _columns(texts: pa.Array, width: int) -> npt.NDArray[np.uint8]:
    _, offsets, data = texts.buffers()
    first = int(np.frombuffer(offsets, np.int32, 1, 4 * texts.offset)[0])
    table = np.frombuffer(data, np.uint8, len(texts) * width, first).reshape(len(texts), width)
    return np.ascontiguousarray(table.T)


@lru_cache(maxsize=64)
def _layout(pattern: str, width: int) -> _Layout | None:
    fields: list[tuple[str, int, int]] = []
    marks: list[tuple[int, bytes]] = []
    place, utc = 0, pattern in _ISO.values() and pattern.endswith(("Z", "%z"))
    digits = 3 if width in (23, 24, 29) else 6
    for part in re.findall(r"%.|[^%]", pattern):
        if part == "%f" and pattern in _ISO.values():
            fields.append(("f", place, digits))
            place += digits
        elif part == "%z" and pattern in _ISO.values():
            fields += [("zH", place + 1, 2), ("zM", place + 4, 2)]
            marks += [(place, b"+-"), (place + 3, b":")]
            place += 6
        elif part[0] == "%":
            if part[1] not in _WIDTH:
                return None
            fields.append((part[1], place, _WIDTH[part[1]]))
            place += _WIDTH[part[1]]
        else:
            iso = pattern in _ISO.values()
            accepted = {"?": b"T ", "Z": b"zZ", ".": b".,"}.get(part, part.encode()) if iso else part.encode()
            marks.append((place, accepted))
            place += 1
    names = [name for name, _, _ in fields]
    if len(set(names)) != len(names) or not {"Y", "m", "d"} <= set(names):
        return None
    if not pattern.isascii():
        return None
    return _Layout(tuple(fields), tuple(marks), place, utc)


def _of_columns(table: npt.NDArray[np.uint8], layout: _Layout) -> tuple[Ints, Mask]:
    good = np.ones(table.shape[1], bool)
    for place, accepted in layout.marks:
        right = table[place] == accepted[0]
        for other in accepted[1:]:
            right |= table[place] == other
        good &= right
    found = {name: _number(table[place : place + width], good) for name, place, width in layout.fields}
    for name, most in _MOST.items():
        if name in found:
            good &= found[name] <= most
    year, month, day = found["Y"], found["m"], found["d"]
    good &= (year >= _FIRST_YEAR) & (year <= _LAST_YEAR) & (month >= 1) & (month <= 12) & (day >= 1)
    index = np.where(good, (year - _FIRST_YEAR) * 12 + month - 1, 0)
    starts = _month_starts()
    first = starts[index]
    good &= day <= starts[index + 1] - first
    seconds = (first + day - 1) * 86_400
    for name, factor in (("H", 3600), ("M", 60), ("S", 1)):
        if name in found:
            seconds += found[name].astype(np.int32) * factor if factor > 1 else found[name]
    us = seconds * SECOND_US
    if "f" in found:
        digits = next(width for name, _, width in layout.fields if name == "f")
        us += found["f"].astype(np.int64) * 10 ** (6 - digits)
    if "zH" in found:
        good &= (found["zH"] <= 23) & (found["zM"] <= 59)
        sign = next(place for place, accepted in layout.marks if accepted == b"+-")
        offset = (found["zH"].astype(np.int32) * 60 + found["zM"]).astype(np.int64) * (60 * SECOND_US)
        us -= np.where(table[sign] == ord("-"), -offset, offset)
    return us, good


def _number(digits: npt.NDArray[np.uint8], good: Mask) -> npt.NDArray[Any]:
    """Two digits fit a byte; ``good`` loses the rows where something is no digit."""
    value = digits[0] - np.uint8(48)
    good &= value <= 9
    wide = len(digits) > 2
    total: npt.NDArray[Any] = value.astype(np.int32) if wide else value
    for column in digits[1:]:
        value = column - np.uint8(48)
        good &= value <= 9
        total = total * (np.int32(10) if wide else np.uint8(10)) + value
    return total


@lru_cache(maxsize=1)
def _month_starts() -> Ints:
    months = np.arange(f"{_FIRST_YEAR}-01", f"{_LAST_YEAR + 1}-02", dtype="datetime64[M]")
    return months.astype("datetime64[D]").astype(np.int64)

"""How a column writes time, and in which zone.

The one idea: the order of day and month is never guessed. A value above 12, a dot between the numbers
(``31.01.2025`` is day first wherever it is written) or a sibling stream settles it, or a person does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from jobs.infer.names import folded

ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(Z|z|[+-]\d\d:?\d\d|[+-]\d\d)?)?")
_NUMBERS = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{2,4})(?:(, |[ T])(.+))?")
_NAMED = re.compile(r"\d{1,2}([-/. ])[A-Za-z]{3}\1(\d{4}|\d\d)(?:(, |[ T])(.+))?")
_COMPACT = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:([T ]?)([01]\d|2[0-3])[0-5]\d[0-5]\d)?")
_CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d(\.\d{1,6})?)?( ?[AaPp][Mm])?")
_EPOCH = {"epoch_s": 1.0, "epoch_ms": 1e3, "epoch_us": 1e6, "epoch_ns": 1e9}
_FIRST, _LAST = 6.3e8, 4.2e9  # 1990 and 2103 in epoch seconds
_ZONE = re.compile(r"(?i)\b(?:time[\s_-]*zone|zeitzone|timezone|tz|zone)\b\s*[:=]?\s*([A-Za-z][\w+\-/]*)")
_OFFSET = re.compile(r"(?i)\b(?:UTC|GMT)\s*([+-])\s*(\d{1,2})(?::?00)?\b")
_IANA = re.compile(r"\b[A-Z][A-Za-z]+/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?\b")


@dataclass(frozen=True)
class TimeGuess:
    """A column's way of writing time. ``mark`` is the sign between day and month where their order matters.

    ``settled``: the order of day and month is proved. ``offset``: each text carries its own.
    """

    format: str
    offset: bool = False
    zone: str | None = None
    evidence: str = ""
    mark: str | None = None
    settled: bool = True
    example: str = ""

    def ordered(self, *, dayfirst: bool, evidence: str) -> TimeGuess:
        """The same, with the order of day and month settled."""
        day, month = ("%d", "%m") if dayfirst else ("%m", "%d")
        rest = self.format.partition("%Y" if "%Y" in self.format else "%y")
        text = f"{day}{self.mark}{month}{self.mark}{rest[1]}{rest[2]}"
        return replace(self, format=text, evidence=evidence, settled=True)


def guess(cells: Sequence[str], *, typed: str | None = None) -> TimeGuess | None:
    """How these texts write time, or None where they do not. ``typed``: the zone of a timestamp by type, or ""."""
    if typed is not None:
        return TimeGuess("iso", bool(typed), None, "a timestamp by type" + (f", zone {typed}" if typed else ""))
    values = list(dict.fromkeys(cell for cell in cells if cell))
    values = values[:: max(1, len(values) // 3000)]
    if not values:
        return None
    enough = _most(len(values))
    matches = [ISO.fullmatch(value) for value in values]
    if sum(match is not None for match in matches) >= enough:
        offsets = sum(bool(match and match[1]) for match in matches)
        return TimeGuess("iso", offsets >= enough, None, f"ISO, such as {values[0]!r}", example=values[0])
    shapes = Counter(shape for value in values if (shape := _shape(value)))
    if shapes and (best := shapes.most_common(1)[0])[1] >= enough:
        pattern, mark = best[0]
        zone = "UTC" if pattern.endswith((" UTC", " GMT")) else None
        found = TimeGuess(pattern, pattern.endswith("%z"), zone, f"such as {values[0]!r}", mark, True, values[0])
        return _order(found, values) if mark else found
    return None


def _most(num_values: int) -> float:
    """How many of a column's values must agree: a tenth may be wrong, in a short column also one."""
    return min(0.9 * num_values, num_values - 1) if num_values > 3 else num_values


def epoch(values: np.ndarray, *, timely: bool) -> TimeGuess | None:
    """Numbers as time since 1970, where their size says so and the name (``timely``) agrees."""
    finite = values[np.isfinite(values)]
    if not timely or not finite.size:
        return None
    for name, scale in _EPOCH.items():
        inside = finite[(finite >= _FIRST * scale) & (finite <= _LAST * scale)]
        if inside.size >= _most(finite.size):
            return TimeGuess(name, True, None, f"numbers of the size of {name}, such as {inside.min():.0f}")
    return None


def microseconds(cells: Sequence[str], pattern: str) -> np.ndarray:
    """Times as float64 microseconds, NaN where unreadable; naive ones as if UTC (for differences only)."""
    if pattern == "counter" or pattern in _EPOCH:
        scale = 1e6 / _EPOCH.get(pattern, 1.0)
        return np.array([_number(cell) for cell in cells], float) * scale
    return np.array([_parsed(cell, pattern) for cell in cells], float)


def dated(found: TimeGuess) -> bool:
    """Whether it tells the day alone."""
    return (found.format == "iso" and len(found.example) == 10) or not re.search("iso|%H|%I|epoch", found.format)


def clocks_only(cells: Sequence[str]) -> bool:
    """Whether these texts tell the time of day alone."""
    values = {cell for cell in cells if cell}
    return bool(values) and all(_CLOCK.fullmatch(value) for value in values)


def zone_in(text: str) -> str | None:
    """A zone named in a comment line or a column's name, as the zone database spells it."""
    for pattern in (_IANA, _ZONE):
        for match in pattern.finditer(text):
            name = match[match.lastindex or 0]
            if (offset := _OFFSET.search(text, match.start())) and name.upper().startswith(("UTC", "GMT")):
                return f"Etc/GMT{'-' if offset[1] == '+' else '+'}{int(offset[2])}"
            if known := _known(name):
                return known
    return None


def zone_of_column(name: str) -> str | None:
    """``started_utc``, ``Zeit [UTC]``, ``time (Europe/Berlin)``."""
    if named := zone_in(name):
        return named
    return "UTC" if set(folded(name).split("_")) & {"utc", "gmt", "zulu"} else None


def _known(name: str) -> str | None:
    if name.upper() in ("UTC", "GMT", "Z"):
        return "UTC"
    try:
        return ZoneInfo(name).key if name != "zone" else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _shape(value: str) -> tuple[str, str | None] | None:
    """A strptime pattern and, where day and month could be swapped, the sign between them."""
    if match := _NUMBERS.fullmatch(value):
        first, sign, _, last, gap, rest = match.groups()
        clock = _clock(gap, rest)
        if clock is None or (len(first) == 4 and len(last) != 2) or len(first) == 3 or len(last) == 3:
            return None
        if len(first) == 4:
            return f"%Y{sign}%m{sign}%d{clock}", None
        return f"%d{sign}%m{sign}{'%Y' if len(last) == 4 else '%y'}{clock}", sign
    if match := _NAMED.fullmatch(value):
        clock = _clock(match[3], match[4])
        year = "%Y" if len(match[2]) == 4 else "%y"
        return None if clock is None else (f"%d{match[1]}%b{match[1]}{year}{clock}", None)
    if match := _COMPACT.fullmatch(value):
        return "%Y%m%d" + (f"{match[1]}%H%M%S" if match[2] else ""), None
    return None


def _clock(gap: str | None, rest: str | None) -> str | None:
    if rest is None:
        return ""
    text, offset = rest, ""
    if match := re.search(r" ?(Z|[+-]\d\d:?\d\d)$", rest):
        text, offset = rest[: match.start()], (" " if match[0].startswith(" ") else "") + "%z"
    if text.endswith((" UTC", " GMT")):
        text, offset = text[:-4], text[-4:]
    found = _CLOCK.fullmatch(text)
    if not found:
        return None
    hours = "%I" if found[3] else "%H"
    seconds = ":%S.%f" if found[2] else ":%S" if found[1] else ""
    half = "" if not found[3] else " %p" if found[3].startswith(" ") else "%p"
    return f"{gap}{hours}:%M{seconds}{half}{offset}"


def _order(found: TimeGuess, values: Sequence[str]) -> TimeGuess:
    matches = [match for value in values if (match := _NUMBERS.fullmatch(value))]
    day = next((match[0] for match in matches if int(match[1]) > 12), None)
    month = next((match[0] for match in matches if int(match[3]) > 12), None)
    if day and month:
        return replace(found, settled=False, evidence=f"both orders, {day!r} and {month!r},")
    if day:
        return found.ordered(dayfirst=True, evidence=f"day first, as {day!r} shows")
    if month:
        return found.ordered(dayfirst=False, evidence=f"month first, as {month!r} shows")
    if found.mark == ".":
        return found.ordered(dayfirst=True, evidence=f"day first, as with dots always, such as {values[0]!r}")
    return replace(found, settled=False)


def _parsed(cell: str, pattern: str) -> float:
    try:
        found = datetime.fromisoformat(cell) if pattern == "iso" else datetime.strptime(cell, pattern)
    except ValueError:
        return float("nan")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6


def _number(cell: str) -> float:
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return float("nan")

"""A plant's time: order of day and month, zones, periods, and the clock that follows from them.

The one idea: streams of one plant witness for each other. What one cannot settle a sibling may, then the
settings (a person's answer, which comes first), then a doubt; only the order of day and month is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from cluster.config import TimeSettings
from jobs.infer import time
from jobs.infer.columns import Column
from jobs.infer.format import Table
from jobs.infer.time import TimeGuess
from models.config import Clock
from models.errors import InputError
from models.source import TimeFormat

_TIME_UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "sekunden": 1.0, "ms": 1e-3, "min": 60.0,
               "minutes": 60.0, "h": 3600.0, "hours": 3600.0, "stunden": 3600.0}  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """A column's time format, how sure it is and by what; ``doubt`` is the setting that would answer it."""

    format: TimeFormat
    confidence: str
    evidence: str
    doubt: str | None = None


def check(settings: TimeSettings) -> None:
    """Raises InputError where the setting ``time.zone`` is no zone."""
    if settings.zone is None:
        return
    try:
        ZoneInfo(settings.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            "Wrong setting 'time.zone'", expected="an IANA name such as Europe/Berlin", found=repr(settings.zone)
        ) from error


Place = tuple[str, str]  # a stream's glob and a raw column


def settle_order(columns: Mapping[Place, Column], settings: TimeSettings, where: object) -> dict[Place, Column]:
    """Settle day and month in every column.

    Raises InputError where neither a value, the settings nor a sibling tells which comes first.
    """
    proved: dict[str, set[bool]] = {}
    for column in columns.values():
        if (guess := column.time) and guess.mark and guess.settled:
            proved.setdefault(guess.mark, set()).add(guess.format.startswith("%d"))
    found = {}
    for (stream, name), column in columns.items():
        guess = column.time
        if guess is None or guess.settled or guess.mark is None:
            found[stream, name] = column
            continue
        siblings = proved.get(guess.mark, set())
        if settings.dayfirst is not None:
            settled = guess.ordered(dayfirst=settings.dayfirst, evidence="the setting time.dayfirst")
        elif len(siblings) == 1 and not guess.evidence.startswith("both"):
            settled = guess.ordered(dayfirst=next(iter(siblings)), evidence="as in the plant's other files")
        else:
            raise _ambiguous(guess, stream, name, where)
        found[stream, name] = replace(column, time=settled)
    return found


def timed(column: Column, comments: Sequence[str], others: Iterable[str], settings: TimeSettings) -> Timed:
    """The format of a column that holds time. ``others`` are zones that the plant's other files name."""
    guess = column.time
    assert guess is not None, "a column of time"
    if guess.offset:
        found = TimeFormat(column=column.name, date_column=column.date_column, format=guess.format)
        return Timed(found, "high", guess.evidence)
    zone, confidence, evidence, doubt = _zone(column, guess, comments, set(others), settings)
    found = TimeFormat(column=column.name, date_column=column.date_column, format=guess.format, zone=zone)
    joined = f"; the date in {column.date_column!r}, the time of day in {column.name!r}" if column.date_column else ""
    return Timed(found, confidence, f"{guess.evidence}{joined}; {evidence}", doubt)


def counted(column: Column, settings: TimeSettings) -> Timed:
    """The format of a running counter: its rate from its unit, from the settings, else 1 s, which is a doubt."""
    unit = re.search(r"[_\[( ]([A-Za-z]+)[\])]?$", column.name.strip())
    rate = _TIME_UNITS.get(unit[1].lower()) if unit else None
    if rate is not None:
        found = TimeFormat(column=column.name, format="counter", step_s=rate)
        return Timed(found, "high", f"a running counter; {column.name!r} says its unit")
    if settings.step is not None:
        found = TimeFormat(column=column.name, format="counter", step_s=settings.step)
        return Timed(found, "high", "a running counter; its step by the setting time.step")
    found = TimeFormat(column=column.name, format="counter", step_s=1.0)
    return Timed(found, "low", "a running counter whose rate nothing tells: 1 s a step", "time.step")


def named_zone(column: Column, comments: Sequence[str]) -> str | None:
    """The zone that a stream's own texts name for a column."""
    for text in comments:
        if found := time.zone_in(text):
            return found
    return _zone_of_name(column)


def median_step(table: Table, column: str, pattern: str, keys: Sequence[str]) -> float | None:
    """Median time (s, or counts) between consecutive rows of the same machine or tag, or None with too few.

    ``keys`` are columns. Only rows that follow each other in the file are compared.
    """
    moments = time.microseconds(table.cells[column][: table.num_head], pattern) / 1e6
    names = list(zip(*(table.cells[k][: table.num_head] for k in keys), strict=True)) if keys else [()] * len(moments)
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    machine = np.array([codes[name] for name in names], int)
    good = np.isfinite(moments)
    order = np.lexsort((moments[good], machine[good]))
    ticks, same = moments[good][order], machine[good][order]
    steps = np.diff(ticks)[np.diff(same) == 0]
    steps = steps[steps > 0]
    return float(np.median(steps)) if steps.size else None


def clock_of(times: Sequence[TimeFormat], periods_s: Sequence[float | None]) -> tuple[Clock, str]:
    """The plant's clock and why: a counter counts cycles; wall-clock time counts hours, in steps of at least one."""
    known = [period for period in periods_s if period]
    if times and all(t.format == "counter" for t in times):
        step = min(known, default=times[0].step_s or 1.0)
        return Clock(step_s=step, life_unit="cycle"), "confidence high: a running counter, life is counted in cycles"
    period = min(known, default=3600.0)
    hours = max(1.0, float(np.ceil(round(period / 3600.0, 2))))
    why = f"readings follow each other every {_span(period)}" if known else "no period to be seen"
    return Clock(step_s=3600.0 * hours), f"confidence {'high' if known else 'low'}: {why}; a step is at least an hour"


def _zone_of_name(column: Column) -> str | None:
    names = (column.name, column.date_column)
    return next((zone for name in names if name and (zone := time.zone_of_column(name))), None)


def _zone(
    column: Column, guess: TimeGuess, comments: Sequence[str], others: set[str], settings: TimeSettings
) -> tuple[str, str, str, str | None]:
    if guess.zone:
        return guess.zone, "high", "the text says so", None
    if from_comment := next((found for text in comments if (found := time.zone_in(text))), None):
        return from_comment, "high", f"zone {from_comment} by a comment line", None
    if from_name := _zone_of_name(column):
        return from_name, "high", f"zone {from_name} by the column's name", None
    if settings.zone:
        return settings.zone, "high", f"zone {settings.zone} by the setting time.zone", None
    doubt = None if time.dated(guess) else "time.zone"
    if len(others) == 1:
        zone = next(iter(others))
        return zone, "medium", f"no zone of its own; {zone} as in the plant's other files", doubt
    return "UTC", "low", "nothing names a zone: UTC", doubt


def _ambiguous(guess: TimeGuess, stream: str, name: str, where: object) -> InputError:
    both = guess.evidence.startswith("both")
    return InputError(
        "The order of day and month is ambiguous",
        expected="one order throughout" if both else "a number above 12 in one of the two places",
        found=f"{guess.evidence.strip(',') if both else repr(guess.example)} in column {name!r} of {stream}",
        where=where,
        do="Answer with `--set time.dayfirst=true` (01/02 is the first of February) or `--set time.dayfirst=false` "
        "(01/02 is the second of January)",
    )  # fmt: skip


def _span(seconds: float) -> str:
    for name, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"

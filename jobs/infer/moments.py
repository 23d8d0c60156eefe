"""A date and a time of day in two columns, read as one.

The one idea: they are joined in the sample before anything else looks at it, so that a joined time is a
time like any other; the column of the date is then no column of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from jobs.infer import time, words
from jobs.infer.columns import Column, profile
from jobs.infer.layout import Group

_LENGTH = re.compile(r"dauer|duration|down|ausfallz|stillstand|laufzeit|runtime|hours|stunden|elapsed")
_PACKED = re.compile(r"([01]\d|2[0-3])[0-5]\d[0-5]\d")  # 081500


def joined(group: Group) -> tuple[Group, dict[str, Column]]:
    """The group and its columns, each time of day with its date before it."""
    columns = profile(group.shape, group.table)
    pairs = _pairs(columns)
    if not pairs:
        return group, columns
    samples = {
        name: replace(table, cells=table.cells | {c: _both(table.cells, d, c) for c, d in pairs.items()},
                      zones={k: z for k, z in table.zones.items() if k not in pairs.values()})
        for name, table in group.samples.items()
    }  # fmt: skip
    whole = replace(group, samples=samples)
    found = {}
    for name, column in profile(group.shape, whole.table).items():
        if date := pairs.get(name):
            found[name] = replace(column, date_column=date, label=_label(columns[date], columns[name]))
        elif name not in pairs.values():
            found[name] = column
    return whole, found


def _pairs(columns: Mapping[str, Column]) -> dict[str, str]:
    """Time of day -> its date: the date that shares most of its name, then the nearest before it."""
    order = list(columns)
    dates = [n for n, c in columns.items() if c.time is not None and time.dated(c.time)]
    found: dict[str, str] = {}
    for clock in (name for name in order if dates and _is_clock(columns[name])):
        own = set(columns[clock].key.split("_"))
        free = [name for name in dates if name not in found.values()] or dates
        at = order.index(clock)
        found[clock] = min(
            free,
            key=lambda d: (-len(own & set(columns[d].key.split("_"))), order.index(d) > at, abs(order.index(d) - at)),
        )
    return {c: d for c, d in found.items() if time.guess(_both({n: columns[n].cells for n in (c, d)}, d, c))}


def _is_clock(column: Column) -> bool:
    if _LENGTH.search(column.key) or not column.num_values:
        return False
    if time.clocks_only(column.cells):
        return True
    timely = column.key in words.TIME or {"time", "zeit", "uhrzeit"} & set(column.key.split("_"))
    return bool(timely) and all(_PACKED.fullmatch(cell) for cell in column.distinct)


def _both(cells: Mapping[str, list[str]], date: str, clock: str) -> list[str]:
    days, hours = cells.get(date, []), cells.get(clock, [])
    return [f"{day} {hour}" if day and hour else "" for day, hour in zip(days, hours, strict=True)]


def _label(date: Column, clock: Column) -> str:
    """The name that says more of what happened then."""
    events = [names for name, names in words.EVENT_TIMES.items() if name != "started_at"]
    starts = words.EVENT_TIMES["started_at"] - words.TIME
    told = (c for c in (date, clock) if c.key in starts or any(c.key in names for names in events))
    return next(told, date if date.key not in words.TIME or clock.key in words.TIME else clock).name

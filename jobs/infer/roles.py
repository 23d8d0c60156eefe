"""Which stream is what: readings, a log of failures, maintenance or errors, the list of machines, or nothing.

The one idea: every role is tried on the columns and the file's name, and the best fit wins, so that
``type`` may be a machine's type in one file and a work order's in another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from jobs.infer import words
from jobs.infer.columns import Column
from jobs.infer.format import Shape
from jobs.infer.names import folded, split_unit
from models.source import Role

_EXACT, _QUALIFIED, _PART = 3, 2, 1
_QUALIFIERS = {"id", "nr", "no", "number", "name", "code", "at", "on", "am", "of", "date", "time", "datum", "zeit"}
_OWN = {"failures": ("failure_mode",), "maintenance": ("trigger", "effect")}  # fields that only this log has
_OTHER_SPAN = re.compile(r"(^|_)(min|mins|minutes|minuten|s|sec|seconds|sekunden|d|days|tage)$")
_ENOUGH = 3.0  # score of a log or a list; readings need a time and a sensor only


@dataclass(frozen=True)
class Fit:
    """A role and what its columns are. ``sensors`` are raw columns (wide), or empty (long)."""

    role: Role
    score: float
    machine: str | None = None
    time: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    sensors: tuple[str, ...] = ()
    tag: str | None = None
    value: str | None = None
    quality: str | None = None
    evidence: str = ""
    tag_pattern: str | None = None  # one file a sensor

    @property
    def long(self) -> bool:
        return self.tag is not None or self.tag_pattern is not None

    @property
    def confidence(self) -> str:
        return "high" if self.score >= 6 else "medium" if self.score >= _ENOUGH else "low"


def best(path: str, shape: Shape, columns: dict[str, Column]) -> Fit:
    """The role that fits best; `ignored` where none does. ``path`` is the stream's glob below the root."""
    fits = [_events(role, path, shape, columns) for role in ("failures", "maintenance", "errors", "operating_states")]
    fits += [_machines(path, columns), _long(path, shape, columns), _wide(path, shape, columns)]
    found = [fit for fit in fits if fit and (fit.role == "readings" or fit.score >= _ENOUGH)]
    return max(found, key=lambda fit: fit.score, default=Fit("ignored", 0.0, evidence="no role fits these columns"))


def event(role: Role, path: str, shape: Shape, columns: dict[str, Column]) -> Fit | None:
    """The columns of a log that is known to be of this role; None where it has no time."""
    return _events(role, path, shape, columns, sure=True)


def refit(fit: Fit, **fields: str) -> Fit:
    """The same with more fields."""
    return replace(fit, fields=fit.fields | fields)


def machine_column(columns: Iterable[Column]) -> str | None:
    """The column that names the machine, by its name, then by values that repeat like an identifier."""
    able = [c for c in columns if c.identifies or not c.num_values]
    for names in (words.MACHINE, *({late} for late in words.MACHINE_LATE)):
        if found := next((c for c in able if c.key in names), None):
            return found.name
    pieces = ((c.name, set(c.key.split("_"))) for c in able)
    return next((n for n, found in pieces if found & words.MACHINE and found - words.MACHINE <= _QUALIFIERS), None)


def _events(role: Role, path: str, shape: Shape, columns: dict[str, Column], *, sure: bool = False) -> Fit | None:
    machine = machine_column(c for c in columns.values() if role != "errors" or c.key not in words.FIELDS[role]["code"])
    rest = [c for c in columns.values() if c.name != machine]
    fields, tiers = _match(words.FIELDS[role], rest)
    told = 6.0 if sure else _file_score(role, path)
    own = _OWN.get(role, ("code",))
    strength = sum(tiers.get(name, 0) for name in own)
    if not (told or strength) or not shape.named:
        return None
    if role in ("errors", "operating_states") and "code" not in fields and not sure:
        return None
    if "started_at" not in fields:
        # A log with one time of any name, or with the booking's alone.
        times = [c.name for c in rest if c.time is not None and c.name not in fields.values()]
        first = times[0] if times else fields.get("recorded_at") or fields.get("ended_at")
        if first is None:
            return None
        fields = {"started_at": first} | fields
    weak = 0.5 * sum(name in fields for name in ("component", "ended_at", "downtime_h", "cost", "external_id"))
    if role in ("errors", "operating_states"):
        weak = -weak
    foreign = (c for c in rest if c.name not in fields.values() and c.time is None and _measures(c))
    score = told + strength + weak - 2 * sum(1 for _ in foreign)
    why = "the column that tells the kinds apart" if sure else _why(told, role, own, fields)
    return Fit(role, score, machine, fields["started_at"], fields, evidence=why)


def _machines(path: str, columns: dict[str, Column]) -> Fit | None:
    machine = machine_column(columns.values())
    if machine is None:
        return None
    rest = [c for c in columns.values() if c.name != machine]
    fields, tiers = _match(words.FIELDS["machines"], rest)
    told = _file_score("machines", path)
    if not _lists(columns[machine], rest, fields, told=bool(told)):
        return None
    plain = tiers.get("machine_type") == _EXACT and not any(c.time or c.numeric for c in rest)
    if not fields or (not told and len(fields) < 2 and not plain):
        return None
    score = told + 0.5 * sum(tiers.values()) + (_ENOUGH if plain else 0)
    time = fields.get("valid_from") or fields.get("valid_to")
    return Fit("machines", score, machine, time, fields, evidence=_why(told, "machines", tuple(fields), fields))


def _lists(machine: Column, rest: list[Column], fields: dict[str, str], *, told: bool) -> bool:
    """Whether a machine stands in one line (a swap adds one), or in one for each component of it."""
    if len(machine.distinct) >= 0.9 * machine.num_values:
        return True
    parts = any(c.key in words.EVENT_COMMON["component"] for c in rest)
    if any(c.time is not None and c.name not in fields.values() for c in rest) or not (told or parts):
        return False
    kinds = next((c.cells for c in rest if c.name == fields.get("machine_type")), None)
    return kinds is not None and len(set(zip(machine.cells, kinds, strict=True))) <= len(machine.distinct) + 1


def _long(path: str, shape: Shape, columns: dict[str, Column]) -> Fit | None:
    times = [c for c in columns.values() if c.time is not None]
    texts = [c for c in columns.values() if c.time is None and not c.numeric and c.num_values]
    tags = [c for c in texts if c.key in words.TAG] or ([] if shape.named else [c for c in texts if _taglike(c)])
    named = [c for c in columns.values() if c.key in words.VALUE and c.num_numbers >= 0.2 * c.num_values > 0]
    numeric = [c for c in columns.values() if c.numeric and c.time is None]
    values = named or ([] if shape.named or len(numeric) != 1 else numeric)
    if not (times and tags and values):
        return None
    tag = max(tags, key=lambda c: len(c.distinct)).name  # of a measurement and its fields, the fields
    machine = machine_column(c for c in columns.values() if c.name not in (tag, values[0].name))
    quality = next((c.name for c in columns.values() if c.name not in (tag, machine) and _tells_quality(c)), None)
    time = _first_time(times)
    evidence = f"one value a line: tag {tag!r}, value {values[0].name!r}"
    score = 5 + _file_score("readings", path)
    return Fit("readings", score, machine, time, {}, (), tag, values[0].name, quality, evidence)


def _wide(path: str, shape: Shape, columns: dict[str, Column]) -> Fit | None:
    times = [c for c in columns.values() if c.time is not None]
    machine = machine_column(c for c in columns.values() if c.key not in words.COUNTER) or _by_values(columns)
    time = _first_time(times) if times else _counter(columns, machine) if shape.named else None
    if not shape.named and time is None:
        machine, time = _unnamed_counter(columns)
    if time is None:
        return None
    quality = next((c.name for c in columns.values() if c.name != machine and _tells_quality(c)), None)
    skip = {machine, time, quality, *(c.name for c in times)}
    sensors = tuple(c.name for c in columns.values() if c.name not in skip and _senses(c))
    if shape.named:  # a column that the header leaves unnamed numbers the rows
        sensors = tuple(name for name in sensors if not re.fullmatch(r"column_\d+", name))
    if not sensors:
        return None
    told = _file_score("readings", path)
    evidence = f"{len(sensors)} columns of numbers over time" + (", and the path says so" if told else "")
    score = told + min(4, sum(_measures(columns[name]) for name in sensors) + 0.5)
    return Fit("readings", score, machine, time, {}, sensors, None, None, quality, evidence)


def _match(fields: dict[str, frozenset[str]], columns: list[Column]) -> tuple[dict[str, str], dict[str, int]]:
    """Field -> raw column, and how well each fits; the best pairs first, no column twice."""
    pairs = [
        (-tier, order, place, name, column.name)
        for order, (name, names) in enumerate(fields.items())
        for place, column in enumerate(columns)
        if (tier := _tier(name, names, column))
    ]
    found: dict[str, str] = {}
    tiers: dict[str, int] = {}
    for negative, _, _, name, column_name in sorted(pairs):
        if name not in found and column_name not in found.values():
            found[name], tiers[name] = column_name, -negative
    return {name: found[name] for name in fields if name in found}, tiers


def _tier(name: str, names: frozenset[str], column: Column) -> int:
    if column.num_values:
        if (name in words.TIME_FIELDS) != (column.time is not None):
            return 0
        if name in words.NUMBER_FIELDS and not column.numeric:
            return 0
    key = column.key
    if name == "downtime_h" and (split_unit(column.name)[1] not in (None, "h", "hours") or _OTHER_SPAN.search(key)):
        return 0  # minutes are not hours; the field is left out rather than wrong
    if key in names:
        return _EXACT
    if any(set(word.split("_")) <= set(key.split("_")) <= set(word.split("_")) | _QUALIFIERS for word in names):
        return _QUALIFIED
    return _PART if any(len(word) > 4 and word in key for word in names) else 0


def _file_score(role: Role, path: str) -> float:
    parts = [folded(part) for part in path.split("/")]
    if any(word in parts[-1] for word in words.FILE_WORDS[role]):
        return 3.0
    return 2.0 if any(word in part for part in parts[:-1] for word in words.FILE_WORDS[role]) else 0.0


def _why(told: float, role: str, own: tuple[str, ...], fields: dict[str, str]) -> str:
    named = [repr(fields[name]) for name in own if name in fields]
    return " and ".join((["the file's name"] if told else []) + ([f"the columns {', '.join(named)}"] if named else []))


def _first_time(times: list[Column]) -> str:
    named = [c.name for c in times if c.key in words.TIME]
    return (named or [c.name for c in times])[0]


def _senses(column: Column) -> bool:
    """Numbers that are no row number; an empty column counts where its name carries a unit."""
    if column.key in words.INDEX:
        return False
    return column.numeric or (not column.num_values and split_unit(column.name)[1] is not None)


def _measures(column: Column) -> bool:
    """Numbers with a fraction or a unit, which logs have of costs and durations alone."""
    return column.numeric and (not column.whole or split_unit(column.name)[1] is not None)


def _tells_quality(column: Column) -> bool:
    if column.time is not None or not column.num_values or len(column.distinct) > 12:
        return False
    found = {value.lower() for value in column.distinct}
    told = column.key in words.QUALITY or (not column.numeric and "bad" in found)
    return told and bool(found & words.QUALITY_GOOD)


def _taglike(column: Column) -> bool:
    return any(all(mark in value for value in column.distinct) for mark in "._:/|")


def _by_values(columns: dict[str, Column]) -> str | None:
    """A text column that repeats few values names the machine where no header does."""
    texts = [c for c in columns.values() if c.time is None and not c.numeric and c.num_values and not _tells_quality(c)]
    repeating = (c for c in texts if len(c.distinct) <= max(1, c.num_values // 2))
    return next((c.name for c in repeating if all(re.search(r"\d", value) for value in c.distinct)), None)


def _counter(columns: dict[str, Column], machine: str | None) -> str | None:
    able = (c for c in columns.values() if c.name != machine and c.numeric and c.key in words.COUNTER)
    return next((c.name for c in able), None)


def _unnamed_counter(columns: dict[str, Column]) -> tuple[str | None, str | None]:
    """Without a header: a whole number that grows by even steps while another stays, machine and counter."""
    whole = [c for c in columns.values() if c.whole and c.num_numbers == c.num_values > 2]
    for machine in [*whole, None]:
        for counter in whole:
            if counter is not machine and _counts(counter, machine):
                return (machine.name if machine else None), counter.name
    return None, None


def _counts(counter: Column, machine: Column | None) -> bool:
    steps = counter.numbers[1:] - counter.numbers[:-1]
    if machine is None:
        return bool((steps > 0).all())
    stays = machine.numbers[1:] == machine.numbers[:-1]
    inside = steps[stays]
    # Slices of a sample leave jumps; within what follows directly, the step is always the same.
    if not inside.size or len(machine.distinct) > len(counter.numbers) / 2:
        return False
    return bool((inside > 0).all() and (inside == inside[0]).mean() > 0.9)

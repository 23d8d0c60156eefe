"""A readings stream's sensors: what each column or tag becomes, and what is told of it beside.

The one idea: nothing is dropped in silence. A column that repeats another, never changes, is a state, or is
not read at all is named, in the description beside its stream and in the report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jobs.infer import codes, names
from jobs.infer.columns import Column
from jobs.infer.format import Shape
from jobs.infer.names import Named
from jobs.infer.roles import Fit
from jobs.infer.states import counted, states
from models.source import MachineFrom, SensorColumn
from models.units import conversion

_ROWS = 10  # values below which nothing is called constant or the same


@dataclass
class Sensed:
    """Sensors by raw column, tag or sensor part of a tag; notes by the same keys; what lacks a unit."""

    sensors: dict[str, SensorColumn]
    notes: dict[str, str]
    unknown: list[str]
    remarks: list[str] = field(default_factory=list)


def of_columns(fit: Fit, columns: Mapping[str, Column], shape: Shape, machine: MachineFrom) -> Sensed:
    """The wide layout."""
    twins = _twins([columns[name] for name in fit.sensors])
    texts = {n: s for n in _left(fit, columns) if not columns[n].numeric and (s := states(n, columns[n].cells))}
    cut = {name: _sensor_part(name, machine) for name in (*fit.sensors, *texts) if name not in twins}
    named: dict[str, Named] = {}
    for name, part in cut.items():
        if part is not None and part not in named:
            told = shape.units.get(name) or (names.split_unit(name)[1] if part != name else None)
            named[part] = _named(part, name, columns[name], told, texts.get(name))
    numbers = {part: [columns[name].numbers for name, own in cut.items() if own == part] for part in named}
    found, coded = codes.limited(names.unique(named), {part: np.concatenate(held) for part, held in numbers.items()})
    notes = {name: f"confidence {entry.confidence}: {entry.evidence}" for name, entry in found.items()}
    remarks = [f"{n!r} repeats {twin!r} in every row of the sample: no sensor of its own" for n, twin in twins.items()]
    remarks = coded + remarks
    for name, part in cut.items():
        if part in notes and (constant := _constant(columns[name])):
            notes[part] = f"confidence low: constant, {constant} in every row of the sample; {found[part].evidence}"
            remarks.append(f"{name!r} is constant ({constant})")
    unread = [name for name in _left(fit, columns) if name not in texts and columns[name].num_values]
    unread += [name for name, part in cut.items() if part is None]
    remarks += [f"not read: {', '.join(map(repr, unread))}"] if unread else []
    unknown = [name for name, entry in found.items() if entry.unknown_unit]
    return Sensed({name: entry.column for name, entry in found.items()}, notes, unknown, remarks)


def of_tags(
    cells: Mapping[str, Sequence[str]], values: Column, told: Mapping[str, str], machine: MachineFrom
) -> Sensed:
    """The long layout: the ``cells`` of each tag, all of them in ``values``; ``told`` holds units beside them."""
    named: dict[str, Named] = {}
    texts: dict[str, list[str]] = {}
    number = dict(zip(values.cells, values.numbers.tolist(), strict=True))
    numbers: dict[str, list[float]] = {}
    remarks = []
    for tag in sorted(cells):
        part = _sensor_part(tag, machine) or tag
        held = cells[tag]
        texts.setdefault(part, []).extend(value for value in held if value and not math.isfinite(number[value]))
        numbers.setdefault(part, []).extend(number[value] for value in held)
        named.setdefault(part, _counted(_tagged(part, tag, told.get(tag)), part, set(filter(None, held))))
        if len(held) >= _ROWS and len(set(held)) == 1:
            remarks.append(f"{tag!r} is constant ({held[0]})")
    for part, other in texts.items():
        if other and (numbered := states(part, other)):
            named[part] = _state(named[part], numbered)
    found, coded = codes.limited(names.unique(named), {part: np.array(held) for part, held in numbers.items()})
    notes = {name: f"confidence {entry.confidence}: {entry.evidence}" for name, entry in found.items()}
    unknown = [name for name, entry in found.items() if entry.unknown_unit]
    return Sensed({name: entry.column for name, entry in found.items()}, notes, unknown, coded + remarks)


def _left(fit: Fit, columns: Mapping[str, Column]) -> list[str]:
    """Columns that nothing else is made of."""
    used = {fit.machine, fit.time, fit.tag, fit.value, *fit.sensors}
    return [name for name in columns if name not in used]


def _sensor_part(name: str, machine: MachineFrom) -> str | None:
    if machine.kind != "tag" or machine.pattern is None:
        return name
    match = re.search(machine.pattern, name)
    return match["sensor"] if match else None


def _named(part: str, raw: str, column: Column, told: str | None, texts: dict[str, float] | None) -> Named:
    entry = _tagged(part, raw, told)
    return _state(entry, texts) if texts is not None else _counted(entry, part, column.distinct)


def _tagged(part: str, tag: str, told: str | None) -> Named:
    """A sensor named by its part of the tag, and known by the whole of it (``PT`` of ``PT-101``)."""
    own, whole = names.sensor_of(part, told=told), names.sensor_of(tag, told=told)
    if part == tag or (not own.unknown_unit and own.column.kind != "number") or whole.column.kind == "number":
        return own
    return replace(whole, column=whole.column.model_copy(update={"sensor": own.column.sensor}))


def _counted(entry: Named, name: str, texts: Collection[str]) -> Named:
    if entry.unknown_unit and entry.column.kind == "number" and (what := counted(name, texts)):
        return replace(entry, confidence="medium", evidence=what, unknown_unit=False)
    return entry


def _state(entry: Named, texts: dict[str, float]) -> Named:
    column = SensorColumn(sensor=entry.column.sensor, states=texts)
    return Named(column, "medium", f"{len(texts)} texts that repeat: a state, read as numbers")


def _constant(column: Column) -> str | None:
    same = column.num_values >= _ROWS and len(column.distinct) == 1
    return column.distinct[0] if same else None


def _twins(columns: Iterable[Column]) -> dict[str, str]:
    """Column -> an earlier one that says the same in every row of the sample, in another unit too."""
    found: dict[str, str] = {}
    exact: dict[bytes, str] = {}
    kept: list[tuple[str, np.ndarray, SensorColumn]] = []
    for column in columns:
        held = column.numbers[np.isfinite(column.numbers)]
        if held.size < _ROWS or (held == held[0]).all():  # a constant is no twin of another
            continue
        described = names.sensor_of(column.name).column
        scale = conversion(described.unit, described.kind)
        values = column.numbers * scale.factor + scale.offset
        beside = (name for name, theirs, other in kept if _converted(described, other) and _same(values, theirs))
        twin = exact.get(column.numbers.tobytes()) or next(beside, None)
        if twin is not None:
            found[column.name] = twin
            continue
        exact[column.numbers.tobytes()] = column.name
        if described.kind != "number":
            kept.append((column.name, values, described))
    return found


def _converted(one: SensorColumn, other: SensorColumn) -> bool:
    return one.kind == other.kind and one.unit != other.unit


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for what rounding in two units leaves."""
    held = np.isfinite(one)
    if not (held == np.isfinite(other)).all():
        return False
    return float(np.abs(one[held] - other[held]).max()) <= 0.02 * float(np.std(one[held]))

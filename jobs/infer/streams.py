"""One stream's description, put together from its role, its columns, its machines and its time.

The one idea: every inference leaves a note (confidence and evidence) beside the key it decided, and what
stays open becomes a doubt with a code; doubts of one code are asked as one question.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from cluster.config import TimeSettings
from jobs.infer import clocks, machines, names, values, words
from jobs.infer.clocks import Timed
from jobs.infer.columns import Column
from jobs.infer.layout import Group, common_words
from jobs.infer.machines import Found
from jobs.infer.roles import Fit
from models.source import MachineFrom, SensorColumn, Stream, TimeFormat

_QUALIFIES = ("trigger", "effect")


@dataclass(frozen=True)
class Part:
    """A group of files with what is known of it so far."""

    group: Group
    columns: dict[str, Column]
    fit: Fit
    name: str
    prefix: str = ""  # of machines whose numbers another stream counts anew

    @property
    def counts(self) -> bool:
        """Whether a running counter is its time."""
        return self.fit.role == "readings" and self.fit.time is not None and self.columns[self.fit.time].time is None


@dataclass(frozen=True)
class Draft:
    """A stream, its notes by key, its doubts as (code, what about it), and what its sample shows."""

    stream: Stream
    num_files: int
    notes: dict[str, str] = field(default_factory=dict)
    doubts: tuple[tuple[str, str], ...] = ()
    machines: frozenset[str] = frozenset()
    types: dict[str, str] = field(default_factory=dict)  # machine -> machine type, from a list of machines


def used_times(part: Part) -> list[str]:
    """Raw columns of the stream that are read as time."""
    fields = (raw for name, raw in part.fit.fields.items() if name in words.TIME_FIELDS)
    return list(dict.fromkeys(raw for raw in (part.fit.time, *fields) if raw))


def ignored(part: Part) -> Draft:
    """A stream that is listed so that a person sees it is not read."""
    stream = Stream(name=part.name, role="ignored", files=part.group.glob, format=part.group.shape.format)
    return Draft(stream, len(part.group.files), {"": f"Not read: {part.fit.evidence}."}, (("roles", part.group.glob),))


def log(part: Part, others: Collection[str], settings: TimeSettings, *, likely: TimeFormat | None, plant: str) -> Draft:
    """A log of events or the list of machines. ``likely``: how the plant's other logs write time."""
    group, fit, columns = part.group, part.fit, part.columns
    notes = {"role": f"confidence {fit.confidence}: {fit.evidence}"}
    doubts: list[tuple[str, str]] = []
    timed = {raw: _timed(columns[raw], group, others, settings) for raw in used_times(part)}
    main = _main_time(fit.time, timed, likely, notes)
    doubts += [(each.doubt, group.glob) for each in timed.values() if each and each.doubt]
    times = {
        name: each.format
        for name, raw in fit.fields.items()
        if name in words.TIME_FIELDS and (each := timed.get(raw)) and main and not _same(each.format, main)
    }
    mapped, types = _values(part, notes, doubts)
    found = _machine(part, known=(), plant=plant)
    if fit.machine is None:
        doubts.append(("machine", group.glob))
    notes["machine"] = f"confidence {found.confidence}: {found.evidence}"
    stream = Stream(
        name=part.name, role=fit.role, files=group.glob, format=group.shape.format, csv=group.shape.csv, time=main,
        machine=found.machine, fields=fit.fields, values=mapped, times=times,
    )  # fmt: skip
    return Draft(stream, len(group.files), notes, tuple(doubts), found.machines, types)


def readings(
    part: Part, others: Collection[str], settings: TimeSettings, *, known: Collection[str], types: Mapping[str, str],
    plant: str,
) -> Draft:  # fmt: skip
    """A stream of readings. ``known`` are machines that logs and lists name; ``types`` says what they are."""
    group, fit = part.group, part.fit
    notes = {"role": f"confidence {fit.confidence}: {fit.evidence}"}
    doubts: list[tuple[str, str]] = []
    assert fit.time is not None, "readings have a time"
    column = part.columns[fit.time]
    timed = _timed(column, group, others, settings) or clocks.counted(column, settings)
    notes["time"] = f"confidence {timed.confidence}: {timed.evidence}"
    if timed.doubt:
        doubts.append((timed.doubt, group.glob))
    found = _machine(part, known=known, plant=plant, time=timed.format)
    notes["machine"] = f"confidence {found.confidence}: {found.evidence}"
    if found.machine.kind == "constant":
        doubts.append(("machine", group.glob))
    keys = [raw for raw in (fit.tag, fit.machine) if raw]
    first = next(iter(group.samples.values()))
    period = clocks.median_step(first, fit.time, timed.format.format, keys)
    period = period * (timed.format.step_s or 1.0) if period else None
    sensors = _sensors(part, found.machine, notes, doubts)
    machine_type, why = _machine_type(part, found, types)
    notes["machine_type"] = why
    quality = part.columns[fit.quality].distinct if fit.quality and fit.tag else ()
    stream = Stream(
        name=part.name, role="readings", files=group.glob, format=group.shape.format, csv=group.shape.csv,
        layout="long" if fit.tag else "wide", time=timed.format, machine=found.machine, machine_type=machine_type,
        sensors=sensors, tag_column=fit.tag, value_column=fit.value,
        quality_column=fit.quality if fit.tag else None,
        quality_good=tuple(text for text in quality if text.lower() in words.QUALITY_GOOD), period_s=period,
    )  # fmt: skip
    if fit.tag:
        notes["layout"] = f"confidence high: {fit.evidence}"
    return Draft(stream, len(group.files), notes, tuple(doubts), found.machines)


def stream_names(groups: Iterable[tuple[tuple[str, ...], str]]) -> list[str]:
    """A name for each (files, role), none twice: the words its files share, else its role."""
    found: list[str] = []
    for files, role in groups:
        base = (common_words(files) or role)[:48]
        found.append(next(n for i in range(1, len(found) + 2) if (n := base if i == 1 else f"{base}_{i}") not in found))
    return found


def _timed(column: Column, group: Group, others: Collection[str], settings: TimeSettings) -> Timed | None:
    return clocks.timed(column, group.shape.comments, others, settings) if column.time else None


def _main_time(
    raw: str | None, timed: Mapping[str, Timed | None], likely: TimeFormat | None, notes: dict[str, str]
) -> TimeFormat | None:
    if raw is None:
        return None
    if found := timed[raw]:
        notes["time"] = f"confidence {found.confidence}: {found.evidence}"
        return found.format
    notes["time"] = "confidence low: no row yet; taken to be written as in the plant's other logs"
    return (likely or TimeFormat(column=raw)).model_copy(update={"column": raw})


def _same(one: TimeFormat, other: TimeFormat) -> bool:
    return one.model_copy(update={"column": other.column}) == other


def _machine(part: Part, *, known: Collection[str], plant: str, time: TimeFormat | None = None) -> Found:
    group, fit = part.group, part.fit
    if fit.machine:
        return machines.in_column(fit.machine, part.columns[fit.machine].distinct, part.prefix)
    if fit.tag and (found := machines.in_tag(part.columns[fit.tag].distinct, known)):
        return found
    if time is None:
        return machines.only(plant)
    return machines.in_path(group, time.column, time.format, known, plant)


def _sensors(
    part: Part, machine: MachineFrom, notes: dict[str, str], doubts: list[tuple[str, str]]
) -> dict[str, SensorColumn]:
    units = part.group.shape.units if not part.fit.tag else _tags(part, part.columns[part.fit.tag], machine)
    raw: Iterable[str] = sorted(units) if part.fit.tag else part.fit.sensors
    found = names.unique({name: names.sensor_of(name, told=units.get(name)) for name in raw})
    for name, entry in found.items():
        notes[f"sensors.{name}"] = f"confidence {entry.confidence}: {entry.evidence}"
        if entry.unknown_unit:
            doubts.append(("units", name))
    return {name: entry.column for name, entry in found.items()}


def _tags(part: Part, tags: Column, machine: MachineFrom) -> dict[str, str]:
    """The sensor part of each tag, and the unit that stands beside its values, or ""."""
    beside = next((c for c in part.columns.values() if c.key in words.UNIT and not c.numeric), None)
    told = dict(zip(tags.cells, beside.cells, strict=True)) if beside else {}
    pattern = machine.pattern if machine.kind == "tag" else None
    cut = {tag: re.search(pattern, tag) if pattern else None for tag in tags.distinct}
    return {match["sensor"] if match else tag: told.get(tag, "") for tag, match in cut.items()}


def _machine_type(part: Part, found: Found, types: Mapping[str, str]) -> tuple[str | None, str]:
    listed = machines.by_type(found.machines, types)
    if len(listed) == 1:
        return next(iter(listed)), "confidence high: the list of machines says so"
    if len(listed) > 1:
        return None, f"Each machine's own type, from the list of machines: {', '.join(listed)}."
    shared = re.findall(r"[a-z]+", common_words(part.group.files))
    left = [word for word in shared if word not in words.GENERIC and len(word) > 1]
    name = values.type_name("_".join(left)) if left else "machine"
    return name, f"confidence low: {'the name of the files' if left else 'nothing names it'}"


def _values(
    part: Part, notes: dict[str, str], doubts: list[tuple[str, str]]
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Canonical texts of coded fields; and each machine's type, where this is the list of machines."""
    fields, mapped, types = part.fit.fields, {}, {}
    for name in _QUALIFIES:
        if name in fields:
            known, unknown = values.canonical(name, part.columns[fields[name]].distinct)
            mapped[name] = known
            doubts += [(f"values.{name}", text) for text in unknown]
    if part.fit.role == "machines" and "machine_type" in fields and part.fit.machine:
        raw = part.columns[fields["machine_type"]]
        renamed = {text: values.type_name(text) for text in raw.distinct}
        cells = zip(part.columns[part.fit.machine].cells, raw.cells, strict=True)
        types = {machine: renamed[text] for machine, text in cells if machine and text}
        mapped["machine_type"] = {text: name for text, name in renamed.items() if text != name}
    if mapped := {name: entries for name, entries in mapped.items() if entries}:
        notes["values"] = "Texts as this table writes them -> as Millwright reads them."
    return mapped, types

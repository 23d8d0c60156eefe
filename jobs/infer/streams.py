"""One stream's description, put together from its role, its columns, its machines and its time.

The one idea: every inference leaves a note (confidence and evidence) beside the key it decided, and what
stays open becomes a doubt with a code; doubts of one code are asked as one question.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from cluster.config import TimeSettings
from jobs.infer import clocks, equipment, machines, sensors, tagfiles, values, words
from jobs.infer.clocks import Timed
from jobs.infer.columns import Column
from jobs.infer.equipment import Roster
from jobs.infer.layout import Group, common_words
from jobs.infer.machines import Found
from jobs.infer.roles import Fit
from jobs.infer.sensors import Sensed
from jobs.sources.archive import MARK
from models.source import MachineFrom, Stream, TimeFormat

_QUALIFIES = ("trigger", "effect")


@dataclass(frozen=True)
class Part:
    """A group of files with what is known of it so far."""

    group: Group
    columns: dict[str, Column]
    fit: Fit
    name: str
    prefix: str = ""  # of machines whose numbers another stream counts anew
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remark: str = ""

    @property
    def counts(self) -> bool:
        """Whether a running counter is its time."""
        return self.fit.role == "readings" and self.fit.time is not None and self.columns[self.fit.time].time is None


@dataclass(frozen=True)
class Draft:
    """A stream, its notes by key, its doubts as (code, what about it), and what its sample shows.

    ``remarks`` are told to a person, but leave nothing open.
    """

    stream: Stream
    num_files: int
    notes: dict[str, str] = field(default_factory=dict)
    doubts: tuple[tuple[str, str], ...] = ()
    machines: frozenset[str] = frozenset()
    types: dict[str, str] = field(default_factory=dict)  # machine -> machine type, from a list of machines
    remarks: tuple[str, ...] = ()


def used_times(part: Part) -> list[str]:
    """Raw columns of the stream that are read as time."""
    fields = (raw for name, raw in part.fit.fields.items() if name in words.TIME_FIELDS)
    return list(dict.fromkeys(raw for raw in (part.fit.time, *fields) if raw))


def said(part: Part) -> set[str]:
    """What a stream of readings may call its machines: texts of the machine's column, pieces of tags and of paths."""
    fit = part.fit
    column = part.columns.get(fit.machine or fit.tag or "")
    texts = column.distinct if column else (*fit.sensors, *part.group.files[:1000])
    return {piece for text in texts for piece in ({text} if fit.machine else equipment.pieces(text))}


def ignored(part: Part) -> Draft:
    """A stream that is listed so that a person sees it is not read."""
    files, member = _files(part.group)
    stream = Stream(name=part.name, role="ignored", files=files, member=member, format=part.group.shape.format)
    return Draft(stream, len(part.group.files), {"": f"Not read: {part.fit.evidence}."}, (("roles", part.group.glob),))


def log(
    part: Part, others: Collection[str], settings: TimeSettings, *, likely: TimeFormat | None, roster: Roster,
    plant: str,
) -> Draft:  # fmt: skip
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
    found = equipment.renamed(_machine(part, roster, plant=plant), roster)
    if fit.machine is None:
        doubts.append(("machine", group.glob))
    notes["machine"] = f"confidence {found.confidence}: {found.evidence}"
    if part.where:
        notes["where"] = f"confidence {fit.confidence}: {fit.evidence}; {part.remark or 'the rest is another stream'}"
    files, member = _files(group)
    stream = Stream(
        name=part.name, role=fit.role, files=files, member=member, format=group.shape.format, csv=group.shape.csv,
        where=part.where, time=main, machine=found.machine, fields=fit.fields, values=mapped, times=times,
    )  # fmt: skip
    remarks = (part.remark,) if part.remark else ()
    return Draft(stream, len(group.files), notes, tuple(doubts), found.machines, types, remarks)


def readings(
    part: Part, others: Collection[str], settings: TimeSettings, *, roster: Roster, types: Mapping[str, str], plant: str
) -> Draft:
    """A stream of readings. ``types`` says what the machines of the roster are."""
    group, fit = part.group, tagfiles.told(part.group, part.fit, part.columns, roster.known)
    part = replace(part, fit=fit)
    notes = {"role": f"confidence {fit.confidence}: {fit.evidence}"}
    doubts: list[tuple[str, str]] = []
    assert fit.time is not None, "readings have a time"
    column = part.columns[fit.time]
    timed = _timed(column, group, others, settings) or clocks.counted(column, settings)
    notes["time"] = f"confidence {timed.confidence}: {timed.evidence}"
    if timed.doubt:
        doubts.append((timed.doubt, group.glob))
    found = equipment.renamed(_machine(part, roster, plant=plant, time=timed.format), roster)
    notes["machine"] = f"confidence {found.confidence}: {found.evidence}"
    if found.machine.kind == "constant":
        doubts.append(("machine", group.glob))
    sensed = _sensed(part, found.machine)
    doubts += [("units", name) for name in sensed.unknown]
    notes |= {f"sensors.{name}": text for name, text in sensed.notes.items()}
    notes["sensors"] = "; ".join(sensed.remarks)
    machine_type, notes["machine_type"] = _machine_type(part, found, types)
    if fit.long:
        notes["layout"] = f"confidence high: {fit.evidence}"
    quality = part.columns[fit.quality].distinct if fit.quality and fit.long else ()
    files, member = _files(group)
    stream = Stream(
        name=part.name, role="readings", files=files, member=member, format=group.shape.format, csv=group.shape.csv,
        layout="long" if fit.long else "wide", time=timed.format, machine=found.machine, machine_type=machine_type,
        sensors=sensed.sensors, tag_column=fit.tag, tag_pattern=fit.tag_pattern, value_column=fit.value,
        quality_column=fit.quality if fit.long else None,
        quality_good=tuple(text for text in quality if text.lower() in words.QUALITY_GOOD),
        period_s=_period(part, timed.format),
    )  # fmt: skip
    return Draft(stream, len(group.files), notes, tuple(doubts), found.machines, {}, tuple(sensed.remarks))


def stream_names(parts: Iterable[Part]) -> list[str]:
    """A name for each part, none twice: the words its files share, else its role; one of several kinds has both."""
    found: list[str] = []
    for part in parts:
        words_of = common_words(part.group.files)
        base = (f"{words_of}_{part.fit.role}".strip("_") if part.where else words_of or part.fit.role)[:48]
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


def _files(group: Group) -> tuple[str, str | None]:
    """The glob of files, and of their members where they are archives."""
    files, _, member = group.glob.partition(MARK)
    return files, member or None


def _period(part: Part, time: TimeFormat) -> float | None:
    keys = [raw for raw in (part.fit.tag, part.fit.machine) if raw]
    first = next(iter(part.group.samples.values()))
    step = clocks.median_step(first, time.column, time.format, keys)
    return float(f"{step * (time.step_s or 1.0):.9g}") if step else None


def _machine(part: Part, roster: Roster, *, plant: str, time: TimeFormat | None = None) -> Found:
    """From a column, the tags, the path; tags that logs or a list confirm come before the path, others after it."""
    group, fit, known = part.group, part.fit, roster.known
    if fit.machine:
        return machines.in_column(fit.machine, part.columns[fit.machine].distinct, part.prefix)
    if time is None:
        return machines.only(plant)
    tags, wide = _tags(part), not fit.long
    cut = machines.in_tag(tags, known, wide=wide) if tags else None
    if cut and (fit.tag or cut.machines & known):
        return cut
    if tags and (by_number := machines.in_loops(tags, roster.numbers)) and by_number.machine.names:
        return by_number
    by_path = machines.in_path(group, time.column, time.format, known, plant, sensors_apart=fit.tag_pattern is not None)
    if by_path.machine.kind != "constant":
        return by_path
    return cut or (machines.in_loops(tags, {}) if tags else None) or by_path


def _tags(part: Part) -> tuple[str, ...]:
    """Tags, or what could be tags in the wide layout: the names of columns."""
    fit = part.fit
    if fit.tag:
        return part.columns[fit.tag].distinct
    return tuple(dict.fromkeys(tagfiles.tags(part.group, fit).values())) if fit.tag_pattern else fit.sensors


def _sensed(part: Part, machine: MachineFrom) -> Sensed:
    fit, columns = part.fit, part.columns
    cells: dict[str, list[str]] = {}
    if not fit.long or fit.value is None:
        return sensors.of_columns(fit, columns, part.group.shape, machine)
    if fit.tag is None:
        for file, tag in tagfiles.tags(part.group, fit).items():
            table = part.group.samples.get(file)
            cells.setdefault(tag, []).extend(table.cells.get(fit.value, []) if table else [])
        return sensors.of_tags(cells, columns[fit.value], {}, machine)
    beside = next((c for c in columns.values() if c.key in words.UNIT and not c.numeric), None)
    told = dict(zip(columns[fit.tag].cells, beside.cells, strict=True)) if beside else {}
    for tag, value in zip(columns[fit.tag].cells, columns[fit.value].cells, strict=True):
        if tag:
            cells.setdefault(tag, []).append(value)
    return sensors.of_tags(cells, columns[fit.value], told, machine)


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

"""``millwright connect``: find out what is in a plant's files, without a form to fill in.

The one idea: infer everything from a bounded sample, write down how sure each inference is and by what,
ask about the rest, and refuse only what cannot be guessed without harm (the order of day and month).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel
from rich.console import Group as Rendered
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster import lineage
from cluster.home import Home
from cluster.report import Progress, Report
from cluster.sources import edited, read_source, write_source
from jobs.infer import clocks, equipment, kinds, questions, roles, streams
from jobs.infer.columns import profile
from jobs.infer.kinds import Kind
from jobs.infer.layout import Group, alone, group
from jobs.infer.machines import overlap
from jobs.infer.moments import joined
from jobs.infer.sampling import find
from jobs.infer.streams import Draft, Part
from models.errors import InputError
from models.source import SourceDescription, TimeFormat

_REMARKS = 8  # that a terminal shows


class ConnectedStream(BaseModel):
    """``machines`` are those that the sample shows."""

    name: str
    role: str
    files: str
    num_files: int
    format: str
    layout: str
    machines: int
    machine_type: str | None
    sensors: list[str]
    period_s: float | None


class ConnectReport(Report):
    plant: str
    root: str
    path: str
    streams: list[ConnectedStream]
    doubts: dict[str, str]
    remarks: list[str] = []

    def render(self) -> RenderableType:
        table = Table(title=f"Plant {self.plant}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for name in ("stream", "role", "files", "format", "machines"):
            table.add_column(name, overflow="fold", no_wrap=name not in ("stream", "files"))
        for stream in self.streams:
            files = f"{stream.files} ({stream.num_files})" if stream.num_files > 1 else stream.files
            shape = stream.format + (" long" if stream.layout == "long" else "")
            read = stream.role != "ignored"
            machines = f"{stream.machines} {stream.machine_type or ''}".strip() if read else ""
            table.add_row(stream.name, stream.role, files, shape, machines)
        sensors = [Text(f"Sensors of {s.name}: {', '.join(s.sensors)}") for s in self.streams if s.sensors]
        asked = [Text(f"{number}. {text}") for number, text in enumerate(self.doubts.values(), 1)]
        heading = f"{len(asked)} to check:" if asked else "Nothing is in doubt."
        written = Text(f"Written to {self.path}", overflow="fold")
        told = [Text(f"Note: {text}") for text in self.remarks[:_REMARKS]]
        if len(self.remarks) > _REMARKS:
            told.append(Text(f"Note: {len(self.remarks) - _REMARKS} more remarks stand beside their streams"))
        return Rendered(table, Text(), *sensors, *told, Text(), Text(heading, style="bold"), *asked, written)


def run(home: Home, *, path: Path, plant: str, force: bool = False, progress: Progress) -> ConnectReport:
    """Describe the raw files below ``path`` (a folder, a file or a glob) in ``sources/<plant>.toml``.

    Raises InputError where nothing can be read, no readings are found, the order of day and month is
    open, or (without ``force``) the description was edited by hand or describes another folder.
    """
    began = time.monotonic()
    target = home.of(plant).source
    clocks.check(home.settings.time)
    progress.step(f"Reading a sample of {path}")
    root, files = find(Path(path))
    if not force:
        _keep_what_is_not_ours(target, root)
    groups, broken = group(root, files)
    _note_broken(broken, groups, path, progress)
    description, notes, drafts = _describe(home, plant, root, groups, broken)
    if target.is_file():  # what no file tells stays, even with --force
        before = read_source(target)
        description = description.model_copy(update={"live": before.live, "live_sensors": before.live_sensors})
    progress.step(f"Writing {target}")
    write_source(target, description, notes)
    lineage.writes_file(target)
    return ConnectReport(
        seconds=time.monotonic() - began, plant=plant, root=str(root), path=str(target),
        streams=[_told(draft) for draft in drafts], doubts=description.doubts,
        remarks=[f"{draft.stream.name}: {text}" for draft in drafts for text in draft.remarks],
    )  # fmt: skip


def _keep_what_is_not_ours(target: Path, root: Path) -> None:
    if not target.is_file():
        return
    if edited(target):
        raise InputError(
            "The source description was edited by hand", expected="one as connect wrote it", found="changes",
            where=target, do="Keep it, or overwrite it with --force",
        )  # fmt: skip
    other = read_source(target).root
    if other != str(root):
        raise InputError(
            "This plant is connected to another folder", expected=other, found=str(root), where=target,
            do="Choose another --plant, or move the plant with --force",
        )  # fmt: skip


def _note_broken(broken: dict[str, str], groups: Sequence[Group], path: Path, progress: Progress) -> None:
    if broken and not groups:
        name, reason = next(iter(broken.items()))
        raise InputError(
            "No file can be read", expected="CSV, JSON lines, JSON or Parquet, also gzip, zstd or in a zip",
            found=f"{name}: {reason}" + (f", and {len(broken) - 1} more" if len(broken) > 1 else ""), where=path,
            do="Check the files",
        )  # fmt: skip
    for name, reason in broken.items():
        progress.note(f"{name} cannot be read: {reason}")


def _describe(
    home: Home, plant: str, root: Path, groups: Sequence[Group], broken: dict[str, str]
) -> tuple[SourceDescription, dict[str, str], list[Draft]]:
    settings = home.settings.time
    parts = _settled(home, _parts(root, groups), root)
    if not any(part.fit.role == "readings" for part in parts):
        raise InputError(
            "No readings found", expected="a file with a column of time and columns of numbers",
            found="; ".join(f"{p.group.glob} ({', '.join(p.group.shape.columns[:5])})" for p in parts[:4]),
            where=root, do="Check PATH, or write the source description by hand",
        )  # fmt: skip
    zones = _named_zones(parts)
    logs = [p for p in parts if p.fit.role not in ("readings", "ignored")]
    likely = _likely(logs, zones, home)
    lists = [(part.fit, part.columns) for part in logs if part.fit.role == "machines"]
    listed = equipment.roster(lists)
    drafts = [streams.log(part, zones, settings, likely=likely, roster=listed, plant=plant) for part in logs]
    known = frozenset(machine for draft in drafts for machine in draft.machines)
    types = {machine: name for draft in drafts for machine, name in draft.types.items()}
    roster = equipment.roster(lists, known)
    read = [
        streams.readings(part, zones, settings, roster=roster, types=types, plant=plant)
        for part in parts
        if part.fit.role == "readings"
    ]
    drafts = [*read, *drafts, *(streams.ignored(part) for part in parts if part.fit.role == "ignored")]
    formats = [draft.stream.time for draft in read if draft.stream.time]
    clock, why = clocks.clock_of(formats, [draft.stream.period_s for draft in read])
    doubts = [doubt for draft in drafts for doubt in draft.doubts] + _plant_doubts(drafts, read, known, broken)
    taken = {draft.stream.files: draft.stream.time.zone for draft in drafts if draft.stream.time}
    notes = {f"streams.{d.stream.name}.{key}": text for d in drafts for key, text in d.notes.items()}
    found = SourceDescription(
        plant=plant, root=str(root), clock=clock, streams=tuple(draft.stream for draft in drafts),
        doubts=questions.asked(doubts, taken),
    )  # fmt: skip
    return found, notes | {"clock": why}, drafts


def _parts(root: Path, groups: Sequence[Group]) -> list[Part]:
    """Every group with its columns and role.

    A counter that restarts in each file makes a stream of each file, a log of several kinds one of each kind.
    """
    found: list[Part] = []
    for raw in groups:
        whole, columns = joined(raw)
        fit = roles.best(whole.glob, whole.shape, columns)
        part = Part(whole, columns, fit, "")
        if part.counts and fit.machine and fit.time and overlap(whole.samples, fit.time, "counter"):
            apart = ((each, profile(each.shape, each.table)) for each in alone(root, whole))
            found += [Part(each, own, fit, "") for each, own in apart]
        elif several := kinds.kinds(whole.glob, whole.shape, columns, fit):
            found += [_of_kind(raw, kind) for kind in several]
        else:
            found.append(part)
    found = _identified(found)
    labels = streams.stream_names(found)
    return _told_apart([replace(part, name=label) for part, label in zip(found, labels, strict=True)])


def _of_kind(whole: Group, kind: Kind) -> Part:
    group, columns = joined(kinds.filtered(whole, kind.where))
    return Part(group, columns, kind.fit, "", where=kind.where, remark=kind.remark)


def _identified(parts: Sequence[Part]) -> list[Part]:
    """Logs and lists with that column as machine which the readings speak of."""
    said = frozenset(piece for part in parts if part.fit.role == "readings" for piece in streams.said(part))
    logs = [part.fit.role not in ("readings", "ignored") for part in parts]
    return [
        replace(part, fit=equipment.settled(part.fit, part.columns, said)) if log else part
        for part, log in zip(parts, logs, strict=True)
    ]


def _told_apart(parts: Sequence[Part]) -> list[Part]:
    """Counters start anew in each stream: equal machine numbers there are other machines, and get a prefix."""
    seen = Counter(m for p in parts if p.counts and p.fit.machine for m in p.columns[p.fit.machine].distinct)
    return [
        replace(p, prefix=f"{p.name}-")
        if p.counts and p.fit.machine and any(seen[m] > 1 for m in p.columns[p.fit.machine].distinct)
        else p
        for p in parts
    ]


def _settled(home: Home, parts: Sequence[Part], root: Path) -> list[Part]:
    """The parts with the order of day and month settled in every column that is read as time."""
    used = {(p.group.glob, raw): p.columns[raw] for p in parts for raw in streams.used_times(p)}
    settled = clocks.settle_order(used, home.settings.time, root)
    return [replace(p, columns={n: settled.get((p.group.glob, n), c) for n, c in p.columns.items()}) for p in parts]


def _named_zones(parts: Iterable[Part]) -> frozenset[str]:
    """Zones that the files themselves name."""
    found = set()
    for part in parts:
        for raw in streams.used_times(part):
            column = part.columns[raw]
            if column.time and not column.time.offset:
                found.add(clocks.named_zone(column, part.group.shape.comments))
    return frozenset(zone for zone in found if zone)


def _likely(logs: Sequence[Part], zones: frozenset[str], home: Home) -> TimeFormat | None:
    """How most of the plant's logs write time: what a log without a row yet is taken to do."""
    formats = Counter(
        clocks.timed(column, p.group.shape.comments, zones, home.settings.time).format.model_copy(update={"column": ""})
        for p in logs
        if p.fit.time and (column := p.columns[p.fit.time]).time
    )
    return formats.most_common(1)[0][0] if formats else None


def _plant_doubts(
    drafts: Sequence[Draft], read: Sequence[Draft], known: frozenset[str], broken: dict[str, str]
) -> list[tuple[str, str]]:
    """What only the streams together show."""
    found = [("files", f"{name} ({reason})") for name, reason in broken.items()]
    if not any(draft.stream.role == "failures" or draft.stream.run_to_failure for draft in drafts):
        found.append(("failures", ""))
    for draft in read:
        if known and draft.machines and not draft.machines & known:
            logged, seen = sorted(known)[0], sorted(draft.machines)[0]
            found.append(("machines", f"The logs name {logged!r} and others, {draft.stream.files} names {seen!r}."))
    return found


def _told(draft: Draft) -> ConnectedStream:
    stream = draft.stream
    return ConnectedStream(
        name=stream.name, role=stream.role, files=stream.files, num_files=draft.num_files, format=stream.format,
        layout=stream.layout, machines=len(draft.machines), machine_type=stream.machine_type,
        sensors=sorted({column.sensor for column in stream.sensors.values()}), period_s=stream.period_s,
    )  # fmt: skip

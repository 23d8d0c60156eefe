"""What `millwright history` says: one report an action, each a table for people and the same facts as JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.report import Report
from jobs.versions.compact import Compacted
from jobs.versions.difference import Counts, Example, TableDifference
from jobs.versions.listing import BatchDetail, Entry
from jobs.versions.origin import Delivery, Origin
from jobs.versions.retain import Retained

Action = Literal["list", "show", "diff", "row", "compact", "retain"]
_MOST = 12  # machines, sensors or files that the terminal shows; the JSON holds them all


class HistoryReport(Report):
    action: Action


class PlantEntries(BaseModel):
    name: str
    entries: list[Entry]


class ListReport(HistoryReport):
    action: Action = "list"
    plants: list[PlantEntries] = []

    def render(self) -> RenderableType:
        tables = []
        for plant in self.plants:
            table = Table(title=f"History of {plant.name}")
            for name in ("version", "visible from (UTC)", "code", "files", "MB", "rows", "added", "replaced",
                         "superseded", "quarantined", "tables"):  # fmt: skip
                right = name in ("files", "MB", "rows", "added", "replaced", "superseded", "quarantined")
                table.add_column(name, justify="right" if right else "left", no_wrap=name == "version")
            for entry in plant.entries:
                table.add_row(*_cells(entry))
            tables.append(table)
        return Group(*tables)


class ShowReport(HistoryReport):
    action: Action = "show"
    batch: BatchDetail

    def render(self) -> RenderableType:
        found, entry = self.batch, self.batch.entry
        lines = [
            f"Batch {entry.id} of {found.plant}, {'visible from ' + _when(entry) if entry.at else 'not finished'}",
            f"Code {entry.code_version}, source description {entry.description[:12]}, files below {found.root}",
            f"{entry.rows_ingested:,} rows ingested, {entry.rows_superseded:,} superseded, "
            f"{entry.rows_quarantined:,} quarantined" + _reasons(found.quarantine),
            f"Sensors: {', '.join(found.sensors) or 'none'}",
        ]
        if not found.from_files:
            lines.append("The files that it wrote are gone: rows are those that are still this batch's.")
        lines += [f"{m.topic}: messages {m.first:,} to {m.last:,}" for m in found.messages[:_MOST]]
        files = Table("file", "stream", "bytes", "SHA-256", title="Files")
        for file in found.files[:_MOST]:
            files.add_row(file.path, file.stream, f"{file.size_bytes:,}", file.digest)
        rows = Table("table", "machine", "rows", title="Rows that it brought or changed")
        for name, machines in found.rows.items():
            for machine, count in list(machines.items())[:_MOST]:
                rows.add_row(name, machine, f"{count:,}")
        more = [_more(len(found.files), "files"), *(_more(len(m), f"machines of {n}") for n, m in found.rows.items())]
        return Group(*map(Text, lines), files, rows, *(Text(text) for text in more if text))


class DiffReport(HistoryReport):
    action: Action = "diff"
    plant: str
    first: str
    second: str
    tables: list[TableDifference] = []

    def render(self) -> RenderableType:
        title = f"{self.plant}: {self.first} to {self.second}"
        table = Table("table", "versions", "what", "added", "changed", "removed", title=title)
        differing = [found for found in self.tables if any(found.rows.model_dump().values())]
        for found in differing:
            versions = f"{_or_none(found.before)} to {_or_none(found.after)}"
            table.add_row(found.table, versions, "rows", *_three(found.rows))
            for kind, counted in (("machine", found.machines), ("sensor", found.sensors)):
                for name, counts in sorted(counted.items())[:_MOST]:
                    table.add_row("", "", f"{kind} {name}", *_three(counts))
                if text := _more(len(counted), f"{kind}s"):
                    table.add_row("", "", text)
        examples = [Text(_example(found.table, example)) for found in self.tables for example in found.examples]
        return Group(table, *examples) if differing else Text("Nothing differs.")


class RowReport(HistoryReport):
    action: Action = "row"
    row: Origin

    def render(self) -> RenderableType:
        found = self.row
        lines = [f"{found.machine} at {found.time.isoformat()} in readings/{found.machine_type} of {found.plant}"]
        lines.append("  " + (", ".join(f"{name} {value:g}" for name, value in found.values.items()) or "no value"))
        lines += [line for delivery in found.deliveries for line in _delivery(delivery)]
        if not found.complete:
            lines.append("Earlier batches may have held it too: versions before can no longer be read.")
        return Group(*map(Text, lines))


class CompactReport(HistoryReport):
    action: Action = "compact"
    plants: dict[str, list[Compacted]] = {}

    def render(self) -> RenderableType:
        table = Table("plant", "table", "month", "rows", "files", "MB", title="Compacted")
        for plant, months in self.plants.items():
            for m in months:
                size = f"{m.bytes_before / 1e6:,.1f} to {m.bytes_after / 1e6:,.1f}"
                files = f"{m.files_before} to {m.files_after}"
                table.add_row(plant, m.table, m.month, f"{m.rows:,}", files, size)
        return table if any(self.plants.values()) else Text("Nothing to compact: every month is in good shape.")


class RetainReport(HistoryReport):
    action: Action = "retain"
    dry_run: bool = False
    size_bytes: int = 0
    plants: list[Retained] = []

    def render(self) -> RenderableType:
        verb = "would be removed" if self.dry_run else "removed"
        return Group(
            *(
                Text(
                    f"{p.plant}: {len(p.files):,} files, {p.size_bytes / 1e6:,.1f} MB {verb}; readable from "
                    + (", ".join(f"{name}@{version}" for name, version in sorted(p.oldest.items())) or "nothing yet")
                )
                for p in self.plants
            )
        )


def _cells(entry: Entry) -> list[str]:
    changed = [f"{n.removeprefix('readings/')} {_or_none(entry.before.get(n))}>{v}" for n, v in entry.after.items()]
    name = entry.id or "(not named)"
    if entry.kind == "live":
        live: list[int | None] = [entry.rows_ingested, entry.rows_added, None]
        live += [entry.rows_superseded, entry.rows_quarantined]
        number = entry.detail.get("batches", 1)
        name += f" and {number - 1:,} live more" if number > 1 else " (live)"
        told = ["" if n is None else f"{n:,}" for n in live]
        return [name, _when(entry), entry.code_version, "", "", *told, ", ".join(changed)]
    if entry.kind != "batch":
        freed = f"{entry.detail['size_bytes'] / 1e6:,.1f}" if "size_bytes" in entry.detail else ""
        files = str(entry.detail.get("files", ""))
        return [name, _when(entry), "", files, freed, "", "", "", "", "", ", ".join(changed)]
    counts = [
        entry.rows_ingested, entry.rows_added, entry.rows_replaced, entry.rows_superseded, entry.rows_quarantined,
    ]  # fmt: skip
    return [
        name, _when(entry) if entry.at else "not finished" if not entry.finished else "", entry.code_version,
        str(entry.files), f"{entry.size_bytes / 1e6:,.1f}", *("" if n is None else f"{n:,}" for n in counts),
        ", ".join(changed),
    ]  # fmt: skip


def _delivery(found: Delivery) -> list[str]:
    brought = ", ".join(f"{name} {value:g}" for name, value in found.brought.items()) or "no value of today"
    head = f"Batch {found.batch}, ingested {found.ingested_at:%Y-%m-%d %H:%M:%S}, code {found.code_version}"
    lines = [f"{head}, source description {found.description[:12]}: {brought}"]
    for file in found.files:
        changed = "; written to since" if file.changed_since else ""
        values = ", ".join(f"{name} {value:g}" for name, value in file.values.items())
        lines.append(f"  {found.root}/{file.path} (SHA-256 {file.digest[:12]}{changed}): {values}")
    lines += [f"  {found.root}/{path}: no longer there" for path in found.unreadable]
    lines += [f"  a message of {m.topic}, offset {m.first:,} to {m.last:,}" for m in found.messages[:_MOST]]
    some = found.files or found.unreadable or found.messages
    return lines if some else [*lines, "  in none of its files as they are today"]


def _when(entry: Entry) -> str:
    return f"{entry.at:%Y-%m-%d %H:%M:%S}" if entry.at else ""


def _three(counts: Counts) -> list[str]:
    return [f"{number:,}" for number in (counts.added, counts.changed, counts.removed)]


def _example(table: str, example: Example) -> str:
    keys = ", ".join(example.row.values())
    cells = ", ".join(f"{name} {_value(a)} to {_value(b)}" for name, (a, b) in list(example.cells.items())[:_MOST])
    return f"{example.kind} in {table}: {keys}: {cells}"


def _value(value: Any) -> str:
    return "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _or_none(version: int | None) -> str:
    return "-" if version is None else str(version)


def _more(count: int, what: str) -> str:
    return f"... of {count:,} {what}; --json holds all" if count > _MOST else ""


def _reasons(quarantine: dict[str, int]) -> str:
    return f" ({', '.join(f'{reason} {number:,}' for reason, number in quarantine.items())})" if quarantine else ""

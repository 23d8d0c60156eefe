"""What `ingest` tells of each plant: what came in, what did not, and what the checks found."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.report import Report
from jobs.ingesting import gate
from jobs.ingesting.merging import Verdict
from jobs.ingesting.plan import Plan
from jobs.ingesting.tables import Batch
from jobs.sources.raw import Reason
from models.checks import Finding

_OF_FILES = (Reason.EMPTY, Reason.UNREADABLE, Reason.MISSING_COLUMN, Reason.TRUNCATED)


class PlantIngest(BaseModel):
    """One plant's part. ``batch`` is None where there was nothing new; times are ISO, UTC.

    ``held`` is a batch that a check stopped: its rows count nowhere else. ``findings`` by severity.
    ``refused``: why nothing of the plant was read, where other plants were.
    """

    name: str
    batch: str | None = None
    resumed: bool = False
    files: int = 0
    rows_ingested: int = 0
    rows_delivered: int = 0
    rows_superseded: int = 0
    rows_quarantined: int = 0
    cells_quarantined: int = 0
    files_quarantined: list[str] = []
    machines: int = 0
    sensors: int = 0
    first_time: str | None = None
    last_time: str | None = None
    quarantine: dict[str, int] = {}
    new_sensors: list[str] = []
    held: str | None = None
    refused: str | None = None
    findings: dict[str, int] = {}
    notes: list[str] = []


class IngestReport(Report):
    """Totals over the plants, and each plant's part."""

    files: int = 0
    rows_ingested: int = 0
    rows_superseded: int = 0
    rows_quarantined: int = 0
    cells_quarantined: int = 0
    new_sensors: list[str] = []
    plants: list[PlantIngest] = []

    def render(self) -> RenderableType:
        table = Table(title="Ingested")
        for name in ("plant", "files", "rows", "superseded", "quarantined", "machines", "sensors", "from", "to"):
            table.add_column(name, justify="left" if name in ("plant", "from", "to") else "right")
        for p in self.plants:
            wrong = f"{p.rows_quarantined:,}" + (f" + {p.cells_quarantined:,} cells" if p.cells_quarantined else "")
            table.add_row(
                p.name, str(p.files), f"{p.rows_ingested:,}", f"{p.rows_superseded:,}", wrong, str(p.machines),
                str(p.sensors), (p.first_time or "")[:10], (p.last_time or "")[:10],
            )  # fmt: skip
        lines = [
            f"{p.name}: quarantine: " + ", ".join(f"{reason} {number:,}" for reason, number in p.quarantine.items())
            for p in self.plants
            if p.quarantine
        ]
        lines += [f"{p.name}: {p.rows_delivered:,} rows from the service" for p in self.plants if p.rows_delivered]
        for p in self.plants:
            if p.files_quarantined:
                lines.append(f"{p.name}: not readable to the end: {', '.join(p.files_quarantined[:5])}")
        lines += [f"{p.name}: {note}" for p in self.plants for note in p.notes]
        return Group(table, *lines)


def tell(report: PlantIngest, plan: Plan, verdict: Verdict) -> None:
    report.findings = dict(Counter(finding.severity for finding in verdict.findings))
    if verdict.held:
        report.held = plan.batch
        report.notes.append(str(gate.hold_error(plan, verdict.findings)))
    elif verdict.findings:
        report.notes += _summary(verdict.findings)
        report.notes.append(f"`millwright quality --plant {plan.plant}` has every finding")


def _summary(findings: list[Finding]) -> list[str]:
    """One line a check: how many, and the worst."""
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        by_check.setdefault(gate.SPELLED[finding.check], []).append(finding)
    return [f"{name}: {len(own):,}, such as {own[0].message}" for name, own in by_check.items()]


def add(report: PlantIngest, batch: Batch, counts: dict[str, int]) -> None:
    """Adds what a committed batch holds to its plant's report."""
    parsed, plan = batch.parsed, batch.plan
    for key, number in counts.items():
        setattr(report, key, getattr(report, key) + number)
    report.batch, report.resumed = plan.batch, report.resumed or plan.resumed
    broken = (p.path for p in parsed if any(reason in p.reasons for reason in _OF_FILES))
    report.files_quarantined += dict.fromkeys(broken)
    report.quarantine = dict(sum((Counter(p.reasons) for p in parsed), Counter(report.quarantine)).most_common())
    added = {s.sensor for found in plan.added.values() for s in found.values()}
    new = added | {s.sensor for p in parsed for s in p.new_sensors.values()}
    report.new_sensors = sorted(new | set(report.new_sensors))
    report.sensors = max(report.sensors, len({s for p in parsed for part in p.parts for s in part.sensors}))
    bounds = batch.bounds()
    report.machines = max(report.machines, len(bounds))
    if bounds:
        first, last = _iso(min(low for low, _ in bounds.values())), _iso(max(high for _, high in bounds.values()))
        report.first_time = min(first, report.first_time or first)
        report.last_time = max(last, report.last_time or last)


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()

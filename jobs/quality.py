"""`millwright quality`: what is in the data of each plant, what was found in it, and what is held.

The one idea: everything was measured while it was ingested, so this reads small files beside the plans and no history;
only the examples of refused rows come from the quarantine table.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.files import write_atomically
from cluster.home import Home
from cluster.report import Progress, Report
from cluster.storage import read_quarantine
from jobs.ingesting import gate
from jobs.ingesting.plan import is_open, plans
from models.errors import InputError, NotFoundError

SHOWN = 20  # findings on the terminal
DRAWN = 40  # batches on the page
_SEVERITIES = ("stop", "quarantine", "note")


class BatchRow(BaseModel):
    """A batch as a line; ``missing`` is the share of cells without a value, by what its sensors usually have.

    ``held``: nothing of it is in history and nobody has decided yet; without it, a batch that is not ``in_history`` was
    accepted or delivered anew, and counts there. Times are ISO, UTC.
    """

    batch: str
    created_at: str
    held: bool = False
    in_history: bool = True
    machines: int = 0
    sensors: int = 0
    rows: int = 0
    quarantined: int = 0
    missing: float | None = None
    first_time: str | None = None
    last_time: str | None = None
    findings: dict[str, int] = {}


class PlantQuality(BaseModel):
    """A plant's batches in order, and their findings, worst first."""

    name: str
    batches: list[BatchRow] = []
    findings: list[dict[str, object]] = []


class QualityReport(Report):
    """``page`` is the HTML report, absolute."""

    plants: list[PlantQuality] = []
    page: str = ""

    def render(self) -> RenderableType:
        table = Table(title="Quality of the data")
        for name in ("plant", "batch", "machines", "sensors", "rows", "missing", "stop", "quarantine", "note"):
            table.add_column(name, justify="left" if name in ("plant", "batch") else "right")
        for plant in self.plants:
            for row in plant.batches:
                table.add_row(*_cells(plant.name, row))
            if not plant.batches:
                table.add_row(plant.name, "nothing ingested yet")
        told = [(plant.name, finding) for plant in self.plants for finding in plant.findings]
        told.sort(key=lambda pair: _SEVERITIES.index(str(pair[1]["severity"])))
        lines = [Text(f"{finding['severity']:<10} {name}: {finding['message']}") for name, finding in told[:SHOWN]]
        if len(told) > SHOWN:
            lines.append(Text(f"and {len(told) - SHOWN} more, in the page and with --json"))
        held = [Text(f"held: {p.name} {b.batch}: {_DO.format(p.name, b.batch)}")
                for p in self.plants for b in p.batches if b.held]  # fmt: skip
        return Group(table, *held, *lines, Text(f"Page: {self.page}"))


_DO = "correct the files or the description and ingest again, or `millwright ingest --plant {} --accept {}`"


def run(
    home: Home, *, progress: Progress, plant: str | None = None, batch: str | None = None, html: Path | None = None
) -> QualityReport:
    """Tell what was found, and write the page to ``html`` (default: ``reports/quality.html`` in the home).

    Exit code 3 where a batch is held. Raises NotFoundError where there is no such plant or batch.
    """
    from jobs.reporting.quality_page import PlantData, render

    began = time.monotonic()
    progress.step("Read what ingest has measured")
    names = [plant] if plant else home.plants()
    for name in names:
        home.source(name)
    report, pages = QualityReport(), []
    for name in names:
        found = [q for q in gate.qualities(home, name) if batch in (None, q.batch)]
        if batch and not found:
            continue
        every = plans(home, name)
        held = {own.batch for own in every if is_open(own, every)}
        measures = {q.batch: gate.read_measures(home, name, q.batch) for q in found[-DRAWN:]}
        rows = [_row(q, measures.get(q.batch), held=q.batch in held) for q in found]
        told = [t for q in found for t in q.findings]
        told.sort(key=lambda t: (_SEVERITIES.index(t.severity), -_order(t.batch), t.check))
        shown = [t.model_dump(mode="json", by_alias=True) for t in told]
        report.plants.append(PlantQuality(name=name, batches=rows, findings=shown))
        refused = read_quarantine(home, name)
        pages.append(PlantData(name, home.source(name).sensors(), rows, list(measures.values()), told, refused))
    if batch and not report.plants:
        raise NotFoundError(
            "No such batch", expected="a batch that was ingested", found=repr(batch), where=", ".join(names),
            do="See `millwright quality`",
        )  # fmt: skip
    progress.step("Draw the page")
    path = html or home.path / "reports" / "quality.html"
    try:
        write_atomically(path, render(pages))
    except OSError as error:
        raise InputError(
            "Cannot write the page", expected="a file in a writable folder", found=error.strerror, where=path,
            do="Give another --html",
        ) from error  # fmt: skip
    report.page = str(path.resolve())
    report.exit_code = 3 if any(row.held for p in report.plants for row in p.batches) else 0
    report.seconds = time.monotonic() - began
    return report


def _order(batch: str) -> int:
    return int(batch.partition("-")[0])


def _cells(plant: str, row: BatchRow) -> list[str]:
    missing = "" if row.missing is None else f"{100 * row.missing:.1f} %"
    counts = [str(row.findings.get(severity, 0) or "") for severity in _SEVERITIES]
    name = row.batch + (" (held)" if row.held else "")
    return [plant, name, str(row.machines), str(row.sensors), f"{row.rows:,}", missing, *counts]


def _row(quality: gate.BatchQuality, measures: pa.Table | None, *, held: bool) -> BatchRow:
    counts = quality.counts
    row = BatchRow(
        batch=quality.batch, created_at=quality.created_at.isoformat(), held=held,
        in_history=not quality.held, rows=counts.get("rows_ingested", 0),
        quarantined=counts.get("rows_quarantined", 0) + counts.get("cells_quarantined", 0),
        findings=dict(Counter(finding.severity for finding in quality.findings)),
    )  # fmt: skip
    level = measures.filter(pc.equal(measures["kind"], "level")) if measures is not None else None
    if level is not None and level.num_rows:
        row.machines, row.sensors = (len(pc.unique(level[name])) for name in ("machine", "sensor"))
        row.missing = missing_share(level)
        row.first_time, row.last_time = (
            gate.iso(f(level[c]).as_py()) for f, c in ((pc.min, "from_us"), (pc.max, "until_us"))
        )
    return row


def missing_share(level: pa.Table) -> float:
    """Cells without a value, of those that rows should have; a sensor that is read on rows of its own misses none."""
    sensor = np.asarray(level["sensor"].to_pylist())
    n, rows = level["n"].to_numpy().astype(float), level["rows"].to_numpy().astype(float)
    expected = rows.copy()
    for name in np.unique(sensor):
        own = sensor == name
        usual = float(np.median(n[own] / rows[own]))
        expected[own] = np.maximum(rows[own] * usual, n[own]) if usual < 0.5 else rows[own]
    return float(1 - n.sum() / expected.sum())

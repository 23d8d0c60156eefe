"""The gate between merging and committing: a batch's findings, what follows, and what is kept of them.

The one idea: nothing of a batch is in history while it is judged, so a batch that is held has harmed nobody: it waits
until its files or the description change, or until a person accepts it. What is kept lies beside the
plan: ``<batch>.measures.parquet`` and ``<batch>.quality.json``. A batch that was held is no measure for the next ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.files import flush, write_atomically
from cluster.home import Home
from jobs.ingesting import timing, verdicts
from jobs.ingesting.jumps import unit_jumps
from jobs.ingesting.measures import MEASURES
from jobs.ingesting.plan import Plan, plan_path
from models.checks import RANK, Finding, Mask
from models.errors import GateError, MillwrightError
from models.source import SensorColumn

LOOKS_BACK = 12  # batches
SHOWN = 3
SPELLED = {
    "impossible": "impossible values", "future": "readings from the future", "unit_jump": "changes of unit",
    "stuck": "stuck sensors", "gap": "gaps", "clock_step": "clocks set back", "dst_fold": "changes of local clocks",
}  # fmt: skip
_CHECKS = (
    verdicts.wrong_values, unit_jumps, verdicts.stuck_sensors, timing.gaps, timing.silent, timing.clock_steps,
    timing.folds_of_clocks,
)  # fmt: skip


class Told(BaseModel):
    """A finding as it is kept and shown; times are ISO, UTC."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    check: str
    severity: str
    machine: str | None = None
    sensor: str | None = None
    from_: str | None = Field(None, alias="from", serialization_alias="from")
    until: str | None = None
    message: str
    value: float | None = None
    batch: str = ""


class BatchQuality(BaseModel):
    """What was found in one batch. ``held``: nothing of it is in history; ``counts`` are those of its plan."""

    model_config = ConfigDict(extra="forbid")

    plant: str
    batch: str
    sequence: int
    created_at: datetime
    held: bool = False
    counts: dict[str, int] = {}
    findings: list[Told] = []


def judge(plan: Plan, measures: pa.Table, pieces: pa.Table, before: pa.Table | None, *, rows: int) -> list[Finding]:
    """Findings of a batch, worst first; ``rows`` are its source rows. A check that is off finds nothing.

    Only cells can be put in quarantine: a gap, a clock or an hour shown twice with that severity is a note.
    """
    source = plan.source
    added = {s.sensor: s for found in plan.added.values() for s in found.values()}
    sensors: dict[str, SensorColumn] = added | source.sensors()
    earlier = before if before is not None else MEASURES.empty_table()
    case = verdicts.Case(source=source, sensors=sensors, now=measures, before=earlier, pieces=pieces, rows=rows)
    found = [finding for check in _CHECKS for finding in check(case) if finding.severity != "off"]
    found = [_at_most_told(finding) for finding in found]
    return sorted(found, key=lambda f: (RANK[f.severity], f.check, f.machine or "", f.sensor or "", f.from_us or 0))


def _at_most_told(finding: Finding) -> Finding:
    nothing_to_empty = finding.check in ("gap", "clock_step", "dst_fold")
    return replace(finding, severity="note") if finding.severity == "quarantine" and nothing_to_empty else finding


def is_held(findings: Sequence[Finding]) -> bool:
    return any(finding.severity == "stop" for finding in findings)


def masks(findings: Sequence[Finding]) -> list[Mask]:
    """Cells that the findings put in quarantine; those that the parser refused are there already."""
    return [
        Mask(f.machine, f.sensor, f.from_us, f.until_us, f.check)
        for f in findings
        if f.severity == "quarantine" and f.check in ("stuck", "unit_jump")
        and f.machine and f.sensor and f.from_us is not None and f.until_us is not None
    ]  # fmt: skip


def hold_error(plan: Plan, findings: Sequence[Finding]) -> GateError:
    """What was found and what to do, for the person who ran ingest."""
    stops = [finding for finding in findings if finding.severity == "stop"]
    shown = "; ".join(finding.message for finding in stops[:SHOWN])
    more = f"; and {len(stops) - SHOWN} more" if len(stops) > SHOWN else ""
    return GateError(
        f"Batch {plan.batch} of {plan.plant} is held, nothing of it is in history", found=shown + more,
        expected=f"no {' or '.join(sorted({SPELLED[f.check] for f in stops}))}",
        do=f"See `millwright quality --plant {plan.plant}`. Correct the files or the source description and run "
        "`millwright ingest` again, or take it as it is: "
        f"`millwright ingest --plant {plan.plant} --accept {plan.batch}`",
    )  # fmt: skip


def measures_path(home: Home, plant: str, batch: str) -> Path:
    return home.of(plant).plans / f"{batch}.measures.parquet"


def quality_path(home: Home, plant: str, batch: str) -> Path:
    return home.of(plant).plans / f"{batch}.quality.json"


def save(
    home: Home, plan: Plan, measures: pa.Table, findings: Sequence[Finding], *, counts: dict[str, int], held: bool
) -> None:
    """Keep what was measured and found; called again, it replaces what was kept. The findings come last."""
    path = measures_path(home, plan.plant, plan.batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(measures, waiting, compression="zstd")
    flush([waiting])
    waiting.replace(path)
    found = BatchQuality(
        plant=plan.plant, batch=plan.batch, sequence=plan.sequence, created_at=plan.created_at, held=held,
        counts=counts, findings=[told(finding, plan.batch) for finding in findings],
    )  # fmt: skip
    text = found.model_dump_json(indent=1, by_alias=True)
    write_atomically(quality_path(home, plan.plant, plan.batch), text + "\n")


def told(finding: Finding, batch: str) -> Told:
    known: dict[str, Any] = asdict(finding)
    times = {"from_": iso(known.pop("from_us")), "until": iso(known.pop("until_us"))}
    known.pop("plant")
    return Told(**known, **times, batch=batch)


def qualities(home: Home, plant: str) -> list[BatchQuality]:
    """What was found in every batch that was judged, in delivery order; not in those that were given up since."""
    found = []
    for path in sorted(home.of(plant).plans.glob("[0-9]*.quality.json")):
        try:
            found.append(BatchQuality.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise MillwrightError(
                "Unreadable findings of a batch", expected="the file as ingest wrote it",
                found=error.errors()[0]["msg"], where=path, do="Delete it; only its findings are lost",
            ) from error  # fmt: skip
    found = [quality for quality in found if plan_path(home, plant, quality.batch).is_file()]
    return sorted(found, key=lambda quality: quality.sequence)


def read_measures(home: Home, plant: str, batch: str) -> pa.Table:
    """A batch's measures; none where they are gone."""
    path = measures_path(home, plant, batch)
    return pq.read_table(path).cast(MEASURES) if path.is_file() else MEASURES.empty_table()


def before(home: Home, plant: str, sequence: int) -> pa.Table | None:
    """Measures of the last batches before this one that are in history; None where there is none.

    Where two of them measured a month of the same machine and sensor, both count.
    """
    earlier = [q for q in qualities(home, plant) if q.sequence < sequence and not q.held][-LOOKS_BACK:]
    found = [read_measures(home, plant, quality.batch) for quality in earlier]
    return pa.concat_tables(found) if found else None


def iso(time_us: int | None) -> str | None:
    """ISO, UTC, whole seconds."""
    return None if time_us is None else datetime.fromtimestamp(int(time_us) // 1_000_000, UTC).isoformat()

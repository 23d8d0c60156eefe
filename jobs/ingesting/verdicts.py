"""From measures to findings: one function a check, each told in a sentence that names what was seen.

The one idea: a check sees the batch's measures and those of batches before it, never readings, and is silent
where there is too little to go by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingesting.folds import HOUR_US
from jobs.sources.raw import Reason
from models.checks import Finding, lasting_limit_us
from models.source import Check, SensorColumn, Severity, SourceDescription

Row = dict[str, Any]
MOVED = 0.6  # share of a machine's other sensors that must move while one is stuck
STOP_SHARE = 0.01  # impossible or future values that hold a batch where the check says stop


@dataclass(frozen=True)
class Case:
    """What is judged; ``now`` and ``before`` are measures."""

    source: SourceDescription
    sensors: Mapping[str, SensorColumn]
    now: pa.Table
    before: pa.Table
    pieces: pa.Table
    rows: int

    def severity(self, check: Check, sensor: str | None = None) -> Severity:
        own = self.sensors[sensor].checks.get(check) if sensor is not None and sensor in self.sensors else None
        plants: Severity = getattr(self.source.checks, check)
        return own or plants

    def finding(self, check: Check, message: str, **where: Any) -> Finding:
        severity = where.pop("severity", None) or self.severity(check, where.get("sensor"))
        return Finding(check=check, severity=severity, plant=self.source.plant, message=message, **where)

    def of_kind(self, kind: str) -> pa.Table:
        """Rows of one kind, without the lists: only `jumps` looks at levels over time."""
        return self.now.filter(pc.equal(self.now["kind"], kind)).drop_columns(["num", "p10", "p50", "p90"])


def wrong_values(case: Case) -> Iterator[Finding]:
    """Impossible values and readings from the future; what the parser refused is counted here."""
    counts: Counter[tuple[str, str | None]] = Counter()
    for row in case.pieces.filter(pc.equal(case.pieces["kind"], "wrong")).to_pylist():
        counts[row["reason"], row["sensor"]] += row["n"]
    values: Counter[str | None] = Counter()
    for row in case.of_kind("level").group_by("sensor").aggregate([("n", "sum")]).to_pylist():
        values[row["sensor"]] += row["n_sum"]
    for (reason, sensor), number in counts.most_common():
        check: Check = "future" if reason == Reason.FUTURE else "impossible"
        total = number + values[sensor] if sensor is not None else max(case.rows, number)
        share = number / max(total, 1)
        severity = case.severity(check, sensor)
        if severity == "stop" and share < STOP_SHARE:
            severity = "quarantine"
        what = f"{sensor}: " if sensor else ""
        said = "values that it cannot read" if sensor and check == "impossible" else "impossible values"
        if check == "future":
            said = "readings from the future (a clock that is ahead, or day and month swapped)"
        text = f"{what}{number:,} of {total:,} ({percent(share)}) {said}; they are in quarantine"
        yield case.finding(check, text, sensor=sensor, value=share, severity=severity)


def stuck_sensors(case: Case) -> Iterator[Finding]:
    """Constant runs that are longer than this sensor's ever were, while most others of the machine moved."""
    runs = sorted(case.of_kind("run").to_pylist(), key=lambda r: (r["machine"], r["sensor"], r["from_us"]))
    if not runs:
        return
    history = pa.concat_tables([case.before, case.now])
    history = history.filter(pc.equal(history["kind"], "level"))
    steps = _steps(case)
    for sensor in sorted({run["sensor"] for run in runs}):
        own = history.filter(pc.equal(history["sensor"], sensor))
        described = case.sensors[sensor].stuck_h if sensor in case.sensors else None
        limit = lasting_limit_us(own["run_us"].to_numpy(), own["equal"].to_numpy(), stuck_h=described)
        for run in _joined([r for r in runs if r["sensor"] == sensor]):
            # Silence within a run is no evidence: so many values last no longer than this.
            lasts = min(run["until_us"] - run["from_us"], 2 * run["n"] * steps.get((run["machine"], sensor), 0))
            least = 0.99 if run["mean"] == 0 else MOVED  # what shows 0 where something else rests too stands still
            if lasts <= limit or (run["others"] is not None and run["others"] < least):
                continue
            if run["others"] is None and described is None:
                continue  # nothing tells a stuck sensor from a machine that stands still
            hours = lasts / HOUR_US
            text = f"{run['machine']} {sensor}: {number(run['mean'])} without a change for {span_h(hours)}"
            text += ", while other sensors of the machine moved" if run["others"] is not None else ""
            where = {key: run[key] for key in ("machine", "sensor", "from_us", "until_us")}
            yield case.finding("stuck", text, value=round(hours, 3), **where)


def _steps(case: Case) -> dict[tuple[str, str], float]:
    """Usual time between two values of a machine's sensor, in us: the longest of its months."""
    period = {(r["machine"], r["month"]): r["period_us"] for r in case.of_kind("time").to_pylist()}
    found: dict[tuple[str, str], float] = {}
    for row in case.of_kind("level").select(["machine", "sensor", "month", "n", "rows"]).to_pylist():
        key = row["machine"], row["sensor"]
        found[key] = max(found.get(key, 0), (period[row["machine"], row["month"]] or 0) * row["rows"] / row["n"])
    return found


def _joined(runs: list[Row]) -> Iterator[Row]:
    """Runs of one value that go on over the end of a month are one."""
    held: Row | None = None
    for run in runs:
        step = 4 * (run["until_us"] - run["from_us"]) / max(run["n"] - 1, 1)
        if held and held["machine"] == run["machine"] and held["mean"] == run["mean"] \
                and run["from_us"] - held["until_us"] <= step:  # fmt: skip
            others = [x["others"] for x in (held, run) if x["others"] is not None]
            held |= {"until_us": run["until_us"], "n": held["n"] + run["n"], "others": min(others, default=None)}
            continue
        if held:
            yield held
        held = dict(run)
    if held:
        yield held


def number(value: float) -> str:
    return f"{value:.4g}"


def span(low: float, high: float) -> str:
    """``36 to 41``."""
    one, other = number(low), number(high)
    return one if one == other else f"{one} to {other}"


def span_h(hours: float) -> str:
    return f"{hours:.3g} h" if hours < 72 else f"{hours / 24:.3g} days"


def percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def when(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")

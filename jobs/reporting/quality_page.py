"""The page of data quality: what came over time, how it compares with the batch before, what was found and refused.

The one idea: every colour has its number beside it or in it, and whatever comes from raw files is text, never markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined

from jobs.ingesting.measures import SLICE_US, SLICES
from models.source import SensorColumn
from models.units import CANONICAL_UNIT

Array = npt.NDArray[np.float64]
MOST_MACHINES, MOST_FINDINGS, SHOWN, EXAMPLES = 60, 300, 8, 3
WIDTH, HEIGHT, STRIP = 340.0, 92.0, 10.0
RAW = 240  # characters of a refused row
MARKS = {"stop": "\u25a0", "quarantine": "\u25b2", "note": "\u25cb"}


@dataclass(frozen=True)
class PlantData:
    """A plant's ``batches`` as lines (``jobs.quality.BatchRow``), the last ones' measures in order, what was found."""

    name: str
    sensors: Mapping[str, SensorColumn]
    batches: Sequence[Any]
    measures: Sequence[pa.Table]
    findings: Sequence[Any]
    quarantine: pa.Table


def render(plants: Sequence[PlantData]) -> str:
    """The whole page as HTML that asks for nothing else."""
    environment = Environment(
        loader=PackageLoader("jobs.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("quality.html.j2").render(
        plants=[_plant(plant) for plant in plants], marks=MARKS, shown=SHOWN, headline=_headline(plants)
    )


def _headline(plants: Sequence[PlantData]) -> str:
    held = sum(row.held for plant in plants for row in plant.batches)
    if held:
        which, those = ("batch is", "it") if held == 1 else ("batches are", "them")
        return f"{held} {which} held: nothing of {those} is in history until somebody decides."
    if not any(plant.batches for plant in plants):
        return "Nothing has been ingested yet."
    found = [finding for plant in plants for finding in plant.findings]
    rows = sum(row.rows for plant in plants for row in plant.batches if row.in_history)
    text = f"{rows:,} rows are in history; no batch is held"
    return f"{text}. {len(found):,} findings." if found else f"{text}, nothing was found."


def _plant(plant: PlantData) -> dict[str, Any]:
    levels = [_levels(table) for table in plant.measures]
    known = [level for level in levels if level.num_rows]
    names = sorted({name for level in known for name in pc.unique(level["sensor"]).to_pylist()})
    sensors = [_sensor(plant, name, known) for name in names]
    return {
        "name": plant.name, "batches": list(reversed(plant.batches)), "sensors": sensors, "heat": _heat(known, names),
        "compared": len(known) > 1, "findings": plant.findings[:MOST_FINDINGS],
        "more": max(0, len(plant.findings) - MOST_FINDINGS), "refused": _refused(plant.quarantine),
    }  # fmt: skip


def _levels(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["kind"], "level"))


def _slices(levels: pa.Table, name: str) -> Array:
    flat = pa.concat_arrays([chunk.flatten() for chunk in levels[name].chunks])
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(-1, SLICES)


def _starts(levels: pa.Table) -> npt.NDArray[np.int64]:
    month = np.asarray(levels["month"].to_pylist(), "datetime64[M]").astype("datetime64[us]").astype(np.int64)
    found: npt.NDArray[np.int64] = month[:, None] + SLICE_US * np.arange(SLICES)
    return found


def _sensor(plant: PlantData, name: str, levels: Sequence[pa.Table]) -> dict[str, Any]:
    own = [level.filter(pc.equal(level["sensor"], name)) for level in levels]
    kind = plant.sensors[name].kind if name in plant.sensors else "number"
    unit = "" if CANONICAL_UNIT[kind] == "1" else CANONICAL_UNIT[kind]
    now, before = _summary(own[-1]), _summary(own[-2]) if len(own) > 1 else None
    numbers = f"{now[1]:.4g} {unit} (p10 {now[0]:.4g}, p90 {now[2]:.4g})" if now else "no value in the last batch"
    return {
        "name": name, "unit": unit, "now": now, "before": before, "svg": _plot(own),
        "alt": f"{name} over time, last batch: {numbers}", "numbers": numbers, "change": _change(now, before),
    }  # fmt: skip


def _summary(levels: pa.Table) -> tuple[float, float, float, float] | None:
    """Medians over machines and slices of p10, p50 and p90, and the share of rows without a value."""
    if not levels.num_rows:
        return None
    p10, p50, p90 = (float(np.nanmedian(_slices(levels, q))) for q in ("p10", "p50", "p90"))
    return p10, p50, p90, 1 - pc.sum(levels["n"]).as_py() / pc.sum(levels["rows"]).as_py()


def _change(now: tuple[float, ...] | None, before: tuple[float, ...] | None) -> str:
    """How far the median moved, in widths of the batch before (p10 to p90)."""
    if now is None or before is None:
        return "" if before is None else "gone"
    width = before[2] - before[0]
    moved = (now[1] - before[1]) / width if width > 0 else 0.0
    if width <= 0 and now[1] != before[1]:
        return "moved from a constant"
    if abs(moved) < 0.5:
        return "as before"
    return f"{'up' if moved > 0 else 'down'} by {abs(moved):.1f} of its usual range"


def _plot(own: Sequence[pa.Table]) -> str:
    """Median and p10 to p90 over machines by slice of three days; the last batch shaded; below, how full it is."""
    points: dict[int, list[tuple[float, float, float, float]]] = {}
    last: set[int] = set()
    for level in own:
        if not level.num_rows:
            continue
        start, num = _starts(level), _slices(level, "num")
        p10, p50, p90 = (_slices(level, q) for q in ("p10", "p50", "p90"))
        last = set()
        for at in np.unique(start).tolist():
            here = (start == at) & (num > 0)
            if here.any():
                row = (float(np.median(q[here])) for q in (p10, p50, p90))
                points.setdefault(at, []).append((*row, float(num[start == at].sum())))  # type: ignore[arg-type]
                if 2 * num[start == at].sum() > sum(point[3] for point in points[at]):
                    last.add(at)  # a few late rows do not make a slice the last batch's
    if not points or not own[-1].num_rows:
        last = set()
    if not points:
        return ""
    times = sorted(points)
    series = np.array([np.average(points[at], axis=0, weights=[p[3] for p in points[at]]) for at in times])
    full = np.array([sum(p[3] for p in points[at]) for at in times])
    x = 8 + (WIDTH - 16) * (np.array(times) - times[0]) / max(times[-1] - times[0], 1)
    low, high = float(series[:, 0].min()), float(series[:, 2].max())
    y = HEIGHT - 6 - (HEIGHT - 14) * (series[:, :3] - low) / max(high - low, 1e-9)
    return _svg(_Drawing(x, y, full / max(float(np.median(full)), 1), [at in last for at in times], (low, high), times))


@dataclass(frozen=True)
class _Drawing:
    """Places of slices: ``y`` are p10, p50 and p90, ``full`` is the share of the usual number."""

    x: Array
    y: Array
    full: Array
    marked: Sequence[bool]
    bounds: tuple[float, float]
    times: Sequence[int]


def _svg(drawing: _Drawing) -> str:
    x, y, bounds, times = drawing.x, drawing.y, drawing.bounds, drawing.times
    step = (x[1] - x[0]) if len(x) > 1 else 12.0
    parts = [f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT + STRIP + 16:.0f}" role="img">']
    chosen = [place for place, mark in zip(x, drawing.marked, strict=True) if mark]
    if chosen:
        left, wide = min(chosen) - step / 2, max(chosen) - min(chosen) + step
        parts.append(f'<rect class="last" x="{left:.1f}" y="0" width="{wide:.1f}" height="{HEIGHT:.0f}"/>')
        at = min(max(left + 3, 2), WIDTH - 54)
        parts.append(f'<text class="lasttext" x="{at:.1f}" y="9">last batch</text>')
    band = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y[:, 0], strict=True)]
    band += [f"{a:.1f},{b:.1f}" for a, b in zip(x[::-1], y[::-1, 2], strict=True)]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y[:, 1], strict=True))
    parts.append(f'<polygon class="band" points="{" ".join(band)}"/><polyline class="line" points="{line}"/>')
    for place, share in zip(x, np.clip(drawing.full, 0, 1), strict=True):
        size = STRIP * share
        parts.append(
            f'<rect class="full" x="{place - step / 2 + 0.3:.1f}" y="{HEIGHT + 2 + STRIP - size:.1f}" '
            f'width="{max(step - 0.6, 0.8):.1f}" height="{size:.1f}"/>'
        )
    first, final = (str(np.datetime64(int(t), "us").astype("datetime64[D]")) for t in (times[0], times[-1]))
    bottom = HEIGHT + STRIP + 13
    parts.append(f'<text x="2" y="{bottom:.0f}">{first}</text>')
    parts.append(f'<text x="{WIDTH - 2:.0f}" y="{bottom:.0f}" text-anchor="end">{final}</text>')
    parts.append(f'<text x="2" y="{HEIGHT - 1:.0f}">{bounds[0]:.4g}</text><text x="2" y="19">{bounds[1]:.4g}</text>')
    return "".join(parts) + "</svg>"


def _heat(levels: Sequence[pa.Table], names: Sequence[str]) -> dict[str, Any]:
    """Machines by sensors: the share of what a sensor usually delivers in three days that is missing."""
    if not levels:
        return {"rows": [], "more": 0}
    table = pa.concat_tables(levels)
    machine, sensor = (np.asarray(table[name].to_pylist()) for name in ("machine", "sensor"))
    num, start = _slices(table, "num"), _starts(table)
    machines = sorted(set(machine.tolist()))
    rows = []
    for one in machines[:MOST_MACHINES]:
        own = machine == one
        present = start[own][num[own] > 0]
        bounds = int(present.min()), int(present.max())
        places = [(own & (sensor == name), sensor == name) for name in names]
        rows.append((one, [_missing(num[at], start[at], num[like], bounds) for at, like in places]))
    cells = [
        {"machine": one, "cells": [{"share": s, "text": "none" if s is None else _percent(s)} for s in shares]}
        for one, shares in rows
    ]
    return {"rows": cells, "more": max(0, len(machines) - MOST_MACHINES)}


def _missing(num: Array, start: npt.NDArray[np.int64], every: Array, bounds: tuple[int, int]) -> float | None:
    """``num`` and ``start`` are one machine's sensor's; its first and last slice it may fill in part only."""
    if not num.size:
        return None
    usual = float(np.median(every[every > 0])) if (every > 0).any() else 1.0
    inside = (start > bounds[0]) & (start < bounds[1])
    have, slices = np.minimum(num[inside], usual).sum(), len(np.unique(start[inside]))
    return max(0.0, 1 - float(have) / (usual * slices)) if slices else 0.0


def _percent(share: float) -> str:
    return "0" if share < 0.0005 else f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"


def _refused(quarantine: pa.Table) -> list[dict[str, Any]]:
    """Reasons, the most frequent first, with the last rows refused for each."""
    found = []
    counts = pc.value_counts(quarantine["reason"]).to_pylist() if quarantine.num_rows else []
    for entry in sorted(counts, key=lambda c: -c["counts"]):
        own = quarantine.filter(pc.equal(quarantine["reason"], entry["values"]))
        last = own.slice(max(0, own.num_rows - EXAMPLES)).select(["file", "line", "raw", "detail"]).to_pylist()
        found.append({"reason": entry["values"], "count": entry["counts"], "examples": [_example(row) for row in last]})
    return found


def _example(row: dict[str, Any]) -> dict[str, str]:
    raw = "".join(c if c.isprintable() else "\ufffd" for c in row["raw"] or "")
    where = (row["file"] or "") + (f", line {row['line']}" if row["line"] is not None else "")
    return {
        "where": where,
        "raw": raw[:RAW] + ("\u2026" if len(raw) > RAW else ""),
        "detail": (row["detail"] or "")[:RAW],
    }

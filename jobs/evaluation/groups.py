"""Parts of the test ticks that are judged alone: known and unseen machines, machine types, ages, failure modes.

The one idea: a group is a choice of ticks. An alarm belongs to the group of the tick that raised it, a failure to that
of its last hours. A failure mode is judged against all healthy time: the last days before failures of other modes are
left out, so that an alarm which foresaw another failure is not false here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.logs import time_us
from jobs.dataset import PlantData
from jobs.evaluation.rows import LaterRows
from jobs.evaluation.truth import Truth
from models.evaluation import Part
from models.split import Split

Bools = NDArray[np.bool_]
Modes = Mapping[tuple[str, int], str]  # (machine, microseconds of the failure) -> what the log calls it
AGE = "since_service"
MOST_MODES = 8
MOST_AGES, MOST_MACHINES = 200_000, 2_000  # ages, and machines, that the bands are drawn from
UNNAMED, OTHERS = "not named", "other modes"


@dataclass(frozen=True)
class Group:
    """``kind``: all, machines, machine type, age, failure mode, true failure mode."""

    kind: str
    part: Part


def groups_of(
    data: PlantData, rows: LaterRows, split: Split, *, modes: Modes, truth: Truth | None, longest: float
) -> list[Group]:
    """Every group that holds a tick, all machines first. ``longest`` is the longest horizon in life units.

    A kind that would have a single group is left out: it is all machines again.
    """
    num, machine = len(rows.time_us), rows.ticks.machine
    found = [Group("all", Part("all", np.ones(num, bool)))]
    seen_before = np.where(rows.unseen, "unseen machines", "known machines").astype(object)[machine]
    types = np.array([data.machine_types.get(m, "no type") for m in rows.machines], object)[machine]
    found += _of_names("machines", seen_before, sorted(set(seen_before)))
    found += _of_names("machine type", types, sorted(set(types)))
    found += _of_names("age", *_ages(data, rows, split))
    logged = {key: modes.get(key, UNNAMED) for key in set(_ends(rows))}
    found += _of_modes("failure mode", rows, logged, longest)
    if truth is not None:
        found += _of_modes("true failure mode", rows, _true_modes(rows, truth), longest)
    return found


def named_modes(events: pa.Table) -> dict[tuple[str, int], str]:
    """What the log calls each failure: its mode, or else its component; failures of one moment are one of both."""
    failures = events.filter(pc.equal(events["kind"], "failure"))
    names = pc.coalesce(failures["failure_mode"], failures["component"]).to_pylist()
    found: dict[tuple[str, int], set[str]] = {}
    for machine, at, name in zip(failures["machine"].to_pylist(), time_us(failures["started_at"]).tolist(), names,
                                 strict=True):  # fmt: skip
        found.setdefault((machine, at), set()).update([name] if name else [])
    return {key: " and ".join(sorted(own)) for key, own in found.items() if own}


def _of_names(kind: str, names: NDArray[np.object_], order: list[str]) -> list[Group]:
    found = [Group(kind, Part(name, np.asarray(names == name, bool))) for name in order]
    held = [group for group in found if group.part.keep.any()]
    return held if len(held) > 1 else []


def _of_modes(kind: str, rows: LaterRows, modes: Modes, longest: float) -> list[Group]:
    ticks, ends = rows.ticks, _ends(rows)
    counts = Counter(modes[end] for end in {e for e, event in zip(ends, ticks.event.tolist(), strict=True) if event})
    own = {mode for mode, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:MOST_MODES]}
    if len(counts) < 2:
        return []
    called = np.array([modes[end] if modes[end] in own else OTHERS for end in ends], object)
    near = ticks.event & (ticks.time <= longest)
    return [
        Group(kind, Part(mode, ~(near & (called != mode)), ticks.event & (called == mode)))
        for mode in [*sorted(own), *([OTHERS] if len(counts) > len(own) else [])]
    ]


def _ends(rows: LaterRows) -> list[tuple[str, int]]:
    """Each tick's machine and the end of its life."""
    return [
        (piece.machine, end)
        for piece, own in zip(rows.pieces, rows.rows_of, strict=True)
        for end in piece.labels.end_us[own].tolist()
    ]


def _true_modes(rows: LaterRows, truth: Truth) -> dict[tuple[str, int], str]:
    found = {}
    for machine, end in set(_ends(rows)):
        known = truth.of(machine, end)
        found[machine, end] = UNNAMED if known is None else known.mode + (", sudden" if known.sudden else "")
    return found


def _ages(data: PlantData, rows: LaterRows, split: Split) -> tuple[NDArray[np.object_], list[str]]:
    """Each tick's band of the time since service, and all bands; they are the training part's tertiles."""
    names = [c.name for c in data.channels]
    edges = _tertiles(data, split, names.index(AGE)) if AGE in names else ()
    if len(edges) < 2:
        return np.full(len(rows.time_us), "unknown age", object), []
    column, unit = names.index(AGE), data.clock.life_unit
    age = np.concatenate([p.series.values[own, column] for p, own in zip(rows.pieces, rows.rows_of, strict=True)])
    labels = [f"young: up to {edges[0]:.0f} {unit} since service", f"middle: up to {edges[1]:.0f} {unit}",
              f"old: over {edges[1]:.0f} {unit}", "unknown age"]  # fmt: skip
    band = np.where(np.isnan(age), 3, np.searchsorted(edges, age, side="left"))
    return np.array(labels, object)[band], labels


def _tertiles(data: PlantData, split: Split, column: int) -> tuple[float, ...]:
    """Two ages that part the training ticks in three; none where ages are unknown or all the same."""
    machines = sorted(data.series)
    machines = machines[:: max(1, len(machines) // MOST_MACHINES)]
    parts = []
    for machine in machines:
        series = data.series[machine]
        owned = np.flatnonzero(split.owns("train", machine, series.ticks * data.clock.step_us))
        step = max(1, len(owned) * len(machines) // MOST_AGES)
        parts.append(np.asarray(series.values[owned[owned >= series.lead][::step], column], np.float64))
    ages = np.concatenate(parts) if parts else np.empty(0)
    ages = ages[np.isfinite(ages)]
    if not len(ages):
        return ()
    low, high = np.quantile(ages, (1 / 3, 2 / 3)).tolist()
    return (low, high) if low < high else ()

"""Did the unit of a sensor change? Levels of this batch beside those of earlier ones, and month beside month.

The one idea: a level that is far from all earlier ones and that a conversion explains is only half of the evidence: the
machine's other sensors must have stayed as they were (or have changed their own units), since a machine that
starts or is loaded otherwise moves several; and several machines must agree, or a lone one fit closely and for days.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingesting.measures import SLICE_US, SLICES
from jobs.ingesting.verdicts import Case, span
from models.checks import DAY_US, Explained, Finding, changes, explain, unusual
from models.source import SensorColumn
from models.units import CANONICAL_UNIT

LEAST_VALUES = 6  # of a slice
SEVERAL = 3  # machines whose unit changed alike, and at about one time, are no coincidence
TOGETHER_US = 8 * DAY_US
SURE = 0.25  # widths: how well a lone machine's change must fit


def unit_jumps(case: Case) -> Iterator[Finding]:
    """Levels that a change of unit explains; see models/checks.py."""
    grid = _Grid.of(case)
    if grid is None:
        return
    odd = unusual(grid.levels, grid.known)
    found: dict[tuple[str, str], list[tuple[int, int, Explained]]] = defaultdict(list)  # (sensor, change) -> places
    unexplained: set[tuple[str, int]] = set()
    for series, k in np.argwhere(odd & grid.fresh).tolist():
        machine, sensor = grid.keys[series]
        usable = np.flatnonzero(grid.known[series, :k] & ~odd[series, :k])
        column = case.sensors.get(sensor, SensorColumn(sensor=sensor))
        why = explain(grid.levels[series, k], grid.levels[series, usable], changes(column.kind, column.unit))
        if why is None:
            unexplained.add((machine, k))
        else:
            found[sensor, why.change.text].append((series, k, why))
    for (sensor, _), places in sorted(found.items()):
        clean = [place for place in places if (grid.keys[place[0]][0], place[1]) not in unexplained]
        by_series: dict[int, list[tuple[int, int, Explained]]] = defaultdict(list)
        for place in clean:
            by_series[place[0]].append(place)
        num_fresh = sum(key[1] == sensor and bool(grid.fresh[n].any()) for n, key in enumerate(grid.keys))
        enough = min(SEVERAL, max(2, num_fresh / 2))
        begins = np.array([grid.starts[own[0][1]] for own in by_series.values()])
        for series, own in sorted(by_series.items()):
            alike = np.count_nonzero(np.abs(begins - grid.starts[own[0][1]]) <= TOGETHER_US)
            if alike >= enough:
                yield _jump(case, grid, series, own)
            elif len(own) > 1 and min(why.error for _, _, why in own) <= SURE:
                found_one = _jump(case, grid, series, own)
                # One machine among many may have a new transmitter, or only stand still in the cold.
                told = num_fresh > SEVERAL and found_one.severity == "stop"
                yield replace(found_one, severity="note") if told else found_one


def _jump(case: Case, grid: _Grid, series: int, places: list[tuple[int, int, Explained]]) -> Finding:
    machine, sensor = grid.keys[series]
    first, last = places[0][1], places[-1][1]
    # The slice in which the change falls holds both units: it is as wrong as what follows it.
    previous = np.flatnonzero(grid.fresh[series, :first])
    mixed = len(previous) and bool(grid.mixed[series, previous[-1]])
    begin = int(previous[-1]) if mixed else first
    levels = grid.levels[series, [k for _, k, _ in places]]
    low, high = float(np.median(levels[:, 0])), float(np.median(levels[:, 2]))
    why = places[0][2]
    kind = case.sensors[sensor].kind if sensor in case.sensors else "number"
    unit = "" if CANONICAL_UNIT[kind] == "1" else f" {CANONICAL_UNIT[kind]}"
    text = f"{machine} {sensor}: {span(*why.before)}{unit} before, {span(low, high)}{unit} now: as if {why.change.text}"
    return case.finding(
        "unit_jump", text, machine=machine, sensor=sensor, from_us=int(grid.starts[begin]),
        until_us=int(grid.ends[series, last]), value=why.change.factor,
    )  # fmt: skip


@dataclass(frozen=True)
class _Grid:
    """Levels of every machine and sensor in order of time: of earlier batches, then of this one."""

    keys: list[tuple[str, str]]
    starts: npt.NDArray[np.int64]  # [K]
    ends: npt.NDArray[np.int64]  # [S, K]
    levels: npt.NDArray[np.float32]  # [S, K, 3]
    known: npt.NDArray[np.bool_]
    fresh: npt.NDArray[np.bool_]
    mixed: npt.NDArray[np.bool_]  # holds two levels

    @classmethod
    def of(cls, case: Case) -> _Grid | None:
        tables = [t.filter(pc.equal(t["kind"], "level")) for t in (case.before, case.now)]
        num_before, table = tables[0].num_rows, pa.concat_tables(tables)
        if not tables[1].num_rows:
            return None
        key = pc.binary_join_element_wise(table["machine"], table["sensor"], "\0").combine_chunks().dictionary_encode()
        series = np.asarray(key.indices, np.int32)
        fresh = np.arange(table.num_rows) >= num_before
        month = np.asarray(table["month"].to_pylist(), "datetime64[M]").astype("datetime64[us]").astype(np.int64)
        start = month[:, None] + SLICE_US * np.arange(SLICES)
        place = start * 2 + fresh[:, None]
        columns = np.unique(place)
        at = np.searchsorted(columns, place)
        shape = (len(key.dictionary), len(columns))
        levels, num = np.full((*shape, 3), np.nan, np.float32), np.zeros(shape, np.int32)
        given = _lists(table, "num")
        # Tiles may part a month, so a slice can come twice: the larger part speaks for it.
        order = np.argsort(given.ravel(), kind="stable").astype(np.int32)
        order = order[given.ravel()[order] > 0]
        rows, at = np.repeat(series, SLICES)[order], at.ravel()[order]
        for n, name in enumerate(("p10", "p50", "p90")):
            levels[rows, at, n] = _lists(table, name).ravel()[order]
        num[rows, at] = given.ravel()[order]
        known = (num >= LEAST_VALUES) & ~np.isnan(levels).any(2)
        last = np.full(shape[0], -(2**62))
        np.maximum.at(last, series, table["until_us"].to_numpy())
        ends = np.minimum(_ends(columns // 2)[None, :], last[:, None])
        keys = [tuple(text.split("\0", 1)) for text in key.dictionary.to_pylist()]
        return cls(keys, columns // 2, ends, np.nan_to_num(levels), known, known & (columns % 2 == 1), _mixed(levels))


def _mixed(levels: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether a slice is much wider than the series usually is."""
    width = levels[..., 2] - levels[..., 0]
    with np.errstate(invalid="ignore"):
        usual = np.array([np.median(w[~np.isnan(w)]) if (~np.isnan(w)).any() else np.inf for w in width])
        found: npt.NDArray[np.bool_] = width > 3 * usual[:, None]
    return found


def _ends(starts_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The last microsecond of each slice; the last slice of a month ends with it."""
    month = starts_us.astype("datetime64[us]").astype("datetime64[M]")
    last = (starts_us - month.astype("datetime64[us]").astype(np.int64)) == SLICE_US * (SLICES - 1)
    following = (month + 1).astype("datetime64[us]").astype(np.int64)
    return np.where(last, following, starts_us + SLICE_US) - 1


def _lists(table: pa.Table, name: str) -> npt.NDArray[Any]:
    flat = pa.concat_arrays([chunk.flatten() for chunk in table[name].chunks])
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, SLICES)

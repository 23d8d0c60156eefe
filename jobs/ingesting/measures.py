"""What a tile holds, in a few rows: levels, runs, gaps and times of every machine and sensor of a month.

The one idea: judging needs no readings, only a small table that is computed while the tile is in memory.
Whole columns are reduced at once; levels come from a sample of values of each of a month's ten *slices* of three
days (the tenth ends with the month), everything else is exact. Rows of the table, by ``kind``:

- ``level``, a machine and sensor: ``n`` values in ``rows`` rows, the first and last at ``from_us`` and ``until_us``;
  ``low``, ``high``, ``mean``; ``equal``, the share of values that equal the one before; ``run_n``, values of the
  longest constant run (0 where none has four) and ``run_us``, how long the longest lasted; lists of ten: ``num``,
  ``p10``, ``p50``, ``p90``.
- ``run``: a constant run that may be too long; ``mean`` is its value, ``others`` the share of the machine's other
  sensors that moved meanwhile. A missing value does not end a run. The longest ``MOST`` a machine and sensor.
- ``time``, a machine: ``n`` rows, ``period_us`` (median); ``gap``: its longest silences, over ten periods.
- ``spring``, all machines: ``n`` of them read both before and after an hour that clocks of zone ``sensor`` skip,
  ``rows`` of these not within it, as if their times were local.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.ingesting.folds import HOUR_US, folds
from jobs.ingesting.reductions import constant_runs, largest, levels, search, top
from models.checks import DAY_US

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
SLICES, SLICE_US = 10, 3 * DAY_US
MOST = 3
GAP_PERIODS = 10
RUN_H = 24.0  # a shorter run is never told, unless the description says so
_LISTS = ("num", "p10", "p50", "p90")
MEASURES = pa.schema(
    [
        ("kind", pa.string()), ("machine", pa.string()), ("sensor", pa.string()), ("month", pa.string()),
        ("n", pa.int64()), ("rows", pa.int64()), ("from_us", pa.int64()), ("until_us", pa.int64()),
        ("low", pa.float32()), ("high", pa.float32()), ("mean", pa.float32()), ("equal", pa.float32()),
        ("run_n", pa.int64()), ("run_us", pa.int64()), ("others", pa.float32()), ("period_us", pa.int64()),
        ("num", pa.list_(pa.int32())), ("p10", pa.list_(pa.float32())),
        ("p50", pa.list_(pa.float32())), ("p90", pa.list_(pa.float32())),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class _Tile:
    """Rows sorted by machine and time; ``edges`` [machines, SLICES + 1] are the rows at which slices begin and end."""

    machines: list[str]
    time: Ints
    columns: dict[str, Floats]
    month: str
    edges: Ints


@dataclass(frozen=True)
class _Series:
    """A column without its missing values; ``nan`` are the rows of those."""

    values: Floats
    edges: Ints
    nan: Ints

    @property
    def starts(self) -> Ints:
        return self.edges[:, 0]

    @property
    def stops(self) -> Ints:
        return self.edges[:, -1]

    def rows(self, at: Ints) -> Ints:
        """Rows of the tile of values at these places."""
        found: Ints = at + np.searchsorted(self.nan - np.arange(len(self.nan)), at, side="right")
        return found


def measure(  # noqa: PLR0917 (the rows are five, in the order of a table's columns)
    machines: Sequence[str], codes: Ints, time: Ints, columns: Mapping[str, Floats], fresh: Bools,
    month: str, *, stuck_h: Mapping[str, float] | None = None,
) -> pa.Table:  # fmt: skip
    """Measures of the ``fresh`` rows of a tile whose rows are sorted by machine and time, each pair once.

    ``codes`` index ``machines``, ``time`` is int64 us, NaN is no value, ``month`` is ``YYYY-MM`` and
    holds every row; ``stuck_h`` by sensor, where the description says it.
    """
    if not fresh.any():
        return MEASURES.empty_table()
    whole = codes, time, fresh
    if not fresh.all():
        codes, time = codes[fresh], time[fresh]
        columns = {name: values[fresh] for name, values in columns.items()}
    present, first = np.unique(codes, return_index=True) if len(codes) < 1000 else _present(codes, len(machines))
    starts, stops = first.astype(np.int64), np.append(first[1:], len(codes)).astype(np.int64)
    bounds = _month_us(month) + SLICE_US * np.arange(1, SLICES)
    edges = np.column_stack([starts, search(time, starts, stops, bounds), stops])
    tile = _Tile([machines[code] for code in present.tolist()], time, dict(columns), month, edges)
    limits = {name: round((stuck_h or {}).get(name, RUN_H) * HOUR_US) for name in columns}
    parts = [
        _times(tile),
        _gaps(tile, list(machines), *whole),
        *(part for name in columns for part in _sensor(tile, name, limits[name])),
        _spring(tile),
    ]
    return pa.concat_tables([part for part in parts if part.num_rows] or [MEASURES.empty_table()])


def _present(codes: Ints, num: int) -> tuple[Ints, Ints]:
    first = np.searchsorted(codes, np.arange(num + 1))
    present = np.flatnonzero(np.diff(first))
    return present, first[present]


def _month_us(month: str) -> int:
    return int(np.datetime64(month, "us").astype(np.int64))


def _table(kind: str, tile: _Tile, machine: Ints | None, sensor: str | None, **columns: Any) -> pa.Table:
    """Rows of one kind; ``machine`` indexes the tile's."""
    length = len(next(iter(columns.values())))
    names = pa.array(tile.machines).take(pa.array(machine)) if machine is not None else pa.nulls(length, pa.string())
    known: dict[str, Any] = {
        "kind": pa.repeat(kind, length), "machine": names, "month": pa.repeat(tile.month, length),
        "sensor": pa.repeat(pa.scalar(sensor, pa.string()), length),
    } | columns  # fmt: skip
    arrays = [_array(known.get(field.name), field.type, length) for field in MEASURES]
    return pa.Table.from_arrays(arrays, schema=MEASURES)


def _array(values: Any, kind: pa.DataType, length: int) -> pa.Array:
    if values is None:
        return pa.nulls(length, kind)
    if pa.types.is_list(kind):
        flat = pa.array(np.ascontiguousarray(values).ravel(), kind.value_type, from_pandas=True)
        return pa.ListArray.from_arrays(pa.array(SLICES * np.arange(length + 1), pa.int32()), flat, type=kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind, from_pandas=True)


def _sensor(tile: _Tile, name: str, limit_us: int) -> list[pa.Table]:
    values, edges = tile.columns[name], tile.edges
    missing = np.isnan(values)
    nan = np.flatnonzero(missing)
    series = _Series(values[~missing] if len(nan) else values, edges - np.searchsorted(nan, edges), nan)
    some = np.flatnonzero(series.stops > series.starts)
    if not len(some):
        return []
    series = _Series(series.values, series.edges[some], nan)
    first, last = tile.time[series.rows(series.starts)], tile.time[series.rows(series.stops - 1)]
    num = np.diff(series.edges, axis=1)
    quantiles, means = levels(series.values, series.edges[:, :-1].ravel(), num.ravel())
    p10, p50, p90 = (q.reshape(num.shape) for q in quantiles)
    run_start, run_n = constant_runs(series.values, series.starts)
    run_of = np.searchsorted(series.starts, run_start, side="right") - 1
    begins, ends = tile.time[series.rows(run_start)], tile.time[series.rows(run_start + run_n - 1)]
    longest_n, longest_us = largest(run_of, run_n, len(some)), largest(run_of, ends - begins, len(some))
    level = _table(
        "level", tile, some, name, n=num.sum(1), rows=(edges[:, -1] - edges[:, 0])[some], from_us=first, until_us=last,
        low=np.minimum.reduceat(series.values, series.starts), high=np.maximum.reduceat(series.values, series.starts),
        mean=np.nansum(means.reshape(num.shape) * num, 1) / num.sum(1), equal=_equal(series), run_n=longest_n,
        run_us=longest_us, num=num, p10=p10, p50=p50, p90=p90,
    )  # fmt: skip
    at_edge = (run_start == series.starts[run_of]) | (run_start + run_n == series.stops[run_of])
    kept = np.flatnonzero(ends - begins >= np.where(at_edge, limit_us // 2, limit_us))
    kept = kept[top(run_of[kept], (ends - begins)[kept], MOST)]
    if not len(kept):
        return [level]
    of, first, last = some[run_of[kept]], series.rows(run_start[kept]), series.rows((run_start + run_n - 1)[kept])
    others = _others(tile, name, of, first, last)
    runs = _table(
        "run", tile, of, name, n=run_n[kept], from_us=begins[kept], until_us=ends[kept],
        mean=series.values[run_start[kept]], others=others,
    )  # fmt: skip
    return [level, runs]


def _equal(series: _Series) -> npt.NDArray[np.float64]:
    """Share of up to 64 values of a machine that equal the one before."""
    num = (series.stops - series.starts - 1)[:, None]
    steps = np.arange(64)
    place = np.where(num <= 64, steps, steps * num // 64)
    at = np.minimum(series.starts[:, None] + place, len(series.values) - 2).clip(0)
    counts = steps < num
    same = (series.values[at] == series.values[np.minimum(at + 1, len(series.values) - 1)]) & counts
    share: npt.NDArray[np.float64] = same.sum(1) / np.maximum(counts.sum(1), 1)
    return share


def _others(tile: _Tile, name: str, of: Ints, first: Ints, last: Ints) -> npt.NDArray[np.float64]:
    """Share of the machine's other sensors that moved between these rows, by at least a quarter of what they do in all.

    NaN where none has two values. A machine that stands still has noise, but none of its sensors moves so far.
    """
    starts, stops = tile.edges[of, 0], tile.edges[of, -1] - 1
    rows, all_rows = (a[:, None] + np.arange(64) * (b - a)[:, None] // 63 for a, b in ((first, last), (starts, stops)))
    moved, known = np.zeros(len(first)), np.zeros(len(first))
    for other, values in tile.columns.items():
        if other != name:
            taken, whole = values[rows], values[all_rows]
            span, usual = (np.fmax.reduce(x, axis=1) - np.fmin.reduce(x, axis=1) for x in (taken, whole))
            moved += (span > 0) & (span >= usual / 4)
            known += (~np.isnan(taken)).sum(1) > 1
    return np.where(known > 0, moved / np.maximum(known, 1), np.nan)


def _periods(time: Ints, starts: Ints, stops: Ints) -> Ints:
    """Median step of each machine's rows, from up to 64 of them; 0 where it has one row."""
    steps, num = np.arange(64), (stops - starts - 1)[:, None]
    at = starts[:, None] + np.where(num <= 64, np.minimum(steps, np.maximum(num - 1, 0)), steps * num // 64)
    nexts = (time[np.minimum(at + 1, len(time) - 1)] - time[at]).astype(np.float64)
    if (num < 64).any():
        nexts[steps >= np.maximum(num, 1)] = np.nan
    return np.where(num[:, 0] > 0, np.nanmedian(nexts, axis=1), 0).astype(np.int64)


def _times(tile: _Tile) -> pa.Table:
    time, starts, stops = tile.time, tile.edges[:, 0], tile.edges[:, -1]
    return _table(
        "time", tile, np.arange(len(starts)), None, n=stops - starts, from_us=time[starts], until_us=time[stops - 1],
        period_us=_periods(time, starts, stops),
    )  # fmt: skip


def _gaps(tile: _Tile, machines: list[str], codes: Ints, time: Ints, fresh: Bools) -> pa.Table:
    """Silences that begin or end with a row of the batch; rows that history has already end a silence too."""
    present, starts = _present(codes, len(machines))
    stops = np.append(starts[1:], len(codes))
    period = _periods(time, starts, stops)
    lasting, limit = np.diff(time), GAP_PERIODS * np.where(period > 0, period, 2**50)
    gaps = np.flatnonzero(lasting > limit.min())
    of = np.searchsorted(starts, gaps, side="right") - 1
    real = (
        (gaps + 1 < stops[of])
        & (lasting[gaps] > limit[of])
        & (fresh[gaps] | fresh[np.minimum(gaps + 1, len(time) - 1)])
    )
    gaps, of = gaps[real], of[real]
    kept = top(of, lasting[gaps], MOST)
    gaps, of = gaps[kept], of[kept]
    named = _Tile(machines, tile.time, {}, tile.month, tile.edges)
    return _table("gap", named, present[of], None, from_us=time[gaps], until_us=time[gaps + 1], period_us=period[of])


def _spring(tile: _Tile) -> pa.Table:
    """Hours of this month that a local clock skips."""
    known = [fold for fold in folds(int(tile.month[:4])) if fold.spring and _in_month(fold.wall_us, tile.month)]
    if not known:
        return MEASURES.empty_table()
    counted = []
    for fold in known:
        edges = fold.wall_us + HOUR_US * np.arange(-2, 4)
        before, near, within, after, _ = np.diff(
            search(tile.time, tile.edges[:, 0], tile.edges[:, -1], edges), axis=1
        ).T
        reads = (before > 0) & (near > 0) & (after > 0)
        counted.append((int(reads.sum()), int((reads & (within == 0)).sum())))
    n, skipped = np.array(counted, np.int64).T
    table = _table("spring", tile, None, None, n=n, rows=skipped, from_us=np.array([f.wall_us for f in known]))
    return table.set_column(2, "sensor", pa.array([f.zone for f in known], pa.string()))


def _in_month(time_us: int, month: str) -> bool:
    return str(np.datetime64(time_us, "us").astype("datetime64[M]")) == month

"""The manifest of a history: which task reads which machines and times out of which files.

The one idea: a unit is a range of machines by a range of ticks. Units do not overlap and leave nothing out, hold about
equally many rows, and are cut from the tables' statistics (and the footers of files that are larger than a unit)
alone, so the driver never touches a row. A reading belongs to the unit that holds its tick; what precedes it and a
window needs is read as left overlap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from cluster.storage import to_us
from models.windows import Int

UNIT_BYTES = 256 << 20  # of float32 in memory, were it all there at once; a unit is also what a death costs
LEAST_BYTES = 4 << 20  # below this a task costs more than its work
MONTH_ROWS = 65_536  # half a row group: fewer rows of a month share theirs with other units, who decode it too
MOST_FOOTERS = 2_000
MONTH_US = 2_629_746_000_000  # a mean Gregorian month
_EVER = 2**62

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Unit:
    """Machines in ``[low, high)`` and readings of ticks in ``(since, until]``; None is no bound.

    ``files`` may hold rows of it or of its left overlap; ``num_rows`` is an estimate.
    """

    machine_type: str
    low: str | None
    high: str | None
    since: int | None
    until: int | None
    files: tuple[str, ...]
    num_rows: int

    def holds(self, machine: str) -> bool:
        return (self.low is None or machine >= self.low) and (self.high is None or machine < self.high)


@dataclass(frozen=True)
class FileStatistics:
    """Columns of what a table's log says of its files, or of row groups: rows, machines and times (us)."""

    path: pa.Array
    num_rows: Int
    first_machine: pa.Array
    last_machine: pa.Array
    first_us: Int
    last_us: Int


def statistics_of(table: DeltaTable) -> FileStatistics:
    """A readings table's files; paths are below its folder. What has no statistics may hold anything."""
    actions = pa.table(table.get_add_actions(flatten=True))
    empty = pa.nulls(actions.num_rows, pa.string())

    def text(name: str) -> pa.Array:
        return actions[name].cast(pa.string()).combine_chunks() if name in actions.column_names else empty

    def moment(name: str, missing: int) -> Int:
        if name not in actions.column_names:
            return np.full(actions.num_rows, missing, np.int64)
        times = actions[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        return np.asarray(pc.fill_null(times, missing).to_numpy(), np.int64)

    rows = pc.fill_null(actions["num_records"], 0).to_numpy()
    paths = text("path")
    if pc.any(pc.match_substring(paths, "%")).as_py():
        paths = pa.array([unquote(path) for path in paths.to_pylist()], pa.string())
    return FileStatistics(
        paths, rows.astype(np.int64), text("min.machine"), text("max.machine"), moment("min.time", -_EVER),
        moment("max.time", _EVER),
    )  # fmt: skip


@dataclass(frozen=True)
class _Spread:
    """Files as rectangles over machines (numbers, both inclusive) and times, each with its rows."""

    file: Int
    num_rows: Floats
    low: Int
    high: Int
    first_us: Int
    last_us: Int

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> _Spread:
        return _Spread(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def units(
    found: FileStatistics,
    machines: Sequence[str],
    *,
    machine_type: str,
    num_sensors: int,
    step_us: int,
    overlap: int,
    parallel: int,
    since: int | None = None,
    until: int | None = None,
    footer: Callable[[str], pq.FileMetaData] | None = None,
    unit_bytes: int = UNIT_BYTES,
) -> Iterator[Unit]:
    """Units of one readings table over the readings of ticks in ``(since, until]``.

    ``machines`` are the names that the plant knows, sorted; ``overlap`` is in ticks; at least about ``parallel`` units
    are made where there is enough to do. ``footer`` opens the footer of a file that is larger than a unit.
    """
    names = list(machines) or [""]
    row_bytes = 4 * (num_sensors + 4)
    spread = _spread(found, names, footer, large=unit_bytes / row_bytes)
    spread = _within(spread, since, until, overlap=overlap, step_us=step_us)
    if not spread.num_rows.any():
        return
    total = float(spread.num_rows.sum()) * row_bytes
    target = min(float(unit_bytes), max(float(LEAST_BYTES), total / max(1, parallel))) / row_bytes
    groups = _groups(spread, len(names), target, parallel)
    for start, stop in groups:
        low = None if start == 0 else names[start]
        high = None if stop == len(names) else names[stop]
        own = spread[(spread.high >= start) & (spread.low < stop)]
        shares = _share(own, start, stop)
        cuts = _cuts(own, shares, target, step_us)
        bounds = [since, *cuts, until]
        for number, (after, last) in enumerate(pairwise(bounds)):
            reach = -_EVER if after is None else (after - overlap) * step_us
            end = _EVER if last is None else last * step_us
            inside = (own.last_us > reach) & (own.first_us <= end)
            if not inside.any() or (number == len(bounds) - 2 and not shares.any()):
                continue
            files = np.unique(own.file[inside])
            rows = float(_in_time(own[inside], after, last, step_us) @ shares[inside])
            paths = tuple(found.path.take(pa.array(files)).to_pylist())
            yield Unit(machine_type, low, high, after, last, paths, round(rows))


def _spread(
    found: FileStatistics, names: list[str], footer: Callable[[str], pq.FileMetaData] | None, *, large: float
) -> _Spread:
    order = np.asarray(names)
    low = np.searchsorted(order, _text(found.first_machine, names[0]), side="right") - 1
    high = np.searchsorted(order, _text(found.last_machine, names[-1]), side="right") - 1
    low, high = np.maximum(low, 0), np.clip(high, np.maximum(low, 0), len(names) - 1)
    whole = _Spread(
        np.arange(len(found.num_rows)), found.num_rows.astype(np.float64), low, high, found.first_us, found.last_us
    )
    unknown = (found.first_us <= -_EVER) | (found.num_rows == 0)
    wanted = np.flatnonzero(unknown | (found.num_rows > large))[:MOST_FOOTERS]
    if footer is None or not len(wanted):
        return whole
    parts = [whole[~np.isin(whole.file, wanted)]]
    for number in wanted.tolist():
        parts.append(_row_groups(footer(found.path[number].as_py()), number, order))
    return _Spread(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Spread.__dataclass_fields__))


def _row_groups(footer: pq.FileMetaData, number: int, names: npt.NDArray[np.str_]) -> _Spread:
    def place(machine: str | None, missing: int) -> int:
        return missing if machine is None else max(0, int(np.searchsorted(names, machine, side="right")) - 1)

    found = list(row_groups(footer))
    low = np.array([place(group.first_machine, 0) for group in found], np.int64)
    high = np.array([place(group.last_machine, len(names) - 1) for group in found], np.int64)
    return _Spread(
        np.full(len(found), number), np.array([float(group.num_rows) for group in found]), low, np.maximum(low, high),
        np.array([group.first_us for group in found], np.int64), np.array([group.last_us for group in found], np.int64),
    )  # fmt: skip


@dataclass(frozen=True)
class RowGroup:
    """What a footer says of a row group; a machine is None where it does not say."""

    number: int
    num_rows: int
    first_machine: str | None
    last_machine: str | None
    first_us: int
    last_us: int

    def meets(self, unit: Unit, *, reach_us: int, end_us: int) -> bool:
        """Whether it may hold rows of the unit's machines between the two times."""
        above = unit.low is None or self.last_machine is None or self.last_machine >= unit.low
        below = unit.high is None or self.first_machine is None or self.first_machine < unit.high
        return above and below and self.last_us >= reach_us and self.first_us <= end_us


def row_groups(footer: pq.FileMetaData) -> Iterator[RowGroup]:
    """The row groups of a file of readings."""
    place = {footer.schema.column(i).name: i for i in range(footer.num_columns)}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        machine, time = (group.column(place[name]).statistics for name in ("machine", "time"))
        named, timed = (s is not None and s.has_min_max for s in (machine, time))
        yield RowGroup(
            number, group.num_rows, machine.min if named else None, machine.max if named else None,
            to_us(time.min) if timed else -_EVER, to_us(time.max) if timed else _EVER,
        )  # fmt: skip


def _text(column: pa.Array, missing: str) -> npt.NDArray[np.str_]:
    encoded = pc.fill_null(column, missing).dictionary_encode()
    words = np.asarray(encoded.dictionary.to_pylist() or [missing])
    found: npt.NDArray[np.str_] = words[np.asarray(encoded.indices)]
    return found


def _within(spread: _Spread, since: int | None, until: int | None, *, overlap: int, step_us: int) -> _Spread:
    """What may hold readings of the ticks asked for or of their left overlap, with the rows that are asked for."""
    rows = _in_time(spread, since, until, step_us) * spread.num_rows
    low = -_EVER if since is None else (since - overlap) * step_us
    high = _EVER if until is None else until * step_us
    kept = (spread.last_us > low) & (spread.first_us <= high)
    return _Spread(spread.file, rows, spread.low, spread.high, spread.first_us, spread.last_us)[kept]


def _in_time(spread: _Spread, since: int | None, until: int | None, step_us: int) -> Floats:
    """The share of each rectangle's time that lies within ``(since, until]``."""
    first, last = spread.first_us.astype(np.float64), spread.last_us.astype(np.float64)
    low = first if since is None else np.maximum(first, since * step_us)
    high = last if until is None else np.minimum(last, until * step_us)
    share: Floats = np.clip((np.maximum(high - low, 0) + (last == first)) / np.maximum(last - first, 1), 0, 1)
    return share


def _groups(spread: _Spread, num_machines: int, target: float, parallel: int) -> list[tuple[int, int]]:
    """Ranges of machines: as few as hold ``target`` rows, but no fewer than share a month's row groups alone."""
    share = spread.num_rows / (spread.high - spread.low + 1)
    steps = np.zeros(num_machines + 1)
    np.add.at(steps, spread.low, share)
    np.add.at(steps, spread.high + 1, -share)
    each = np.maximum(np.cumsum(steps)[:num_machines], 0)
    known = (spread.first_us > -_EVER) & (spread.last_us < _EVER)
    span_us = int(spread.last_us[known].max() - spread.first_us[known].min()) if known.any() else 0
    months = max(1.0, span_us / MONTH_US)
    least = min(MONTH_ROWS, float(each.sum()) / months / max(1, parallel))
    found, start, held = [], 0, 0.0
    for number, rows in enumerate(each.tolist()):
        if held and (held + rows / 2 > target) and held / months >= least:
            found.append((start, number))
            start, held = number, 0.0
        held += rows
    return [*found, (start, num_machines)]


def _share(own: _Spread, start: int, stop: int) -> Floats:
    """Rows of each rectangle that belong to the machines ``[start, stop)``."""
    width = np.minimum(own.high, stop - 1) - np.maximum(own.low, start) + 1
    share: Floats = own.num_rows * width / (own.high - own.low + 1)
    return share


def _cuts(own: _Spread, rows: Floats, target: float, step_us: int) -> list[int]:
    """Ticks after which a new unit begins, so that each holds about ``target`` rows; at months' ends where near."""
    number = int(rows.sum() / target + 0.5)
    known = (own.first_us > -_EVER) & (own.last_us < _EVER)
    if number < 2 or not known.any():
        return []
    first, last = own.first_us[known], own.last_us[known]
    slope = rows[known] / np.maximum(last - first, step_us)
    times = np.concatenate([first, np.maximum(last, first + step_us)])
    change = np.concatenate([slope, -slope])
    order = np.argsort(times, kind="stable")
    times, rate = times[order], np.cumsum(change[order])
    done = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(times))])
    wanted = done[-1] * np.arange(1, number) / number
    at = np.interp(wanted, done, times.astype(np.float64))
    span = (times[-1] - times[0]) / number
    months = at.astype("int64").astype("datetime64[us]").astype("datetime64[M]")
    for step in (0, 1):
        edge = (months + step).astype("datetime64[us]").astype(np.int64)
        at = np.where(np.abs(edge - at) < span / 4, edge, at)
    ticks = np.unique((at // step_us).astype(np.int64))
    low, high = int(times[0] // step_us), int(-(-times[-1] // step_us))
    return [tick for tick in ticks.tolist() if low < tick < high]


def describe(unit: Unit) -> str:
    """The unit as text that names all of it, for digests."""
    return json.dumps([unit.machine_type, unit.low, unit.high, unit.since, unit.until, unit.files])

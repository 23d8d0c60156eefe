"""The manifest of a history: which task reads which machines and times out of which files.

The one idea: a unit is a range of machines by a range of ticks. Units do not overlap and leave nothing out, hold about
equally many rows, and are cut from the tables' statistics (and the footers of files that are larger than a unit)
alone, so the driver never touches a row. A reading belongs to the unit that holds its tick; what precedes it and a
window needs is read as left overlap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from cluster.places import Place, references
from cluster.rectangles import EVER, Spread, cuts, grouped, meeting, share, spans, within
from cluster.storage import to_us
from models.windows import Int

UNIT_BYTES = 256 << 20  # of float32 in memory, were it all there at once; a unit is also what a death costs
LEAST_BYTES = 4 << 20  # below this a task costs more than its work
MOST_UNITS = 20_000  # each takes Ray Data's driver about 15 ms; beyond, units double: their memory does not grow
MOST_FOOTERS = 2_000
_MARK = "\0"  # in no path


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
        paths, rows.astype(np.int64), text("min.machine"), text("max.machine"), moment("min.time", -EVER),
        moment("max.time", EVER),
    )  # fmt: skip


def placed(found: FileStatistics, folder: Place) -> FileStatistics:
    """The same files, named by where they lie."""
    before, after = references(folder, [_MARK])[0].split(_MARK)
    return replace(found, path=pc.binary_join_element_wise(before, found.path, after, ""))


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
    whole: bool = False,
) -> Iterator[Unit]:
    """Units of one readings table over the readings of ticks in ``(since, until]``.

    ``machines`` are the names that the plant knows, sorted; ``overlap`` is in ticks; at least about ``parallel`` units
    are made where there is enough to do. ``footer`` opens the footer of a file that is larger than a unit. With
    ``whole`` nothing is cut in time.
    """
    names = list(machines) or [""]
    row_bytes = 4 * (num_sensors + 4)
    spread = _spread(found, names, footer, large=unit_bytes / row_bytes)
    spread = within(spread, since, until, overlap=overlap, step_us=step_us)
    if not spread.num_rows.any():
        return
    total = float(spread.num_rows.sum()) * row_bytes
    while total > MOST_UNITS * unit_bytes:
        unit_bytes *= 2
    target = min(float(unit_bytes), max(float(LEAST_BYTES), total / max(1, parallel))) / row_bytes
    paths = found.path.to_pylist()
    groups = grouped(spread, len(names), target, parallel)
    for (start, stop), members in zip(groups, meeting(spread, groups), strict=True):
        own = spread[members]
        shares = share(own, start, stop)
        if not shares.any():
            continue
        inner = [] if whole else cuts(own, shares, target, step_us, since=since, until=until)
        bounds = [since, *inner, until]
        cells = (None if start == 0 else names[start], None if stop == len(names) else names[stop])
        for (after, last), files, rows in spans(own, shares, bounds, overlap=overlap, step_us=step_us):
            yield Unit(machine_type, *cells, after, last, tuple([paths[file] for file in files]), round(rows))


def _spread(
    found: FileStatistics, names: list[str], footer: Callable[[str], pq.FileMetaData] | None, *, large: float
) -> Spread:
    order = np.asarray(names)
    low, high = _place(found.first_machine, order, 0), _place(found.last_machine, order, len(names) - 1)
    high = np.maximum(low, high)
    whole = Spread(
        np.arange(len(found.num_rows)), np.maximum(found.num_rows, 1.0), low, high, found.first_us, found.last_us
    )  # a file of an unknown number of rows has one
    unknown = (found.first_us <= -EVER) | (found.num_rows == 0)
    wanted = np.flatnonzero(unknown | (found.num_rows > large))[:MOST_FOOTERS]
    if footer is None or not len(wanted):
        return whole
    parts = [whole[~np.isin(whole.file, wanted)]]
    for number in wanted.tolist():
        parts.append(_row_groups(footer(found.path[number].as_py()), number, order))
    return Spread(*(np.concatenate([getattr(p, name) for p in parts]) for name in Spread.__dataclass_fields__))


def _row_groups(footer: pq.FileMetaData, number: int, names: npt.NDArray[np.str_]) -> Spread:
    def place(machine: str | None, missing: int) -> int:
        return missing if machine is None else max(0, int(np.searchsorted(names, machine, side="right")) - 1)

    found = list(row_groups(footer))
    low = np.array([place(group.first_machine, 0) for group in found], np.int64)
    high = np.array([place(group.last_machine, len(names) - 1) for group in found], np.int64)
    return Spread(
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
            to_us(time.min) if timed else -EVER, to_us(time.max) if timed else EVER,
        )  # fmt: skip


def _place(column: pa.Array, names: npt.NDArray[np.str_], missing: int) -> Int:
    """The number of the last of ``names`` that is not after each entry; the first where there is none."""
    encoded = column.dictionary_encode()
    words = np.asarray(encoded.dictionary.to_pylist(), dtype=str)
    places = np.append(np.maximum(np.searchsorted(names, words, side="right") - 1, 0), missing)
    found: Int = places[np.asarray(pc.fill_null(encoded.indices, len(words)))]
    return found


def describe(unit: Unit) -> str:
    """The unit as text that names all of it, for digests."""
    return json.dumps([unit.machine_type, unit.low, unit.high, unit.since, unit.until, unit.files])

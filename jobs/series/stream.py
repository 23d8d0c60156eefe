"""A unit of the manifest as gridded series, streamed in memory that does not depend on its length.

The one idea: row groups are read in the order of their times, and what is older than everything still to come is
complete: it is gridded, handed on and forgotten, but for the ticks that the next windows look back on. So a unit of
years is read as one of weeks is, and its series, laid end to end, are those of the whole history.

A tick without a reading belongs to the series of the next reading; where that is further away than a window looks
back, it belongs to none (``models.windows.silence``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.manifest import RowGroup, Unit, row_groups
from cluster.places import opened
from cluster.storage import TIME
from models.config import Clock, WindowConfig
from models.errors import InputError
from models.windows import (
    CONTEXT,
    MAX_TICKS,
    Channel,
    Float,
    Int,
    MachineEvents,
    Series,
    context,
    series_of,
    silence,
    tick_of,
)

MOST_CELLS = 4_000_000  # of rows that wait to be gridded: 16 MB
LONG_SILENCE = 4096  # ticks without a reading that are worth a new series instead of rows of NaN
_EVER = 2**62


@dataclass(frozen=True)
class Shape:
    """What a history's series look like: its sensors in the order of channels, clock, window, and context channels."""

    sensors: tuple[str, ...]
    clock: Clock
    window: WindowConfig
    context: tuple[Channel, ...] = CONTEXT

    @property
    def overlap(self) -> int:
        """Ticks before a unit's first that its windows can depend on."""
        return 2 * silence(self.window)


@dataclass
class _Rows:
    """A machine's rows that are not gridded yet, or that the next windows look back on; in no particular order."""

    times: list[Int] = field(default_factory=list)
    values: list[Float] = field(default_factory=list)

    def take(self) -> tuple[Int, Float]:
        if len(self.times) == 1:
            times, values = self.times[0], self.values[0]
        else:
            times, values = np.concatenate(self.times), np.concatenate(self.values)
        if len(times) > 1 and not (times[1:] > times[:-1]).all():
            order = np.argsort(times, kind="stable")
            times, values = times[order], values[order]
        return times, values


def open_file(path: str) -> pq.ParquetFile:
    """A file of readings, wherever it lies; from an object store a row group is fetched in few large requests."""
    files, (inner,) = opened([path])
    return pq.ParquetFile(inner, filesystem=files, read_dictionary=["machine"], pre_buffer=files is not None)


def stream(
    unit: Unit,
    shape: Shape,
    known: Mapping[str, MachineEvents],
    *,
    most_cells: int = MOST_CELLS,
) -> Iterator[Series]:
    """The unit's series, those of a machine in the order of time; the first ``lead`` rows of each are context.

    ``known`` is what features may know of each machine's log.
    """
    step_us = shape.clock.step_us
    reach_us = -_EVER if unit.since is None else (unit.since - shape.overlap) * step_us + 1
    end_us = _EVER if unit.until is None else unit.until * step_us
    waiting: dict[str, _Rows] = {}
    done, cells = unit.since, 0
    groups = _in_order(unit, reach_us, end_us)
    for number, (path, group) in enumerate(groups):
        cells += _read(open_file(path), group, unit, shape, between=(reach_us, end_us), waiting=waiting)
        if number + 1 < len(groups) and cells >= most_cells:
            complete = (groups[number + 1][1].first_us - 1) // step_us
            if done is None or complete > done:
                yield from _emit(waiting, shape, known, after=done, until=complete)
                done, cells = complete, 0
    yield from _emit(waiting, shape, known, after=done, until=None)


def _in_order(unit: Unit, reach_us: int, end_us: int) -> list[tuple[str, RowGroup]]:
    found = [
        (path, group)
        for path in unit.files
        for group in row_groups(open_file(path).metadata)
        if group.meets(unit, reach_us=reach_us, end_us=end_us)
    ]
    return sorted(found, key=lambda entry: (entry[1].first_us, entry[0], entry[1].number))


def _read(
    file: pq.ParquetFile, group: RowGroup, unit: Unit, shape: Shape, *, between: tuple[int, int],
    waiting: dict[str, _Rows],
) -> int:  # fmt: skip
    """Add a row group's rows to what waits; returns the cells added."""
    present = [name for name in shape.sensors if name in file.schema_arrow.names]
    table = file.read_row_group(group.number, columns=["machine", "time", *present], use_threads=False)
    time = table["time"].cast(TIME, safe=False).cast(pa.int64()).to_numpy()
    machine = table["machine"].combine_chunks()
    machine = machine if isinstance(machine, pa.DictionaryArray) else machine.dictionary_encode()
    names, codes = machine.dictionary.to_pylist(), np.asarray(machine.indices)
    values = np.empty((len(time), len(shape.sensors)), np.float32)
    for column, name in enumerate(shape.sensors):
        values[:, column] = table[name].to_numpy() if name in present else np.nan
    low, high = between
    if group.first_us < low or group.last_us > high:
        inside = (time >= low) & (time <= high)
        time, codes, values = time[inside], codes[inside], values[inside]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.empty(0, np.int64)
    added = 0
    for start, stop in pairwise([*starts.tolist(), len(codes)]):
        name = names[codes[start]]
        if unit.holds(name):
            rows = waiting.setdefault(name, _Rows())
            rows.times.append(time[start:stop])
            rows.values.append(values[start:stop])
            added += (stop - start) * (values.shape[1] + 1)
    return added


def _emit(
    waiting: dict[str, _Rows], shape: Shape, known: Mapping[str, MachineEvents], *, after: int | None, until: int | None
) -> Iterator[Series]:
    """Series of the readings of ticks in ``(after, until]``; leaves what later windows look back on."""
    step_us = shape.clock.step_us
    for machine in sorted(waiting):
        times, values = waiting.pop(machine).take()
        stop = len(times) if until is None else int(np.searchsorted(times, until * step_us, side="right"))
        start = 0 if after is None else int(np.searchsorted(times, after * step_us, side="right"))
        if until is not None:
            kept = int(np.searchsorted(times, (until - shape.overlap) * step_us, side="right"))
            if kept < len(times):
                waiting[machine] = _Rows([times[kept:].copy()], [values[kept:].copy()])
        events = known.get(machine, MachineEvents())
        yield from _series(machine, times[:stop], values[:stop], events, shape, own=start)


def _series(
    machine: str, times: Int, values: Float, events: MachineEvents, shape: Shape, *, own: int
) -> Iterator[Series]:
    """Series of the rows from ``own`` on; those before are what they look back on."""
    if own >= len(times):
        return
    clock, window = shape.clock, shape.window
    ticks, lead = tick_of(times, clock), window.length - 1
    long = max(LONG_SILENCE, silence(window))
    breaks = [own, *(np.flatnonzero(np.diff(ticks[own:]) > long) + 1 + own).tolist(), len(ticks)]
    for first, stop in pairwise(breaks):
        begin = int(ticks[first])
        if first and begin - int(ticks[first - 1]) <= silence(window):
            begin = int(ticks[first - 1]) + 1
        back = int(np.searchsorted(ticks, begin - lead - window.carry))
        found = series_of(
            machine, times[back:stop], values[back:stop], events, clock=clock, window=window, channels=shape.context
        )
        skipped = begin - int(ticks[back])
        yield Series(machine, begin - lead, lead, found.values[skipped:] if skipped else found.values)


def joined(
    parts: Sequence[Series], events: MachineEvents, clock: Clock, channels: Sequence[Channel] = CONTEXT
) -> Series:
    """A machine's series laid end to end, as if it had never been cut; a single one is handed back as it is."""
    if len(parts) == 1:
        return parts[0]
    first, last = parts[0], parts[-1]
    if last.last_tick - first.first_tick >= MAX_TICKS:
        raise InputError(
            "Readings span too much time", expected=f"at most {MAX_TICKS} ticks of {clock.step_s:g} s",
            found=last.last_tick - first.first_tick + 1, where=f"machine {first.machine}",
            do="Correct the times, or the clock's step in the source description",
        )  # fmt: skip
    values = np.full((last.last_tick - first.first_tick + 1, first.values.shape[1]), np.nan, np.float32)
    for number, part in enumerate(parts):
        own = 0 if number == 0 else part.lead
        at = part.first_tick + own - first.first_tick
        values[at : at + len(part.values) - own] = part.values[own:]
    ticks = np.arange(first.first_tick, last.last_tick + 1, dtype=np.int64)
    values[:, values.shape[1] - len(channels) :] = context(ticks, events, clock, channels)
    return Series(first.machine, first.first_tick, first.lead, values)

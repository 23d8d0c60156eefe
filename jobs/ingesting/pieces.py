"""What only the order of a file's rows tells: clocks that were set back, hours shown twice, and wrong cells by sensor.

The one idea: late rows and repeated exports go back in time too. A clock was set back where a machine's time
goes back, the rows that follow pass once more over hours already read, with other values, and then go on beyond.
Kinds of rows: ``step`` (``from_us`` is the last time before it, ``until_us`` the first after it, ``n`` rows read
again), ``fold`` (an hour of ``reason``, the zone, that is shown twice: ``n`` rows in its first pass, ``m`` in its
second), ``wrong`` (``n`` cells or rows of a sensor refused for ``reason``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.ingesting.folds import HOUR_US, folds
from jobs.sources.raw import Reason, Wrong
from models.source import Stream

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
PIECES = pa.schema(
    [
        ("kind", pa.string()), ("machine", pa.string()), ("sensor", pa.string()), ("reason", pa.string()),
        ("n", pa.int64()), ("m", pa.int64()), ("from_us", pa.int64()), ("until_us", pa.int64()),
    ]
)  # fmt: skip
MOST_STEPS = 500  # looked at in one piece of a file
DISORDER = 0.05  # share of rows that go back in time, above which the file is in no order at all
PLAIN = ("UTC", "Etc/UTC", "GMT")


def clock_steps(
    machines: Sequence[str], codes: Ints, time: Ints, columns: Mapping[str, Floats], *, zone: str, long: bool
) -> pa.Table:
    """Steps back and doubled hours in rows that are still in their file's order.

    ``codes`` index ``machines``, ``time`` is us UTC; ``zone`` is the stream's; ``long``: a row holds one sensor.
    """
    if len(time) < 2:
        return PIECES.empty_table()
    found = _folds(time, zone)
    series = _series(codes, columns) if long else codes
    if bool((np.diff(series) < 0).any()):
        small = series.astype(np.uint16) if int(series.max()) < 2**16 else series  # sixteen bits sort by radix
        order = np.argsort(small, kind="stable")
    else:
        order = np.arange(len(series))
    sorted_series, sorted_time = series[order], time[order]
    step = np.diff(sorted_time)
    back = np.flatnonzero((sorted_series[1:] == sorted_series[:-1]) & (step <= 0))
    still = step[back] == 0
    again = still & _doubled(sorted_time[back]) if zone in PLAIN else np.zeros(len(back), bool)
    if np.count_nonzero(~still) <= max(3, DISORDER * len(time)):
        for at in back[~still | again][:MOST_STEPS].tolist():
            bounds = np.searchsorted(sorted_series, [sorted_series[at], sorted_series[at] + 1])
            if number := _read_again(order, sorted_time, at, bounds, columns):
                row = {"kind": "step", "machine": machines[codes[order[at]]], "n": number}
                found.append(row | {"from_us": int(sorted_time[at]), "until_us": int(sorted_time[at + 1])})
    return pa.Table.from_pylist(found, schema=PIECES)


def wrong_cells(wrong: Iterable[Wrong], stream: Stream) -> pa.Table:
    """Impossible and future values by sensor; none where the raw column is not told."""
    counts: Counter[tuple[str | None, str]] = Counter()
    for entry in wrong:
        if entry.reason in (Reason.RANGE, Reason.FUTURE):
            column = stream.sensors.get(entry.detail.partition(" = ")[0]) if entry.scope != "file" else None
            counts[column.sensor if column else None, entry.reason.value] += 1
    rows = [{"kind": "wrong", "sensor": s, "reason": reason, "n": n} for (s, reason), n in counts.items()]
    return pa.Table.from_pylist(rows, schema=PIECES)


def _series(codes: Ints, columns: Mapping[str, Floats]) -> Ints:
    """A number for each machine and sensor that is read in a row."""
    sensor = np.zeros(len(codes), np.int64)
    for number, values in enumerate(columns.values(), 1):
        sensor = np.where((sensor == 0) & ~np.isnan(values), number, sensor)
    return codes * (len(columns) + 1) + sensor


def _read_again(order: Ints, time: Ints, at: int, bounds: Ints, columns: Mapping[str, Floats]) -> int:
    """How many rows pass once more over what was read before the step at ``at``; 0 where no clock was set."""
    start, stop = int(bounds[0]), int(bounds[1])
    last, first = int(time[at]), int(time[at + 1])
    beyond = np.flatnonzero(time[at + 1 : stop] > last)
    if not len(beyond):
        return 0  # late rows: the file ends within the past
    after = np.arange(at + 1, at + 1 + int(beyond[0]))
    end = int(time[after].max())  # of what is read again; late rows fill a gap, with nothing before in between
    before = start + np.flatnonzero((time[start : at + 1] >= first) & (time[start : at + 1] <= end))
    if last > first and (len(before) < 2 or 3 * len(after) < len(before)):
        return 0  # they fill a gap
    return 0 if _repeats(order, time, before, after, columns) else len(after)


def _repeats(order: Ints, time: Ints, before: Ints, after: Ints, columns: Mapping[str, Floats]) -> bool:
    """Whether rows of equal times hold mostly equal values: the same rows delivered twice."""
    shared, left, right = np.intersect1d(time[before], time[after], return_indices=True)
    if not len(shared):
        return False
    one, other = order[before[left]], order[after[right]]
    equal = known = 0
    for values in columns.values():
        known += int(np.count_nonzero(~np.isnan(values[one]) & ~np.isnan(values[other])))
        equal += int(np.count_nonzero(values[one] == values[other]))
    return 2 * equal >= known  # a wrong cell is none of the first delivery's or the second's doing


def _doubled(time: Ints) -> npt.NDArray[np.bool_]:
    """Whether a time lies in an hour that some local clock shows twice."""
    found = np.zeros(len(time), bool)
    for fold in _autumns(time):
        found |= (time >= fold.wall_us) & (time < fold.wall_us + HOUR_US)
    return found


def _autumns(time: Ints, *zones: str) -> list[Any]:
    if not len(time):
        return []
    low, high = (int(str(np.datetime64(int(t), "us"))[:4]) for t in (time.min(), time.max()))
    years = range(low, min(high, low + 200) + 1)
    return [f for year in years for f in (folds(year, zones) if zones else folds(year)) if not f.spring]


def _folds(time: Ints, zone: str) -> list[dict[str, Any]]:
    found = []
    for fold in [] if zone in PLAIN else _autumns(time, zone):
        first = np.count_nonzero((time >= fold.utc_us - HOUR_US) & (time < fold.utc_us))
        second = np.count_nonzero((time >= fold.utc_us) & (time < fold.utc_us + HOUR_US))
        if first + second:
            row = {"kind": "fold", "reason": zone, "n": int(first), "m": int(second), "from_us": fold.utc_us}
            found.append(row)
    return found

"""Readings as the three plants export them: a German wide CSV, a historian's JSON lines, Parquet.

The one idea: text files are built column by column as Arrow strings and joined once; the joined array's data buffer is
the file. One file a local month; a row's place comes from ``faults.deliver``.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.fleet.faults import IMPOSSIBLE, NO_KEY, RIGHT, UNREADABLE, Delivery, Ints, Spoiled, deliver
from jobs.fleet.operation import Calendar
from jobs.fleet.physics import Floats
from jobs.fleet.plants import Plant

BAD_QUALITY = 0.005
CUT = 0.15  # of the unreadable lines of an export: cut off in the middle
ABSURD = (-9999.0, 99999.0)


@dataclass(frozen=True)
class Written:
    path: Path
    rows: int


@dataclass(frozen=True)
class Readings:
    plant: Plant
    calendar: Calendar
    names: list[str]
    time_s: Ints  # [S]
    delay_s: Ints | None  # [N, S, C]
    spoiled: Spoiled
    rng: np.random.Generator


def write_readings(readings: Readings, folder: Path) -> Iterator[Written]:
    """Write every file of the plant below ``folder``/readings, one at a time."""
    (folder / "readings").mkdir(parents=True, exist_ok=True)
    writer = {"harbor": _pumps_csv, "ridge": _export_jsonl, "summit": _spindles_parquet}[readings.plant.name]
    return writer(readings, folder / "readings")


def _months(calendar: Calendar, time_s: Ints) -> tuple[Ints, list[str]]:
    """Index of each time's local month, counted from the first, and the months' names."""
    months = calendar.local_s(time_s).astype("datetime64[s]").astype("datetime64[M]")
    number = (months - months.min()).astype(np.int64)
    return number, [str(months.min() + k) for k in range(int(number.max()) + 1)]


def _wide(readings: Readings) -> tuple[Ints, Ints, list[str], Delivery, Floats]:
    """Step and machine of every row in time order, the months, the delivery, and rounded values [R, C]."""
    spoiled = readings.spoiled
    step, machine = np.nonzero(spoiled.present.T)
    of_step, months = _months(readings.calendar, readings.time_s)
    delivery = deliver(readings.time_s[step], of_step[step], spoiled.late[machine, step], readings.rng)
    values = spoiled.values[machine, step]
    for c, sensor in enumerate(readings.plant.sensors):
        values[:, c] = np.round(values[:, c], sensor.decimals)
    return step, machine, months, delivery, values


def _pumps_csv(readings: Readings, folder: Path) -> Iterator[Written]:
    step, machine, months, delivery, values = _wide(readings)
    plant, rng = readings.plant, readings.rng
    local = pa.array(readings.calendar.local_s(readings.time_s), pa.timestamp("s"))
    times, names = pc.strftime(local, "%d.%m.%Y %H:%M:%S"), pa.array(readings.names)
    header = ";".join(["Zeit", "Pumpe", *(s.column for s in plant.sensors)])
    first = f"# timezone: {plant.zone}\n{header}\n".encode()
    for k, month in enumerate(months):
        here = delivery.file == k
        row, fault = delivery.row[here], delivery.fault[here]
        cells = values[row]
        spoilt = rng.integers(len(plant.sensors), size=len(row))
        _make_absurd(cells, fault, spoilt, rng)
        no_time = (fault == NO_KEY) & (rng.random(len(row)) < 0.5)
        columns = [
            pc.if_else(pa.array(no_time), "00.00.0000 00:00:00", times.take(pa.array(step[row]))),
            pc.if_else(pa.array((fault == NO_KEY) & ~no_time), "", names.take(pa.array(machine[row]))),
        ]
        for c in range(len(plant.sensors)):
            text = pc.replace_substring(_number_text(cells[:, c]), ".", ",")
            columns.append(pc.if_else(pa.array((fault == UNREADABLE) & (spoilt == c)), "#WERT!", text))
        path = folder / f"pumps_{month}.csv"
        with path.open("wb") as file:
            file.write(first)
            file.write(_file_of(pc.binary_join_element_wise(*columns, ";")))
        yield Written(path, len(row))


def _export_jsonl(readings: Readings, folder: Path) -> Iterator[Written]:
    plant, rng = readings.plant, readings.rng
    assert readings.delay_s is not None
    values = readings.spoiled.values
    step, machine, tag = np.nonzero(np.isfinite(values).transpose(1, 0, 2))
    time_s = readings.time_s[step] + readings.delay_s[machine, step, tag]
    order = np.argsort(time_s, kind="stable")
    step, machine, tag, time_s = step[order], machine[order], tag[order], time_s[order]
    number, months = _months(readings.calendar, time_s)
    delivery = deliver(time_s, number, readings.spoiled.late[machine, step], rng)
    tags = pa.array([f'{{"tag": "{name}.{s.column}", "time": "' for name in readings.names for s in plant.sensors])
    decimals = np.array([s.decimals for s in plant.sensors])
    for k, month in enumerate(months):
        here = delivery.file == k
        row, fault = delivery.row[here], delivery.fault[here]
        cells = _rounded(values[machine[row], step[row], tag[row]], decimals[tag[row]])[:, None]
        _make_absurd(cells, fault, np.zeros(len(row), np.int64), rng)
        bad = (rng.random(len(row)) < BAD_QUALITY) & (fault == RIGHT)
        timeout = bad & (rng.random(len(row)) < 0.3)
        value = pc.if_else(pa.array(fault == UNREADABLE), '"#ERR"', _number_text(cells[:, 0]))
        value = pc.if_else(pa.array(timeout), '"I/O Timeout"', value)
        named = tags.take(pa.array(machine[row] * len(decimals) + tag[row]))
        named = pc.if_else(pa.array(fault == NO_KEY), '{"tag": "", "time": "', named)
        quality = pc.if_else(pa.array(bad), ', "quality": "Bad"}', ', "quality": "Good"}')
        when = _iso(readings.calendar, time_s[row])
        lines = pc.binary_join_element_wise(named, when, '", "value": ', value, quality, "")
        cut = (fault == UNREADABLE) & (rng.random(len(row)) < CUT)
        lines = pc.if_else(pa.array(cut), pc.utf8_slice_codeunits(lines, 0, 30), lines)
        path = folder / f"export_{month}.jsonl.gz"
        with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
            file.write(_file_of(lines))
        yield Written(path, len(row))


def _spindles_parquet(readings: Readings, folder: Path) -> Iterator[Written]:
    step, machine, months, delivery, values = _wide(readings)
    plant, rng = readings.plant, readings.rng
    for k, month in enumerate(months):
        here = delivery.file == k
        row, fault = delivery.row[here], delivery.fault[here]
        cells = values[row]
        # Typed columns cannot hold unreadable text: infinity stands for what the controller could not compute.
        spoilt = rng.integers(len(plant.sensors), size=len(row))
        _make_absurd(cells, fault, spoilt, rng)
        unreadable = np.flatnonzero(fault == UNREADABLE)
        cells[unreadable, spoilt[unreadable]] = np.inf
        names = pa.DictionaryArray.from_arrays(
            pa.array(machine[row].astype(np.int32), mask=fault == NO_KEY), pa.array(readings.names)
        )
        table = pa.table(
            {"machine_id": names, "ts": pa.array(readings.time_s[step[row]] * 1000, pa.timestamp("ms", "UTC"))}
            | {s.column: _or_null(cells[:, c].astype(np.float32)) for c, s in enumerate(plant.sensors)}
        )
        path = folder / f"spindles_{month}.parquet"
        pq.write_table(table.cast(_plain(table.schema)), path, compression="zstd", compression_level=1)
        yield Written(path, len(row))


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in schema])


def _make_absurd(cells: Floats, fault: NDArray[np.int8], spoilt: Ints, rng: np.random.Generator) -> None:
    """Put a physically impossible value into one cell of the rows that are to have one."""
    rows = np.flatnonzero(fault == IMPOSSIBLE)
    cells[rows, spoilt[rows]] = rng.choice(ABSURD, size=len(rows))


def _rounded(values: Floats, decimals: Ints) -> Floats:
    scale = 10.0**decimals
    return np.asarray(np.round(values * scale) / scale)


def _or_null(values: NDArray[np.floating]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _number_text(values: Floats) -> pa.Array:
    """Shortest text of each number; empty where it is missing."""
    return pc.fill_null(pc.cast(_or_null(values), pa.string()), "")


def _iso(calendar: Calendar, time_s: Ints) -> pa.Array:
    """``2025-01-31T13:00:00-07:00``: local wall-clock time with its offset."""
    local_s = calendar.local_s(time_s)
    minutes = (local_s - time_s) // 60
    kinds, which = np.unique(minutes, return_inverse=True)
    suffix = pa.array([f"{'-' if m < 0 else '+'}{abs(m) // 60:02d}:{abs(m) % 60:02d}" for m in kinds])
    text = pc.replace_substring(pc.cast(pa.array(local_s, pa.timestamp("s")), pa.string()), " ", "T")
    return pc.binary_join_element_wise(text, suffix.take(pa.array(which)), "")


def _file_of(lines: pa.Array) -> memoryview:
    """The bytes of a text file of these lines."""
    if not len(lines):
        return memoryview(b"")
    _, offsets, data = pc.binary_join_element_wise(lines, "\n", "").buffers()
    return memoryview(data)[: int(np.frombuffer(offsets, dtype=np.int32)[len(lines)])]

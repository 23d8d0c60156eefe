"""Is the description usable for these files? Asked before anything is written."""

from __future__ import annotations

import codecs
from pathlib import Path

from cluster.storage import BOOKKEEPING
from jobs.infer.names import sensor_of
from jobs.ingesting.plan import Known, PlannedFile
from jobs.sources import reading
from jobs.sources.times import check_zone
from jobs.sources.values import check_units
from models.errors import InputError
from models.source import SensorColumn, SourceDescription, Stream

_DO = "Correct the source description, or run `millwright connect` again"


def check(source: SourceDescription, files: list[PlannedFile], known: Known) -> tuple[list[str], Known]:
    """Notes on what is odd but usable, and what is known with these files.

    Raises InputError naming stream, column, expected and found. A required column that no file of a
    stream has is a fault of the description; one that some file lacks is a fault of that file, which
    then goes to quarantine. A column that a stream's first file lacks and a later one has is a new sensor.
    """
    notes: list[str] = []
    columns, added = dict(known.columns), dict(known.added)
    root = Path(source.root)
    for stream in source.streams:
        if stream.role == "ignored":
            continue
        _check_stream(stream)
        headers = {f.path: _header(root / f.path, stream) for f in files if f.stream == stream.name}
        readable = {path: found for path, found in headers.items() if found is not None}
        if not readable:
            continue
        notes += _check_columns(stream, root, readable, first=stream.name not in known.columns)
        if stream.role == "readings" and stream.layout == "wide":
            baseline = columns.get(stream.name) or tuple(next(iter(readable.values())))
            new = _new_sensors(stream, root, readable, set(baseline) | set(reading.required(stream)))
            added[stream.name] = added.get(stream.name, {}) | new
            notes += [f"{stream.name}: new sensor {s.sensor!r} from the column {raw!r}" for raw, s in new.items()]
        seen = [c for found in readable.values() for c in found]
        columns[stream.name] = tuple(dict.fromkeys([*columns.get(stream.name, ()), *seen]))
    return notes, Known(known.delivered, columns, {name: found for name, found in added.items() if found})


def _new_sensors(
    stream: Stream, root: Path, readable: dict[str, list[str]], baseline: set[str]
) -> dict[str, SensorColumn]:
    found: dict[str, SensorColumn] = {}
    taken = {s.sensor for s in stream.sensors.values()}
    for path, columns in readable.items():
        for column in columns:
            if column in baseline or column in stream.sensors or column in found:
                continue
            sensor = sensor_of(column).column
            name = f"{sensor.sensor}_2" if sensor.sensor in taken | set(BOOKKEEPING) else sensor.sensor
            if reading.is_numeric(root / path, stream, column):
                found[column] = sensor.model_copy(update={"sensor": name})
                taken.add(name)
    return found


def _check_stream(stream: Stream) -> None:
    where = f"stream {stream.name!r} of the source description"
    check_units(stream)
    try:
        codecs.lookup(stream.csv.encoding)
    except LookupError as error:
        raise InputError(
            "Unknown encoding", expected="a name such as utf-8", found=repr(stream.csv.encoding), where=where, do=_DO
        ) from error
    for form in [stream.time, *stream.times.values()]:
        if form is not None:
            check_zone(form.zone)
    if stream.role == "readings":
        if stream.time is None:
            raise InputError("A readings stream without time", expected="`time`", found="none", where=where, do=_DO)
        if stream.layout == "long" and not (stream.tag_column and stream.value_column):
            raise InputError(
                "A long stream without its columns", expected="`tag_column` and `value_column`", found="none",
                where=where, do=_DO,
            )  # fmt: skip
        taken = sorted({s.sensor for s in stream.sensors.values()} & set(BOOKKEEPING))
        if taken:
            raise InputError("A sensor's name is taken", expected="another name", found=taken[0], where=where, do=_DO)
    elif stream.role != "machines" and not reading.required(stream):
        raise InputError("A log without a start time", expected="`time`", found="none", where=where, do=_DO)


def _check_columns(stream: Stream, root: Path, readable: dict[str, list[str]], *, first: bool) -> list[str]:
    present = {column for columns in readable.values() for column in columns}
    sample, columns = next(iter(readable.items()))
    described = list(stream.sensors) if stream.role == "readings" and stream.layout == "wide" else []
    notes = []
    for column in [*reading.required(stream), *described]:
        if column in present:
            continue
        if not first and column in described:
            notes.append(f"{stream.name}: no new file has the column {column!r}")
            continue
        raise InputError(
            f"Missing column {column!r}", expected=f"{column!r} in the files of stream {stream.name!r}",
            found=", ".join(columns)[:300], where=root / sample, do=_DO,
        )  # fmt: skip
    return notes


def _header(path: Path, stream: Stream) -> list[str] | None:
    try:
        return reading.header(path, stream)
    except OSError:
        return None

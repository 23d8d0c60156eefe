"""Is the description usable for these files? Asked before anything is written."""

from __future__ import annotations

import codecs
from pathlib import Path

from cluster.storage import BOOKKEEPING, EVENTS, MACHINES
from jobs.infer.names import sensor_of
from jobs.ingesting.plan import Known, PlannedFile
from jobs.sources import logs, reading
from jobs.sources.times import check_zone
from jobs.sources.values import check_units
from models.errors import InputError
from models.source import SensorColumn, SourceDescription, Stream

_NO_FIELD = {"event_id", "machine", "kind", "source_id", "inferred"}  # of the tables, not of any log
_DO = "Correct the source description, or run `millwright connect` again"


def check(source: SourceDescription, files: list[PlannedFile], known: Known) -> tuple[list[str], Known]:
    """Notes on what is odd but usable, and what is known with these files.

    Raises InputError naming stream, column, expected and found. A required column that no file of a
    stream has ever had is a fault of the description; one that some file lacks is a fault of that file,
    which then goes to quarantine. A column that a stream's first file lacks and a later one has is a new
    sensor, as soon as it holds numbers.
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
        notes += _check_columns(stream, root, readable, before=_columns_before(stream, files, known))
        need = set(reading.required(stream))
        usable = {path: found for path, found in readable.items() if need <= set(found)}
        baseline = columns.get(stream.name) or tuple(next(iter(usable.values()), ()))
        if stream.role == "readings" and stream.layout == "wide":
            new = _new_sensors(stream, root, usable, set(baseline) | need)
            added[stream.name] = added.get(stream.name, {}) | new
            notes += [f"{stream.name}: new sensor {s.sensor!r} from the column {raw!r}" for raw, s in new.items()]
            baseline = (*baseline, *new)
        columns[stream.name] = tuple(dict.fromkeys(baseline))
    return notes, Known(known.delivered, columns, {name: found for name, found in added.items() if found})


def _columns_before(stream: Stream, files: list[PlannedFile], known: Known) -> tuple[str, ...]:
    """What earlier files of the stream had, if it was described as it is now; else nothing can be told from them."""
    now = next(f.stream_digest for f in files if f.stream == stream.name)
    same = any(name == stream.name and digest == now for (name, _), (_, digest) in known.delivered.items())
    return known.columns.get(stream.name, ()) if same else ()


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
    known = {*MACHINES.names} if stream.role == "machines" else {*EVENTS.names, *logs.ALIASES}
    if stream.role != "readings" and (odd := sorted(set(stream.fields) - known)):
        raise InputError(
            f"Unknown field {odd[0]!r}", expected=f"one of {', '.join(sorted(known - _NO_FIELD))}",
            found=repr(odd[0]), where=where, do=_DO,
        )  # fmt: skip
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


def _check_columns(stream: Stream, root: Path, readable: dict[str, list[str]], *, before: tuple[str, ...]) -> list[str]:
    present = {column for columns in readable.values() for column in columns}
    sample, columns = next(iter(readable.items()))
    described = list(stream.sensors) if stream.role == "readings" and stream.layout == "wide" else []
    notes = []
    for column in [*reading.required(stream), *described]:
        if column in present:
            continue
        if column in before and column not in described:
            return []  # each of these files goes to quarantine, which says why
        if before and column in described:
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

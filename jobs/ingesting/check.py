"""Is the description usable for these files? Asked before anything is written."""

from __future__ import annotations

import codecs
from difflib import SequenceMatcher
from pathlib import Path

from cluster.storage import BOOKKEEPING, EVENTS, MACHINES
from jobs.infer.names import folded, sensor_of
from jobs.ingesting.plan import Known, PlannedFile
from jobs.sources import logs, reading
from jobs.sources.times import check_zone
from jobs.sources.values import check_units, split_tags
from models.errors import InputError
from models.source import SensorColumn, SourceDescription, Stream

_NO_FIELD = {"event_id", "machine", "kind", "source_id", "inferred"}  # of the tables, not of any log
_ALIKE, _APART = 0.75, 0.1  # of names that are one sensor's, and how far the next one must be
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
            notes += [_told(stream, raw, column) for raw, column in new.items()]
            baseline = (*baseline, *new)
        columns[stream.name] = tuple(dict.fromkeys(baseline))
    return notes, Known(known.delivered, columns, {name: found for name, found in added.items() if found})


def _told(stream: Stream, raw: str, column: SensorColumn) -> str:
    if column.sensor in {s.sensor for s in stream.sensors.values()}:
        return f"{stream.name}: the column {raw!r} is taken for {column.sensor!r}, which had another name"
    return f"{stream.name}: new sensor {column.sensor!r} from the column {raw!r}"


def _columns_before(stream: Stream, files: list[PlannedFile], known: Known) -> tuple[str, ...]:
    """What earlier files of the stream had, if it was described as it is now; else nothing can be told from them."""
    now = next(f.stream_digest for f in files if f.stream == stream.name)
    same = any(name == stream.name and digest == now for (name, _), (_, digest) in known.delivered.items())
    return known.columns.get(stream.name, ()) if same else ()


def _new_sensors(
    stream: Stream, root: Path, readable: dict[str, list[str]], baseline: set[str]
) -> dict[str, SensorColumn]:
    """Columns of numbers that came later: a described column under another name, or a sensor of their own."""
    found: dict[str, SensorColumn] = {}
    taken = {s.sensor for s in stream.sensors.values()}
    for path, columns in readable.items():
        fresh = dict.fromkeys(
            part for c in columns
            if c not in baseline and (part := _part(stream, c)) not in {*baseline, *stream.sensors, *found}
            and c not in stream.sensors and reading.is_numeric(root / path, stream, c)
        )  # fmt: skip
        here = {_part(stream, c) for c in columns} | set(columns)
        gone = {raw: column for raw, column in stream.sensors.items() if raw not in here}
        for column in fresh:
            read = sensor_of(column).column
            if (old := _renamed(column, read, gone)) is not None:
                found[column] = gone.pop(old).model_copy(update={"unit": read.unit} if read.kind != "number" else {})
                continue
            name = f"{read.sensor}_2" if read.sensor in taken | set(BOOKKEEPING) else read.sensor
            found[column] = read.model_copy(update={"sensor": name})
            taken.add(name)
    return found


def _renamed(column: str, read: SensorColumn, gone: dict[str, SensorColumn]) -> str | None:
    """The absent column whose new name this is: of the same kind, and much more alike than any other."""
    likeness = sorted(
        ((SequenceMatcher(None, folded(column), folded(raw)).ratio(), raw)
         for raw, other in gone.items() if read.kind in (other.kind, "number")),
        reverse=True,
    )  # fmt: skip
    if not likeness or likeness[0][0] < _ALIKE or (len(likeness) > 1 and likeness[0][0] - likeness[1][0] < _APART):
        return None
    return likeness[0][1]


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
        if stream.layout == "long" and not ((stream.tag_column or stream.tag_pattern) and stream.value_column):
            raise InputError(
                "A long stream without its columns", expected="`tag_column` (or `tag_pattern`) and `value_column`",
                found="none", where=where, do=_DO,
            )  # fmt: skip
        taken = sorted({s.sensor for s in stream.sensors.values()} & set(BOOKKEEPING))
        if taken:
            raise InputError("A sensor's name is taken", expected="another name", found=taken[0], where=where, do=_DO)
    elif stream.role != "machines" and not reading.required(stream):
        raise InputError("A log without a start time", expected="`time`", found="none", where=where, do=_DO)


def _check_columns(stream: Stream, root: Path, readable: dict[str, list[str]], *, before: tuple[str, ...]) -> list[str]:
    present = {name for columns in readable.values() for column in columns for name in (column, _part(stream, column))}
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


def _part(stream: Stream, column: str) -> str:
    """What of a column's name is the sensor's, where machines have columns of their own."""
    return split_tags([column], stream.machine)[1][0] if stream.machine.kind == "tag" else column


def _header(path: Path, stream: Stream) -> list[str] | None:
    try:
        return reading.header(path, stream)
    except OSError:
        return None

"""Times of a raw column as microseconds since the epoch, UTC; null where a value is no time.

The one idea: texts of one length are read by their digits' columns (`stamps`). Arrow parses the others, each
distinct text once; what its C parser lets pass (31 February) is caught by printing the time again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sources import stamps
from jobs.sources.passes import Passes
from models.errors import InputError
from models.source import TimeFormat

EARLIEST_US = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
FIRST_READING_US = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000  # as `connect` takes epochs
LATEST_US = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
UNIT_US = {"epoch_s": 1e6, "epoch_ms": 1e3, "epoch_us": 1.0, "epoch_ns": 1e-3}
DAY_US = 86_400_000_000
_MANY_DAYS = 200_000
_LOCAL = pa.timestamp("us")
_ISO = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?"
_OFFSET = r"(?:[zZ]|[+-]\d{2}(?::?\d{2})?)"
_FRACTION = r"([.,]\d{6})\d*"  # nanoseconds are cut to microseconds
_COUNT = r"^-?0*([0-8]?\d{1,18}|\d{1,18}\.\d*)$"  # as far as int64 reaches
_PYTHON_ONLY = ("%f", "%z", "%Z")


@dataclass(frozen=True)
class Order:
    """What a file's order tells: ``series`` gives one number a row, the same for rows that one clock wrote."""

    series: Callable[[], npt.NDArray[np.int64]]
    passes: Passes


def to_us(column: pa.ChunkedArray, form: TimeFormat, *, order: Order | None = None) -> pa.Array:
    """int64 microseconds UTC, null where the value is no time between 1900 and 2200.

    A local time that a clock shows twice in autumn is told apart by the file's ``order`` (none: all rows are one
    series); see `jobs.sources.passes`. One that spring skips is no time.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        found = _of_type(array, form, order)
    elif form.format == "counter" or form.format in UNIT_US:
        found = _of_number(array, form)
    else:
        found = _of_text(array.cast(pa.string()), form, order)
    possible = pc.and_(pc.greater_equal(found, EARLIEST_US), pc.less(found, LATEST_US))
    return pc.if_else(possible, found, pa.scalar(None, pa.int64()))


def joined(table: pa.Table, form: TimeFormat) -> pa.ChunkedArray | pa.Array:
    """The column of a time; date and time of day as one text where they are two."""
    if form.date_column is None:
        return table[form.column]
    parts = (pc.utf8_trim_whitespace(table[name].cast(pa.string())) for name in (form.date_column, form.column))
    return pc.binary_join_element_wise(*parts, " ")


def check_zone(zone: str) -> None:
    """Raises InputError where Arrow does not know the zone."""
    try:
        pc.assume_timezone(pa.array([0], _LOCAL), zone)
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(
            "Unknown time zone", expected="an IANA name such as Europe/Berlin", found=repr(zone),
            do="Correct `zone` in the source description, or set `time.zone`",
        ) from error  # fmt: skip


def _of_type(array: pa.Array, form: TimeFormat, order: Order | None) -> pa.Array:
    local = pa.types.is_date(array.type) or array.type.tz is None
    in_us = array.cast(_LOCAL if local else pa.timestamp("us", "UTC"), safe=False)
    return _zoned(in_us, form.zone, order) if local else in_us.cast(pa.int64())


def _of_number(array: pa.Array, form: TimeFormat) -> pa.Array:
    if pa.types.is_string(array.type):
        clean = pc.utf8_trim_whitespace(array)
        clean = pc.replace_substring_regex(clean, r"^\+", "")  # Arrow reads no plus before a whole number
        clean = pc.if_else(pc.match_substring_regex(clean, _COUNT), clean, pa.scalar(None, pa.string()))
        whole = pc.all(pc.invert(pc.match_substring(clean, "."))).as_py()
        array = clean.cast(pa.int64() if whole is not False else pa.float64())
    if form.format == "epoch_ns" and pa.types.is_integer(array.type):
        return pc.divide(array.cast(pa.int64()), 1000)
    factor = UNIT_US.get(form.format) or (form.step_s or 1.0) * 1e6
    scaled = pc.round(pc.multiply(array.cast(pa.float64(), safe=False), factor))
    return pc.if_else(pc.less(pc.abs(scaled), 9e18), scaled, pa.scalar(None, pa.float64())).cast(pa.int64())


def _of_text(array: pa.Array, form: TimeFormat, order: Order | None) -> pa.Array:
    us, good, utc = stamps.read(array, form.format)
    if good.all() and len(good):
        return pa.array(us) if utc else _zoned(pa.array(us, _LOCAL), form.zone, order)
    left = np.flatnonzero(~good)
    local, moments = _one_by_one(array.take(pa.array(left)), form.format)
    found = [np.where(good, us, 0) if own else np.zeros(len(us), np.int64) for own in (not utc, utc)]
    missing = [~good if own else np.ones(len(us), bool) for own in (not utc, utc)]
    for values, lost, slow in zip(found, missing, (local.cast(pa.int64()), moments), strict=True):
        values[left], lost[left] = np.asarray(pc.fill_null(slow, 0)), np.asarray(slow.is_null())
    placed = _zoned(pa.array(found[0], pa.int64(), mask=missing[0]).cast(_LOCAL), form.zone, order)
    return pc.coalesce(pa.array(found[1], pa.int64(), mask=missing[1]), placed)


def _one_by_one(array: pa.Array, pattern: str) -> tuple[pa.Array, pa.Array]:
    """Local times, and microseconds UTC of texts with an offset; each distinct text is looked at once."""
    encoded = array.dictionary_encode()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    if pattern == "iso":
        local, utc = _iso(texts)
    elif any(mark in pattern for mark in _PYTHON_ONLY):
        local, utc = _by_python(texts, pattern)
    else:
        local, utc = _by_pattern(texts, pattern), pa.nulls(len(texts), pa.int64())
    return local.take(encoded.indices), utc.take(encoded.indices)


def _iso(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Local times of those without an offset, microseconds UTC of those with one."""
    nothing = pa.scalar(None, pa.string())
    clean = pc.replace_substring(pc.replace_substring_regex(texts, _FRACTION, r"\1"), ",", ".")
    naive = pc.if_else(pc.match_substring_regex(clean, _ISO + "$"), clean, nothing)
    zoned = pc.if_else(pc.match_substring_regex(clean, _ISO + _OFFSET + "$"), clean, nothing)
    return _cast(naive, _LOCAL), _cast(zoned, pa.timestamp("us", "UTC")).cast(pa.int64())


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:  # month 13 somewhere
        return pa.array([_moment(text) for text in texts.to_pylist()], kind)


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _by_pattern(texts: pa.Array, pattern: str) -> pa.Array:
    parsed = pc.strptime(texts, format=pattern, unit="us", error_is_null=True)
    # Unpadded numbers print differently too; Python is exact about both. (Arrow prints fractions of `us`.)
    printed = pc.strftime(parsed.cast(pa.timestamp("s")), format=pattern)
    doubtful = np.flatnonzero(pc.fill_null(pc.not_equal(printed, texts), False))
    if not len(doubtful):
        return parsed
    exact = _by_python(texts.take(pa.array(doubtful)), pattern)[0]
    mask = np.zeros(len(texts), bool)
    mask[doubtful] = True
    return pc.replace_with_mask(parsed, pa.array(mask), exact)


def _by_python(texts: pa.Array, pattern: str) -> tuple[pa.Array, pa.Array]:
    local: list[datetime | None] = []
    utc: list[datetime | None] = []
    for text in texts.to_pylist():
        try:
            moment = datetime.strptime(text, pattern) if text else None
        except ValueError:
            moment = None
        aware = moment is not None and moment.tzinfo is not None
        local.append(None if aware else moment)
        utc.append(moment if aware else None)
    return pa.array(local, _LOCAL), pa.array(utc, pa.timestamp("us", "UTC")).cast(pa.int64())


def _zoned(local: pa.Array, zone: str, order: Order | None) -> pa.Array:
    if zone in ("UTC", "Etc/UTC", "GMT"):
        return local.cast(pa.int64())
    moments = np.asarray(pc.fill_null(local.cast(pa.int64()), 0))
    offset, steady = _offsets(moments, zone)
    found = moments - offset
    lost = np.asarray(local.is_null())
    rows = np.flatnonzero(~steady & ~lost)
    if len(rows):
        series = order.series()[rows] if order else np.zeros(len(rows), np.int64)
        own = _around_a_change(local.take(pa.array(rows)), zone, series, order.passes if order else Passes())
        found[rows], lost[rows] = np.asarray(pc.fill_null(own, 0)), np.asarray(own.is_null())
    return pa.array(found, pa.int64(), mask=lost if lost.any() else None)


def _offsets(moments: npt.NDArray[np.int64], zone: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The zone's offset in each row, and whether it is the same all day long, asked once a day."""
    days = moments // DAY_US
    first = int(days.min()) if len(days) else 0
    if len(days) and int(days.max()) - first < _MANY_DAYS:
        place = days - first
        present = np.flatnonzero(np.bincount(place)) + first
        index = np.zeros(int(place.max()) + 1, np.int64)
        index[present - first] = np.arange(len(present))
        place = index[place]
    else:
        present, place = np.unique(days, return_inverse=True)
    edges = [pa.array((present + more) * DAY_US, _LOCAL) for more in (0, 1)]
    start, end = (
        np.asarray(pc.subtract(edge.cast(pa.int64()), _placed(edge, zone, "earliest").cast(pa.int64())))
        for edge in edges
    )
    return start[place], (start == end)[place]


def _placed(local: pa.Array, zone: str, which: str) -> pa.Array:
    return pc.assume_timezone(local, zone, ambiguous=which, nonexistent=which)


def _around_a_change(local: pa.Array, zone: str, series: npt.NDArray[np.int64], passes: Passes) -> pa.Array:
    """Local times of days on which clocks are changed."""
    early, late = (_placed(local, zone, which).cast(pa.int64()).to_numpy() for which in ("earliest", "latest"))
    differ = early != late
    placed = pa.array(early, pa.timestamp("us", zone))
    skipped = differ & np.asarray(pc.not_equal(pc.local_timestamp(placed), local))
    moments = local.cast(pa.int64()).to_numpy()
    second = passes.second(moments, np.where(skipped, 0, late - early), series)
    return pa.array(np.where(second, late, early), mask=skipped)

"""Numbers and names of raw columns, a whole column at a time."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import InputError
from models.source import MachineFrom, Stream
from models.units import CANONICAL_UNIT, conversion

NULLS = ["", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "null", "NULL", "Null", "None", "-"]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_WHOLE = re.compile(r"\A(-?[0-9]+)\.0+\Z")
_FEW = 8  # different wrong texts that are worth a pass over the column each
_FAILED = re.compile(r"Failed to parse string: '(.*)' as a scalar of type double\Z", re.DOTALL)


def check_units(stream: Stream) -> None:
    """Raises InputError naming stream, raw column and unit where a unit cannot be used."""
    for raw, column in stream.sensors.items():
        try:
            conversion(column.unit, column.kind)
        except InputError as error:
            raise InputError(
                f"{error.what} of {raw!r}", expected=f"a unit of {column.kind} such as {CANONICAL_UNIT[column.kind]}",
                found=repr(column.unit), where=f"stream {stream.name!r} of the source description", do=error.do,
            ) from error  # fmt: skip


def to_float(
    column: pa.ChunkedArray | pa.Array, decimal: str = ".", thousands: str = ""
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Values (NaN where there is none) and where there is something that is no number."""
    array = _whole(column)
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_texts(array, decimal, thousands)
    if pa.types.is_dictionary(array.type):
        array = array.cast(kind)
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan), np.zeros(len(array), bool)
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return np.full(len(array), np.nan), np.asarray(array.is_valid())
    values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    infinite = np.isinf(values) if pa.types.is_floating(kind) else np.zeros(len(array), bool)
    return (np.where(infinite, np.nan, values) if infinite.any() else values), infinite


def _of_texts(array: pa.Array, decimal: str, thousands: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    clean = pc.ascii_trim(array.cast(pa.string()), " \t")
    empty = np.asarray(pc.or_kleene(pc.is_null(clean), pc.is_in(clean, pa.array(NULLS))))
    left = pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), clean)
    if thousands:
        mark, point = re.escape(thousands), re.escape(decimal)
        grouped = rf"^[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:{point}\d*)?$"
        left = pc.if_else(pc.match_substring_regex(left, grouped), pc.replace_substring(left, thousands, ""), left)
    if decimal == ",":
        left = _swapped(left)
    values = _parsed(left).to_numpy(zero_copy_only=False)
    bad = ~empty & ~np.isfinite(values)
    return np.where(bad, np.nan, values), bad


def _swapped(texts: pa.Array) -> pa.Array:
    """A comma for a point and the other way round, so that a point where a comma is meant is no number."""
    texts = pa.concat_arrays([texts])  # without an offset
    valid, offsets, data = texts.buffers()
    swapped = pa.py_buffer(data.to_pybytes().translate(bytes.maketrans(b".,", b",."))) if data else data
    return pa.Array.from_buffers(pa.string(), len(texts), [valid, offsets, swapped])


def _parsed(texts: pa.Array) -> pa.Array:
    """Numbers as Arrow reads them, null where there is none."""
    for _ in range(_FEW):
        try:
            return texts.cast(pa.float64())
        except pa.ArrowInvalid as error:
            failed = _FAILED.search(str(error))
            if failed is None:
                break
            texts = pc.if_else(pc.equal(texts, failed[1]), pa.scalar(None, pa.string()), texts)
    # Many different ones: each distinct text by itself.
    encoded = texts.dictionary_encode()
    return pa.array([number(text) for text in encoded.dictionary.to_pylist()], pa.float64()).take(encoded.indices)


def number(text: str) -> float | None:
    """What `to_float` makes of one text with a decimal point, or None where it is no finite number."""
    value = float(text) if _NUMBER.match(text) else math.inf
    return value if math.isfinite(value) else None


def to_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Text without blanks around it; null where there is none. Whole numbers lose their ``.0``."""
    array = _whole(column)
    if pa.types.is_floating(array.type):
        # One that no int64 holds is left as it is written.
        whole = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array), 9e18))
        numbers = pc.if_else(whole, array, pa.scalar(None, array.type)).cast(pa.int64())
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        array = pc.coalesce(numbers.cast(pa.string()), array.cast(pa.string()))
    clean = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return pc.if_else(pc.equal(clean, ""), pa.scalar(None, pa.string()), clean)


def encoded(column: pa.ChunkedArray | pa.Array) -> tuple[Codes, list[str]]:
    """`to_text` as codes, -1 where there is none, and the distinct texts that they stand for."""
    array = _whole(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    clean = to_text(array.dictionary).dictionary_encode()
    names: list[str] = clean.dictionary.to_pylist()
    of_code = np.asarray(pc.fill_null(clean.indices, -1), np.int64)
    codes = np.asarray(pc.fill_null(array.indices, len(of_code)), np.int64)
    return np.append(of_code, -1)[codes], names


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def machine_of_file(path: str, machine: MachineFrom) -> str | None:
    """The machine that a file's name or folder (``path`` below the root) gives, or None."""
    if machine.kind == "constant":
        return named(machine.value or "", machine)
    folder, _, name = path.rpartition("/")
    subject = name if machine.kind == "file_name" else folder
    match = re.search(machine.pattern or r"(?P<machine>[^/]+)$", subject)
    found = match.group("machine") if match else None
    return named(found, machine) if found else None


def named(found: str, machine: MachineFrom) -> str:
    """The plant's name of a machine that a stream calls ``found``; 1.0 is what another file writes as 1."""
    return machine.prefix + machine.names.get(found, _WHOLE.sub(r"\1", found))


def tag_of_file(path: str, pattern: str) -> str | None:
    """The tag in the path of a file (below the root) that holds one sensor, or None."""
    match = re.search(pattern, path)
    return (match.groupdict().get("tag") or None) if match else None


def split_tags(tags: list[str], machine: MachineFrom) -> tuple[list[str | None], list[str]]:
    """Machine (None where the pattern does not match) and sensor part of each tag."""
    pattern = re.compile(machine.pattern or r"^(?P<machine>[^.]+)\.(?P<sensor>.+)$")
    machines: list[str | None] = []
    parts: list[str] = []
    for tag in tags:
        match = pattern.search(tag)
        groups = match.groupdict() if match else {}
        machines.append(named(groups["machine"], machine) if groups.get("machine") else None)
        parts.append(groups.get("sensor") or tag)
    return machines, parts

"""Numbers and names of raw columns, a whole column at a time."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sources.csv import NULLS
from models.errors import InputError
from models.source import MachineFrom, Stream
from models.units import CANONICAL_UNIT, conversion

_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"


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


def to_float(column: pa.ChunkedArray, decimal: str = ".") -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values (NaN where there is none) and where there is something that is no number."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        if pa.types.is_null(array.type):
            return np.full(len(array), np.nan), np.zeros(len(array), bool)
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8())
        if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
            return np.full(len(array), np.nan), np.asarray(array.is_valid())
        return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.zeros(len(array), bool)
    clean = pc.utf8_trim_whitespace(array)
    empty = pc.or_kleene(pc.is_null(clean), pc.is_in(clean, pa.array(NULLS, clean.type)))
    if decimal == ",":
        clean = pc.replace_substring(clean, ",", ".")
    numeric = pc.match_substring_regex(clean, _NUMBER)
    values = pc.if_else(numeric, clean, pa.scalar(None, clean.type)).cast(pa.float64())
    bad = pc.and_not(pc.invert(pc.fill_null(numeric, False)), pc.fill_null(empty, True))
    return values.to_numpy(zero_copy_only=False), np.asarray(bad)


def to_text(column: pa.ChunkedArray) -> pa.Array:
    """Text without blanks around it; null where there is none. Whole numbers lose their ``.0``."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(array.type):
        whole = pc.all(pc.equal(pc.floor(array), array)).as_py()
        array = array.cast(pa.int64()) if whole is not False else array
    clean = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return pc.if_else(pc.equal(clean, ""), pa.scalar(None, pa.string()), clean)


def machine_of_file(path: str, machine: MachineFrom) -> str | None:
    """The machine that a file's name or folder (``path`` below the root) gives, or None."""
    if machine.kind == "constant":
        return machine.prefix + (machine.value or "")
    folder, _, name = path.rpartition("/")
    subject = name if machine.kind == "file_name" else folder
    match = re.search(machine.pattern or r"(?P<machine>[^/]+)$", subject)
    found = match.group("machine") if match else None
    return machine.prefix + found if found else None


def split_tags(tags: list[str], machine: MachineFrom) -> tuple[list[str | None], list[str]]:
    """Machine (None where the pattern does not match) and sensor part of each tag."""
    pattern = re.compile(machine.pattern or r"^(?P<machine>[^.]+)\.(?P<sensor>.+)$")
    machines: list[str | None] = []
    parts: list[str] = []
    for tag in tags:
        match = pattern.search(tag)
        groups = match.groupdict() if match else {}
        machines.append(machine.prefix + groups["machine"] if groups.get("machine") else None)
        parts.append(groups.get("sensor") or tag)
    return machines, parts

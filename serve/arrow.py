"""Windows as an Arrow IPC stream: the bulk form of ``score``.

The one idea: column ``values`` is a fixed-size list of W x C numbers a window (row-major, flat or nested),
read without a copy a value; ``machine`` and ``as_of`` are optional columns. Compressed buffers are
refused before anything is unpacked: a small body must not become a large one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import InputError
from serve.schemas import LAST_US, TooLargeError, checked_machine
from serve.windows import Windows

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
_HEADER, _COMPRESSION = 2, 3  # fields of Message and RecordBatch in Arrow's Message.fbs


def parse_arrow(body: bytes, *, channels: Sequence[str], length: int, max_windows: int) -> Windows:
    """Complete windows in canonical units, in the model's order of channels. Raises InputError."""
    try:
        _refuse_compression(body)
        table = pa.ipc.open_stream(body).read_all()
        table.validate(full=True)
        for kind in table.schema.types:  # a text that is no UTF-8 says so only when it is read
            _ = table.column_names, str(kind), getattr(kind, "tz", None)
    except (pa.ArrowException, OSError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise InputError("Not Arrow", expected="an Arrow IPC stream", found=str(error)[:120], where="body") from error
    if "values" not in table.column_names:
        raise InputError("No windows", expected="a column `values`", found=", ".join(table.column_names), where="body")
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})[:20]
    if twice:
        raise InputError("Columns twice", expected="different names", found=", ".join(twice), where="body")
    num = table.num_rows
    if not 0 < num <= max_windows:
        kind = TooLargeError if num else InputError
        raise kind("Wrong number of windows", expected=f"1 to {max_windows}", found=num, where="body")
    values = _flat(table["values"].combine_chunks())
    if values.size != num * length * len(channels):
        raise InputError(
            "Wrong values", expected=f"{length} x {len(channels)} numbers a window",
            found=f"{values.size} in {num} windows", where="values",
        )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.array(values, np.float32).reshape(num, length, len(channels))
    out[np.isinf(out)] = np.nan
    return Windows(out, _machines(table), _times(table))


def _flat(column: pa.Array) -> np.ndarray:
    while pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
        if column.null_count:
            raise InputError("Wrong values", expected="no null window", found=column.null_count, where="values")
        column = column.flatten()
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise InputError("Wrong values", expected="lists of numbers", found=str(column.type), where="values")
    found: np.ndarray = column.to_numpy(zero_copy_only=False)
    return found


def _machines(table: pa.Table) -> list[str]:
    if "machine" not in table.column_names:
        return [""] * table.num_rows
    kind = table.schema.field("machine").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise InputError("Wrong machine", expected="texts", found=str(kind)[:80], where="machine")
    names = table["machine"].to_pylist()
    return ["" if n is None else checked_machine(n, f"machine[{i}]") for i, n in enumerate(names)]


def _times(table: pa.Table) -> list[int | None]:
    if "as_of" not in table.column_names:
        return [None] * table.num_rows
    column = table["as_of"]
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise InputError("Wrong time", expected="timestamps with a zone", found=str(column.type), where="as_of")
    found: list[int | None] = pc.cast(column, pa.timestamp("us", "UTC"), safe=False).cast(pa.int64()).to_pylist()
    if any(at is not None and not 0 <= at <= LAST_US for at in found):
        raise InputError("Time out of range", expected="a time from 1970 to 9000", found="another", where="as_of")
    return found


def _refuse_compression(body: bytes) -> None:
    """Raise where a record batch says that its buffers are compressed (pyarrow does not show it)."""
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type not in ("schema", "record batch"):
            raise InputError("Wrong Arrow", expected="plain columns", found=f"a {message.type} message", where="body")
        data = message.metadata.to_pybytes()
        header = _field(data, struct.unpack_from("<I", data)[0], _HEADER)
        if message.type == "schema" or header is None:
            continue
        batch = header + struct.unpack_from("<I", data, header)[0]
        if _field(data, batch, _COMPRESSION) is not None:
            raise InputError("Compressed Arrow", expected="buffers without compression", found="compressed ones")


def _field(data: bytes, table: int, index: int) -> int | None:
    """Position of a flatbuffers table's field, or None where it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    slot = 4 + 2 * index
    offset = struct.unpack_from("<H", data, vtable + slot)[0] if slot < size else 0
    return table + offset if offset else None

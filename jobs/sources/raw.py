"""What a reader of raw files hands on: chunks of raw rows, and what it could not read.

The one idea: a chunk's columns are still raw (text where the file has text), and where a row lies in
its file is worked out only for the few rows that turn out wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import pyarrow as pa

from jobs.sources.passes import Passes

MAX_RAW = 2000  # characters of a wrong row that quarantine keeps


class Reason(StrEnum):
    """Why something is in quarantine. The codes are kept in the table: add, never rename."""

    EMPTY = "empty_file"
    UNREADABLE = "unreadable_file"
    TRUNCATED = "truncated_file"
    MISSING_COLUMN = "missing_column"
    ENCODING = "bad_encoding"
    LONG_LINE = "line_too_long"
    COLUMNS = "wrong_number_of_columns"
    JSON = "bad_json"
    MACHINE = "no_machine"
    TIME = "bad_time"
    FUTURE = "future_time"
    TAG = "unknown_tag"
    QUALITY = "bad_quality"
    NO_VALUE = "no_value"
    NUMBER = "bad_number"
    RANGE = "out_of_range"
    LARGE = "message_too_large"
    PROTOBUF = "bad_protobuf"
    BIRTH = "no_birth"
    TYPE = "unsupported_type"


@dataclass(frozen=True)
class Wrong:
    """One entry of quarantine. ``line`` counts from 1; rows of a Parquet file are its lines.

    ``scope``: the ``row`` is lost, only a ``cell`` of it is, or a ``file`` (from here on) is.
    """

    reason: Reason
    line: int | None = None
    raw: str = ""
    detail: str = ""
    scope: Literal["row", "cell", "file"] = "row"


@dataclass(frozen=True)
class Span:
    """A part of a large text file: bytes from a line's start to a line's end; ``first_line`` counts from 1."""

    start: int
    stop: int
    first_line: int


@dataclass(frozen=True)
class Chunk:
    """Raw rows in the file's order: the wanted columns that the file has, as text or as its own type.

    ``locate`` gives line and raw text of rows by their index in ``table``. ``num_rows`` counts rows
    even where no wanted column exists. A cell of ``texts`` (by column and row) holds something that is no
    number; in ``table`` it is null. ``passes`` is the same object in every chunk of a file.
    """

    table: pa.Table
    locate: Callable[[Sequence[int]], list[tuple[int, str]]]
    wrong: list[Wrong] = field(default_factory=list)
    texts: Mapping[str, Texts] = field(default_factory=dict)
    passes: Passes = field(default_factory=Passes)


Texts = dict[int, str]  # row -> what its cell holds
# Column -> how it is to be read: `text` as it stands, `name` (text that comes again and again), `number`,
# or `time` (text, or the file's own type).
Wanted = Mapping[str, Literal["text", "name", "number", "time"]]
Chunks = Iterator[Chunk]


def nowhere(_: Sequence[int]) -> list[tuple[int, str]]:
    """``locate`` of a chunk without rows."""
    return []


def only_wrong(*wrong: Wrong) -> Chunk:
    """A chunk without rows."""
    return Chunk(pa.table({}), nowhere, list(wrong))

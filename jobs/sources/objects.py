"""A block of JSON objects, one a line -> a chunk, with its numbers read and its wrong cells told apart.

The one idea: Arrow parses a block whole, with the wanted types. The few lines that it cannot read so (cut
off, or a text where a number is wanted) are found beforehand, or by the row that it complains of, and are
replaced by a line that says the same as far as it can be said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.json

from jobs.sources.lines import Lines, Places
from jobs.sources.raw import MAX_RAW, Chunk, Reason, Texts, Wanted, Wrong
from jobs.sources.text import Block, without_bad_bytes
from jobs.sources.values import NULLS, number, to_float

_ROW = re.compile(r"in row (\d+)\Z")
_CHANGED = re.compile(r"Column\(/(.*)\) changed from (\w+) to (\w+) in row \d+\Z")
_RETRIES = 8  # of a block, one for each line that is wrong in a way not foreseen; then it is read line by line
_MANY = 0.3  # share of lines that hold a text for a number, from which on the column is text


@dataclass
class Keys:
    """What is known of a file's keys while its blocks are read.

    ``paths``: where a wanted column lies in an object; ``texts``: numbers that some lines write as text;
    ``quoted``: those that most do; ``counts``: texts that are written as whole numbers; ``mixed``: as both.
    """

    wanted: Wanted
    paths: dict[str, tuple[str, ...]]
    texts: set[str] = field(default_factory=set)
    quoted: set[str] = field(default_factory=set)
    counts: set[str] = field(default_factory=set)
    mixed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, wanted: Wanted, sample: Sequence[dict[str, Any]]) -> Keys:
        """``a.b`` is a key of its own, or the key ``b`` of the object ``a``, as the first rows have it."""
        return cls(wanted, {name: _path(name, sample) for name in wanted})

    def schema(self) -> pa.Schema:
        types = {name: self._type(name) for name in self.wanted}
        tree: dict[str, Any] = {}
        for name, path in self.paths.items():
            node = tree
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = types[name]
        return pa.schema(_fields(tree))

    def _type(self, name: str) -> pa.DataType:
        if self.wanted[name] == "number":
            return pa.string() if name in self.quoted else pa.float64()
        return pa.int64() if name in self.counts else pa.string()


def parse(block: Block, keys: Keys) -> Chunk:
    """A line that is no object goes to ``wrong``."""
    data, wrong = without_bad_bytes(block)
    lines = Lines(data, block.first_line)
    reader = _Reader(keys, lines)
    table = reader.table()
    for index in reader.lost:
        text = lines.record(index)[: 4 * MAX_RAW].decode("utf-8", "replace")[:MAX_RAW]
        wrong.append(Wrong(Reason.JSON, lines.line(index), text, "not a JSON object"))
    lines.dropped = reader.lost
    row_of = np.cumsum(~np.isin(np.arange(reader.number), reader.lost)) - 1
    texts: dict[str, Texts] = {}
    for index, cells in reader.cells.items():
        for name, text in cells.items():
            texts.setdefault(name, {})[int(row_of[index])] = text
    for name in keys.quoted & set(table.column_names):
        values, bad = to_float(table[name])
        own = {row: table[name][row].as_py() for row in np.flatnonzero(bad).tolist()}
        texts |= {name: own | texts.get(name, {})} if own else {}
        floats = pa.array(values, pa.float64(), from_pandas=True)
        table = table.set_column(table.column_names.index(name), name, floats)
    return Chunk(table, lines.locate, wrong, texts)


class _Reader:
    """``lost``: lines that are no object; ``cells``: texts that are no number, by line and column."""

    def __init__(self, keys: Keys, lines: Lines) -> None:
        self.keys, self.lines = keys, lines
        self.number = len(lines.bounds[0])
        self.replaced: dict[int, bytes] = {}
        self.cells: dict[int, dict[str, str]] = {}
        self._begin()

    @property
    def lost(self) -> list[int]:
        return sorted(index for index, line in self.replaced.items() if not line)

    def _begin(self) -> None:
        self.replaced.clear()
        self.cells.clear()
        begin, end = self.lines.bounds
        data = np.frombuffer(self.lines.data, np.uint8)
        self._rewrite(np.flatnonzero((data[begin] != ord("{")) | (data[end - 1] != ord("}"))).tolist())
        for name in self.keys.texts:
            self._rewrite(self._holding_text(name).tolist())

    def table(self) -> pa.Table:
        for _ in range(_RETRIES):
            try:
                found = self._read()
            except UnicodeDecodeError:  # Arrow quotes half a character
                break
            except pa.ArrowInvalid as error:
                if not self._learned(str(error)):
                    break
            else:
                if found.num_rows == self.number - len(self.lost):
                    return found
                break
        self.keys.mixed |= self.keys.counts
        self.keys.counts.clear()
        self.replaced.clear()
        self.cells.clear()
        self._rewrite(range(self.number))
        return self._read()

    def _learned(self, message: str) -> bool:
        row = _ROW.search(message)
        if row is None:
            return False
        changed = _CHANGED.search(message)
        name = self._named(changed[1]) if changed else None
        if changed and name:
            is_number = self.keys.wanted[name] == "number"
            if not is_number and changed[3] == "number" and name not in self.keys.counts | self.keys.mixed:
                self.keys.counts.add(name)
                return True
            if is_number and changed[3] == "string" and name not in self.keys.texts:
                many = len(self._holding_text(name)) > _MANY * self.number
                (self.keys.quoted if many else self.keys.texts).add(name)
                self._begin()
                return True
        kept = np.delete(np.arange(self.number), np.asarray(self.lost, np.int64))
        index = int(kept[int(row[1])])
        if index in self.replaced:
            return False
        self._rewrite([index])
        return True

    def _named(self, key: str) -> str | None:
        return next((name for name, path in self.keys.paths.items() if "/".join(path) == key), None)

    def _holding_text(self, name: str) -> Places:
        """Lines that hold a text under a key, or under another one of its name."""
        key = orjson.dumps(self.keys.paths[name][-1])
        data, found = self.lines.data, []
        for mark in (key + b': "', key + b':"'):
            at = data.find(mark)
            while at >= 0:
                found.append(at)
                at = data.find(mark, at + 1)
        return np.unique(np.searchsorted(self.lines.bounds[1], np.asarray(found, np.int64)))

    def _rewrite(self, indices: Iterable[int]) -> None:
        for index in indices:
            if index not in self.replaced:
                line, cells = _said_otherwise(self.lines.record(index), self.keys)
                self.replaced[index] = line
                if cells:
                    self.cells[index] = cells

    def _read(self) -> pa.Table:
        data = self._data()
        schema = self.keys.schema()
        if not data:
            return _flat(schema.empty_table())
        found = pyarrow.json.read_json(
            pa.py_buffer(data),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        return _flat(found)

    def _data(self) -> bytes:
        begin, end = self.lines.bounds
        if not self.replaced:
            return self.lines.data if self.number else b""
        parts, at = [], 0
        for index in sorted(self.replaced):
            line = self.replaced[index]
            parts += [self.lines.data[at : begin[index]], line + b"\n" if line else b""]
            at = int(end[index]) + 1
        return b"".join([*parts, self.lines.data[at:]])


def _said_otherwise(line: bytes, keys: Keys) -> tuple[bytes, dict[str, str]]:
    """A line with the wanted keys alone, in the wanted types (empty: it is no object), and what is no number."""
    row = loads(line)
    if not isinstance(row, dict):
        return b"", {}
    said: dict[str, Any] = {}
    cells: dict[str, str] = {}
    for name, path in keys.paths.items():
        value: Any = row
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if keys.wanted[name] != "number" or name in keys.quoted:
            counted = name in keys.counts and type(value) in (int, float)
            found: Any = value if value is None or isinstance(value, str) or counted else as_text(value)
        else:
            found, wrong = number_cell(value)
            if wrong is not None:
                cells[name] = wrong
        node = said
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = found
    try:
        return orjson.dumps(said), cells
    except TypeError:  # half a character
        return b"", {}


def number_cell(value: Any) -> tuple[float | None, str | None]:
    """A number, or what is written in its place."""
    if value is None or isinstance(value, bool):
        return (None if value is None else float(value)), None
    text = value if isinstance(value, str) else as_text(value)
    clean = text.strip(" \t")
    if clean in NULLS:
        return None, None
    found = number(clean)
    return found, text if found is None else None


def _path(name: str, sample: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    parts = tuple(name.split("."))
    if len(parts) > 1 and not any(name in row for row in sample):
        for row in sample:
            value: Any = row
            for part in parts:
                value = value.get(part, _path) if isinstance(value, dict) else _path
            if value is not _path:
                return parts
    return (name,)


def _fields(tree: dict[str, Any]) -> list[pa.Field]:
    return [pa.field(n, pa.struct(_fields(kind)) if isinstance(kind, dict) else kind) for n, kind in tree.items()]


def _flat(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def flat_keys(row: dict[str, Any], before: str = "") -> list[str]:
    """Keys of an object, those of objects in it behind theirs: ``values.temp``."""
    found: list[str] = []
    for name, value in row.items():
        found += flat_keys(value, f"{before}{name}.") if isinstance(value, dict) and value else [before + name]
    return found


def loads(line: bytes) -> Any:
    """What a line says, or None where it is no JSON."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)  # NaN and Infinity, which are no JSON but are written
        except (ValueError, RecursionError):
            return None


def as_text(value: Any) -> str:
    return str(value) if type(value) in (int, float) else json.dumps(value, ensure_ascii=False)[:MAX_RAW]

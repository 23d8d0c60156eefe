"""A block of delimited text -> a chunk, with its numbers read and its wrong cells told apart.

The one idea: Arrow parses a block straight into numbers, and says which text failed. Such a text (``ERR``)
is then taken as an empty cell, in the rest of the file too, and only the rows that have an empty cell are
read again as text, to tell a wrong cell from one that holds nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from jobs.sources.lines import Lines
from jobs.sources.raw import MAX_RAW, Chunk, Reason, Texts, Wanted, Wrong
from jobs.sources.text import Block, without_bad_bytes
from jobs.sources.values import NULLS, to_float
from models.source import CsvFormat

_FAILED = re.compile(r"CSV conversion error to double: invalid value '(.*)'\Z", re.DOTALL)
_MAX_KNOWN = 64  # wrong texts that are remembered of a file; one with more is read as text
_MAX_STRAYS = 30
_TYPES: dict[str, pa.DataType] = {
    "number": pa.float64(), "name": pa.dictionary(pa.int32(), pa.string()), "text": pa.string(), "time": pa.string(),
}  # fmt: skip
Skipped = list[Any]  # Arrow's rows with another number of columns


@dataclass
class Table:
    """What is known of a file's table while its blocks are read; ``wrong_texts`` grows.

    ``as_text``: numbers are read by way of text, since blanks stand around them or thousands are marked.
    """

    names: list[str]
    form: CsvFormat
    wanted: Wanted
    delimiter: str
    wrong_texts: list[str] = field(default_factory=list)
    as_text: bool = False

    def __post_init__(self) -> None:
        self.as_text = bool(self.form.thousands)

    @property
    def numbers(self) -> list[str]:
        return [name for name in self.names if self.wanted.get(name) == "number"]


def parse(block: Block, table: Table, original: bytes | None = None) -> Chunk:
    """``original``: the lines as the file has them, where the block's are rewritten, one for one."""
    data, wrong = without_bad_bytes(block)
    quote = table.form.quote if table.form.delimiter != "fixed" else ""
    read = _Reader(table, quote if quote.encode() in data else "")
    found, skipped = read.rows(data)
    for _ in range(_MAX_STRAYS):
        strays = [row.text.encode() for row in skipped if "\n" in row.text] or read.open_at_end(data, found, skipped)
        if not strays:
            break
        # A quote that never closes swallows good rows: take its line away and read again.
        for stray in strays:
            line, data = _without_line(data, stray, block.first_line)
            shown = stray.partition(b"\n")[0].decode("utf-8", "replace")[:MAX_RAW]
            wrong.append(Wrong(Reason.COLUMNS, line, shown, "a quote that does not close"))
        found, skipped = read.rows(data)
    else:
        read = _Reader(table, "")
        found, skipped = read.rows(data)
    lines = Lines(data, block.first_line, quote=read.quote.encode(), num_records=found.num_rows + len(skipped))
    lines.dropped = [row.number - 1 for row in skipped]
    for row in skipped:
        detail = f"{row.actual_columns} instead of {row.expected_columns}"
        wrong.append(Wrong(Reason.COLUMNS, lines.line(row.number - 1), row.text[:MAX_RAW], detail))
    found, texts = read.wrong_cells(found, lines)
    told = lines if original is None else Lines(original, block.first_line)
    told.dropped = lines.dropped
    return Chunk(found, told.locate, wrong, texts)


class _Reader:
    """Arrow's parser, told how a table is written."""

    def __init__(self, table: Table, quote: str) -> None:
        self.table, self.quote = table, quote

    def rows(self, data: bytes) -> tuple[pa.Table, Skipped]:
        """The table, with every number read, and the rows with another number of columns."""
        known = self.table.wrong_texts
        while not self.table.as_text:
            skipped: Skipped = []
            try:
                return self._read(data, skipped, _TYPES, [*NULLS, *known]), skipped
            except pa.ArrowInvalid as error:
                failed = _FAILED.search(str(error))
                if failed is None and "conversion error" not in str(error):
                    raise
                if failed is None or failed[1] in known or failed[1] in NULLS or len(known) >= _MAX_KNOWN:
                    self.table.as_text = True  # `NULLS` among them: blanks around it
                else:
                    known.append(failed[1])
        skipped = []
        return self._read(data, skipped, _TYPES | {"number": pa.string()}, []), skipped

    def open_at_end(self, data: bytes, table: pa.Table, skipped: Skipped) -> list[bytes]:
        """The last record, where its quote is still open at the block's end."""
        quote = self.quote.encode()
        if not quote or data.count(quote) % 2 == 0:
            return []
        lines = Lines(data, 1, quote=quote)
        number = len(Lines(data, 1).bounds[0])
        return [lines.record(-1)] if number != table.num_rows + len(skipped) else []

    def wrong_cells(self, table: pa.Table, lines: Lines) -> tuple[pa.Table, dict[str, Texts]]:
        """The table with floats for its numbers, and the texts that are none, by column and row."""
        texts: dict[str, Texts] = {}
        if self.table.as_text:
            for name in self.table.numbers:
                values, bad = to_float(table[name], self.table.form.decimal, self.table.form.thousands)
                if bad.any():
                    texts[name] = {row: table[name][row].as_py() for row in np.flatnonzero(bad).tolist()}
                floats = pa.array(values, pa.float64(), from_pandas=True)
                table = table.set_column(table.column_names.index(name), name, floats)
            return table, texts
        doubtful = {name: rows for name in self.table.numbers if len(rows := self._doubtful(table[name]))}
        if not doubtful:
            return table, texts
        rows = np.unique(np.concatenate(list(doubtful.values())))
        again = b"\n".join(lines.record(i) for i in lines.kept()[rows].tolist()) + b"\n"
        found = self._read(again, [], _TYPES | {"number": pa.string()}, [])
        for name, own in doubtful.items():
            at = np.searchsorted(rows, own)
            cells = found[name].combine_chunks().take(pa.array(at))
            nothing = pc.is_in(pc.ascii_trim(cells, " \t"), pa.array(NULLS))
            kept = {int(own[i]): cells[i].as_py() for i in np.flatnonzero(~np.asarray(nothing)).tolist()}
            texts |= {name: kept} if kept else {}
        return _finite(table, doubtful), texts

    def _doubtful(self, column: pa.ChunkedArray) -> Any:
        """Rows without a number that may hold a wrong text."""
        values = column.combine_chunks()
        if values.null_count and self.table.wrong_texts:
            return np.flatnonzero(~np.isfinite(values.to_numpy(zero_copy_only=False)))
        strange = pc.fill_null(pc.invert(pc.is_finite(values)), False)
        return np.flatnonzero(strange) if pc.any(strange).as_py() else np.empty(0, np.int64)

    def _read(self, data: bytes, skipped: Skipped, types: dict[str, pa.DataType], nulls: list[str]) -> pa.Table:
        names, wanted = self.table.names, self.table.wanted
        present = [name for name in names if name in wanted]

        def skip(row: Any) -> str:
            skipped.append(row)
            return "skip"

        try:
            return pyarrow.csv.read_csv(
                pa.py_buffer(data),
                read_options=pyarrow.csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self.table.delimiter, quote_char=self.quote or False,
                    newlines_in_values=bool(self.quote), invalid_row_handler=skip,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types={name: types[wanted[name]] for name in present},
                    # One column at least, or the number of rows is lost.
                    include_columns=present or names[:1], decimal_point=self.table.form.decimal, null_values=nulls,
                    strings_can_be_null=False,
                ),
            )  # fmt: skip
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):  # every row had the wrong number of columns
                return pa.table({name: pa.array([], types[wanted[name]]) for name in present})
            raise


def _finite(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    for name in columns:
        values = table[name].combine_chunks()
        finite = pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))
        table = table.set_column(table.column_names.index(name), name, finite)
    return table


def _without_line(data: bytes, record: bytes, first_line: int) -> tuple[int, bytes]:
    start = data.index(record)
    end = data.index(b"\n", start)
    return first_line + data.count(b"\n", 0, start), data[:start] + data[end:]

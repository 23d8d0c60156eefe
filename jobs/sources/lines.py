"""From a row of a block to its line in the file and its text.

The one idea: ends of lines are found once a block, as numbers, and only the lines that someone asks for become text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from jobs.sources.raw import MAX_RAW

Places = npt.NDArray[np.int64]
NEWLINE = 10


def ends_of(data: bytes) -> Places:
    """Where each line of a block of whole lines ends: the places of its ``\\n``."""
    return np.flatnonzero(np.frombuffer(data, np.uint8) == NEWLINE)


class Lines:
    """The records of a block, in order. Empty lines are none; neither are those whose index is in ``dropped``.

    ``quote``: a record goes on where one of its quotes is open. ``num_records``: where there are as many
    lines that are not empty, no quote is open at a line's end, and nothing needs to be counted.
    """

    def __init__(self, data: bytes, first_line: int, *, quote: bytes = b"", num_records: int | None = None) -> None:
        self.data, self.first_line, self.quote, self.num_records = data, first_line, quote, num_records
        self.dropped: Sequence[int] = ()

    def record(self, index: int) -> bytes:
        """The bytes of a record, dropped ones counted."""
        begin, end = self.bounds
        return self.data[begin[index] : end[index]]

    def line(self, index: int) -> int:
        """The line where a record begins, dropped ones counted."""
        return self.first_line + int(np.searchsorted(self._ends, self.bounds[0][index]))

    def kept(self) -> Places:
        """Indices of the records that are not dropped."""
        return np.delete(np.arange(len(self.bounds[0])), np.asarray(self.dropped, np.int64))

    def locate(self, rows: Sequence[int]) -> list[tuple[int, str]]:
        """Line and text of rows; a row's index counts the records that are kept."""
        at = self._kept[np.asarray(rows, np.int64)]
        begin, end = (bound[at] for bound in self.bounds)
        numbers = (self.first_line + np.searchsorted(self._ends, begin)).tolist()
        cut = np.minimum(end, begin + 4 * MAX_RAW)
        texts = (self.data[i:j].decode("utf-8", "replace") for i, j in zip(begin.tolist(), cut.tolist(), strict=True))
        return [(number, text[:MAX_RAW]) for number, text in zip(numbers, texts, strict=True)]

    @cached_property
    def _kept(self) -> Places:
        return self.kept()

    @cached_property
    def _ends(self) -> Places:
        return ends_of(self.data)

    @cached_property
    def bounds(self) -> tuple[Places, Places]:
        """Where each record begins and ends, dropped ones counted."""
        ends = self._ends
        begins = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        filled = ends > begins
        if self.quote and int(filled.sum()) != self.num_records:
            return self._quoted(begins, ends)
        return begins[filled], ends[filled]

    def _quoted(self, begins: Places, ends: Places) -> tuple[Places, Places]:
        quotes = np.flatnonzero(np.frombuffer(self.data, np.uint8) == self.quote[0])
        closed = np.searchsorted(quotes, ends) % 2 == 0
        if len(closed):
            closed[-1] = True
        last = np.flatnonzero(closed)
        first = np.concatenate(([0], last[:-1] + 1)) if len(last) else last
        begin, end = begins[first], ends[last]
        filled = end > begin
        return begin[filled], end[filled]

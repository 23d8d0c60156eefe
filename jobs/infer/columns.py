"""What a column holds: numbers, whole numbers, texts, times. Everything later asks this, never the cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jobs.infer import time, words
from jobs.infer.format import Shape, Table
from jobs.infer.names import folded, split_unit
from jobs.infer.numerals import NUMBER, plain
from jobs.infer.time import TimeGuess


@dataclass(frozen=True)
class Column:
    """A column of a sample. ``numbers`` has NaN where a cell is no number; ``time`` is None where it is none.

    Where its date stands in ``date_column``, ``label`` is the one of both names that tells more.
    """

    name: str
    cells: list[str]
    numbers: np.ndarray
    time: TimeGuess | None
    date_column: str | None = None
    label: str = ""

    @cached_property
    def num_values(self) -> int:
        return sum(bool(cell) for cell in self.cells)

    @cached_property
    def num_numbers(self) -> int:
        return int(np.isfinite(self.numbers).sum())

    @cached_property
    def distinct(self) -> tuple[str, ...]:
        """Every text once, in the order of the sample."""
        return tuple(dict.fromkeys(cell for cell in self.cells if cell))

    @property
    def numeric(self) -> bool:
        return self.num_numbers > 0 and self.num_numbers >= 0.8 * self.num_values

    @property
    def whole(self) -> bool:
        """Numbers without a fraction only."""
        finite = self.numbers[np.isfinite(self.numbers)]
        return self.numeric and bool((finite == np.floor(finite)).all())

    @property
    def identifies(self) -> bool:
        """Could name a machine or a tag: texts, or whole numbers without a unit."""
        if self.time is not None:
            return False
        if self.numeric:
            return self.whole and split_unit(self.name)[1] is None
        return self.num_values > 0

    @cached_property
    def key(self) -> str:
        """The name as synonyms are compared: folded, without a unit and without ``_utc``."""
        return _key(self.label or self.name)


def profile(shape: Shape, table: Table) -> dict[str, Column]:
    """Raw name -> column, in the file's order."""
    found = {}
    for name in shape.columns:
        cells = table.cells.get(name, [])
        numbers = _numbers(cells, shape.csv.decimal, shape.csv.thousands)
        typed = table.zones.get(name)
        plain = np.isfinite(numbers).any()
        guess = time.guess(cells, typed=typed) if typed is not None or not plain or _compact(name, cells) else None
        if guess is None:
            guess = time.epoch(numbers, timely=bool(plain) and _timely(name))
        found[name] = Column(name, cells, numbers, guess)
    return found


def _key(name: str) -> str:
    parts = folded(split_unit(name)[0]).split("_")
    while len(parts) > 1 and parts[-1] in ("utc", "local", "usd", "eur", "h"):
        parts.pop()
    return "_".join(parts)


def _timely(name: str) -> bool:
    key = _key(name)
    return key in words.TIME or any(key in names for names in words.EVENT_TIMES.values()) or "time" in key.split("_")


def _compact(name: str, cells: list[str]) -> bool:
    """``20250131`` is a number too: a date only where the name says so."""
    return _timely(name) and all(len(cell) in (8, 14) for cell in cells if cell)


def _numbers(cells: list[str], decimal: str, thousands: str) -> np.ndarray:
    texts = [plain(cell, decimal, thousands) or "nan" for cell in cells]
    try:
        return np.array(texts, dtype=float)
    except ValueError:  # a text among them: one by one
        number = NUMBER["."]
        return np.array([float(text) if number.fullmatch(text) else np.nan for text in texts], dtype=float)

"""What stands above a text table's rows: a preamble, the header, descriptions, units, a drawn line.

The one idea: look for the first row of data and then upwards. A preamble may be cut into as many cells as
the table has; what stands next to the data is its header.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.infer import words
from jobs.infer.dialect import RULER, Dialect, split
from jobs.infer.names import folded, split_unit
from jobs.infer.numerals import is_value

_LINES = 200  # in which the data must begin
_ROWS = 4  # names, descriptions, units and one more


@dataclass(frozen=True)
class Heading:
    """``skip`` lines, then the header's line unless ``names`` is None or ``given``, then ``after`` lines.

    ``given``: the names must be written into the description, for the file's own line cannot be read as
    its header (a comment, or a line with a cell too few).
    """

    skip: int
    names: tuple[str, ...] | None
    after: int = 0
    units: tuple[str, ...] = ()
    given: bool = False


def heading(lines: Sequence[str], by: Dialect, comments: Sequence[str], mark: str | None) -> Heading:
    """``comments`` are the lines above ``lines``, each with its ``mark``."""
    drawn = [bool(line.strip()) and RULER.fullmatch(line) is not None for line in lines[:_LINES]]
    rows = [[] if rule else split([line], by)[0] for line, rule in zip(lines, drawn, strict=False)]
    good = [at for at, row in enumerate(rows) if len(row) == by.width and any(cell.strip() for cell in row)]
    if not good:
        return Heading(0, None)
    first = _first(rows, good)
    above = _above(rows, good, first, drawn)
    if not above:
        return _elsewhere(rows, good[0] if first is None else first, by, comments, mark)
    names = next((at for at in above if _tells_time(rows[at])), None)
    units = next((at for at in above if at != names and _are_units(rows[at], rows[first or 0])), None)
    if names is None:
        names = next(at for at in reversed(above) if at != units) if units != above[0] or len(above) > 1 else above[0]
    units = None if units is not None and units <= names else units
    last = max(at for at in range(names, len(rows)) if at == names or at in above or (drawn[at] and _next(at, above)))
    texts = tuple(cell.strip() for cell in rows[units]) if units is not None else ()
    return Heading(names, tuple(rows[names]), last - names, texts)


def _next(at: int, above: Sequence[int]) -> bool:
    """Whether a drawn line belongs to the header: directly below one of its lines."""
    return at - 1 in above


def _first(rows: list[list[str]], good: list[int]) -> int | None:
    """The first row that holds values where most rows do; None where no column holds any."""
    later = [rows[at] for at in good[1:]] or [rows[good[0]]]
    places = []
    for place in range(len(rows[good[0]])):
        held = [row[place] for row in later if row[place].strip()]
        if held and sum(map(is_value, held)) >= 0.6 * len(held):
            places.append(place)
    for at in good if places else []:
        held = [rows[at][place] for place in places if rows[at][place].strip()]
        if held and sum(map(is_value, held)) >= 0.75 * len(held):
            return at
    return None


def _above(rows: list[list[str]], good: list[int], first: int | None, drawn: list[bool]) -> list[int]:
    """The lines above the data that are cut like it and hold no value, from the top; without a gap between."""
    if first is None:  # texts only: a header names what no later row holds
        later = {cell for at in good[1:] for cell in rows[at]}
        return [] if any(cell in later for cell in rows[good[0]] if cell.strip()) else good[:1]
    found: list[int] = []
    at = first - 1
    while at >= 0 and len(found) < _ROWS:
        if drawn[at] or (not found and not any(cell.strip() for cell in rows[at])):
            at -= 1
            continue
        row = rows[at]
        if len(row) != len(rows[first]) or not any(cell.strip() for cell in row):
            break
        if any(map(is_value, row)):
            if found:
                break
        else:
            found.append(at)
        at -= 1
    return found[::-1]


def _elsewhere(
    rows: list[list[str]], first: int, by: Dialect, comments: Sequence[str], mark: str | None
) -> Heading:
    """Names in the last comment line, or in a line with one cell less than the rows have; else none."""
    if comments and mark:
        cells = split([comments[-1].removeprefix(mark).strip()], by)[0]
        if len(cells) == by.width and not any(map(is_value, cells)) and len({*cells}) == len(cells):
            return Heading(first, tuple(cells), given=True)
    short = rows[first - 1] if first else []
    if len(short) == by.width - 1 >= 1 and not any(map(is_value, short)) and all(cell.strip() for cell in short):
        body = [row for row in rows[first:] if len(row) == by.width]
        if not any(row[-1].strip() for row in body):
            return Heading(first, (*short, ""), given=True)
        if [row[0] for row in body] == [str(at + int(body[0][0] == "1")) for at in range(len(body))]:
            return Heading(first, ("", *short), given=True)
    return Heading(first, None)


def _tells_time(row: Sequence[str]) -> bool:
    keys = {folded(split_unit(cell)[0]) for cell in row}
    events = frozenset[str]().union(*words.EVENT_TIMES.values())
    return bool(keys & (words.TIME | events)) and sum(bool(cell.strip()) for cell in row) > len(row) / 2


def _are_units(row: Sequence[str], data: Sequence[str]) -> bool:
    below = [cell.strip() for cell, value in zip(row, data, strict=False) if is_value(value) and cell.strip()]
    told = sum(split_unit(f"x [{cell.strip('[]()')}]")[1] is not None for cell in below)
    return bool(below) and told > len(below) / 2

"""How the lines of a text table are cut into cells: by a sign, by runs of blanks, or at fixed places.

The one idea: the right cut gives most lines the same number of cells. Columns of fixed width are what is
left where only blanks stand between cells that hold blanks themselves, or none.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from jobs.infer.numerals import NUMBER, is_value
from jobs.infer.sampling import UnreadableError

Quote = Literal['"', "'", ""]
RULER = re.compile(r"(?=.*[-=_]{3})[\s\-=_+|;,]+")  # a line drawn below a header
_DELIMITERS = (";", "\t", "|", ",")  # a decimal comma can look like a delimiter, so the comma comes last
_RARE = (":", "^", "~", "\x01", "\x1f")  # tried only where no common one cuts
_SOME = 0.02  # of the lines may write into a gap between columns
_WIDEST = 2000  # characters of a line that are looked at


@dataclass(frozen=True)
class Dialect:
    """How to cut, and the number of cells in most lines. ``widths`` only where ``delimiter`` is ``fixed``."""

    delimiter: str
    width: int
    quote: Quote = '"'
    widths: tuple[int, ...] | None = None


def dialect(lines: Sequence[str]) -> Dialect:
    """The cut that fits these lines, which are not empty."""
    found = _by_sign(lines, _DELIMITERS)
    if found.width > 1 and not (found.delimiter == "," and _decimal_only(lines, found)):
        return found
    return _by_blanks(lines) or (found if found.width > 1 else _by_sign(lines, _RARE))


def _decimal_only(lines: Sequence[str], by: Dialect) -> bool:
    """Whether the commas stand within numbers, with blanks between the cells: ``P-01   61,5   5,25``."""
    rows = [row for row in split(lines, by) if len(row) == by.width]
    if sum(any(re.search(r"\S {2,}\S", cell) for cell in row) for row in rows) >= 0.5 * len(rows):
        return True
    words = [line.split() for line in lines]
    width, number = Counter(map(len, words)).most_common(1)[0]
    even = width > 1 and number >= 0.9 * len(lines)
    commas = [cell for row in words for cell in row if "," in cell]
    within = sum(NUMBER[","].fullmatch(cell) is not None for cell in commas) >= 0.9 * len(commas)
    return even and within and _values(words) > _values(rows) + 0.2


def _values(rows: Sequence[Sequence[str]]) -> float:
    cells = [cell for row in rows for cell in row]
    return sum(map(is_value, cells)) / max(1, len(cells))


def _by_blanks(lines: Sequence[str]) -> Dialect | None:
    """Runs of blanks where every line has as many cells, else columns of fixed width, or None."""
    body = [line for line in lines if not RULER.fullmatch(line)]
    counts = Counter(len(line.split()) for line in body)
    width, number = counts.most_common(1)[0] if counts else (1, 0)
    even = width > 1 and number / len(body) >= 0.9
    while len(body) > 2 and len(body[0].split()) < 0.6 * width:  # a preamble
        body = body[1:]
    header = body[0] if body and not any(is_value(cell) for cell in body[0].split()) else None
    ruler = next((line for line in lines if RULER.fullmatch(line)), None)
    names = header.split() if header else []
    bracketed = any(name[0] in "[(" for name in names)  # a unit behind a blank is no column
    if even and ruler is None and len(names) in (0, width) and not bracketed:
        return Dialect("whitespace", width)
    if fixed := _fixed(body, header, ruler):
        return Dialect("fixed", len(fixed), '"', fixed)
    return Dialect("whitespace", width) if even else None


def split(lines: Sequence[str], by: Dialect) -> list[list[str]]:
    """The cells of every line. Raises UnreadableError where quotes never end."""
    if by.delimiter == "whitespace":
        return [line.split() for line in lines]
    if by.widths:
        return [_cut(line, by.widths) for line in lines]
    if not by.quote:
        return [line.split(by.delimiter) for line in lines]
    try:
        ended = [line + "\n" for line in lines]
        return list(csv.reader(ended, delimiter=by.delimiter, quotechar=by.quote)) or [[]]
    except csv.Error as error:
        raise UnreadableError(f"no readable table: {error}") from error


def _by_sign(lines: Sequence[str], signs: Sequence[str]) -> Dialect:
    best, share = Dialect(",", 1), 0.0
    lines = [line for line in lines if not RULER.fullmatch(line)] or list(lines)
    for sign in signs:
        quote = _quote(lines, sign)
        counts = Counter(len(row) for row in split(lines, Dialect(sign, 0, quote)) if len(row) > 1)
        if counts and (found := counts.most_common(1)[0])[1] / len(lines) > max(share, 0.7 - 1e-9):
            best, share = Dialect(sign, found[0], quote), found[1] / len(lines)
    return best


def _quote(lines: Sequence[str], sign: str) -> Quote:
    """``'`` where whole cells stand in it and none in ``"``; nothing where a lone ``"`` means inches."""
    cells = [cell.strip() for line in lines for cell in line.split(sign)]
    double = sum(cell.startswith('"') for cell in cells)
    single = sum(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in cells)
    if single > double:
        return "'"
    odd = [line.count('"') % 2 for line in lines]
    if any(odd):
        widths = Counter(line.count(sign) for line in lines)
        if widths.most_common(1)[0][1] >= 0.95 * len(lines) and widths.most_common(1)[0][0]:
            return ""
    return '"'


def _cut(line: str, widths: Sequence[int]) -> list[str]:
    ends = np.cumsum(widths).tolist()
    starts = [0, *ends[:-1]]
    return [line[a:b].strip() for a, b in zip(starts, [*ends[:-1], None], strict=True)]


def _fixed(body: Sequence[str], header: str | None, ruler: str | None) -> tuple[int, ...] | None:
    """Widths of the columns, or None where nothing shows any."""
    if ruler and len(found := _spans(ruler, r"[-=_]+")) > 1:
        return _widths([a for a, _ in found[1:]], found[-1][1])
    rows = [line[:_WIDEST] for line in (body[1:] if header else body)]
    if len(rows) < 2:
        return None
    spans = _joined(_columns(rows), rows, header)
    if len(spans) < 2 or not any(is_value(row[a:b]) for row in rows[:20] for a, b in spans):
        return None
    names = _named(header, len(spans)) if header else None
    if header and names is None:
        return None
    starts = []
    for at, ((_, end), (start, _)) in enumerate(pairwise(spans)):
        first, last = end, start
        if names:
            first, last = max(first, names[at][1]), min(last, names[at + 1][0])
        if first > last:
            return None
        starts.append(_boundary(rows, spans[at], spans[at + 1], first, last))
    return _widths(starts, max(map(len, rows)))


def _widths(starts: Sequence[int], end: int) -> tuple[int, ...]:
    return tuple(b - a for a, b in pairwise([0, *starts, max(end, starts[-1] + 1)]))


def _columns(rows: Sequence[str]) -> list[tuple[int, int]]:
    """Where columns begin and end: runs of places in which more than a few rows hold something."""
    longest = max(map(len, rows))
    held = np.zeros(longest + 1, int)
    for row in rows:
        held[: len(row)] += np.frombuffer(row.encode("utf-32-le"), "<u4") != ord(" ")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], held > _SOME * len(rows), [0]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _joined(spans: list[tuple[int, int]], rows: Sequence[str], header: str | None) -> list[tuple[int, int]]:
    """Neighbours one blank apart that are one cell: a date and its time, or words below one name."""
    names = _spans(header, r"\S+(?: \S+)*") if header else []
    if header and len(names) >= len(spans):
        return spans
    found: list[tuple[int, int]] = spans[:1]
    for start, end in spans[1:]:
        before = found[-1]
        own = any(before[1] <= a < end and a >= start - 1 for a, _ in names)
        one = start - before[1] == 1 and (not own if header else _dated(rows, before, (start, end)))
        found[-1:] = [(before[0], end)] if one else [before, (start, end)]
    return found


def _dated(rows: Sequence[str], left: tuple[int, int], right: tuple[int, int]) -> bool:
    return all(
        re.fullmatch(r".*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", row[slice(*left)].strip())
        and re.fullmatch(r"\d{1,2}:\d\d.*", row[slice(*right)].strip())
        for row in rows[:20]
    )


def _named(header: str, number: int) -> list[tuple[int, int]] | None:
    """Where the names of ``number`` columns stand in the header."""
    for pattern in (r"\S+(?: \S+)*", r"\S+", r"\S+(?: [\[(]\S+)?"):
        if len(found := _spans(header, pattern)) == number:
            return found
    return None


def _spans(text: str, pattern: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(pattern, text)]


def _boundary(rows: Sequence[str], left: tuple[int, int], right: tuple[int, int], first: int, last: int) -> int:
    """The place between two columns that holds in other files too: numbers grow to the left, texts to the right."""
    if _begins(rows, right):
        return last
    return (first + last) // 2 if _begins(rows, left) else first


def _begins(rows: Sequence[str], span: tuple[int, int]) -> bool:
    """Whether a column's cells are aligned to the left: all texts, and numbers that end at different places."""
    cells = [cell for row in rows if (cell := row[slice(*span)]).strip()]
    if len({len(cell) - len(cell.lstrip()) for cell in cells}) > 1:
        return False
    ends = {len(cell.rstrip()) for cell in cells}
    return len(ends) > 1 or not all(NUMBER["."].fullmatch(c.strip()) or NUMBER[","].fullmatch(c.strip()) for c in cells)

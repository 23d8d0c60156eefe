"""How a file writes numbers: the decimal sign, and the sign that groups thousands.

The one idea: ``1,234`` alone proves nothing. ``1,5`` proves a decimal comma, ``1.234,5`` and ``1,234,567``
prove a grouping sign, and what is open is settled by what the other cells prove.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

Decimal = Literal[".", ","]
Thousands = Literal["", ".", ",", "'", " "]
NUMBER = {".": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"), ",": re.compile(r"[+-]?(\d+,?\d*|,\d+)")}
_DATE = re.compile(r"\d{1,4}[-/.](\d{1,2}|[A-Za-z]{3})[-/.]\d{1,4}")
_TIME = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?P<group>[.,' ])\d{3}(?:(?P=group)\d{3})*(?P<rest>(?P<decimal>[.,])\d+)?")
_SIGNED = re.compile(r"[+-]?(\d*)([.,])(\d*)")
_LEFT, _RIGHT = 3, 3  # digits around a sign that could be either


def is_value(cell: str) -> bool:
    """Whether this is a number, a date or a time of day, which no header holds."""
    text = cell.strip()
    if NUMBER["."].fullmatch(text) or NUMBER[","].fullmatch(text) or _DATE.match(text) or _TIME.fullmatch(text):
        return True
    return bool(_GROUPED.fullmatch(text))


def plain(cell: str, decimal: str, thousands: str) -> str:
    """The number as Python reads it; other texts are left so that they are none."""
    if thousands and thousands in cell:
        found = _GROUPED.fullmatch(cell)
        if not found or found["group"] != thousands:
            return "" if found is None and NUMBER["."].fullmatch(cell) else cell
        cell = cell.replace(thousands, "")
    return cell.replace(",", ".") if decimal == "," else cell


def signs(columns: Iterable[Sequence[str]]) -> tuple[Decimal, Thousands]:
    """The decimal sign and the grouping sign that most cells of the table speak for."""
    decimals: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    open_ones: list[tuple[str, bool]] = []
    for cells in columns:
        distinct = list(dict.fromkeys(cell for cell in cells if cell))
        weak: Counter[str] = Counter()
        for cell in distinct:
            _vote(cell, decimals, groups, weak)
        small = sum(cell.isdigit() and 100 <= int(cell) < 1000 for cell in distinct if len(cell) == _LEFT)
        long = sum(cell.isdigit() and len(cell) > _LEFT for cell in distinct)
        open_ones += [(sign, bool(small and not long)) for sign in weak]
    return _settled(decimals, groups, open_ones)


def _vote(cell: str, decimals: Counter[str], groups: Counter[str], weak: Counter[str]) -> None:
    if found := _GROUPED.fullmatch(cell):
        sign, decimal = found["group"], found["decimal"]
        if decimal == sign:
            return
        several = len(re.findall(re.escape(sign) + r"\d{3}", cell)) > 1
        if decimal:
            decimals[decimal] += 1
        if decimal or several or sign in "' ":
            groups[sign] += 1
        elif cell.lstrip("+-").startswith("0"):  # `0,123`
            decimals[sign] += 1
        else:
            weak[sign] += 1
    elif found := _SIGNED.fullmatch(cell):
        if found[1] or found[3]:
            decimals[found[2]] += 1
    elif NUMBER["."].fullmatch(cell) and "." in cell:  # with an exponent
        decimals["."] += 1


def _settled(
    decimals: Counter[str], groups: Counter[str], open_ones: Sequence[tuple[str, bool]]
) -> tuple[Decimal, Thousands]:
    decimal: Decimal = "."
    if decimals or groups:
        comma = decimals[","] > decimals["."] or (not decimals and "." in groups)
        decimal = "," if comma else "."
    elif open_ones:
        sign, grouped = max(open_ones, key=lambda each: each[1])
        other: Decimal = "," if sign == "." else "."
        decimal = other if grouped else "," if sign == "," else "."
        groups = Counter({sign: 1}) if grouped else groups
    found = [sign for sign, _ in groups.most_common() if sign != decimal]
    # `1.234` beside `5,2`: a point cannot be decimal too.
    found += [sign for sign, _ in open_ones if sign != decimal and not decimals[sign]]
    return decimal, found[0] if found else ""  # type: ignore[return-value]

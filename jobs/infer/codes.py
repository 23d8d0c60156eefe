"""Codes for «no value» that loggers write as numbers: -9999, 99999, 32767. A sensor's limits then keep them out.

The one idea: a code is a number that is written as one (nines, or the end of an integer's range) and lies far from all
else that the sensor reads. What one sensor of a stream shows holds for the others that the same logger writes, but for
those that may get there by counting; and who writes one code is taken to write -9999 too, the commonest of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jobs.infer.names import Named
from models.units import conversion

Numbers = npt.NDArray[np.float64]

_NINES = re.compile(r"9{3,}(\.9+|\.0+)?")
_BOUNDS = {32767.0, 32768.0, 65535.0, 2147483647.0, 2147483648.0, 4294967295.0}
_ROWS = 20  # values beside the codes, to know what is usual
_COMMONEST = -9999.0
_SHOWN = 2  # times that a stream shows codes; one alone may be chance
_COUNTS = {"number", "time", "energy", "length", "mass"}  # kinds that may grow for ever
_INSIDE = 1e-3  # of a code: so far before it its limit lies


def limited(named: Mapping[str, Named], numbers: Mapping[str, Numbers]) -> tuple[dict[str, Named], list[str]]:
    """Sensors of one stream with limits before the codes that its sample shows, and what is told of them.

    ``numbers`` are each sensor's, as they are written; limits that are there and stricter stay.
    """
    usual = {key: around for key in named if (around := _usual(numbers[key])) is not None}
    shown = {key: {c for c in _candidates(numbers[key]) if _beyond(c, usual[key])} for key in usual}
    times = {
        code: sum(int((numbers[key] == code).sum()) for key in usual if code in shown[key])
        for code in sorted(set().union(*shown.values()))
    }
    if sum(times.values()) < _SHOWN:
        return dict(named), []
    codes, found = {*times, _COMMONEST}, dict(named)
    for key, around in usual.items():
        may = [c for c in codes if _beyond(c, around) and (c in shown[key] or named[key].column.kind not in _COUNTS)]
        found[key] = _with_limits(named[key], may)
    if found == named:
        return found, []
    told = ", ".join(f"{code:g} ({number} times)" for code, number in times.items())
    return found, [f"codes for no value in the sample: {told}; limits keep them out"]


def _candidates(numbers: Numbers) -> set[float]:
    # Nines have few forms: most columns hold none of them, and none is looked at twice.
    large = np.unique(numbers[np.isfinite(numbers) & (np.abs(numbers) >= 999)])
    return {float(n) for n in large if abs(n) in _BOUNDS or _NINES.fullmatch(f"{abs(n):.10g}")}


def _usual(numbers: Numbers) -> tuple[float, float] | None:
    """What all but codes leaves of the sample's range at both ends, widened by it; None for too few values."""
    rest = numbers[np.isfinite(numbers) & ~np.isin(numbers, list(_candidates(numbers)))]
    if len(rest) < _ROWS:
        return None
    low, high = np.quantile(rest, (0.01, 0.99))
    span = max(float(high - low), 1e-3 * max(abs(low), abs(high)))
    reach = low - span if rest.min() < 0 else max(low - span, -span / 2)  # what was never negative hardly gets there
    return float(min(reach, rest.min())), float(max(high + span, rest.max()))


def _beyond(code: float, usual: tuple[float, float]) -> bool:
    return code < usual[0] or code > usual[1]


def _with_limits(entry: Named, codes: list[float]) -> Named:
    column = entry.column
    if column.states or not codes:
        return entry
    scale = conversion(column.unit, column.kind)
    limits = {code: (code - math.copysign(abs(code) * _INSIDE, code)) * scale.factor + scale.offset for code in codes}
    low = max((limit for code, limit in limits.items() if code < 0), default=-math.inf)
    high = min((limit for code, limit in limits.items() if code > 0), default=math.inf)
    stricter = {
        "low": column.low if column.low is not None and column.low >= low else low,
        "high": column.high if column.high is not None and column.high <= high else high,
    }
    kept = {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in stricter.items()}
    return replace(entry, column=column.model_copy(update=kept))

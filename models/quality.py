"""From a raw number to a canonical one, and the numbers that no sensor can read: the same offline and online.

The one idea: a value beyond what its sensor can read is no value, wherever it comes from; without a range in
the source description, the kind of sensor says what is physically impossible.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.source import SensorColumn
from models.units import conversion

# What no sensor of the kind can read, in canonical units, where the description gives no range.
IMPOSSIBLE: dict[str, tuple[float, float]] = {"temperature": (-273.15, 5000.0), "pressure": (-1.1, 1e5)}
ANY = (-1e12, 1e12)


@dataclass(frozen=True)
class Scale:
    """``canonical = raw * factor + offset`` in float64, then float32; no value outside ``low`` to ``high``."""

    sensor: str
    factor: float
    offset: float
    low: float
    high: float


def scale_of(column: SensorColumn, unit: str | None = None) -> Scale:
    """How a column is read, in ``unit`` where one is given. Raises InputError where the unit does not fit the kind."""
    found = conversion(column.unit if unit is None else unit, column.kind)
    low, high = IMPOSSIBLE.get(column.kind, ANY)
    return Scale(
        column.sensor, found.factor, found.offset,
        low if column.low is None else column.low, high if column.high is None else column.high,
    )  # fmt: skip

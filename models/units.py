"""Units of measurement: every conversion to the canonical unit is one factor and one offset.

The one idea: a sensor's *kind* (temperature, pressure, ...) decides its canonical unit, so that
plants that measure the same thing in other units meet in the same column.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from models.errors import InputError

if TYPE_CHECKING:
    import pint

# Kind of sensor -> canonical unit, in pint's spelling.
CANONICAL_UNIT: dict[str, str] = {
    "temperature": "degC",
    "pressure": "bar",
    "vibration": "mm/s",
    "acceleration": "m/s^2",
    "flow": "m^3/h",
    "speed": "rpm",
    "current": "A",
    "voltage": "V",
    "power": "kW",
    "energy": "kWh",
    "torque": "N*m",
    "force": "N",
    "length": "mm",
    "velocity": "m/s",
    "mass": "kg",
    "level": "percent",
    "humidity": "percent",
    "load": "percent",
    "frequency": "Hz",
    "time": "h",
    "ratio": "1",
    "number": "1",
}

# Spellings seen in plants' headers that pint does not know.
_SPELLING: dict[str, str] = {
    "": "1", "-": "1", "none": "1", "%": "percent", "pct": "percent", "°c": "degC", "c": "degC", "°f": "degF",
    "f": "degF", "degc": "degC", "degf": "degF", "celsius": "degC", "fahrenheit": "degF", "k": "kelvin",
    "barg": "bar", "bara": "bar", "psig": "psi", "psia": "psi", "ips": "inch/s", "in/s": "inch/s", "mm_s": "mm/s",
    "in_s": "inch/s", "m3/h": "m^3/h", "m3_h": "m^3/h", "m³/h": "m^3/h", "l/min": "liter/min", "lpm": "liter/min",
    "gpm": "gallon/min", "rpm": "rpm", "1/min": "rpm", "u/min": "rpm", "amp": "A", "amps": "A", "nm": "N*m",
    "n.m": "N*m", "m/s2": "m/s^2", "g": "standard_gravity", "mm/sec": "mm/s", "in/sec": "inch/s",
}  # fmt: skip


@dataclass(frozen=True)
class Conversion:
    """``canonical = raw * factor + offset``."""

    factor: float
    offset: float
    unit: str


@lru_cache(maxsize=1)
def _registry() -> pint.UnitRegistry[float]:
    import pint  # a fifth of a second, numpy with it: the command line starts without

    registry: pint.UnitRegistry[float] = pint.UnitRegistry(autoconvert_offset_to_baseunit=True, cache_folder=None)
    return registry


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> str | None:
    """Pint's name for a unit as a plant writes it, or None if it is no unit."""
    spelled = _SPELLING.get(text.strip().lower(), text.strip())
    try:
        return str(_registry().Unit(spelled)) if spelled != "1" else "1"
    except Exception:  # pint raises a dozen kinds, tokenizer errors among them
        return None


@lru_cache(maxsize=4096)
def kind_of_unit(text: str) -> str | None:
    """The first kind whose canonical unit has the same dimension: ``psi`` -> ``pressure``."""
    unit = parse_unit(text)
    if unit is None or unit == "1":
        return None
    named = {"percent": "ratio", "revolutions_per_minute": "speed", "hertz": "frequency"}
    if unit in named:
        return named[unit]
    if "*" in unit and ("newton" in unit or "force" in unit):
        return "torque"  # the dimension of energy, but nobody writes energy as a force times a length
    dimension = _registry().Unit(unit).dimensionality
    for kind, canonical in CANONICAL_UNIT.items():
        if canonical not in ("1", "percent") and _registry().Unit(canonical).dimensionality == dimension:
            return kind
    return None


@lru_cache(maxsize=4096)
def conversion(unit: str, kind: str) -> Conversion:
    """Factor and offset from ``unit`` to the canonical unit of ``kind``.

    Raises InputError where the unit is unknown or measures something else.
    """
    canonical = CANONICAL_UNIT.get(kind)
    if canonical is None:
        raise InputError("Unknown kind of sensor", expected=f"one of {', '.join(CANONICAL_UNIT)}", found=repr(kind))
    parsed = parse_unit(unit)
    if parsed is None:
        raise InputError(
            "Unknown unit", expected=f"a unit of {kind} such as {canonical}", found=repr(unit),
            do="Correct `unit` of that sensor in the source description",
        )  # fmt: skip
    if canonical in (parsed, "1"):
        return Conversion(1.0, 0.0, canonical)
    quantity = _registry().Quantity
    target = "percent" if canonical == "percent" else canonical
    source = "dimensionless" if parsed == "1" else parsed
    try:
        zero = quantity(0.0, source).to(target).magnitude
        # Two far points: the slope of an affine map, exact to rounding.
        factor = (quantity(1000.0, source).to(target).magnitude - zero) / 1000.0
    except Exception as error:
        raise InputError(
            "Unit does not fit the kind of sensor", expected=f"a unit of {kind} such as {canonical}",
            found=repr(unit), do="Correct `unit` or `kind` in the source description",
        ) from error  # fmt: skip
    return Conversion(float(factor), float(zero), canonical)

"""What is wrong with a batch of readings, as pure functions over arrays of levels and runs.

The one idea: a level is three numbers, p10, p50 and p90 of a few days. A unit has changed only where a level is far
from *every* level that the sensor has lately had, and a known conversion of its kind of quantity explains it from most
of them; a machine that starts, is loaded otherwise or wears out does neither.

S: series (a machine and sensor), K: slices of time, R: earlier slices, 3: p10, p50, p90.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.errors import InputError
from models.source import Check, Severity
from models.units import conversion

Array = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
DAY_US = 86_400_000_000
FAR = 3.0  # widths of a level: nearer than this is no change at all
BEST, MOSTLY = 0.35, 1.0  # widths: how well a conversion must explain a level from the best and from half of the others
SHAPE = 0.4  # of a scaled level's median and p90: how far the new ones may be off
REFERENCES = 20  # slices that a level is compared with
_LEAST = 0.02  # of a level: no width is taken to be smaller
RANK: dict[Severity, int] = {"stop": 0, "quarantine": 1, "note": 2, "off": 3}
USUAL: dict[str, tuple[str, ...]] = {
    "temperature": ("degC", "degF", "kelvin"), "pressure": ("bar", "mbar", "kPa", "MPa", "psi", "Pa"),
    "vibration": ("mm/s", "inch/s", "m/s"), "acceleration": ("m/s^2", "standard_gravity", "mm/s^2"),
    "flow": ("m^3/h", "liter/min", "liter/s", "liter/h", "m^3/s", "gallon/min"), "speed": ("rpm", "rad/s"),
    "current": ("A", "mA", "kA"), "voltage": ("V", "mV", "kV"), "power": ("kW", "W", "MW", "horsepower"),
    "energy": ("kWh", "Wh", "MWh", "MJ", "kJ"), "torque": ("N*m", "kN*m", "foot*pound_force"),
    "force": ("N", "kN", "pound_force", "kilogram_force"), "length": ("mm", "m", "cm", "um", "inch"),
    "velocity": ("m/s", "km/h", "foot/s", "mm/s"), "mass": ("kg", "g", "tonne", "pound"),
    "level": ("percent", "1"), "humidity": ("percent", "1"), "load": ("percent", "1"), "frequency": ("Hz", "kHz"),
    "time": ("h", "minute", "s", "day"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """``message`` is a sentence for the plant's engineer; ``value`` is what the check weighed (a share, hours)."""

    check: Check
    severity: Severity
    plant: str
    message: str
    machine: str | None = None
    sensor: str | None = None
    from_us: int | None = None
    until_us: int | None = None
    value: float | None = None


@dataclass(frozen=True)
class Mask:
    """Cells of a machine's sensor that are to be emptied; both bounds are inclusive."""

    machine: str
    sensor: str
    from_us: int
    until_us: int
    reason: str


@dataclass(frozen=True)
class Change:
    """``after = before * factor + offset``, both in canonical units; ``text`` goes on after «as if»."""

    text: str
    factor: float
    offset: float


@lru_cache(maxsize=512)
def changes(kind: str, unit: str) -> tuple[Change, ...]:
    """What a canonical value becomes where the files write another usual unit than ``unit``, or did before.

    Changes by less than a fifth are left out: nobody could tell them from a change of load.
    """
    own = conversion(unit, kind)
    found: list[Change] = []
    for name in USUAL.get(kind, ()):
        try:
            other = conversion(name, kind)
        except InputError:  # a ratio in a unit without dimension
            continue
        ratio, shift = own.factor / other.factor, (own.offset - other.offset) * own.factor / other.factor
        # The number x of unit `own` becomes (x * own.factor + own.offset - other.offset) / other.factor.
        offset = shift + own.offset * (1 - ratio)
        found.append(Change(f"{unit} had become {_plain(name)}", ratio, offset))
        found.append(Change(f"{_plain(name)} had become {unit}", 1 / ratio, -offset / ratio))
    for power in (10.0, 100.0, 1000.0):
        found.append(Change(f"values had been multiplied by {power:g}", power, 0.0))
        found.append(Change(f"values had been divided by {power:g}", 1 / power, 0.0))
    kept: list[Change] = []
    for change in found:
        plain = change.offset == 0 and abs(np.log(change.factor)) < np.log(1.2)
        known = any(abs(c.factor / change.factor - 1) < 0.02 and abs(c.offset - change.offset) < 0.5 for c in kept)
        if not plain and not known:
            kept.append(change)
    return tuple(kept)


def _plain(unit: str) -> str:
    return "a share of 1" if unit == "1" else unit.replace("^", "")


def _distance(one: Array, other: Array, widths: Array) -> Array:
    """How far apart levels are, in ``widths``; [..., 3] and [...] to [...]."""
    found: Array = np.max(np.abs(one - other), axis=-1) / widths
    return found


def _width(level: Array) -> Array:
    found: Array = level[..., 2] - level[..., 0]
    return found


def unusual(levels: Array, known: Bools) -> Bools:
    """Whether a level is far from each of ``REFERENCES`` slices before it; [S, K, 3] and [S, K] to [S, K].

    Levels that are not ``known`` (too few values) say nothing; a series' first level is never unusual.
    """
    S, K, _ = levels.shape
    found = np.zeros((S, K), bool)
    width = _width(levels) + _LEAST * np.abs(levels[..., 1]) + 1e-9
    for k in range(1, K):
        first = max(0, k - REFERENCES)
        nearest = np.minimum(width[:, first:k], width[:, k : k + 1])
        far = _distance(levels[:, first:k], levels[:, k : k + 1], nearest) >= FAR
        usable = known[:, first:k] & ~found[:, first:k]
        found[:, k] = known[:, k] & usable.any(1) & (far | ~usable).all(1)
    return found


@dataclass(frozen=True)
class Explained:
    """By which change a level follows from those before it, and how far off it is, in widths."""

    change: Change
    error: float
    before: tuple[float, float]


def explain(level: Array, references: Array, candidates: tuple[Change, ...]) -> Explained | None:
    """The change that explains ``level`` [3] from most of ``references`` [R, 3], or None."""
    if not candidates:
        return None
    recent = references[-10:]
    factor, offset = np.array([(c.factor, c.offset) for c in candidates]).T
    turned = recent * factor[:, None, None] + offset[:, None, None]  # [candidates, R, 3]
    slack, own, theirs = _LEAST * np.abs(turned[..., 1]), _width(level), _width(turned)
    error = _distance(turned, level, (theirs + own) / 2 + slack + 1e-9)
    spread = (own + 1e-9) / (theirs + 1e-9)
    fits = ((spread > 1 / 3) & (spread < 3)) | (np.maximum(own, theirs) <= slack)
    # A machine that stands still reads noise about zero, which is its usual level divided by something.
    upper = np.abs(turned[..., 1:] - level[1:]) <= SHAPE * np.abs(turned[..., 1:])
    fits &= (offset != 0)[:, None] | upper.all(axis=-1)
    error = np.where(fits, error, np.inf)
    nearest = np.where(np.mean(error <= MOSTLY, axis=1) >= 0.5, error.min(axis=1), np.inf)
    best = int(np.argmin(nearest))
    if nearest[best] > BEST:
        return None
    low, _, high = np.median(recent, axis=0)
    return Explained(candidates[best], float(nearest[best]), (float(low), float(high)))


def lasting_limit_us(longest_us: Ints, equal: Array, *, stuck_h: float | None, least_h: float = 24.0) -> float:
    """How long a value may stay the same: as described, or four times what the sensor's machines usually show.

    ``longest_us`` and ``equal`` (share of values like the one before) are of its machines and months. Infinite where
    it repeats itself by nature (a state, a counter of hours, a set point).
    """
    if stuck_h is not None:
        return stuck_h * 3.6e9
    if not len(longest_us) or float(np.median(equal)) > 0.5:
        return float("inf")
    return float(max(least_h * 3.6e9, 4 * np.median(longest_us)))

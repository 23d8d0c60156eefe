"""Sensors, units and kinds out of raw names: ``Lagertemperatur_degC``, ``PT-101 [bar]``, ``vibration_mm_s``.

The one idea: a bracket always holds a unit; a suffix is a unit only where it cannot be a word (``bar``)
or where the rest of the name measures that (``motor_current_A``), so ``pressure_min`` is no duration.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from jobs.infer.tags import instrument, without_value
from models.source import SensorColumn
from models.units import CANONICAL_UNIT, conversion, kind_of_unit, parse_unit

_BRACKET = re.compile(r"^(.*?)[\s_]*[\[({]\s*([^\[\](){}]*?)\s*[\])}]\s*$")
_IN = re.compile(r"^(.*\S)\s+in\s+(\S+)$")
_RESERVED = {"machine", "time", "month", "ingested_at", "source_id", "since_service", "errors_24h"}

# Units that are no word in any header, lower case -> as `models.units` reads them.
_UNITS = (
    "degC degF °C °F celsius fahrenheit kelvin bar barg bara mbar psi psig psia kPa MPa hPa mm/s in/s ips m/s "
    "mm_s in_s mm/sec in/sec km/h m/s2 m/s² mm um µm cm rpm 1/min u/min Hz kHz kW kWh mA amp amps mV kV Nm N.m kN "
    "l/min lpm gpm m3/h m³/h m3_h l/h kg/h t/h kg pct percent %"
)
_PLAIN = {text.lower(): text for text in _UNITS.split()}
# What a name measures, by a piece of a word, English and German. First hit wins: `volumenstrom` is no current.
_WORDS: tuple[tuple[str, str], ...] = (
    ("torque", "torque drehmoment moment"),
    ("flow", "flow durchfluss volumenstrom foerderstrom foerdermenge"),
    ("temperature", "temp temperature temperatur"),
    ("acceleration", "accel acceleration beschleunigung"),
    ("vibration", "vib vibration schwing schwingung"),
    ("speed", "speed drehzahl rpm rotation"),
    ("velocity", "velocity geschwindigkeit"),
    ("pressure", "press pressure druck vacuum vakuum"),
    ("current", "current strom amperage"),
    ("voltage", "voltage volt spannung"),
    ("power", "power leistung"),
    ("energy", "energy energie"),
    ("level", "level fuellstand niveau"),
    ("humidity", "humidity feuchte"),
    ("load", "load auslastung last"),
    ("frequency", "freq frequency frequenz"),
    ("force", "force kraft"),
    ("length", "position length laenge weg gap spalt wear verschleiss"),
    ("mass", "mass masse weight gewicht"),
    ("time", "time zeit hours stunden duration dauer laufzeit uptime elapsed"),
)
# Physically possible values in canonical units, wide enough that only broken readings fall outside.
_RANGE: dict[str, tuple[float | None, float | None]] = {
    "temperature": (-273.15, 3000.0), "pressure": (-1.1, 10_000.0), "vibration": (0.0, 1000.0),
    "humidity": (0.0, 100.0), "frequency": (0.0, None),
}  # fmt: skip
_GERMAN = {ord(a): b for a, b in zip("äöüÄÖÜß", ("ae", "oe", "ue", "Ae", "Oe", "Ue", "ss"), strict=True)}
_DIFFERENCE = re.compile(r"(^|_)(delta|diff|differenz\w*|dp|dt)(_|$)")


@dataclass(frozen=True)
class Named:
    """A raw column's sensor, how sure that is, by what, and the unit's text where it could not be used."""

    column: SensorColumn
    confidence: str
    evidence: str
    unknown_unit: bool = False


def folded(text: str) -> str:
    """``Schwingung [mm/s]``, ``machineID`` -> ``schwingung_mm_s``, ``machine_id``: lower ASCII, one underscore."""
    plain = unicodedata.normalize("NFKD", text.translate(_GERMAN)).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z][A-Za-z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


@lru_cache(maxsize=4096)
def split_unit(raw: str) -> tuple[str, str | None]:
    """A raw name's stem and its unit as `models.units` reads it, or None: ``("Temp", "degC")``."""
    for pattern in (_BRACKET, _IN):
        if (match := pattern.match(raw)) and match[1] and (unit := _unit(match[2])):
            return match[1], unit
    if raw.strip().lower() == "rpm":  # a unit that is used as a name
        return raw, "rpm"
    parts = re.split(r"([_\s,.-]+)", raw)
    for num_pieces in (3, 1):  # `mm_s` before `s`
        stem, tail = "".join(parts[: -num_pieces - 1]), "".join(parts[-num_pieces:])
        if len(parts) > num_pieces and stem and (unit := _suffix(stem, tail)):
            return stem, unit
    return (_BRACKET.sub(r"\1", raw) or raw), None


def sensor_of(raw: str, *, told: str | None = None) -> Named:
    """The sensor behind a raw column or tag. ``told`` is the unit that the file tells elsewhere, if any."""
    stem, unit = split_unit(raw)
    evidence = f"the name ends in {raw.removeprefix(stem).strip() or raw!r}"
    if told and (beside := _unit(told)):
        unit, evidence = beside, f"the file says {told!r} beside it"
    stem = without_value(stem)
    name = folded(stem) or "sensor"
    name = f"{name}_value" if name in _RESERVED else name
    coded = instrument(stem)
    if unit is None and coded and coded.kind:
        column = SensorColumn(sensor=name, kind=coded.kind, unit=CANONICAL_UNIT[coded.kind])
        return Named(column, "low", f"{coded.letters} measures {coded.kind}; no unit that is known: the usual", True)
    if unit is None:
        return Named(SensorColumn(sensor=name), "low", "no unit that is known: values as they are", True)
    kind = kind_of(unit, stem)
    if kind is None or (_DIFFERENCE.search(name) and conversion(unit, kind).offset):
        return Named(SensorColumn(sensor=name), "low", f"{evidence}; no kind of sensor fits: as it is", True)
    low, high = _RANGE.get(kind, (None, None))
    low = None if _DIFFERENCE.search(name) else low
    column = SensorColumn(sensor=name, kind=kind, unit=unit, low=low, high=high)
    return Named(column, "high" if _named_kind(stem) == kind else "medium", evidence)


def kind_of(unit: str, name: str) -> str | None:
    """The kind a unit measures; the name decides between kinds that share a unit (torque, energy)."""
    kind, named = kind_of_unit(unit), _named_kind(name)
    if kind == "ratio" and named in ("level", "humidity", "load"):
        return named
    if kind == "energy" and (named == "torque" or unit.lower() in ("nm", "n.m", "n*m")):
        return "torque"
    if kind == "vibration" and (named == "velocity" or (named != "vibration" and unit.lower() in ("m/s", "km/h"))):
        return "velocity"
    return kind


def unique(named: dict[str, Named]) -> dict[str, Named]:
    """Columns that would become one sensor (``temp_degC``, ``temp_degF``) keep their whole raw name instead."""
    count: dict[str, int] = {}
    for entry in named.values():
        count[entry.column.sensor] = count.get(entry.column.sensor, 0) + 1
    found: dict[str, Named] = {}
    taken = {name for name, number in count.items() if number == 1}
    for raw, entry in named.items():
        name = entry.column.sensor
        if count[name] > 1:
            base = folded(raw) or name
            name = next(n for i in range(1, len(named) + 2) if (n := base if i == 1 else f"{base}_{i}") not in taken)
            taken.add(name)
        column = entry.column.model_copy(update={"sensor": name})
        found[raw] = Named(column, entry.confidence, entry.evidence, entry.unknown_unit)
    return found


def _named_kind(stem: str) -> str | None:
    """The kind that words or an instrument's letters name."""
    coded = instrument(stem)
    return _measures(folded(stem)) or (coded.kind if coded else None)


def _measures(name: str) -> str | None:
    for kind, words in _WORDS:
        for word in words.split():
            # A piece of a German compound (`lagertemperatur`) is enough from five letters on.
            if re.search(rf"(^|_){word}(_|\d|$)", name) or (len(word) > 4 and word in name):
                return kind
    return None


def _suffix(stem: str, tail: str) -> str | None:
    plain = _PLAIN.get(tail.lower())
    if plain:
        return plain
    named = _named_kind(stem)
    if named is None and not re.search(r"[/°%^]", tail):
        return None
    for text in (tail, tail.replace("_", "/")):
        kind = kind_of_unit(text) if parse_unit(text) else None
        if kind and (kind_of(text, stem) == named or named is None):
            return text
    return None


def _unit(text: str) -> str | None:
    """A unit written where only a unit can stand."""
    inner = text.strip().strip("[](){}").strip()
    spelled = _PLAIN.get(inner.lower(), inner)
    return spelled if inner and parse_unit(spelled) else None

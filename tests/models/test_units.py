"""Units: worked by hand; each conversion is one factor and one offset."""

import pytest

from models.errors import InputError
from models.units import CANONICAL_UNIT, conversion, kind_of_unit


@pytest.mark.parametrize(
    ("unit", "kind", "raw", "canonical"),
    [
        ("degF", "temperature", 212.0, 100.0),
        ("°F", "temperature", 32.0, 0.0),
        ("K", "temperature", 273.15, 0.0),
        ("psi", "pressure", 100.0, 6.894757),
        ("in/s", "vibration", 1.0, 25.4),
        ("L/min", "flow", 1000.0, 60.0),
        ("gpm", "flow", 100.0, 22.712471),
        ("1/min", "speed", 1500.0, 1500.0),
        ("Nm", "torque", 3.0, 3.0),
        ("kPa", "pressure", 250.0, 2.5),
        ("%", "level", 40.0, 40.0),
        ("W", "power", 1500.0, 1.5),
        ("anything", "number", 7.0, None),
    ],
)
def test_conversions_worked_by_hand(unit, kind, raw, canonical):
    if canonical is None:
        with pytest.raises(InputError, match="Unknown unit"):
            conversion(unit, kind)
        return
    found = conversion(unit, kind)
    assert raw * found.factor + found.offset == pytest.approx(canonical, rel=1e-6, abs=1e-6)


def test_a_canonical_unit_is_left_as_it_is():
    for kind, unit in CANONICAL_UNIT.items():
        found = conversion(unit, kind)
        assert (found.factor, found.offset) == (1.0, 0.0)


def test_a_unit_of_something_else_is_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"does not fit.*temperature.*'bar'.*Correct"):
        conversion("bar", "temperature")


def test_the_kind_follows_from_the_unit():
    assert [kind_of_unit(u) for u in ("degF", "psi", "mm/s", "rpm", "A", "m3/h", "Nm", "kW", "banana")] == [
        "temperature", "pressure", "vibration", "speed", "current", "flow", "torque", "power", None,
    ]  # fmt: skip

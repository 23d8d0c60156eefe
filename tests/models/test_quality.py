from __future__ import annotations

import pytest

from models.errors import InputError
from models.quality import scale_of
from models.source import SensorColumn
from models.units import CANONICAL_UNIT


@pytest.mark.parametrize("kind", sorted(CANONICAL_UNIT))
def test_a_canonical_unit_changes_nothing(kind: str) -> None:
    found = scale_of(SensorColumn(sensor="s", kind=kind, unit=CANONICAL_UNIT[kind]))
    assert (found.factor, found.offset) == (1.0, 0.0)


def test_the_descriptions_range_goes_before_what_is_physically_impossible() -> None:
    column = SensorColumn(sensor="s", kind="temperature", unit="degC", low=0.0)
    found = scale_of(column)
    assert (found.low, found.high) == (0.0, 5000.0)


def test_a_unit_that_measures_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="Unit does not fit the kind of sensor"):
        scale_of(SensorColumn(sensor="s", kind="temperature", unit="degC"), "bar")

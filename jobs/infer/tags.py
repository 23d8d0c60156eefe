"""Tags of instruments by ISA-5.1: the first letter says what is measured, the number which loop it belongs to.

The one idea: ``PT-101`` is no name a person chose but a code, so its letters tell the kind of sensor even
where no unit stands, and its number ties it to the machine of that number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_KINDS = {
    "E": "voltage", "F": "flow", "I": "current", "J": "power", "L": "level", "M": "humidity", "P": "pressure",
    "S": "speed", "T": "temperature", "V": "vibration", "W": "mass", "Y": "vibration", "Z": "length",
}  # fmt: skip
# Indicating, transmitting, element, controlling, recording, a difference before them; alarms are no measure.
_FUNCTIONS = "I|T|E|C|R|IT|IC|IR|RC|TI|IRC|ICR|ITC|TIC"
_TAG = re.compile(
    rf"(?:^|[^A-Za-z])(?P<letters>(?P<first>[ABD-GI-MPQS-Z])D?(?:{_FUNCTIONS}))[-_ ]?(?P<loop>\d{{1,6}})"
    r"(?P<part>[A-Z]?)(?![A-Za-z0-9])"
)
_SMALL = re.compile(r"(?i)(?<![a-z])(?:[ptfl](?:t|i|it|ic)|te|pdt|pdi|vt)[-_]?\d{2,6}[a-z]?(?![a-z0-9])")
_PARTS = re.compile(r"(?i)[._](?:PV|VAL|VALUE|ACT|MEAS|SP|OP|MV|OUT|CV|MODE|STS|STATUS)$")
_VALUE = re.compile(r"(?i)[._](?:PV|VAL|VALUE|ACT|MEAS)$")
# A plant's tags cut into what is measured and the loop, which is the number of its machine.
LOOPS = r"(?:^|[^A-Za-z])(?P<sensor>[A-Z]{2,5})[-_ ]?(?P<machine>\d{1,6})(?![A-Za-z0-9])"


@dataclass(frozen=True)
class Instrument:
    """An instrument's letters, loop and kind of sensor (None where no kind is known)."""

    letters: str
    loop: str
    kind: str | None


@lru_cache(maxsize=65536)
def instrument(text: str) -> Instrument | None:
    """The instrument that a tag names, anywhere in it: ``10-PT-101.PV``."""
    found = _TAG.search(text) or (_TAG.search(text.upper()) if _SMALL.search(text) else None)
    if found is None:
        return None
    return Instrument(found["letters"], found["loop"], _KINDS.get(found["first"]))


def without_value(tag: str) -> str:
    """``TI_204.PV`` is the value of ``TI_204``; a set point (``.SP``) is something else."""
    return _VALUE.sub("", tag) or tag


def has_part(tag: str) -> bool:
    """Whether the tag ends in a part of a control block (``.PV``), which names no sensor of a machine."""
    return _PARTS.search(tag) is not None

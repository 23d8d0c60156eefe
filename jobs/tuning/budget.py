"""How long a whole call may search: ``90s``, ``30m``, ``2h``."""

from __future__ import annotations

import re

from models.errors import InputError

_TEXT = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhd])\Z")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_budget(text: str) -> float:
    """Seconds. Raises InputError for a number without a unit, which could be any."""
    found = _TEXT.match(text.strip())
    seconds = float(found["number"]) * _SECONDS[found["unit"]] if found else 0.0
    if not seconds:
        raise InputError(
            "Wrong budget", expected="a number above 0 with its unit, such as 90s, 30m or 2h", found=repr(text),
            do="Say `--budget 2h`",
        )  # fmt: skip
    return seconds

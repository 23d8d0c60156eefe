"""When local clocks skip an hour and when they show one twice, as a clock on the wall writes it.

The one idea: a few zones stand for all that change at the same time of day on the same day, so a plant whose
readings skip or repeat exactly such an hour writes local time, whatever its description says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

HOUR_US = 3_600_000_000
ZONES = (
    "Europe/Berlin", "Europe/London", "Europe/Helsinki", "America/New_York", "Australia/Sydney", "Pacific/Auckland",
)  # fmt: skip


@dataclass(frozen=True)
class Fold:
    """``wall_us``: start of the hour that is skipped (``spring``) or shown twice, the wall clock read as if UTC.

    ``utc_us``: the moment of the change.
    """

    zone: str
    spring: bool
    wall_us: int
    utc_us: int


@lru_cache(maxsize=512)
def folds(year: int, zones: tuple[str, ...] = ZONES) -> tuple[Fold, ...]:
    """Changes by a whole hour in the year, sorted by moment for each zone."""
    return tuple(fold for zone in zones for fold in _of_zone(year, zone))


@lru_cache(maxsize=512)
def _of_zone(year: int, zone: str) -> tuple[Fold, ...]:
    known, found = ZoneInfo(zone), []
    moment = datetime(year, 1, 1, tzinfo=UTC)
    while moment.year == year:
        later = moment + timedelta(days=1)
        if _offset(later, known) != _offset(moment, known):
            hour = next(
                at for at in (moment + timedelta(hours=h + 1) for h in range(24))
                if _offset(at, known) != _offset(moment, known)
            )  # fmt: skip
            change = _offset(hour, known) - _offset(moment, known)
            if abs(change) == timedelta(hours=1):
                wall = hour + min(_offset(hour, known), _offset(moment, known))
                found.append(Fold(zone, change > timedelta(0), _us(wall), _us(hour)))
        moment = later
    return tuple(found)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)

"""Labels: for every tick, how long until the failure, or until we stopped knowing (censoring).

The one idea: a machine that has not failed teaches as well, as long as nobody pretends to know
more than the log did at ``as_of``: bookings come late, so the last days before it are not claimed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.config import Clock
from models.windows import Float, Int

_NONE: Int = np.empty(0, np.int64)


@dataclass(frozen=True)
class MachineLog:
    """A machine's failures and renewals, microseconds UTC, each with the time when it was booked."""

    failed_us: Int = field(default_factory=lambda: _NONE)
    repaired_us: Int = field(default_factory=lambda: _NONE)  # end of the outage, same length
    failed_known_us: Int = field(default_factory=lambda: _NONE)
    serviced_us: Int = field(default_factory=lambda: _NONE)  # renewing maintenance that was not a failure
    serviced_known_us: Int = field(default_factory=lambda: _NONE)

    def known_at(self, as_of_us: int) -> MachineLog:
        """The log as it stood then."""
        failed, serviced = self.failed_known_us <= as_of_us, self.serviced_known_us <= as_of_us
        return MachineLog(
            self.failed_us[failed], self.repaired_us[failed], self.failed_known_us[failed],
            self.serviced_us[serviced], self.serviced_known_us[serviced],
        )  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """``time`` [T] life units from the tick's end to failure (``event``) or censoring; both count where ``usable``.

    ``end_us`` [T] is that failure or censoring in microseconds UTC: exact, so that it names the booking.
    """

    time: Float
    event: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]
    end_us: Int


def label_ticks(ticks: Int, log: MachineLog, clock: Clock, *, as_of_us: int, observed_until_us: int) -> Labels:
    """Time to the next failure or censoring at each tick's end.

    Renewing maintenance censors (the failure it may have prevented is unknown); so does the end of
    observation, ``observed_until_us``. Ticks inside an outage, and those at or past the end of
    observation, are not usable. Source for censoring as non-event exposure: Cox (1972).
    """
    log = log.known_at(as_of_us)
    now = np.asarray(ticks, np.int64) * clock.step_us
    far = np.iinfo(np.int64).max
    failure = _next(log.failed_us, now, far)
    service = _next(log.serviced_us, now, far)
    end = np.minimum(np.minimum(failure, service), observed_until_us)
    event = (failure <= service) & (failure <= observed_until_us)
    usable = end > now
    for failed, repaired in zip(log.failed_us, log.repaired_us, strict=True):
        usable &= ~((now >= failed) & (now < repaired))
    time = np.where(usable, (end - now) / clock.step_us * clock.life_per_step, 0).astype(np.float32)
    return Labels(time, event & usable, usable, end)


def booking_delay_us(logs: list[MachineLog], as_of_us: int, *, share: float = 0.95) -> int:
    """How late bookings come: the ``share`` quantile of booking minus failure among those known by then."""
    late = [log.known_at(as_of_us).failed_known_us - log.known_at(as_of_us).failed_us for log in logs]
    joined = np.concatenate(late) if late else _NONE
    return int(np.quantile(np.maximum(joined, 0), share)) if len(joined) else 0


def _next(times: Int, now: Int, missing: int) -> Int:
    """The first of ``times`` after each ``now``."""
    padded = np.r_[np.sort(times), missing]
    found: Int = padded[np.searchsorted(padded[:-1], now, side="right")]
    return found

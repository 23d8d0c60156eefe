"""Labels: for every tick, how long until the failure, or until we stopped knowing (censoring).

The one idea: a machine that has not failed teaches as well, as long as nobody pretends to know
more than the log did at ``as_of``: bookings come late, so the last days before it are not claimed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from models.config import Clock
from models.windows import Float, Int

Codes = npt.NDArray[np.int8]
_NONE: Int = np.empty(0, np.int64)
_NO_CODES: Codes = np.empty(0, np.int8)
UNNAMED = -1  # the mode of a failure that nobody named, and of what is no failure
# What ends a life: the end of observation, a failure, maintenance by the calendar (or for reasons not given), by the
# machine's condition, and by its condition with a finding that confirmed it.
END, FAILURE, SERVICE, CONDITION, FINDING = range(5)
# A confirmed finding counts half a failure: midway between the two bounds of what it would have come to.
FINDING_WEIGHT = 0.5


@dataclass(frozen=True)
class MachineLog:
    """A machine's failures and renewals, microseconds UTC, each with the time when it was booked."""

    failed_us: Int = field(default_factory=lambda: _NONE)
    repaired_us: Int = field(default_factory=lambda: _NONE)  # end of the outage, same length
    failed_known_us: Int = field(default_factory=lambda: _NONE)
    serviced_us: Int = field(default_factory=lambda: _NONE)  # renewing maintenance that was not a failure
    serviced_known_us: Int = field(default_factory=lambda: _NONE)
    failed_mode: Codes = field(default_factory=lambda: _NO_CODES)  # numbers of the plant's modes; left out: UNNAMED
    serviced_as: Codes = field(default_factory=lambda: _NO_CODES)  # SERVICE (left out), CONDITION or FINDING

    def __post_init__(self) -> None:
        if len(self.failed_mode) != len(self.failed_us):
            object.__setattr__(self, "failed_mode", np.full(len(self.failed_us), UNNAMED, np.int8))
        if len(self.serviced_as) != len(self.serviced_us):
            object.__setattr__(self, "serviced_as", np.full(len(self.serviced_us), SERVICE, np.int8))

    def known_at(self, as_of_us: int) -> MachineLog:
        """The log as it stood then."""
        failed, serviced = self.failed_known_us <= as_of_us, self.serviced_known_us <= as_of_us
        return MachineLog(
            self.failed_us[failed], self.repaired_us[failed], self.failed_known_us[failed],
            self.serviced_us[serviced], self.serviced_known_us[serviced], self.failed_mode[failed],
            self.serviced_as[serviced],
        )  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """``time`` [T] life units from the tick's end to failure (``event``) or censoring; both count where ``usable``.

    ``end_us`` [T] is that failure or censoring in microseconds UTC: exact, so that it names the booking. ``mode`` [T]
    is the failure's (UNNAMED without one), ``ended_by`` [T] what the end is: END, FAILURE, SERVICE and so on.
    """

    time: Float
    event: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]
    end_us: Int
    mode: Codes
    ended_by: Codes


def label_ticks(ticks: Int, log: MachineLog, clock: Clock, *, as_of_us: int, observed_until_us: int) -> Labels:
    """Time to the next failure or censoring at each tick's end.

    Renewing maintenance censors (the failure it may have prevented is unknown); so does the end of
    observation, ``observed_until_us``. Ticks inside an outage, and those at or past the end of
    observation, are not usable. Source for censoring as non-event exposure: Cox (1972).
    """
    log = log.known_at(as_of_us)
    now = np.asarray(ticks, np.int64) * clock.step_us
    far = np.iinfo(np.int64).max
    failure, mode = _next(log.failed_us, log.failed_mode, now, far)
    service, serviced_as = _next(log.serviced_us, log.serviced_as, now, far)
    end = np.minimum(np.minimum(failure, service), observed_until_us)
    event = (failure <= service) & (failure <= observed_until_us)
    usable = end > now
    for failed, repaired in zip(log.failed_us, log.repaired_us, strict=True):
        usable &= ~((now >= failed) & (now < repaired))
    time = np.where(usable, (end - now) / clock.step_us * clock.life_per_step, 0).astype(np.float32)
    ended_by = np.where(event, FAILURE, np.where(service <= end, serviced_as, END)).astype(np.int8)
    event &= usable
    return Labels(time, event, usable, end, np.where(event, mode, UNNAMED).astype(np.int8), ended_by)


def soft_events(
    time: Float, event: npt.NDArray[np.bool_], ended_by: Codes, *, within: float
) -> tuple[npt.NDArray[np.bool_], Float]:
    """What the likelihood takes for failures, and the weight of each row, [...] both.

    A row at most ``within`` life units before a confirmed finding is no survivor: with ``FINDING_WEIGHT`` it is a
    failure at that moment, with the rest of its weight it says nothing. Source: soft labels as expected
    log-likelihood, Dempster et al. (1977).
    """
    soft = doubtful_ticks(time, ended_by, within=within) & ~event
    return event | soft, np.where(soft, np.float32(FINDING_WEIGHT), np.float32(1))


def at_once(log: MachineLog) -> MachineLog:
    """Components that fail at one moment are one failure of their machine, repaired when the last of them is.

    Its mode is the one that all of them name; where they name several, none.
    """
    failed, first = np.unique(log.failed_us, return_index=True)
    if len(failed) == len(log.failed_us):
        return log
    repaired, known = np.maximum.reduceat(log.repaired_us, first), np.minimum.reduceat(log.failed_known_us, first)
    least = np.minimum.reduceat(np.where(log.failed_mode < 0, np.iinfo(np.int8).max, log.failed_mode), first)
    most = np.maximum.reduceat(log.failed_mode, first)
    mode = np.where(least == most, most, UNNAMED).astype(np.int8)
    return replace(log, failed_us=failed, repaired_us=repaired, failed_known_us=known, failed_mode=mode)


def booking_delay_us(logs: list[MachineLog], as_of_us: int, *, share: float = 0.95) -> int:
    """How late bookings come: the ``share`` quantile of booking minus failure among those known by then."""
    late = [log.known_at(as_of_us).failed_known_us - log.known_at(as_of_us).failed_us for log in logs]
    joined = np.concatenate(late) if late else _NONE
    return int(np.quantile(np.maximum(joined, 0), share)) if len(joined) else 0


def doubtful_ticks(time: Float, ended_by: Codes, *, within: float) -> npt.NDArray[np.bool_]:
    """Rows at most ``within`` life units before a confirmed finding: neither failed nor healthy."""
    found: npt.NDArray[np.bool_] = (ended_by == FINDING) & (time <= within)
    return found


def _next(times: Int, codes: Codes, now: Int, missing: int) -> tuple[Int, Codes]:
    """The first of ``times`` after each ``now``, with its code; the highest code of those at one moment."""
    order = np.lexsort((-codes, times))
    place = np.searchsorted(times[order], now, side="right")
    return np.r_[times[order], missing][place], np.r_[codes[order], np.int8(UNNAMED)][place]

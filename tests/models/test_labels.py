"""Labels: what the log says, as of when, and no more."""

import numpy as np

from models.config import Clock
from models.labels import MachineLog, booking_delay_us, label_ticks

HOUR = 3_600_000_000
CLOCK = Clock()
FAR = 10**6 * HOUR


def hours(*values):
    return np.array(values, np.int64) * HOUR


def label(log, *, ticks=10, as_of_us=FAR, until_h=100):
    return label_ticks(np.arange(ticks), log, CLOCK, as_of_us=as_of_us, observed_until_us=until_h * HOUR)


def test_time_runs_down_to_the_failure_and_an_outage_teaches_nothing():
    found = label(MachineLog(hours(4), hours(6), hours(5)))
    assert found.time[:4].tolist() == [4, 3, 2, 1]
    assert found.event[:4].all()
    assert found.usable.tolist() == [True] * 4 + [False] * 2 + [True] * 4
    assert not found.event[6:].any() and found.time[6] == 94  # censored at the end of observation


def test_a_failure_that_is_not_yet_booked_is_not_known():
    log = MachineLog(hours(4), hours(6), hours(50))
    found = label(log, as_of_us=49 * HOUR, until_h=20)
    assert not found.event.any() and found.time[0] == 20


def test_renewing_maintenance_censors():
    found = label(MachineLog(hours(8), hours(9), hours(8), hours(3), hours(3)))
    assert found.time[:4].tolist() == [3, 2, 1, 5]
    assert found.event[:4].tolist() == [False, False, False, True]


def test_nothing_is_claimed_past_the_end_of_observation():
    found = label(MachineLog(hours(8), hours(9), hours(8)), until_h=5)
    assert found.usable.tolist() == [True] * 5 + [False] * 5
    assert not found.event.any() and found.time[:5].tolist() == [5, 4, 3, 2, 1]


def test_a_failure_at_the_end_of_observation_still_counts():
    found = label(MachineLog(hours(5), hours(5), hours(5)), until_h=5)
    assert found.event[:5].all() and found.time[4] == 1


def test_cycles_are_counted_in_cycles():
    clock = Clock(step_s=1, life_unit="cycle")
    log = MachineLog(np.array([3_000_000]), np.array([3_000_000]), np.array([3_000_000]))
    found = label_ticks(np.arange(1, 4), log, clock, as_of_us=FAR, observed_until_us=3_000_000)
    assert found.time.tolist() == [2, 1, 0] and found.usable.tolist() == [True, True, False]


def test_late_bookings_are_measured_from_what_was_known():
    logs = [MachineLog(hours(0, 10), hours(1, 11), hours(20, 500))]
    assert booking_delay_us(logs, 100 * HOUR, share=1.0) == 20 * HOUR
    assert booking_delay_us(logs, FAR, share=1.0) == 490 * HOUR
    assert booking_delay_us([], FAR) == 0

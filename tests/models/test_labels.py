"""Labels: what the log says, as of when, and no more."""

import numpy as np

from models.config import Clock
from models.labels import (
    CONDITION,
    END,
    FAILURE,
    FINDING,
    SERVICE,
    UNNAMED,
    MachineLog,
    booking_delay_us,
    label_ticks,
    soft_events,
)

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


def codes(*values):
    return np.array(values, np.int8)


def test_each_tick_knows_the_mode_of_the_failure_that_it_leads_to():
    log = MachineLog(hours(4, 8), hours(5, 9), hours(4, 8), failed_mode=codes(2, 0))
    found = label(log, ticks=12)
    assert found.mode.tolist() == [2] * 4 + [UNNAMED] + [0] * 3 + [UNNAMED] * 4
    assert found.ended_by.tolist() == [FAILURE] * 8 + [END] * 4  # tick 4 is in an outage: not usable, not named


def test_a_failure_without_a_mode_is_unnamed():
    assert label(MachineLog(hours(4), hours(5), hours(4))).mode.tolist() == [UNNAMED] * 10


def test_labels_say_what_kind_of_maintenance_censored():
    log = MachineLog(
        serviced_us=hours(3, 6, 6, 8), serviced_known_us=hours(3, 6, 6, 8),
        serviced_as=codes(SERVICE, FINDING, CONDITION, CONDITION),
    )  # fmt: skip
    found = label(log, until_h=9)
    assert found.ended_by.tolist() == [SERVICE] * 3 + [FINDING] * 3 + [CONDITION] * 2 + [END] * 2
    assert not found.event.any()


def test_what_is_not_yet_booked_has_neither_mode_nor_kind():
    log = MachineLog(hours(8), hours(9), hours(50), hours(3), hours(60), codes(1), codes(FINDING))
    found = label(log, as_of_us=40 * HOUR, until_h=20)
    assert set(found.mode.tolist()) == {UNNAMED} and set(found.ended_by.tolist()) == {END}


def test_only_the_last_ticks_before_a_confirmed_finding_are_soft_failures():
    time = np.array([60, 48, 1, 1, 1], np.float32)
    ended_by = codes(FINDING, FINDING, FINDING, CONDITION, FAILURE)
    event, weight = soft_events(time, ended_by == FAILURE, ended_by, within=48.0)
    assert event.tolist() == [False, True, True, False, True]
    assert weight.tolist() == [1.0, 0.5, 0.5, 1.0, 1.0]

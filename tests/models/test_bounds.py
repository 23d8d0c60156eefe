"""Condition-triggered maintenance under both bounds, worked by hand."""

import numpy as np

from models.bounds import failed_at_once, never_within, on_condition
from models.labels import CONDITION, END, FAILURE, FINDING, SERVICE
from models.reliability import known_outcomes

TIME = np.array([5.0, 7.0, 9.0, 60.0, 3.0, 4.0])
EVENT = np.array([True, False, False, False, False, False])
ENDED_BY = np.array([FAILURE, SERVICE, CONDITION, FINDING, FINDING, END], np.int8)


def test_only_maintenance_on_condition_is_in_doubt():
    assert on_condition(ENDED_BY).tolist() == [False, False, True, True, True, False]


def test_at_one_bound_every_machine_replaced_on_condition_failed_at_that_moment():
    time, event = failed_at_once(TIME, EVENT, ENDED_BY)
    assert time.tolist() == TIME.tolist()
    assert event.tolist() == [True, False, True, True, True, False]


def test_at_the_other_none_of_them_fails_within_the_horizon():
    time, event = never_within(TIME, EVENT, ENDED_BY, horizon=48.0)
    assert event.tolist() == EVENT.tolist()
    assert time.tolist() == [5.0, 7.0, np.nextafter(48.0, 49), 60.0, np.nextafter(48.0, 49), 4.0]
    failed, known, _ = known_outcomes(time, event, 48.0)
    assert known.tolist() == [True, False, True, True, True, False]
    assert failed.tolist() == [True] + [False] * 5


def test_the_share_that_failed_lies_between_the_bounds():
    shares = [
        known_outcomes(time, event, 48.0)[0].mean()
        for time, event in (never_within(TIME, EVENT, ENDED_BY, horizon=48.0), failed_at_once(TIME, EVENT, ENDED_BY))
    ]
    assert shares == [1 / 6, 3 / 6]


def test_without_maintenance_on_condition_both_bounds_are_the_labels():
    plain = np.array([FAILURE, SERVICE, END, END, END, END], np.int8)
    for time, event in (failed_at_once(TIME, EVENT, plain), never_within(TIME, EVENT, plain, horizon=48.0)):
        assert time.tolist() == TIME.tolist() and event.tolist() == EVENT.tolist()

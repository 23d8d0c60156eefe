"""Condition-triggered maintenance under both bounds, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.bounds import Bounded, at_bound, failed_at_once, never_within, on_condition
from models.config import HazardConfig
from models.episodes import Ticks
from models.evaluation import Answers, Forecast, Outcomes, answers, figures
from models.hazard import log_likelihood
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


CONFIG = HazardConfig(horizons={"48h": 48.0}, edges=(48.0, 96.0))
HOURS = 200


def judged() -> tuple[Answers, np.ndarray]:
    """Three machines of 200 hours: one fails, one is replaced on its condition, one is whole; the first two are
    announced 40 hours before their end."""
    left = HOURS - np.arange(HOURS, dtype=float)
    ticks = Ticks(
        np.repeat(np.arange(3), HOURS), np.tile(np.arange(HOURS, dtype=float), 3), np.tile(left, 3),
        np.repeat([True, False, False], HOURS), 3, 1.0,
    )  # fmt: skip
    said = np.where((ticks.time <= 40) & (ticks.machine < 2), 0.9, 0.1)
    # Of bins (0, 48], (48, 96], (96, inf): the risk within 48 h is the first hazard.
    hazard = np.stack([said, np.full(len(said), 0.1), np.full(len(said), 0.1)], axis=1).astype(np.float32)
    outcomes = Outcomes.of(ticks, 48.0)
    ready = answers(ticks, Forecast(said, 0.5, hazard), config=CONFIG, outcomes=outcomes)
    return ready, np.repeat(np.array([FAILURE, CONDITION, END], np.int8), HOURS)


def at(assumed: str, ended_by: np.ndarray | None = None) -> Bounded:
    ready, known = judged()
    return at_bound(
        ready, known if ended_by is None else ended_by, assumed, horizon=48.0, reference_risk=0.1,  # type: ignore[arg-type]
        rng=np.random.default_rng(0), draws=20,
    )  # fmt: skip


def test_what_was_replaced_joins_the_failures_at_one_bound_and_leaves_them_at_the_other() -> None:
    failed, never = at("failed"), at("never")
    assert (failed.num_caught, failed.num_failures, never.num_caught, never.num_failures) == (2, 2, 1, 1)
    assert failed.recall.value == never.recall.value == 1.0


def test_an_alarm_before_a_replacement_is_right_at_one_bound_and_wrong_at_the_other() -> None:
    failed, never = at("failed"), at("never")
    # Of the 48 hours before a failure the last 40 are flagged. The other hours are not, where both had failed; where
    # one had not, 40 of its 200 are flagged too, and of the whole machine 152 hours are known to be quiet.
    assert failed.auc.value == pytest.approx(40 / 48 + 8 / 48 / 2)
    quiet = 152 + 200 + 152
    flagged = 40 / quiet
    expected = 40 / 48 * (1 - flagged / 2) + 8 / 48 * (1 - flagged) / 2
    assert never.auc.value == pytest.approx(expected, abs=1e-3)
    assert failed.brier_skill.value > 0 > never.brier_skill.value
    assert failed.log_likelihood.value != never.log_likelihood.value


def test_the_log_likelihood_is_that_of_the_assumed_ends() -> None:
    ready, ended_by = judged()
    hazard, logged = ready.forecast.hazard, ready.ticks
    assert hazard is not None
    ends = {"failed": failed_at_once(logged.time, logged.event, ended_by),
            "never": never_within(logged.time, logged.event, ended_by, horizon=48.0)}  # fmt: skip
    for assumed, (time, event) in ends.items():
        expected = np.asarray(log_likelihood(hazard, CONFIG.edges, time, event), np.float64).mean()
        assert at(assumed).log_likelihood.value == pytest.approx(expected, rel=1e-6)


def test_without_maintenance_on_condition_both_bounds_are_the_log() -> None:
    plain = np.repeat(np.array([FAILURE, SERVICE, END], np.int8), HOURS)
    ready, _ = judged()
    logged = figures(ready, reference_risk=0.1, rng=np.random.default_rng(0), draws=20)
    for found in (at("failed", plain), at("never", plain)):
        assert (found.num_failures, found.num_caught) == (1, 1)
        assert found.brier_skill == logged.risk.brier_skill
        assert (found.auc.value, found.log_likelihood) == (logged.risk.auc.value, logged.log_likelihood)


def test_a_candidate_without_a_curve_has_no_likelihood_at_a_bound() -> None:
    ready, ended_by = judged()
    silent = answers(ready.ticks, Forecast(ready.forecast.risk, 0.5), config=CONFIG, outcomes=ready.outcomes)
    found = at_bound(silent, ended_by, "failed", horizon=48.0, reference_risk=0.1, rng=np.random.default_rng(0))
    assert math.isnan(found.log_likelihood.value) and found.auc.value > 0.9

"""Alarm episodes matched to failures: small timelines worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import HazardConfig
from models.episodes import (
    HOURS_A_MONTH,
    AlarmRule,
    Ticks,
    alarm_figures,
    judge,
)
from models.metrics import Draws

RULE = AlarmRule(min_lead=6, max_lead=100, quiet=10)


def _ticks(*lives: tuple[int, bool], machine: int = 0) -> Ticks:
    """Hourly ticks of one machine: each life lasts so many hours and ends in a failure or not."""
    now, time, event, start = [], [], [], 0
    for length, failed in lives:
        for hour in range(length):
            now.append(start + hour)
            time.append(length - hour)
            event.append(failed)
        start += length + 5
    n = len(now)
    return Ticks(np.full(n, machine), np.array(now, float), np.array(time, float), np.array(event), machine + 1, 1.0)


def _joined(*parts: Ticks) -> Ticks:
    columns = [np.concatenate([getattr(p, c) for p in parts]) for c in ("machine", "now", "time", "event")]
    return Ticks(columns[0], columns[1], columns[2], columns[3], len(parts), 1.0)


def _risk(ticks: Ticks, *spans: tuple[int, int]) -> np.ndarray:
    return np.array([float(any(a <= t < b for a, b in spans)) for t in ticks.now])


def test_an_alarm_in_time_catches_the_failure_with_its_earliest_lead() -> None:
    ticks = _ticks((300, True))
    found = judge(ticks, _risk(ticks, (240, 250), (280, 290)), 0.5, RULE)
    assert [e.outcome for e in found.episodes] == ["true", "true"]
    assert [(f.at, f.lead) for f in found.failures] == [(300.0, 60.0)]


def test_an_alarm_at_the_last_moment_is_late_and_neither_caught_nor_false() -> None:
    ticks = _ticks((300, True))
    found = judge(ticks, _risk(ticks, (296, 300)), 0.5, RULE)
    assert [e.outcome for e in found.episodes] == ["late"]
    assert found.failures[0].lead is None


@pytest.mark.parametrize(("start", "outcome"), [(294, "true"), (295, "late"), (200, "true"), (199, "false")])
def test_both_bounds_of_the_lead_belong_to_it(start: int, outcome: str) -> None:
    ticks = _ticks((300, True))
    assert judge(ticks, _risk(ticks, (start, start + 1)), 0.5, RULE).episodes[0].outcome == outcome


def test_alarms_within_the_quiet_time_are_one_episode() -> None:
    ticks = _ticks((300, False))
    within = judge(ticks, _risk(ticks, (50, 51), (60, 61)), 0.5, RULE).episodes
    beyond = judge(ticks, _risk(ticks, (50, 51), (61, 62)), 0.5, RULE).episodes
    assert [(e.start, e.end) for e in within] == [(50.0, 60.0)]
    assert [(e.start, e.end) for e in beyond] == [(50.0, 50.0), (61.0, 61.0)]


def test_an_alarm_that_never_ends_is_raised_again_and_false_each_time() -> None:
    ticks = _ticks((1000, False))
    found = judge(ticks, np.ones(1000), 0.5, RULE)
    # Raised at 0, 101, 202, ...: the last, at 909, can no longer be checked.
    assert [e.start for e in found.episodes] == [0, 101, 202, 303, 404, 505, 606, 707, 808, 909]
    assert [e.outcome for e in found.episodes] == ["false"] * 9 + ["open"]


def test_an_alarm_before_service_is_open() -> None:
    ticks = _ticks((150, False), (300, False))
    assert [e.outcome for e in judge(ticks, _risk(ticks, (100, 110)), 0.5, RULE).episodes] == ["open"]


def test_an_alarm_does_not_outlive_its_failure() -> None:
    ticks = _ticks((50, True), (300, True))
    found = judge(ticks, _risk(ticks, (40, 60)), 0.5, RULE)
    assert [(e.start, e.outcome) for e in found.episodes] == [(40.0, "true"), (55.0, "false")]
    assert [f.lead for f in found.failures] == [10.0, None]


def test_a_failure_that_no_tick_could_announce_is_not_judged() -> None:
    assert judge(_ticks((4, True)), np.zeros(4), 0.5, RULE).failures == ()


def test_figures_count_failures_alarms_and_months() -> None:
    ticks = _joined(_ticks((300, True)), _ticks((731, False), machine=1))
    risk = np.concatenate([_risk(_ticks((300, True)), (240, 245)), _risk(_ticks((731, False)), (100, 105))])
    found = alarm_figures(judge(ticks, risk, 0.5, RULE), draws=Draws.of(2, rng=np.random.default_rng(0)))
    assert (found.num_failures, found.num_caught, found.num_false, found.num_late, found.num_open) == (1, 1, 1, 0, 0)
    assert found.recall.value == 1.0
    assert found.precision.value == 0.5
    assert found.false_per_month.value == pytest.approx(1 / (1031 / HOURS_A_MONTH))
    assert found.lead_median.value == found.lead_p10.value == 60.0


def test_no_alarm_and_no_failure_give_no_number_rather_than_zero() -> None:
    none = judge(_ticks((50, False)), np.zeros(50), 0.5, RULE)
    found = alarm_figures(none, draws=Draws.of(1, rng=np.random.default_rng(0)))
    assert np.isnan([found.recall.value, found.precision.value, found.lead_median.value]).all()
    assert found.false_per_month.value == 0.0


def test_the_rule_follows_the_horizons() -> None:
    assert AlarmRule.of(HazardConfig()) == AlarmRule(min_lead=6, max_lead=168, quiet=24)

"""Thresholds: chosen by failures and alarms, compared at equal false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from models.episodes import HOURS_A_MONTH, AlarmRule, Ticks, judge
from models.thresholds import alarm_threshold, caught_within, sweep

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


def test_the_threshold_lies_between_noise_and_signal() -> None:
    parts = [_ticks((600, True), machine=m) for m in range(6)]
    ticks = _joined(*parts)
    rng = np.random.default_rng(0)
    near = (ticks.time < 60) & (ticks.time > 6)
    risk = rng.uniform(0, 0.2, len(ticks.now)) + np.where(near, 0.6, 0)
    threshold = alarm_threshold(ticks, risk, RULE)
    assert 0.2 < threshold <= 0.8
    assert all(f.lead is not None for f in judge(ticks, risk, threshold, RULE).failures)


def test_a_budget_of_false_alarms_is_kept() -> None:
    ticks = _joined(*[_ticks((600, True), machine=m) for m in range(4)])
    risk = np.random.default_rng(0).uniform(0, 1, len(ticks.now))
    months = len(risk) / HOURS_A_MONTH
    caught, threshold = caught_within(sweep(ticks, risk, RULE), months=months, false_per_month=0.5)
    assert (caught == 0) == (threshold is None)
    if threshold is not None:
        found = judge(ticks, risk, threshold, RULE)
        assert sum(e.outcome == "false" for e in found.episodes) / months <= 0.5
        assert sum(f.lead is not None for f in found.failures) == caught


def test_what_a_candidate_did_is_never_more_than_what_it_could_do() -> None:
    # Four failures announced by 90 hours each, a fifth by one hour only, and false alarms just below that risk.
    ticks = _ticks(*[(100, True)] * 5, (5000, False))
    risk = np.zeros(len(ticks.now))
    for life in range(4):
        risk[100 * life + 5 : 100 * life + 95] = 0.9
    risk[450], risk[600:5000:150] = 0.5, np.linspace(0.49, 0.4999, 30)

    def caught(own: float | None = None) -> tuple[int, float | None]:
        return caught_within(sweep(ticks, risk, RULE, own=own), months=7.0, false_per_month=0.0)

    assert caught()[0] == 4  # the grid steps over 0.5
    assert caught(0.5) == (5, 0.5)
    assert caught(0.4)[0] == 4  # dearer than the budget


def test_without_a_failure_the_threshold_is_a_rare_risk() -> None:
    ticks = _ticks((1000, False))
    risk = np.linspace(0, 1, 1000)
    assert alarm_threshold(ticks, risk, RULE) == pytest.approx(0.99)


def test_a_sweep_says_what_judging_each_threshold_says() -> None:
    ticks = _joined(*[_ticks((300, True), (200, False), (150, True), machine=m) for m in range(3)])
    risk = np.random.default_rng(1).uniform(0, 1, len(ticks.now)) ** 4
    for one in sweep(ticks, risk, RULE, candidates=20):
        found = judge(ticks, risk, one.threshold, RULE)
        assert one.true.tolist() == [e.row for e in found.episodes if e.outcome == "true"]
        assert one.false.tolist() == [e.row for e in found.episodes if e.outcome == "false"]
        assert one.caught.tolist() == [f.row for f in found.failures if f.lead is not None]
        assert one.failures.tolist() == [f.row for f in found.failures]


def test_only_kept_ticks_count_against_a_budget() -> None:
    ticks = _joined(_ticks((300, True)), _ticks((1000, False), machine=1))
    risk = np.where((ticks.machine == 0) & (ticks.time == 50), 0.9, np.where(ticks.now == 100, 0.95, 0.0))
    swept = sweep(ticks, risk, RULE)
    # Both machines raise a false alarm at hour 100.
    assert caught_within(swept, months=1.0, false_per_month=0.0) == (0, None)
    late = ticks.now > 200
    assert caught_within(swept, months=1.0, false_per_month=0.0, keep=late)[0] == 1

"""A candidate judged: recall by the hour by hand, parts of the ticks, and two candidates on the same draws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from models.config import HazardConfig
from models.episodes import Ticks
from models.evaluation import (
    CandidateFigures,
    Forecast,
    Outcomes,
    Part,
    answers,
    candidate_figures,
    compare,
    figures,
)
from models.hazard import log_likelihood

CONFIG = HazardConfig()


def _machines(*lives: tuple[int, bool]) -> Ticks:
    """Hourly ticks, one life a machine, each of so many hours that end in a failure or not."""
    columns = [
        (np.full(n, m), np.arange(n, dtype=float), n - np.arange(n, dtype=float), np.full(n, failed))
        for m, (n, failed) in enumerate(lives)
    ]
    machine, now, time, event = (np.concatenate(c) for c in zip(*columns, strict=True))
    return Ticks(machine, now, time, event, len(lives), 1.0)


def _judge(ticks: Ticks, risk: np.ndarray, **options: object) -> CandidateFigures:
    return candidate_figures(
        ticks, Forecast(risk, 0.5, **options), config=CONFIG, horizon=48, reference_risk=0.1,  # type: ignore[arg-type]
        rng=np.random.default_rng(0), draws=40,
    )  # fmt: skip


def test_recall_by_the_hour_counts_hours_within_two_days_of_a_failure() -> None:
    # 48 hours before the one failure: the 12 nearest are flagged first, then 24 of a healthy machine.
    ticks = _machines((200, True), (200, False))
    risk = np.zeros(400)
    risk[(ticks.machine == 0) & (ticks.time <= 12)] = 0.9
    risk[(ticks.machine == 1) & (ticks.now < 24)] = 0.5
    assert _judge(ticks, risk).risk.recall_at_half.value == 12 / 48  # at 0.5 a third of the flagged hours are right
    risk[(ticks.machine == 0) & (ticks.time > 12) & (ticks.time <= 48)] = 0.4
    assert _judge(ticks, risk).risk.recall_at_half.value == 1.0  # 48 of 72
    risk[(ticks.machine == 1) & (ticks.now < 24)] = 0.95
    assert _judge(ticks, risk).risk.recall_at_half.value == 1.0  # the lowest threshold is the one that counts
    risk[(ticks.machine == 1) & (ticks.now < 60)] = 0.95
    assert _judge(ticks, risk).risk.recall_at_half.value == 0.0


def test_hours_whose_outcome_is_unknown_are_left_out() -> None:
    # The censored machine's last 48 hours could end either way: flagging them costs nothing.
    ticks = _machines((200, True), (200, False))
    risk = np.where((ticks.machine == 0) & (ticks.time <= 48), 0.5, 0.0)
    risk[(ticks.machine == 1) & (ticks.time <= 48)] = 0.9
    found = _judge(ticks, risk).risk
    assert (found.recall_at_half.value, found.auc.value, found.average_precision.value) == (1.0, 1.0, 1.0)


def test_a_part_is_judged_as_if_there_were_nothing_else() -> None:
    ticks = _machines((200, True), (300, False), (250, True), (400, False))
    rng = np.random.default_rng(1)
    risk, hazard = rng.random(len(ticks.now)), rng.uniform(0.01, 0.3, (len(ticks.now), 18)).astype(np.float32)
    keep = ticks.machine >= 2
    ready = answers(ticks, Forecast(risk, 0.9, hazard), config=CONFIG, outcomes=Outcomes.of(ticks, 48))
    own = figures(ready, Part("two", keep), reference_risk=0.1, rng=np.random.default_rng(0), draws=40)
    alone = answers(
        ticks.within(keep), Forecast(risk[keep], 0.9, hazard[keep]), config=CONFIG,
        outcomes=Outcomes.of(ticks, 48).within(keep),
    )  # fmt: skip
    expected = figures(alone, reference_risk=0.1, rng=np.random.default_rng(0), draws=40)
    assert repr((own.alarms, own.risk, own.life, own.log_likelihood)) == repr(
        (expected.alarms, expected.risk, expected.life, expected.log_likelihood)
    )  # by text, since NaN equals NaN there
    assert own.alarms.num_failures == 1


def test_a_part_of_the_failures_leaves_coverage_out() -> None:
    ticks = _machines((200, True), (300, True), (300, False))
    hazard = np.full((800, 18), 0.05, np.float32)
    forecast = Forecast(np.linspace(0, 1, 800), 2.0, hazard)
    ready = answers(ticks, forecast, config=CONFIG, outcomes=Outcomes.of(ticks, 48))
    keep = ~((ticks.machine == 1) & (ticks.time <= 168))
    event = ticks.event & (ticks.machine == 0)
    found = figures(ready, Part("one mode", keep, event), reference_risk=0.1, rng=np.random.default_rng(0), draws=40)
    assert found.alarms.num_failures == 1
    assert found.life.num_failures == 1
    assert math.isnan(found.life.coverage_80.value) and math.isnan(found.log_likelihood.value)
    assert "log_likelihood" not in found.samples


def test_without_a_failure_there_is_no_skill() -> None:
    assert math.isnan(_judge(_machines((200, False), (200, False)), np.zeros(400)).risk.brier_skill.value)


def test_the_log_likelihood_is_the_mean_of_a_ticks() -> None:
    ticks = _machines((200, True), (300, False))
    hazard = np.full((500, 18), 0.05, np.float32)
    expected = log_likelihood(hazard, CONFIG.edges, ticks.time, ticks.event).mean()
    assert _judge(ticks, np.zeros(500), hazard=hazard).log_likelihood.value == pytest.approx(expected)


def test_two_candidates_are_compared_on_the_same_draws() -> None:
    lives = [(200 + 7 * m, m % 2 == 0) for m in range(12)]
    ticks = _machines(*lives)
    good = np.where(ticks.event & (ticks.time <= 48), 0.8, 0.05)
    noisy = np.where(np.random.default_rng(0).random(len(good)) < 0.3, 0.05, good)
    first, second = _judge(ticks, good), _judge(ticks, noisy)
    gain = compare(first, second)
    assert set(gain) == {"average_precision", "brier_skill"}
    for name, one in gain.items():
        value = getattr(first.risk, name).value - getattr(second.risk, name).value
        assert one.value == pytest.approx(value)
        assert 0 < one.low <= one.value <= one.high
    assert compare(first, first)["brier_skill"].value == 0.0


def test_candidates_of_other_draws_are_not_compared() -> None:
    ticks = _machines((200, True), (200, False))
    one = _judge(ticks, np.linspace(0, 1, 400))
    other = replace(one, samples={name: replace(s, drawn=s.drawn[:3]) for name, s in one.samples.items()})
    with pytest.raises(ValueError, match="equal draws"):
        compare(one, other)


def test_no_tick_gives_no_number() -> None:
    none = Ticks(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, bool), 0, 1.0)
    found = _judge(none, np.empty(0), hazard=np.empty((0, 18), np.float32))
    assert math.isnan(found.risk.auc.value) and math.isnan(found.life.coverage_80.value)
    assert found.alarms.num_failures == 0

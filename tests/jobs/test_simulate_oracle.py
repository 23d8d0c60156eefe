"""The oracle: calibrated, consistent over horizons, and right where the answer is known by hand."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import gamma

from jobs.fleet.history import History, simulate_plant
from jobs.fleet.life import NO_MAINTENANCE, Policy
from jobs.fleet.physics import HEALTHY, Mode, chance_of_passing, draw_growth
from jobs.fleet.plants import PLANTS
from jobs.fleet.truth import oracle_table, probability_within

NAMES = list(PLANTS)
MACHINES, DAYS = 150, 90


@lru_cache(maxsize=8)
def untreated(name: str) -> History:
    return simulate_plant(PLANTS[name], machines=MACHINES, days=DAYS, seed=21, policy=NO_MAINTENANCE)


def fails_within(history: History, horizon_h: int) -> NDArray[np.bool_]:
    calendar = history.lives.calendar
    found = np.zeros((len(history.names), calendar.num_hours), bool)
    for failure in history.lives.failures:
        hour = (failure.started_s - calendar.start_s) // 3600
        found[failure.machine, max(0, hour - horizon_h + 1) : hour + 1] = True
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("horizon_h", [24, 48, 168])
def test_predicted_probability_equals_the_observed_frequency(name: str, horizon_h: int) -> None:
    history = untreated(name)
    predicted = probability_within(PLANTS[name], history.lives, horizon_h)
    observed = fails_within(history, horizon_h)
    known = history.lives.running.copy()
    known[:, -horizon_h:] = False
    assert predicted[known].mean() == pytest.approx(observed[known].mean(), rel=0.12)
    for low, high in ((0.15, 0.5), (0.5, 0.85), (0.85, 1.01)):
        here = known & (predicted >= low) & (predicted < high)
        assert predicted[here].mean() == pytest.approx(observed[here].mean(), abs=0.12), (low, high)


@pytest.mark.parametrize("name", NAMES)
def test_hourly_risk_adds_up_to_the_number_of_failures_under_maintenance_too(name: str) -> None:
    # The compensator of the failure count: exact whatever the maintenance does.
    lives = simulate_plant(PLANTS[name], machines=MACHINES, days=DAYS, seed=22, policy=Policy()).lives
    expected = probability_within(PLANTS[name], lives, 1)[lives.running].sum()
    assert len(lives.failures) == pytest.approx(expected, abs=3 * np.sqrt(expected))


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_horizon_never_lowers_the_probability(name: str) -> None:
    lives = untreated(name).lives
    found = [probability_within(PLANTS[name], lives, horizon_h) for horizon_h in (1, 24, 48, 168)]
    for shorter, longer in pairwise(found):
        assert (longer >= shorter - 1e-12).all()
    assert min(p.min() for p in found) >= 0
    assert max(p.max() for p in found) <= 1


def test_more_wear_never_lowers_the_probability() -> None:
    mode = PLANTS["harbor"].modes[0]
    chance = chance_of_passing(mode, np.linspace(0, 1, 50), np.full(50, 40.0))
    assert (np.diff(chance) >= 0).all()
    assert chance[-1] == 1.0


def test_first_passage_is_the_gamma_tail() -> None:
    mode = Mode("m", "c", pf_h=100, scatter=0.25, growth=2)
    # Wear 0.4 with 50 planned hours left: shape 50 / (100 * 0.0625) = 8, scale 0.0625.
    assert chance_of_passing(mode, 0.4, np.array([50.0]))[0] == pytest.approx(gamma.sf(0.6, a=8, scale=0.0625))


def test_no_planned_work_means_no_failure() -> None:
    mode = PLANTS["summit"].modes[0]
    assert chance_of_passing(mode, 0.9, np.array([0.0]))[0] == pytest.approx(0.0, abs=1e-9)
    assert draw_growth(mode, np.zeros(5), np.random.default_rng(0)).max() < 1e-9


def test_a_healthy_machine_that_hardly_fails_has_a_small_probability() -> None:
    lives = untreated("ridge").lives
    healthy = (lives.phase == HEALTHY).all(2)
    found = probability_within(PLANTS["ridge"], lives, 48)
    robust = lives.frailty < 0.05
    assert found[robust][healthy[robust]].max() < 0.001
    assert 0.001 < found[~robust][healthy[~robust]].mean() < 0.03


def test_the_oracle_speaks_only_of_machines_in_service() -> None:
    history = untreated("harbor")
    table = oracle_table(PLANTS["harbor"], history.lives, history.names)
    assert len(table) == int(history.lives.running.sum())
    assert table.column_names == ["machine", "time", "p24h", "p48h", "p168h"]

"""The lives of simulated machines: as unkind as the field, and moved by wear as documented."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from jobs.fleet.history import History, readings_of, simulate_plant
from jobs.fleet.life import NO_MAINTENANCE
from jobs.fleet.physics import HEALING, Floats, severity
from jobs.fleet.plants import PLANTS
from jobs.fleet.sensors import measure, signature
from jobs.fleet.truth import failures_table, state_table

NAMES = list(PLANTS)
MACHINES = 120


@lru_cache(maxsize=8)
def history(name: str) -> History:
    return simulate_plant(PLANTS[name], machines=MACHINES, days=90, seed=11)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_part_of_the_failures_is_sudden_and_many_machines_never_fail(name: str) -> None:
    failures = history(name).lives.failures
    assert len(failures) > 100
    assert 0.2 < np.mean([failure.sudden for failure in failures]) < 0.4
    assert len({failure.machine for failure in failures}) < 0.7 * MACHINES


@pytest.mark.parametrize("name", NAMES)
def test_a_tenth_of_the_failures_is_not_logged_and_a_tenth_is_miscoded(name: str) -> None:
    lives, bookings = history(name).lives, history(name).bookings
    logged = [(f, code) for f, code in zip(lives.failures, bookings.coded_as, strict=True) if code is not None]
    assert len(logged) / len(lives.failures) == pytest.approx(0.9, abs=0.01)
    assert np.mean([code != f.mode for f, code in logged]) == pytest.approx(0.1, abs=0.01)
    assert len(bookings.failures) == len(logged)
    booked = {(row.failure.machine, row.failure.started_s, row.mode) for row in bookings.failures}
    assert booked == {(f.machine, f.started_s, code) for f, code in logged}


@pytest.mark.parametrize("name", NAMES)
def test_bookings_come_up_to_72_hours_late_and_never_before_the_end(name: str) -> None:
    bookings = history(name).bookings
    rows = [(row.failure, row.recorded_s) for row in bookings.failures]
    late_h = np.array([(recorded_s - event.started_s) / 3600 for event, recorded_s in rows])
    assert late_h.max() <= 72
    assert late_h.max() > 48
    assert 6 < np.median(late_h) < 48
    assert all(recorded_s >= event.ended_s for event, recorded_s in rows)
    assert all(row.visit.ended_s <= row.recorded_s <= row.visit.started_s + 72 * 3600 for row in bookings.visits)


@pytest.mark.parametrize("name", NAMES)
def test_precursors_last_days_and_some_heal(name: str) -> None:
    lives = history(name).lives
    pf_days = np.array([(f.started_s - f.onset_s) / 86400 for f in lives.failures if not f.sudden])
    assert 3 < np.median(pf_days) < 9
    assert np.mean((pf_days > 1.5) & (pf_days < 14)) > 0.95
    healed = np.diff((lives.phase == HEALING).astype(int), axis=1) == 1
    assert 0.05 < healed.sum() / len(pf_days) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_is_down_between_failure_and_restart_and_restarts_repaired(name: str) -> None:
    lives = history(name).lives
    T, modes = lives.calendar.num_hours, [mode.name for mode in PLANTS[name].modes]
    for failure in lives.failures:
        first = (failure.started_s - lives.calendar.start_s) // 3600 + 1
        last = (failure.ended_s - lives.calendar.start_s) // 3600
        assert 2 <= (failure.ended_s - failure.started_s) / 3600 + 1 <= 48
        assert not lives.running[failure.machine, first:last].any()
        if last < T and not failure.sudden:
            assert lives.wear[failure.machine, min(first, T - 1), modes.index(failure.mode)] == 0


@pytest.mark.parametrize("name", NAMES)
def test_maintenance_that_renews_resets_wear_and_an_inspection_does_not(name: str) -> None:
    lives = history(name).lives
    kept = 0
    for visit in lives.visits:
        hour = (visit.started_s - lives.calendar.start_s) // 3600
        wear = lives.wear[visit.machine, hour]
        if visit.trigger == "calendar" and visit.effect != "inspected":
            assert (wear == 0).all()
        if visit.effect == "inspected":
            kept += bool((wear > 0).any())
    assert kept > 0
    assert {visit.trigger for visit in lives.visits} == {"calendar", "condition", "opportunistic"}


def test_without_maintenance_only_failures_renew() -> None:
    lives = simulate_plant(PLANTS["harbor"], machines=6, days=60, seed=2, policy=NO_MAINTENANCE).lives
    assert not lives.visits


def test_a_machine_lives_the_same_whatever_the_readings_and_the_other_plants() -> None:
    one, other = (simulate_plant(PLANTS["ridge"], machines=4, days=30, seed=9) for _ in range(2))
    readings_of(one)
    assert (one.lives.wear == other.lives.wear).all()
    assert one.bookings == other.bookings


@pytest.mark.parametrize("name", NAMES)
def test_each_mode_moves_its_sensors_in_the_documented_direction(name: str) -> None:
    # The same draws with and without the wear of one mode: what differs is its effect alone.
    plant, seed, machines, days = PLANTS[name], 11, 40, 60
    lives = simulate_plant(plant, machines=machines, days=days, seed=seed).lives
    air = np.full(days * 24, 15.0)

    def read(wear: Floats) -> Floats:
        rngs = [np.random.default_rng([seed, n]) for n in range(machines)]
        return measure(plant, replace(lives, wear=wear), air, rngs).values

    with_all = read(lives.wear)
    for m, mode in enumerate(plant.modes):
        without = lives.wear.copy()
        without[:, :, m] = 0
        effect_NSC = np.nan_to_num(with_all - read(without))
        working = lives.running & (lives.plan[:, : days * 24] > 0)
        late = np.repeat(working & (lives.wear[:, :, m] > 0.75), plant.steps_per_hour, axis=1)
        assert late.sum() >= 20
        moved = effect_NSC[late].mean(0)
        directions = [np.sign(sensor.effects.get(mode.name, 0.0)) for sensor in plant.sensors]
        assert np.sign(moved).tolist() == directions, mode.name
        assert np.max(np.abs(moved) / [sensor.noise for sensor in plant.sensors]) > 2, mode.name


def test_every_mode_shows_in_some_sensor_above_its_noise() -> None:
    for plant in PLANTS.values():
        for mode in plant.modes:
            strongest = max(abs(sensor.effects.get(mode.name, 0.0)) / sensor.noise for sensor in plant.sensors)
            assert strongest > 5, (plant.name, mode.name)
            assert {mode.name for mode in plant.modes} >= {key for s in plant.sensors for key in s.effects}


def test_severity_is_zero_when_new_one_at_failure_and_grows_ever_faster() -> None:
    wear = np.linspace(0, 1, 11)
    found = severity(wear, 3.0)
    assert found[[0, -1]].tolist() == [0.0, 1.0]
    assert (np.diff(found, 2) > 0).all()


def test_signature_is_zero_while_nothing_wears() -> None:
    lives = history("harbor").lives
    plant = PLANTS["harbor"]
    still = lives.wear[0].max(1) == 0
    for sensor in plant.sensors:
        assert (signature(plant, sensor, lives, 0)[still] == 0).all()


def test_truth_tables_hold_every_failure_and_hour() -> None:
    found = history("summit")
    lives, plant = found.lives, PLANTS["summit"]
    failures = failures_table(plant, lives, found.bookings.coded_as, found.names)
    assert len(failures) == len(lives.failures)
    assert sum(failures["logged"].to_pylist()) == len(found.bookings.failures)
    assert [code is not None for code in failures["coded_as"].to_pylist()] == failures["logged"].to_pylist()
    state = state_table(plant, lives, found.names)
    assert len(state) == MACHINES * 90 * 24
    assert {"wear_bearing_wear", "phase_fouling", "running"} <= set(state.column_names)

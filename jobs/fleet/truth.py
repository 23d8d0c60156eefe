"""What really happened, and the oracle: the best that anyone could forecast who sees the machine's true state.

The oracle at hour t knows the plan, the machine's frailty, and for every mode its phase, wear and age. It does not know
the future, nor whether a growing defect will heal. Its probabilities are *net* of maintenance: of a failure within h if
nobody intervenes, which is what a model estimates that is censored at maintenance. Causes are independent given the
state, so survival is a product over them:

- sudden: exp(-frailty * rate * W), with W = W(t, t+h) the planned work in the horizon;
- growing defect of wear x: 1 - (1 - q) P(Gamma(a W, b) >= 1 - x), with q the share that will heal, 0 once x has passed
  HEAL_AT; healing defect: 1;
- no defect: onsets are a Poisson process, each of which fails before t+h with a known chance, so that failures are a
  thinned Poisson process of mean sum over hours s of frailty * plan(s) * (c0 + c1 (age + s)) * (1 - q) * P(Gamma(a
  W(t+s+1, t+h), b) >= 1). The sum is linear in age, hence two tables by hour of the week.

The only approximation: the tables take the week to follow itself without a change of the clocks, and a mode to start no
second defect within the horizon. ``tests/jobs/test_simulate_oracle.py`` checks calibration by simulation.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.fleet.life import Lives
from jobs.fleet.operation import WEEK_H, pattern_of, weekly_plan
from jobs.fleet.physics import COMMITTED, GROWING, HEALTHY, Floats, Mode, chance_of_passing
from jobs.fleet.plants import Pattern, Plant

HORIZONS_H = (24, 48, 168)


def probability_within(plant: Plant, lives: Lives, horizon_h: int) -> Floats:
    """Probability of a failure in the ``horizon_h`` (at most 168) hours from each hour, [N, T]."""
    T = lives.calendar.num_hours
    hour_of_week = lives.calendar.hour_of_week[:T]
    worked = np.cumsum(np.pad(lives.plan, ((0, 0), (1, 0))), axis=1)
    work = worked[:, horizon_h : horizon_h + T] - worked[:, :T]
    survival = np.exp(-lives.frailty[:, None] * plant.sudden_rate * work)
    for m, mode in enumerate(plant.modes):
        phase, wear = lives.phase[:, :, m], lives.wear[:, :, m]
        for n in range(len(lives.frailty)):
            by_base, by_age = _onset_tables(mode, pattern_of(plant, n), horizon_h)
            mean = by_base[hour_of_week] + by_age[hour_of_week] * lives.age_h[n, :, m]
            survival[n] *= np.where(phase[n] == HEALTHY, np.exp(-lives.frailty[n] * mean), 1.0)
        grows = (phase == GROWING) | (phase == COMMITTED)
        survives_healing = np.where(phase[grows] == GROWING, 1 - mode.heal_share, 1.0)
        survival[grows] *= 1 - survives_healing * chance_of_passing(mode, wear[grows], work[grows])
    return 1.0 - survival


@lru_cache(maxsize=128)
def _onset_tables(mode: Mode, pattern: Pattern, horizon_h: int) -> tuple[Floats, Floats]:
    """Mean failures from new defects within the horizon by hour of the week: at age 0, and for each hour of age."""
    plan = np.tile(weekly_plan(pattern), 3)
    worked = np.cumsum(np.pad(plan, (1, 0)))
    start, later = np.arange(WEEK_H)[:, None], np.arange(horizon_h)[None, :]
    fails = chance_of_passing(mode, 0.0, worked[start + horizon_h] - worked[start + later + 1]) * (1 - mode.heal_share)
    weight = plan[start + later] * fails
    by_age = mode.onset_age * weight.sum(1)
    return mode.onset_base * weight.sum(1) + mode.onset_age * (weight * later).sum(1), by_age


def failures_table(plant: Plant, lives: Lives, coded_as: list[str | None], names: list[str]) -> pa.Table:
    """Every true failure, the unlogged ones too."""
    failures = lives.failures
    return pa.table(
        {
            "machine": pa.array([names[f.machine] for f in failures], pa.string()),
            "mode": pa.array([f.mode for f in failures], pa.string()),
            "sudden": pa.array([f.sudden for f in failures], pa.bool_()),
            "onset": _times([f.onset_s for f in failures]),
            "failed_at": _times([f.started_s for f in failures]),
            "restarted_at": _times([f.ended_s for f in failures]),
            "logged": pa.array([code is not None for code in coded_as], pa.bool_()),
            "coded_as": pa.array(coded_as, pa.string()),
        }
    )


def state_table(plant: Plant, lives: Lives, names: list[str]) -> pa.Table:
    """The noiseless state of every machine and hour: ``running``, and ``wear_<mode>``, ``phase_<mode>`` by mode."""
    columns = _keys(lives, names, np.ones_like(lives.running)) | {"running": lives.running.ravel()}
    for m, mode in enumerate(plant.modes):
        columns[f"wear_{mode.name}"] = lives.wear[:, :, m].ravel().astype(np.float32)
        columns[f"phase_{mode.name}"] = lives.phase[:, :, m].ravel()
    return pa.table(columns)


def oracle_table(plant: Plant, lives: Lives, names: list[str]) -> pa.Table:
    """``p24h``, ``p48h``, ``p168h`` of every machine and hour in which it is in service."""
    columns = _keys(lives, names, lives.running)
    for horizon in HORIZONS_H:
        columns[f"p{horizon}h"] = probability_within(plant, lives, horizon)[lives.running].astype(np.float32)
    return pa.table(columns)


def _keys(lives: Lives, names: list[str], keep: NDArray[np.bool_]) -> dict[str, pa.Array | NDArray[np.generic]]:
    N, T = keep.shape
    machine = np.repeat(np.arange(N, dtype=np.int32), T)[keep.ravel()]
    hours = lives.calendar.start_s + 3600 * np.arange(T, dtype=np.int64)
    time_s = np.tile(hours, N)[keep.ravel()]
    machines = pa.DictionaryArray.from_arrays(pa.array(machine), pa.array(names, pa.string())).cast(pa.string())
    return {"machine": machines, "time": _times(time_s)}


def _times(seconds: list[int] | NDArray[np.int64]) -> pa.Array:
    return pa.array(np.asarray(seconds, dtype=np.int64) * 1_000_000, pa.timestamp("us", "UTC"))

"""How far a model comes from the better baseline towards the oracle, in failures caught at equal false alarms.

The one idea: one number of false alarms is allowed to all, that of a reference under its own threshold; each candidate
may then take the threshold that catches most within it, on the ticks that are judged, as ``evaluate`` lets it. So the
figure compares what candidates know, not where they happened to set their alarm. All of it is done anew in every
bootstrap draw of machines: the allowance, the thresholds, and which baseline is the better one.

A reference that alarms nearly always lets everybody catch everything and tells nobody apart, so the same is said at
fixed rates of false alarms, ``RATES``, the same for each plant, whatever anyone's threshold was.

Machines are drawn with replacement within each plant and seed, the same for all candidates. Intervals say how figures
would differ with other machines under these fitted models. D draws, H thresholds, M machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from jobs.evaluation.judging import Judged
from jobs.evaluation.results import Figure
from models.episodes import HOURS_A_MONTH
from models.metrics import Draws, Sample

KINDS = ("network", "trees", "no_sensor", "oracle")
BASELINES = ("trees", "no_sensor")
RATES = (0.1, 0.2, 0.5, 1.0)  # false alarms a machine-month, about what a planner would still look into
DRAWS, SEED = 1000, 0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alarms:
    """One candidate: failures caught and false alarms [H, M] by threshold and machine; ``own`` is its own threshold."""

    caught: Floats
    false: Floats
    own: int

    def allowed(self, weight: Floats) -> Floats:
        """False alarms [D] under its own threshold, each machine counted as ``weight`` [D, M] says."""
        found: Floats = weight @ self.false[self.own]
        return found

    def most_within(self, allowed: Floats, weight: Floats) -> Floats:
        """Most failures caught [D] under one threshold with at most ``allowed`` [D] false alarms; 0 where none has."""
        caught, false = weight @ self.caught.T, weight @ self.false.T
        found: Floats = np.where(false <= allowed[:, None] + 1e-9, caught, 0.0).max(axis=1)
        return found


@dataclass(frozen=True)
class Case:
    """One plant of one seed, judged; ``failures`` and ``months`` [M] by machine."""

    plant: str
    seed: int
    alarms: Mapping[str, Alarms]
    champion: str
    failures: Floats
    months: Floats


class Caught(BaseModel):
    """``caught`` is the share of the failures that an alarm could have announced."""

    num_caught: int
    caught: Figure


class AtRate(BaseModel):
    """Failures caught where every plant is allowed ``rate`` false alarms a machine-month, and the network's share."""

    rate: float
    model: int
    baseline: int
    no_sensor: int
    better: int
    oracle: int
    share: Figure


class Shares(BaseModel):
    """Every candidate at the network's false alarms. ``baseline`` are the trees; ``better`` is the better of them and
    ``no_sensor``, chosen for each plant over its seeds.

    ``share`` is (network - better) / (oracle - better), ``champion_share`` the same for the candidates that validation
    chose; null where the oracle is not ahead. ``at_rates`` has the same at fixed rates of false alarms.
    """

    num_machines: int
    num_failures: int
    machine_months: float
    false_alarms: int
    model: Caught
    baseline: Caught
    no_sensor: Caught
    better: Caught
    oracle: Caught
    champion: Caught
    share: Figure
    champion_share: Figure
    at_rates: list[AtRate]


def case_of(plant: str, seed: int, judged: Judged, champion: str) -> Case:
    """The counts behind a judged plant, whose first candidate must be the network."""
    machines, machine, ticks = np.unique(judged.ticks["machine"].to_numpy(), return_inverse=True, return_counts=True)
    found = {c.kind: c for c in judged.result.all.candidates}

    def count(rows: NDArray[np.int64]) -> Floats:
        return np.bincount(machine[rows], minlength=len(machines)).astype(np.float64)

    alarms = {}
    for kind in KINDS:
        swept = judged.swept[kind]
        own = next(place for place, one in enumerate(swept) if one.threshold == found[kind].threshold)
        caught, false = (np.stack([count(getattr(one, name)) for one in swept]) for name in ("caught", "false"))
        alarms[kind] = Alarms(caught, false, own)
    failures = count(judged.swept["network"][0].failures)
    months = ticks.astype(np.float64) * (judged.result.scored_every / HOURS_A_MONTH)
    return Case(plant, seed, alarms, champion, failures, months)


def shares(cases: Sequence[Case], *, draws: int = DRAWS) -> Shares:
    """All figures of some cases together: counts are summed over them before any ratio is taken."""
    weights = [_weights(case, draws) for case in cases]
    sums = _sums(cases, weights)

    def caught(kind: str) -> Caught:
        return Caught(num_caught=round(sums[kind][0]), caught=_figure(_ratio(sums[kind], sums["failures"])))

    return Shares(
        num_machines=sum(len(case.failures) for case in cases), num_failures=round(sums["failures"][0]),
        machine_months=round(float(sums["months"][0]), 2), false_alarms=round(sums["allowed"][0]),
        model=caught("network"), baseline=caught("trees"), no_sensor=caught("no_sensor"), better=caught("better"),
        oracle=caught("oracle"), champion=caught("champion"), share=_way(sums, "network"),
        champion_share=_way(sums, "champion"), at_rates=[_at(rate, _sums(cases, weights, rate)) for rate in RATES],
    )  # fmt: skip


def _weights(case: Case, draws: int) -> Floats:
    """[1 + D, M]: every machine once, then the draws, equal for a case wherever it is counted."""
    machines = len(case.failures)
    rng = np.random.default_rng([SEED, case.seed, *case.plant.encode()])
    return np.concatenate([np.ones((1, machines)), Draws.of(machines, rng=rng, draws=draws).weight])


def _sums(cases: Sequence[Case], weights: Sequence[Floats], rate: float | None = None) -> dict[str, Floats]:
    """Sums over the cases [1 + D] of what each candidate catches within a rate of false alarms, or the network's."""
    names = (*KINDS, "champion", "failures", "months", "allowed")
    plants: dict[str, dict[str, list[Floats]]] = {}
    for case, weight in zip(cases, weights, strict=True):
        allowed = case.alarms["network"].allowed(weight) if rate is None else rate * (weight @ case.months)
        found = {kind: case.alarms[kind].most_within(allowed, weight) for kind in KINDS}
        found |= {"champion": found[case.champion], "failures": weight @ case.failures}
        found |= {"months": weight @ case.months, "allowed": allowed}
        for name in names:
            plants.setdefault(case.plant, {}).setdefault(name, []).append(found[name])
    sums = [{name: _sum(parts) for name, parts in own.items()} for own in plants.values()]
    total = {name: _sum([own[name] for own in sums]) for name in names}
    return total | {"better": _sum([np.maximum(*(own[kind] for kind in BASELINES)) for own in sums])}


def _sum(parts: Sequence[Floats]) -> Floats:
    """Over the draws that all have: a case of a single machine has none."""
    length = min(len(part) for part in parts)
    found: Floats = np.sum([part[:length] for part in parts], axis=0)
    return found


def _at(rate: float, sums: Mapping[str, Floats]) -> AtRate:
    found = {name: round(sums[name][0]) for name in (*KINDS, "better")}
    return AtRate(
        rate=rate, model=found["network"], baseline=found["trees"], no_sensor=found["no_sensor"],
        better=found["better"], oracle=found["oracle"], share=_way(sums, "network"),
    )  # fmt: skip


def _way(sums: Mapping[str, Floats], kind: str) -> Figure:
    """The share of the way from the better baseline to the oracle, without meaning where the oracle is not ahead."""
    return _figure(_ratio(sums[kind] - sums["better"], sums["oracle"] - sums["better"]))


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where the second is not positive."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _figure(values: Floats) -> Figure:
    found = Sample(float(values[0]), values[1:]).estimate()
    value, low, high = (round(x, 4) if math.isfinite(x) else None for x in (found.value, found.low, found.high))
    return Figure(value=value, low=low, high=high)

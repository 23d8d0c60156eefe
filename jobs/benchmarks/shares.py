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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from jobs.evaluation.allowed import DRAWS, RATES, Counts, Floats, counts_of, ratio, total, weights
from jobs.evaluation.judging import Judged
from jobs.evaluation.results import Figure

KINDS = ("network", "trees", "no_sensor", "oracle")
BASELINES = ("trees", "no_sensor")


@dataclass(frozen=True)
class Case:
    """One plant of one seed, judged."""

    plant: str
    seed: int
    counts: Counts
    champion: str


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
    return Case(plant, seed, counts_of(judged, KINDS), champion)


def shares(cases: Sequence[Case], *, draws: int = DRAWS) -> Shares:
    """All figures of some cases together: counts are summed over them before any ratio is taken."""
    drawn = [weights(len(case.counts.failures), case.seed, *case.plant.encode(), draws=draws) for case in cases]
    sums = _sums(cases, drawn)

    def caught(kind: str) -> Caught:
        return Caught(num_caught=round(sums[kind][0]), caught=ratio(sums[kind], sums["failures"]))

    return Shares(
        num_machines=sum(len(case.counts.failures) for case in cases), num_failures=round(sums["failures"][0]),
        machine_months=round(float(sums["months"][0]), 2), false_alarms=round(sums["allowed"][0]),
        model=caught("network"), baseline=caught("trees"), no_sensor=caught("no_sensor"), better=caught("better"),
        oracle=caught("oracle"), champion=caught("champion"), share=_way(sums, "network"),
        champion_share=_way(sums, "champion"), at_rates=[_at(rate, _sums(cases, drawn, rate)) for rate in RATES],
    )  # fmt: skip


def _sums(cases: Sequence[Case], drawn: Sequence[Floats], rate: float | None = None) -> dict[str, Floats]:
    """Sums over the cases [1 + D] of what each candidate catches within a rate of false alarms, or the network's."""
    names = (*KINDS, "champion", "failures", "months", "allowed")
    plants: dict[str, dict[str, list[Floats]]] = {}
    for case, weight in zip(cases, drawn, strict=True):
        counts = case.counts
        allowed = counts.alarms["network"].allowed(weight) if rate is None else rate * (weight @ counts.months)
        found = {kind: counts.alarms[kind].most_within(allowed, weight) for kind in KINDS}
        found |= {"champion": found[case.champion], "failures": weight @ counts.failures}
        found |= {"months": weight @ counts.months, "allowed": allowed}
        for name in names:
            plants.setdefault(case.plant, {}).setdefault(name, []).append(found[name])
    sums = [{name: total(parts) for name, parts in own.items()} for own in plants.values()]
    found = {name: total([own[name] for own in sums]) for name in names}
    return found | {"better": total([np.maximum(*(own[kind] for kind in BASELINES)) for own in sums])}


def _at(rate: float, sums: Mapping[str, Floats]) -> AtRate:
    found = {name: round(sums[name][0]) for name in (*KINDS, "better")}
    return AtRate(
        rate=rate, model=found["network"], baseline=found["trees"], no_sensor=found["no_sensor"],
        better=found["better"], oracle=found["oracle"], share=_way(sums, "network"),
    )  # fmt: skip


def _way(sums: Mapping[str, Floats], kind: str) -> Figure:
    """The share of the way from the better baseline to the oracle, without meaning where the oracle is not ahead."""
    return ratio(sums[kind] - sums["better"], sums["oracle"] - sums["better"])

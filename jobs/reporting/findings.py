"""What a reader must know of the figures before trusting them, in words, the weightiest first.

The one idea: a finding weighs what it would cost to overlook it: failures missed, then groups that are missed more
often than others, then claims that the figures do not carry (a calibration, an interval, a lead over a baseline).
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.evaluation.results import BASELINE, BandResult, Bin, GroupResult, PlantResult
from jobs.reporting.words import cell

MOST = 9
FEWEST_IN_A_GROUP = 3  # failures; of fewer nothing is said
LEVEL = 0.8


@dataclass(frozen=True)
class Finding:
    weight: float
    text: str


def findings(plants: list[PlantResult]) -> list[str]:
    """At most nine sentences over all plants."""
    found = [finding for plant in plants for finding in _of(plant)]
    return [f.text for f in sorted(found, key=lambda f: -f.weight)[:MOST]]


def _of(plant: PlantResult) -> list[Finding]:
    every = [_missed(plant), _false(plant), _worst_group(plant), _calibration(plant), _interval(plant), _beaten(plant)]
    return [f for f in every if f is not None]


def _missed(plant: PlantResult) -> Finding | None:
    missed = [f for f in plant.failures if not f.caught]
    if not missed:
        return None
    sudden = sum(bool(f.sudden) for f in missed)
    known = any(f.sudden is not None for f in missed)
    why = f"; {sudden} of them came without any warning in the sensors" if known else ""
    few = "" if plant.enough else f" ({plant.num_failures_known} known failures are too few for a verdict)"
    text = f"{plant.name}: {len(missed)} of {len(plant.failures)} failures came without an alarm in time{why}{few}."
    return Finding(2 + (len(missed) - sudden) / len(plant.failures), text)


def _false(plant: PlantResult) -> Finding | None:
    champion = plant.all.champion
    rate, between = cell(champion.false_alarms_per_machine_month)
    if not champion.false_alarms:
        return None
    right, of = cell(champion.precision, percent=True)
    text = (
        f"{plant.name}: {champion.false_alarms} false alarms, {rate} per machine and month{_in(between)}; "
        f"{right} of the alarms that could be checked came true{_in(of)}."
    )
    return Finding(1 + min((champion.false_alarms_per_machine_month.value or 0.0) / 4, 1.0), text)


def _worst_group(plant: PlantResult) -> Finding | None:
    """The group that is missed most, where the others are not."""
    whole = plant.all.champion.recall.value
    able = [g for g in plant.groups[1:] if g.num_failures >= FEWEST_IN_A_GROUP and not g.kind.startswith("true")]
    if whole is None or not able:
        return None
    worst = min(able, key=lambda g: (g.champion.recall.value or 0.0, -g.num_failures))
    lost = whole - (worst.champion.recall.value or 0.0)
    if lost < 0.1:
        return None
    text = (
        f"{plant.name}: caught {worst.champion.caught} of {worst.num_failures} failures of {_spoken(worst)}, "
        f"{plant.all.champion.caught} of {plant.all.num_failures} in all{_in(worst.note)}."
    )
    return Finding(1 + lost * worst.num_failures / plant.all.num_failures, text)


def _calibration(plant: PlantResult) -> Finding | None:
    """The bin whose interval is farthest from what was said."""

    def off(b: Bin) -> float:
        if b.low is None or b.high is None:
            return 0.0
        return max(b.low - b.predicted, b.predicted - b.high, 0.0)

    worst = max(plant.all.champion.reliability, key=off, default=None)
    if worst is None or off(worst) < 0.005:
        return None
    way = "too low" if worst.observed > worst.predicted else "too high"
    text = (
        f"{plant.name}: where the risk within {plant.alarm_horizon} is given as {_percent(worst.predicted)}, "
        f"{_percent(worst.observed)} failed ({_percent(worst.low or 0)} to {_percent(worst.high or 0)}): "
        f"it is {way} there."
    )
    return Finding(0.5 + off(worst), text)


def _interval(plant: PlantResult) -> Finding | None:
    """Where the interval fails most, by the life that it predicts; or that it holds, and what that rests on."""

    def off(b: BandResult) -> float:
        if b.coverage.low is None or b.coverage.high is None:
            return 0.0
        return max(b.coverage.low - LEVEL, LEVEL - b.coverage.high, 0.0)

    champion, unit = plant.all.champion, plant.life_unit
    worst = max(champion.bands_predicted, key=off, default=None)
    if worst is not None and off(worst) > 0:
        held, between = cell(worst.coverage, percent=True)
        text = (
            f"{plant.name}: where the median life predicted is {_between(worst, unit)}, the 80 % interval held "
            f"{held}{_in(between)} of lives, {worst.num_failures} failures among them."
        )
        return Finding(1.0 + off(worst), text)
    held, between = cell(champion.coverage_80, percent=True)
    if champion.coverage_80.low is None:
        return None
    known = "" if champion.settled_80 is None else f"; the log could settle {champion.settled_80:.0%} of these hours"
    wide = "" if champion.width_80 is None else f", half of the intervals are wider than {champion.width_80:.0f} {unit}"
    return Finding(0.2, f"{plant.name}: the 80 % interval of remaining life held {held}{_in(between)}{wide}{known}.")


def _between(band: BandResult, unit: str) -> str:
    return f"over {band.low:g} {unit}" if band.high is None else f"{band.low:g} to {band.high:g} {unit}"


def _beaten(plant: PlantResult) -> Finding | None:
    """A baseline that the champion is worse than by one figure, or else one that it is not shown to be better than."""
    pairs = [pair for pair in plant.all.comparisons if pair.against in BASELINE]
    for pair in pairs:
        named = (("average precision", pair.average_precision), ("Brier skill", pair.brier_skill),
                 ("log-likelihood", pair.log_likelihood))  # fmt: skip
        for name, gain in named:
            if gain.high is not None and gain.high < 0:
                value, between = cell(gain, digits=3)
                text = f"{plant.name}: worse than the {BASELINE[pair.against]} by {name}, {value}{_in(between)}."
                return Finding(1.6, text)
    for pair in pairs:
        gain = pair.average_precision
        if gain.value is not None and (gain.low is None or gain.low <= 0):
            value, between = cell(gain)
            text = (
                f"{plant.name}: not shown to be better than the {BASELINE[pair.against]}: average precision differs by "
                f"{value}{_in(between)}."
            )
            return Finding(0.9, text)
    return None


def _spoken(group: GroupResult) -> str:
    if group.kind == "machines":
        return group.name
    name = group.name.replace("_", " ")
    if group.kind == "age":
        band, _, until = name.partition(": ")
        return f"{band} machines ({until})" if until else f"machines of {band}"
    return f"the {group.kind} {name}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _in(text: str) -> str:
    return f" ({text})" if text else ""

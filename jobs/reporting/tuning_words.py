"""What a study found, in sentences: what was chosen and why, how sure that is, what it cost.

The one idea: no difference is told without saying whether its doubt is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.evaluation.verdict import ENOUGH
from jobs.tuning.journal import IN_WORDS, USABLE, Trial
from jobs.tuning.report import PlantStudy, TuneReport, by_owner
from jobs.tuning.search import PlantSearch
from jobs.tuning.sureness import FEWEST, runners_up

KINDS = {"network": "network", "trees": "trees", "no_sensor": "no sensor"}


def kind(name: str) -> str:
    return KINDS.get(name, name.replace("_", " "))


def headline(report: TuneReport) -> str:
    """``3 plants tuned: the network was chosen for 2, trees for 1``."""
    counts = Counter(kind(plant.best["kind"]) for plant in report.plants)
    told = [f"the {name} answers for {count}" for name, count in counts.most_common()]
    number = len(report.plants)
    return f"{number} plant{'' if number == 1 else 's'} tuned: {', '.join(told)}."


def summary(report: TuneReport, searches: Mapping[str, PlantSearch]) -> Iterator[str]:
    """What to know before the details, the weightiest first."""
    few = [f"{p.name} (n = {p.best['num_failures']})" for p in report.plants if p.best["num_failures"] < ENOUGH]
    if few:
        yield f"Not enough failures to be sure of anything: {', '.join(few)}; {ENOUGH} in the training part are."
    for plant in report.plants:
        gain = _gain(plant, searches.get(plant.name))
        if gain is not None:
            yield f"{plant.name}: {gain}"
    ended = [plant.name for plant in report.plants if plant.budget_ended]
    if ended:
        yield f"The budget of {report.budget} ended the search of {', '.join(ended)}; the same command goes on with it."
    wrong = Counter(t.state for s in searches.values() for t in s.journal.trials)
    told = [f"{wrong[s]} {IN_WORDS[s]}" for s in ("diverged", "out_of_memory", "invalid", "failed") if wrong[s]]
    if told:
        yield f"Trials that went wrong: {', '.join(told)}; each with its reason in the tables below."
    if any(report.owners):
        yield f"Cost by owner: {'; '.join(by_owner(report))}."
    yield "All of this is judged on the time that also made the choices. `millwright evaluate` judges on time unseen."


def _gain(plant: PlantStudy, search: PlantSearch | None) -> str | None:
    """What searching bought, in one sentence."""
    best = _best(plant, search)
    if search is None or best is None:
        return None
    if not best.settings:
        return "the configuration as it is was the best network tried; searching bought nothing."
    _, default = runners_up(search.journal.trials, best)
    if default is None:
        return "the configuration as it is has no loss to compare with."
    told = f"the best network tried is {_apart(best, default)} better than the configuration as it is"
    return f"{told}{_cut(default)}; one seed each, so without an interval."


def why(plant: PlantStudy, search: PlantSearch | None) -> list[str]:
    """What was chosen, and why."""
    best, scores = plant.best, plant.best["log_likelihood"]
    if best.get("scope") == "fleet":
        return [f"No failure of its own to learn from: the fleet's network answers, version {best['version']}."]
    others = [f"{kind(name)} {value:.4f}" for name, value in scores.items() if name != best["kind"]]
    than = f"; {', '.join(others)}" if others else ""
    told = [f"Chosen: {kind(best['kind'])}, version {best['version']}, for the highest log-likelihood of a tick on "
            f"later time: {scores[best['kind']]:.4f}{than}."]  # fmt: skip
    if best["trial"] is None:
        told.append("No trial of the network came to a loss.")
    else:
        role = "The network is" if best["kind"] == "network" else "The best network, which the champion beat, is"
        trials = search.journal.trials if search is not None else []
        compared = sum(t.state in USABLE and t.loss is not None for t in trials)
        told.append(f"{role} trial {best['trial']}, of the lowest loss among {compared} that could be compared.")
    if plant.fleet:
        told.append(f"It could start from the fleet's network, version {plant.fleet}.")
    return told


def sureness(plant: PlantStudy, search: PlantSearch | None) -> Iterator[str]:
    """How far what was chosen is from the rest, and what is not known of it."""
    if plant.best.get("scope") == "fleet":
        yield "Nothing here can be compared: no failures."
        return
    for name, gain in plant.best.get("against", {}).items():
        yield _against(plant.best["kind"], name, gain)
    best = _best(plant, search)
    if search is not None and best is not None:
        following, default = runners_up(search.journal.trials, best)
        if following is not None:
            told = f"{_apart(best, following)} worse{_cut(following)}"
            yield f"The next best network, trial {following.number}, is {told}."
        if default is not None and default is not following:
            told = f"{_apart(best, default)} worse{_cut(default)}"
            yield f"The configuration as it is, trial {default.number}, is {told}."
        if following is not None:
            yield ("Between trials there is no interval: each has one seed, and leaves a mean. The lowest of many "
                   "losses is also lower than it would be again.")  # fmt: skip
    failures = plant.best["num_failures"]
    yield f"Failures in the training part: {failures}{', not enough to be sure' if failures < ENOUGH else ''}."


def _against(champion: str, name: str, gain: Mapping[str, Any]) -> str:
    value, low, high = gain["value"], gain["low"], gain["high"]
    pair = f"{kind(champion).capitalize()} minus {kind(name)}"
    if value is None:
        return f"{pair}: not known machine by machine."
    if low is None:
        return f"{pair}: {value:+.4f}, without an interval: {gain['machines']} machines are fewer than {FEWEST}."
    so = "higher on these machines" if low > 0 else "no difference shown"
    return f"{pair}: {value:+.4f} ({low:+.4f} to {high:+.4f}, {gain['machines']} machines): {so}."


def interval(gain: Mapping[str, Any] | None) -> tuple[str, str]:
    """A table's cell, and what stands small below it."""
    if gain is None or gain["value"] is None:
        return "-", ""
    low, high = gain["low"], gain["high"]
    return f"{gain['value']:+.4f}", "no interval" if low is None else f"{low:+.4f} to {high:+.4f}"


def cost_text(plant: PlantStudy) -> str:
    whose = f", for {plant.owner}" if plant.owner else ""
    return f"Cost: {plant.core_hours:.3f} core-hours, {plant.gpu_hours:.3f} GPU-hours{whose}."


def state_of(trial: Trial) -> str:
    return IN_WORDS.get(trial.state, trial.state) + (f": {trial.reason}" if trial.reason else "")


def _best(plant: PlantStudy, search: PlantSearch | None) -> Trial | None:
    trials = search.journal.trials if search is not None else []
    return next((t for t in trials if t.number == plant.best["trial"]), None)


def _apart(best: Trial, other: Trial) -> str:
    assert best.loss is not None and other.loss is not None, "only trials with a loss are compared"
    return f"{other.loss - best.loss:.4f} a tick in log-likelihood"


def _cut(trial: Trial) -> str:
    """A trial that was ended early might have come nearer."""
    if trial.state in ("stopped", "running"):
        return f" (it was ended after {trial.epochs} epochs, and might have come nearer)"
    return ""

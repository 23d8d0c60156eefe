"""``tuning.html``: what was tried for each plant, what was chosen and why, how sure that is, and what it cost.

The one idea: the page is made from the studies' journals and from what their champions were compared with, so a resumed
study draws the same plots as one left in peace; only the times of its baselines, which are fitted again, differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.reporting.page import template
from jobs.reporting.tuning_plots import MARKS, importance_plot, learning_plot, parallel_plot, spoken, written
from jobs.reporting.tuning_words import cost_text, headline, interval, kind, state_of, summary, sureness, why
from jobs.tuning.report import PlantStudy, TuneReport
from jobs.tuning.search import PlantSearch
from jobs.tuning.sureness import FEWEST, importance

MOST_AXES = 8  # of the parallel plot: more cannot be told apart at a phone's width
GLOSSARY = [
    ("loss", "Mean negative log-likelihood of a tick on later time, before calibration; lower is better. "
     "A trial has that of its best epoch."),
    ("log-likelihood", "The same with its sign turned, after calibration, as candidates are compared; higher is "
     "better. The  champion is the highest, baseline or not."),
    ("later time", "The validation part. It also chose the epoch, calibrated the curve and picked the winner, so its "
     "figures flatter; `millwright evaluate` judges on time that no choice has seen."),
    ("as it is", "The deployment's own configuration, always among the first trials: what a search must beat."),
    ("stopped", "At epochs 3, 12, 48, ... a trial goes on only among the best quarter of earlier batches."),
    ("importance", "How far a setting tells the best tenth of the trials from all of them (PED-ANOVA, as Optuna has "
     "it), as a share. Stopped trials count with their early loss. It describes these trials and proves no cause."),
    ("cost", "Seconds of the trials' epochs and of the baselines, one core each; a GPU by the share that a trial had. "
     "Starting workers, reading history, bundling and the fleet's network are not in it."),
    ("intervals", "95 %, by drawing machines again and again with replacement; of candidates on the same machines. "
     "They do not hold what another seed would change."),
]  # fmt: skip


def render(report: TuneReport, searches: Mapping[str, PlantSearch], *, origin: str) -> str:
    """The whole page as HTML that asks for nothing else; ``searches`` are of the plants that were searched."""
    return template("tuning.html.j2").render(
        headline=headline(report), findings=list(summary(report, searches)), tiles=list(_tiles(report, searches)),
        plants=[_plant(plant, searches.get(plant.name)) for plant in report.plants], glossary=GLOSSARY, origin=origin,
    )  # fmt: skip


def _tiles(report: TuneReport, searches: Mapping[str, PlantSearch]) -> Iterator[tuple[str, str]]:
    trials = [trial for search in searches.values() for trial in search.journal.trials]
    yield str(len(report.plants)), "plant" if len(report.plants) == 1 else "plants"
    yield f"{sum(t.over for t in trials)} of {sum(p.trials for p in report.plants)}", "trials ended"
    yield str(sum(t.state == "stopped" for t in trials)), "stopped by comparison"
    yield f"{sum(plant.core_hours for plant in report.plants):.2f}", "core-hours"
    yield f"{sum(plant.gpu_hours for plant in report.plants):.2f}", "GPU-hours"


def _plant(plant: PlantStudy, search: PlantSearch | None) -> dict[str, Any]:
    best = plant.best
    found: dict[str, Any] = {
        "name": plant.name, "why": why(plant, search), "sure": list(sureness(plant, search)),
        "stopped": _stopped(plant), "cost": cost_text(plant), "candidates": list(_candidates(best)),
        "figures": [], "notes": [], "settings": [], "trials": [], "columns": [],
    }  # fmt: skip
    if search is None or not search.journal.trials:
        return found
    trials = search.journal.trials
    chosen = next((t for t in trials if t.number == best["trial"]), None)
    default = next((t for t in trials if not t.settings), None)
    found["settings"] = _settings(search, chosen)
    found["columns"] = [spoken(name) for name in search.space.options]
    found["trials"] = [_trial(search, trial, best["trial"]) for trial in trials]
    shares = importance(search)
    if shares is None:
        drawn = sum(bool(t.params) and t.loss is not None for t in trials)
        told = f"too few trials ({drawn} drawn with a loss; {FEWEST} are needed)."
        found["notes"].append(f"Importance of settings: {told}")
    elif not shares:
        found["notes"].append("Importance of settings: none was drawn in every trial.")
    number = default.number if default else None
    found["figures"] = list(_figures(search, shares or {}, best["trial"], number))
    return found


def _figures(
    search: PlantSearch, shares: Mapping[str, float], best: int | None, default: int | None
) -> Iterator[dict[str, str]]:
    trials, plant = search.journal.trials, search.journal.plant
    key = "Thick blue: the chosen trial. Dashed orange: the configuration as it is, where another was chosen."
    if any(loss is not None for t in trials for loss in t.losses):
        told = [f"trial {t.number}: {len(t.losses)} epochs, best {t.loss:.4f}" for t in trials if t.loss is not None]
        yield {
            "title": "Did training pay, and when was it stopped?", "svg": learning_plot(trials, best, default),
            "caption": f"{key} A line ends in a circle where it was over, in a triangle where comparison stopped it, "
                       "in a cross where it went wrong, in a square where the budget ended it. High losses are cut.",
            "alt": f"Loss of {plant} by epoch. {'; '.join(told)}.",
        }  # fmt: skip
    shown = [t for t in trials if t.loss is not None and t.state in MARKS]
    names = _axes(search, shares)
    if len(shown) > 1 and names:
        yield {
            "title": "Which settings went with a low loss?",
            "svg": parallel_plot(names, [search.configuration(t) for t in shown], shown, best=best, default=default,
                                 logarithmic=_log(search)),
            "caption": f"A line a trial through its settings to its loss, right; low is good. {key}",
            "alt": f"Settings of {len(shown)} trials of {plant} against their loss, as in the table of trials below.",
        }  # fmt: skip
    if shares:
        told = [f"{spoken(name)} {share:.0%}" for name, share in shares.items()]
        yield {
            "title": "Which settings mattered?", "svg": importance_plot(shares),
            "caption": "Share of what tells the best tenth of the trials from all. With few trials, a hint at most.",
            "alt": f"Importance of settings of {plant}: {', '.join(told)}.",
        }  # fmt: skip


def _axes(search: PlantSearch, shares: Mapping[str, float]) -> list[str]:
    """Settings that differ between trials, in the space's order; the weightiest where there are too many."""
    configurations = [search.configuration(t) for t in search.journal.trials]
    names = [n for n in search.space.options if len({str(own[n]) for own in configurations}) > 1]
    kept = sorted(names, key=lambda n: -shares.get(n, 0.0))[:MOST_AXES]
    return [name for name in names if name in kept]


def _log(search: PlantSearch) -> list[str]:
    return [name for name, variants in search.space.options.items() if any(getattr(v, "log", False) for v in variants)]


def _candidates(best: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in sorted(best["log_likelihood"].items(), key=lambda pair: -pair[1]):
        champion = name == best["kind"]
        seconds = best.get("seconds", {}).get(name)
        gain = best.get("against", {}).get(name)
        yield {
            "name": kind(name), "style": "champion" if champion else "",
            "cells": [(f"{value:.4f}", ""), ("", "") if champion else interval(gain),
                      ("-" if seconds is None else f"{seconds:.1f} s", "")],
        }  # fmt: skip


def _settings(search: PlantSearch, chosen: Any) -> list[tuple[str, str, str]]:
    """Of everything searched: the chosen network's value, and the deployment's own."""
    own: dict[str, Any] = search.default.model_dump()
    values = search.configuration(chosen) if chosen else {}
    names = search.space.options
    return [(spoken(name), written(values[name]) if values else "-", written(own[name])) for name in names]


def _trial(search: PlantSearch, trial: Any, best: int | None) -> dict[str, Any]:
    cells: Sequence[str] = [
        state_of(trial), str(trial.epochs), "-" if trial.loss is None else f"{trial.loss:.4f}",
        f"{trial.seconds:.1f} s",
        *(written(value) for value in search.configuration(trial).values()),
    ]  # fmt: skip
    name = f"{trial.number}" + ("" if trial.settings else " (as it is)")
    return {"name": name, "style": "champion" if trial.number == best else "", "cells": [(c, "") for c in cells]}


def _stopped(plant: PlantStudy) -> str:
    told = ", ".join(f"{count} {why}" for why, count in plant.stopped.items())
    if not plant.trials:
        return "Nothing was searched."
    return f"Ended before their own end: {told}." if told else "Every trial trained to its own end."

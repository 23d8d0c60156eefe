"""``evaluation.html``: every figure of every candidate, group by group, in words, plots and tables.

The one idea: whoever wants to know whether to trust the models starts at the sentences on top and goes down as far as
doubt takes them; nothing that ``evaluate`` found is left out, and no number stands without what it was counted on.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from jobs.evaluation.results import (
    LABEL,
    BandResult,
    Bin,
    CandidateResult,
    Comparison,
    Figure,
    GroupResult,
    PlantResult,
)
from jobs.reporting.figure_plots import band_name, band_plot, lead_plot, threshold_plot
from jobs.reporting.findings import findings
from jobs.reporting.glossary import FIGURES
from jobs.reporting.page import headline, template
from jobs.reporting.plots import calibration_plot, spoken_unit, story_plot
from jobs.reporting.words import cell, on_condition, summary

Cell = tuple[str, str]
COLUMNS = (
    "candidate", "failures caught", "caught at equal false alarms", "alarms come true",
    "false alarms per machine-month", "late / open alarms", "lead, median", "lead, 10th percentile",
    "hours caught at 50 % precision", "AUC", "average precision", "Brier score", "Brier skill", "calibration error",
    "log-likelihood of a tick", "life error (median)", "life RMSE", "asymmetric score", "concordance",
    "in 80 % interval", "its width",
)  # fmt: skip
GROUP_COLUMNS = (
    "group", "machines", "machine-months", "failures caught", "alarms come true", "false alarms per machine-month",
    "lead, median", "lead, 10th percentile", "hours caught at 50 % precision", "average precision", "Brier skill",
    "life RMSE", "concordance", "in 80 % interval", "caught by others at equal false alarms",
)  # fmt: skip
DOUBT_COLUMNS = ("candidate", "failures caught", "AUC", "Brier skill", "log-likelihood of a tick")
KINDS = {
    "all": "all machines", "machines": "known to training or not", "machine type": "machine type",
    "age": "time since service (bands are the training part's tertiles)", "failure mode": "failure mode, as logged",
    "true failure mode": "failure mode, as it truly was (simulated)",
}  # fmt: skip
COMPARED = ("average precision", "Brier skill", "log-likelihood")
REFERENCES = ("always_healthy", "kaplan_meier", "oracle")


def render(plants: list[PlantResult], stories: dict[str, dict[str, Any]], *, origin: str) -> str:
    """The whole page as HTML that asks for nothing else."""
    return template("figures.html.j2").render(
        headline=headline(summary(plants, []), plants), findings=findings(plants), glossary=FIGURES, origin=origin,
        plants=[_plant(plant, stories.get(plant.name, {})) for plant in plants],
    )  # fmt: skip


def _plant(plant: PlantResult, story: dict[str, Any]) -> dict[str, Any]:
    unit = plant.life_unit
    return {
        "name": plant.name, "verdict": plant.verdict[:1].upper() + plant.verdict[1:] + ".",
        "scope": f"{plant.first[:10]} to {plant.last[:10]}, {plant.all.num_machines} machines, "
                 f"{plant.all.machine_months:.0f} machine-months, scored every {plant.scored_every:g} {unit}; an alarm "
                 f"counts from {plant.min_lead:g} to {plant.max_lead:g} {unit} before a failure.",
        "figures": list(_figures(plant)), "story": _story(story) if story else None, "columns": COLUMNS,
        "rows": [_row(c, unit) for c in plant.all.candidates],
        "comparisons": [_comparison(c) for c in plant.all.comparisons], "bands": list(_bands(plant.all.champion, unit)),
        "reliability": [_bin(b) for b in plant.all.champion.reliability],
        "doubted": on_condition(plant), "doubt_columns": DOUBT_COLUMNS, "doubts": list(_doubts(plant)),
        "group_columns": GROUP_COLUMNS,
        "groups": [(KINDS.get(kind, kind), [_group(g, unit) for g in own])
                   for kind, own in groupby(plant.groups, key=lambda g: g.kind)],
        "everything": [(_title(g), [_row(c, unit) for c in g.candidates]) for g in plant.groups[1:]],
    }  # fmt: skip


def _figures(plant: PlantResult) -> Iterable[dict[str, str]]:
    champion, unit = plant.all.champion, plant.life_unit
    bins = [f"{b.predicted:.1%} predicted, {b.observed:.1%} observed in {b.count}" for b in champion.reliability]
    yield {
        "title": "When it says 30 %, do 30 % fail?", "svg": calibration_plot(champion),
        "caption": f"Risk within {plant.alarm_horizon}; on the dashed line it is exactly right. Bars: 95 % by machine. "
                   "n: failures behind a point. Below: scored ticks.",
        "alt": f"Reliability of {plant.name}: {'; '.join(bins)}.",
    }  # fmt: skip
    if champion.leads:
        yield {
            "title": "How early were they announced?",
            "svg": lead_plot(champion, num_failures=champion.num_failures, min_lead=plant.min_lead,
                             max_lead=plant.max_lead, unit=unit),
            "caption": f"Share of all {champion.num_failures} failures announced at least so long before. A point: a "
                       "failure caught.",
            "alt": f"Leads of {plant.name}: {', '.join(f'{lead:.0f}' for lead in champion.leads)} {unit}.",
        }  # fmt: skip
    if champion.curve:
        yield {
            "title": "What if alarms were rarer?", "svg": threshold_plot(champion),
            "caption": "Solid: failures caught. Dashed: alarms that came true. Dotted: the threshold in use, chosen on "
                       "earlier time.",
            "alt": f"Failures caught and alarms come true by threshold, {len(champion.curve)} thresholds.",
        }  # fmt: skip
    if champion.bands_predicted:
        held = [(band_name(b), cell(b.coverage, percent=True)[0]) for b in champion.bands_predicted]
        yield {
            "title": "Does the 80 % interval hold?", "svg": band_plot(champion, unit),
            "caption": "Round: by predicted median, which a planner can check. Square: by true life, failures alone; "
                       "biased by knowing the end. Bars below: median width, held at the last edge.",
            "alt": f"Coverage of {plant.name} by predicted life: {'; '.join(f'{b} {unit}: {c}' for b, c in held)}.",
        }  # fmt: skip


def _story(story: dict[str, Any]) -> dict[str, Any]:
    unit, risk, before = story["life_unit"], story["risk"], story["before"]
    above = [at for at, chance in zip(before, risk, strict=True) if chance >= story["threshold"]]
    steps = [f"{story['machine']}; the plant's usual risk within {story['horizon']} is {story['usual_risk']:.1%}, "
             f"an alarm is raised from {story['threshold']:.1%}."]  # fmt: skip
    if above:
        steps.append(f"{max(above):.0f} {unit} before the end the risk first reached that.")
    reasons = [spoken_unit(r.get("text", r["sensor"])) for r in story["reasons"][:3]]
    if reasons:
        steps.append(f"At its peak of {max(risk):.0%} the largest reasons were: {'; '.join(reasons)}.")
    mode = f" ({story['mode'].replace('_', ' ')})" if story["mode"] else ""
    end = f"It failed at {story['failed_at'][:16].replace('T', ' ')} UTC{mode}. "
    caught = story["caught"]
    steps.append(end + (f"The alarm that counts came {story['lead']:.0f} {unit} ahead: caught." if caught
                        else "No alarm came in time: missed."))  # fmt: skip
    return {"svg": story_plot(story), "steps": steps, "alt": " ".join(steps)}


def _row(c: CandidateResult, unit: str) -> dict[str, Any]:
    equal = c.caught_at_equal_false_alarms
    return {
        "name": LABEL.get(c.kind, c.kind),
        "style": "champion" if c.champion else "reference" if c.kind in REFERENCES else "",
        "cells": [
            _caught(c), ("-" if equal is None else str(equal), ""), cell(c.precision, percent=True),
            cell(c.false_alarms_per_machine_month), (f"{c.late_alarms} / {c.open_alarms}", ""),
            cell(c.lead_median, digits=0, unit=unit), cell(c.lead_p10, digits=0, unit=unit),
            cell(c.recall_at_half_precision, percent=True), cell(c.auc), cell(c.average_precision),
            cell(c.brier, digits=4), cell(c.brier_skill), (_number(c.calibration_error, 3), ""),
            cell(c.log_likelihood, digits=3), cell(c.life_error, digits=0, unit=unit), _near(c, unit),
            cell(c.asymmetric_score, digits=1), cell(c.concordance), cell(c.coverage_80, percent=True), _width(c, unit),
        ],
    }  # fmt: skip


def _group(group: GroupResult, unit: str) -> dict[str, Any]:
    c = group.champion
    others = ", ".join(
        f"{LABEL.get(o.kind, o.kind).split(' (')[0]} {o.caught_at_equal_false_alarms}"
        for o in group.candidates if not o.champion and o.caught_at_equal_false_alarms is not None
    )  # fmt: skip
    return {
        "name": group.name.replace("_", " "), "note": group.note,
        "cells": [
            (str(group.num_machines), ""), (f"{group.machine_months:.1f}", ""), _caught(c),
            cell(c.precision, percent=True), cell(c.false_alarms_per_machine_month),
            cell(c.lead_median, digits=0, unit=unit), cell(c.lead_p10, digits=0, unit=unit),
            cell(c.recall_at_half_precision, percent=True), cell(c.average_precision), cell(c.brier_skill),
            _near(c, unit), cell(c.concordance), cell(c.coverage_80, percent=True), (others or "-", ""),
        ],
    }  # fmt: skip


def _comparison(pair: Comparison) -> dict[str, Any]:
    gains = dict(zip(COMPARED, (pair.average_precision, pair.brier_skill, pair.log_likelihood), strict=True))
    better = [name for name, g in gains.items() if g.low is not None and g.low > 0]
    worse = [name for name, g in gains.items() if g.high is not None and g.high < 0]
    so = [f"{word} by {' and '.join(names)}" for word, names in (("better", better), ("worse", worse)) if names]
    cells = [*(cell(g, digits=3) for g in gains.values()), (", ".join(so) or "no difference shown", "")]
    return {"name": LABEL.get(pair.against, pair.against), "cells": cells}


def _bands(champion: CandidateResult, unit: str) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    for kind, bands in (("by predicted median", champion.bands_predicted),
                        ("by true life, failures alone (biased: it knows the end)", champion.bands_true)):  # fmt: skip
        if bands:
            yield kind, [_band(band, unit) for band in bands]


def _band(band: BandResult, unit: str) -> dict[str, Any]:
    width = "-" if band.width is None else f"{band.width:.0f} {unit}"
    shares = [("-" if share is None else f"{share:.0%}", "") for share in (band.beyond, band.settled)]
    counts = [(f"{band.num_ticks:,}", ""), (str(band.num_failures), "")]
    cells = [cell(band.coverage, percent=True), (width, ""), *shares, *counts]
    return {"name": f"{band_name(band)} {unit}", "cells": cells}


def _doubts(plant: PlantResult) -> Iterable[dict[str, Any]]:
    """Each candidate as the log says, and small below it at both bounds of what replacements on condition prevented."""
    for c in plant.all.candidates if plant.on_condition is not None else ():
        three = plant.on_condition.of(c.kind) if plant.on_condition is not None else ()
        texts = [[f"{b.caught} of {b.num_failures}", cell(b.auc)[0], cell(b.brier_skill)[0],
                  cell(b.log_likelihood, digits=3)[0]] for b in three]  # fmt: skip
        cells = [(logged, f"{failed} / {never}" if logged != "-" else "")
                 for logged, failed, never in zip(*texts, strict=True)]  # fmt: skip
        yield {"name": LABEL.get(c.kind, c.kind), "cells": cells}


def _bin(b: Bin) -> dict[str, Any]:
    observed = Figure(value=b.observed, low=b.low, high=b.high)
    return {
        "name": f"{b.predicted:.1%}",
        "cells": [cell(observed, percent=True), (f"{b.count:,}", ""), (str(b.num_failures), "")],
    }


def _title(group: GroupResult) -> str:
    few = f", {group.note}" if group.note else ""
    return f"{KINDS.get(group.kind, group.kind)}: {group.name.replace('_', ' ')}{few}"


def _caught(c: CandidateResult) -> Cell:
    return f"{c.caught} of {c.num_failures}", cell(c.recall, percent=True)[1]


def _near(c: CandidateResult, unit: str) -> Cell:
    value, between = cell(c.rmse, digits=0, unit=unit)
    return value, between and f"{between}, n = {c.num_failures_near}"


def _width(c: CandidateResult, unit: str) -> Cell:
    opened = "" if c.beyond_80 is None else f"{c.beyond_80:.0%} open at the top"
    return ("-", "") if c.width_80 is None else (f"{c.width_80:.0f} {unit}", opened)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

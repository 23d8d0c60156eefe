"""The page: plots and words poured into one template; whatever comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from jobs.evaluation.results import PlantResult
from jobs.reporting.glossary import PAGE
from jobs.reporting.plots import MOST_ROWS, calibration_plot, spoken_unit, story_plot, strip_plot
from jobs.reporting.words import Question, ServedPlant, Summary, parts, summary, table_rows

SHOWN_REASONS = 4


def render(
    plants: list[PlantResult], stories: dict[str, dict[str, Any]], served: list[ServedPlant], *, origin: str,
    figures: str | None = None,
) -> str:  # fmt: skip
    """The whole page as HTML that asks for nothing else. ``figures`` names the page of all figures beside it."""
    head = summary(plants, served)
    return template("page.html.j2").render(
        headline=headline(head, plants), below=_below(head), tiles=_tiles(head),
        plants=[_plant(plant, stories.get(plant.name, {})) for plant in plants],
        served=[_card(plant, question) for plant in served for question in plant.questions],
        glossary=PAGE, origin=origin, figures=figures,
    )  # fmt: skip


def template(name: str) -> Template:
    """A template of this folder; whatever is poured into it is escaped."""
    environment = Environment(
        loader=PackageLoader("jobs.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)


def headline(head: Summary, plants: list[PlantResult]) -> str:
    """What all champions came to, in one sentence."""
    if not plants:
        return "Nothing has been evaluated yet."
    if not head.num_failures:
        return f"No machine failed on later time; {head.false_alarms} false alarms."
    text = f"On later time that no model had seen, {head.caught} of {head.num_failures} failures were caught"
    if head.lead is not None:
        text += f", half of them at least {head.lead:.0f} {head.life_unit} ahead"
    if head.every_days is not None and head.life_unit == "h":
        return f"{text}, with one false alarm per machine every {_span(head.every_days)}."
    return f"{text}, with {head.false_alarms or 'no'} false alarms."


def _below(head: Summary) -> Iterable[str]:
    missed = head.num_failures - head.caught
    if head.sudden_missed is not None and missed:
        yield (
            f"Of the {missed} missed, {head.sudden_missed} came without any warning in the sensors: "
            f"nothing could have announced them."
        )
    if head.not_enough:
        yield f"Not enough failures for a verdict: {', '.join(head.not_enough)}."


def _tiles(head: Summary) -> list[tuple[str, str]]:
    found = [(f"{head.caught} / {head.num_failures}", "failures caught" + _in_brackets(head.caught_interval))]
    if head.lead is not None:
        found.append((f"{head.lead:.0f} {head.life_unit}", "median warning before the failure"))
    if head.false_rate is not None:
        found.append((f"{head.false_rate:.2f}", "false alarms per machine and month"))
    if head.latency_ms is not None:
        found.append((f"{head.latency_ms:.1f} ms", "to answer one request, median"))
    return found


def _plant(plant: PlantResult, story: dict[str, Any]) -> dict[str, Any]:
    champion, failures = plant.all.champion, plant.failures
    shown = {f.machine for f in failures} | {a.machine for a in plant.alarms if a.outcome == "false"}
    more = [f"{len(shown) - MOST_ROWS} more machines are not drawn."] if len(shown) > MOST_ROWS else []
    more.append(f"Scored every {plant.scored_every:g} {plant.life_unit}.")
    if plant.num_unlogged:
        after = sum(bool(a.unlogged) for a in plant.alarms if a.outcome == "false")
        more.append(
            f"Failures that happened and that nobody logged: {plant.num_unlogged}; "
            f"false alarms that came before one: {after} of {champion.false_alarms}."
        )
    if plant.num_not_judged:
        more.append(
            f"Failures of the log that are not counted: {plant.num_not_judged}; they came too near to the start or the "
            f"end of the record, or to another event, for an alarm to be judged."
        )
    strip_alt = f"Timeline of {len(failures)} failures of {plant.name}: {champion.caught} caught, " \
                f"{len(failures) - champion.caught} missed, {champion.false_alarms} false alarms."  # fmt: skip
    bins = "; ".join(f"{b.predicted:.0%} predicted, {b.observed:.0%} observed" for b in champion.reliability)
    return {
        "name": plant.name, "verdict": plant.verdict[:1].upper() + plant.verdict[1:] + ".", "parts": parts(plant),
        "horizon": plant.alarm_horizon, "has_truth": any(f.sudden is not None for f in failures),
        "period": f"{plant.first[:10]} to {plant.last[:10]}", "more": " ".join(more), "rows": table_rows(plant),
        "story": _story(story) if story else None, "strip": {"svg": strip_plot(plant), "alt": strip_alt},
        "calibration": {"svg": calibration_plot(champion), "alt": f"Calibration of {plant.name}: {bins}."},
    }  # fmt: skip


def _story(story: dict[str, Any]) -> dict[str, str]:
    unit, mode = story["life_unit"], f" ({story['mode'].replace('_', ' ')})" if story["mode"] else ""
    end = f"caught {story['lead']:.0f} {unit} ahead" if story["caught"] else "missed"
    named = ", ".join(s["name"].replace("_", " ") for s in story["sensors"])
    title = f"{story['machine']}{mode}, {end}"
    peak = max(story["risk"])
    return {
        "title": title, "svg": story_plot(story),
        "alt": f"{title}. {named} over time, and the risk, which peaks at {peak:.0%} before the failure.",
    }  # fmt: skip


def _card(plant: ServedPlant, question: Question) -> dict[str, Any]:
    prediction, model = question.prediction, question.prediction["model"]
    risks = prediction["failure_probability"]
    horizon = "48h" if "48h" in risks else next(iter(risks))
    reasons = prediction.get("reasons") or []
    largest = max((abs(r["contribution"]) for r in reasons), default=0.0)
    latency = plant.latency_ms
    return {
        "title": f"{plant.name}, {question.machine}{': ' if question.about else ''}{question.about}",
        "horizon": horizon, "risk": _percent(risks[horizon]), "life": _life(prediction["remaining_useful_life"]),
        "outcome": f"What happened: {question.outcome}." if question.outcome else "",
        "reasons": [_bar(r, largest) for r in reasons[:SHOWN_REASONS]],
        "degraded": [cause["text"] for cause in prediction.get("degraded", [])],
        "model": f"model {model['version']}, from {model['num_failures_trained_on']} failures",
        "latency": f"{latency['p50']:.1f} ms a request" if "p50" in latency else "",
    }  # fmt: skip


def _bar(reason: dict[str, Any], largest: float) -> dict[str, str]:
    part = reason["contribution"]
    width = 50 * abs(part) / largest if largest else 0
    side, colour = ("left:50%", "#D55E00") if part >= 0 else (f"left:{50 - width:.1f}%", "#0072B2")
    return {
        "text": spoken_unit(reason.get("text", reason["sensor"])),
        "style": f"{side};width:{width:.1f}%;background:{colour}", "points": f"{100 * part:+.1f} %",
    }  # fmt: skip


def _life(life: dict[str, Any]) -> str:
    def one(value: float) -> str:
        return f"more than {value:.0f}" if life["beyond"] is not None and value >= life["beyond"] else f"{value:.0f}"

    low, middle, high = (one(life[q]) for q in ("p10", "p50", "p90"))
    if low == middle == high:
        return f"{low[:1].upper()}{low[1:]} {life['unit']} of useful life left, with 90 % confidence."
    return f"{middle[:1].upper()}{middle[1:]} {life['unit']} of useful life left (80 %: {low} to {high})."


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"


def _span(days: float) -> str:
    return f"{days:.0f} days" if days < 60 else f"{days / 30.44:.0f} months"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""

"""The dossier of a promotion, or of a refusal: who, when, from what, what was found, for machines and for people.

The one idea: whatever a choice rested on is in it, what it could not rest on too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cluster import lineage
from cluster.bundles import load
from cluster.dossiers import Contender, Dossier, Interval, Outcome, Slice, keep, whoever
from cluster.home import Home
from cluster.registry import Champion, Tracking
from cluster.report import code_version
from jobs.promotion.gate import Judged, interval
from models.errors import InputError
from models.spec import BundleSpec

IN_WORDS: dict[Outcome, str] = {
    "better": "better than the champion before", "non-inferior": "no worse than the champion before",
    "inferior": "worse than the champion", "inconclusive": "inconclusive", "first": "the plant's first champion",
    "chosen": "the best of a study's candidates; no gate was asked",
    "rolled-back": "the champion before; no gate was asked",
}  # fmt: skip


def contender(spec: BundleSpec) -> Contender:
    return Contender(
        version=spec.version, kind=spec.kind, scope=spec.scope, data_version=spec.lineage.data_version,
        code_version=spec.lineage.code_version, created_at=spec.lineage.created_at,
        num_failures_trained_on=spec.num_failures_trained_on,
    )  # fmt: skip


def standing_contender(home: Home, plant: str, standing: Champion) -> Contender:
    """Who answers now; only the name where the bundle cannot be read."""
    try:
        return contender(load(home, plant, standing.path).spec)
    except InputError:
        return Contender(version=standing.version, kind=standing.kind)


def begun(spec: BundleSpec, *, run_id: str, verdict: Outcome, why: str, reason: str = "") -> Dossier:
    """A dossier without figures, of now."""
    return Dossier(
        plant=spec.plant, at=datetime.now(UTC).isoformat(), who=whoever(), run_id=run_id,
        data_version=spec.lineage.data_version, code_version=code_version(), verdict=verdict, why=why, reason=reason,
        challenger=contender(spec),
    )  # fmt: skip


def judged(dossier: Dossier, found: Judged, champion: Contender | None, *, share: float, least: int) -> Dossier:
    """The dossier with what the gate found."""
    figures, (seen_champion, seen_challenger) = found.figures, found.seen
    told = {"champion": champion, "min_failures": least, "margin_share": share, "margin": found.margin}
    if figures is None:
        return dossier.model_copy(update=told)
    one = {"seen": seen_challenger, "caught": figures.caught_challenger, "log_likelihood": interval(figures.challenger)}
    other = {"seen": seen_champion, "caught": figures.caught_champion, "log_likelihood": interval(figures.champion)}
    return dossier.model_copy(
        update=told
        | {
            "data_version": found.data_version, "slice": found.slice, "difference": interval(figures.difference),
            "caught_difference": interval(figures.caught_difference),
            "usual_log_likelihood": figures.usual,
            "challenger": dossier.challenger.model_copy(update=one),
            "champion": None if champion is None else champion.model_copy(update=other),
        }
    )  # fmt: skip


def record(home: Home, dossier: Dossier, tracking: Tracking) -> Path:
    """Keep a dossier beside the bundles and with its run; returns the JSON's path."""
    words = text(dossier)
    path = keep(home, dossier, words)
    tracking.keep(dossier.run_id, "dossier.json", path.read_text("utf-8"))
    tracking.keep(dossier.run_id, "dossier.md", words)
    tracking.log(dossier.run_id, tags={"verdict": dossier.verdict, "dossier": dossier.name})
    lineage.writes_file(path)
    return path


def text(dossier: Dossier) -> str:
    """What people read."""
    one, before = dossier.challenger, dossier.champion
    outcome = "answers now" if dossier.promoted else "was refused; the champion stays"
    if dossier.forced:
        outcome += f", forced: the gate said {dossier.verdict}"
    told = [
        f"# {dossier.plant}: {one.version} {outcome}", "",
        f"**Verdict: {IN_WORDS[dossier.verdict]}.** {_sentence(dossier.why)}", "",
        *([f"Reason given: {dossier.reason}", ""] if dossier.reason else []),
        f"- When and who: {dossier.at}, {dossier.who}; run {dossier.run_id}, code {dossier.code_version}.",
        f"- Compared on data {dossier.data_version}." if dossier.slice else f"- Data {dossier.data_version}.",
        f"- {_made('Challenger' if before else 'Model', one)}",
        *([f"- {_made('Champion before', before)}"] if before else []),
    ]  # fmt: skip
    if dossier.slice is not None and before is not None:
        told += ["", *_figures(dossier, dossier.slice, before)]
    if dossier.candidates:
        told += ["", "Log-likelihood of each candidate on later time, without an interval, on the slice that it was",
                 "calibrated on:", "", "| candidate | nats a tick |", "|---|---|",
                 *(f"| {kind} | {value:.4f} |" for kind, value in dossier.candidates.items())]  # fmt: skip
    return "\n".join(told) + "\n"


def _figures(dossier: Dossier, found: Slice, before: Contender) -> list[str]:
    one = dossier.challenger
    which = "fresh ticks" if found.kind == "fresh" else "the validation part"
    margin = ""
    if dossier.margin is not None and dossier.margin_share is not None:
        margin = f" Margin: {dossier.margin:.4f}, {dossier.margin_share:.0%} of the champion's gain on the usual curve"
        margin += "." if dossier.usual_log_likelihood is None else f" ({dossier.usual_log_likelihood:.4f})."
    thinned = "" if found.every == 1 else f", one in {found.every}"
    return [
        f"## On {which}, {found.first} to {found.last}", "",
        f"{found.num_failures} failures (for a verdict at least {dossier.min_failures}), {found.num_machines} "
        f"machines, {found.num_ticks} ticks{thinned}. {_sentence(found.told)}", "",
        "| | champion | challenger | challenger minus champion |", "|---|---|---|---|",
        f"| log-likelihood, nats a tick | {_cell(before.log_likelihood)} | {_cell(one.log_likelihood)} | "
        f"{_cell(dossier.difference, sign=True)} |",
        f"| failures caught at the champion's false alarms, of {found.num_announceable} | {before.caught} | "
        f"{one.caught} | {_cell(dossier.caught_difference, sign=True)} of them |", "",
        f"Intervals: 95 %, by machine, both models in the same draws.{margin} For the failures caught each model takes "
        "the best threshold on these ticks, so both counts flatter.",
    ]  # fmt: skip


def _made(what: str, model: Contender) -> str:
    seen = {True: "; calibrated on this slice", False: "; not calibrated on this slice", None: ""}[model.seen]
    made = f", made {model.created_at}" if model.created_at else ""
    return (
        f"{what}: {model.version} ({model.kind}, scope {model.scope}), from data {model.data_version or 'not known'} "
        f"and {model.num_failures_trained_on} failures, code {model.code_version or 'not known'}{made}{seen}."
    )


def _cell(found: Interval, *, sign: bool = False) -> str:
    if found.value is None:
        return "-"
    form = "+.4f" if sign else ".4f"
    if found.low is None or found.high is None:
        return f"{found.value:{form}} (no interval)"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}." if words else ""

"""Who answers for a plant: a challenger passes the gate, then the champion's alias and pointer, with a dossier.

The one idea: a bundle is verified and judged before it is crowned, and crowning is one atomic pointer, so the
service has the old model or the new one, never half of either.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.text import Text

from cluster import lineage
from cluster.bundles import load
from cluster.dossiers import Dossier
from cluster.home import Home
from cluster.places import place_of
from cluster.registry import Champion, Tracking, bundle_folder, champion, register
from cluster.report import Progress, Report, code_version
from jobs.candidates import best_of_each_kind, choose, write_candidates
from jobs.promotion import gate
from jobs.promotion.record import IN_WORDS, begun, judged, record, standing_contender
from jobs.study import Candidate
from models.bundle import Bundle
from models.errors import GateError, InputError, MillwrightError

WHAT_NOW = "or crown it all the same: add --force --reason TEXT"


class PromoteReport(Report):
    """``verdict`` is the gate's, ``first`` where nobody stood before, or None where the version answered already."""

    plant: str = ""
    kind: str = ""
    before: str | None = None
    after: str = ""
    verdict: str | None = None
    why: str = ""
    forced: bool = False
    dossier: str | None = None

    def render(self) -> Text:
        told = [f"{self.plant}: {self.after} answers now (before: {self.before or 'no model'})."]
        if self.verdict is not None:
            told.append(f"{'Forced; the gate said' if self.forced else 'Verdict'}: {self.verdict}. {self.why}.")
        return Text("\n".join([*told, *([f"Dossier: {self.dossier}"] if self.dossier else [])]))


@dataclass(frozen=True)
class _Standing:
    """Who answers now; ``unknown`` says why that cannot be told, where the pointer is damaged."""

    champion: Champion | None
    unknown: str | None = None


def run(
    home: Home, *, progress: Progress, plant: str, version: str, reason: str | None = None, force: bool = False
) -> PromoteReport:
    """Make a version the plant's champion where it is no worse than the one that stands.

    Raises NotFoundError or InputError where its bundle is not whole, and GateError where the gate says no: then
    nothing changes but the dossier that says why. ``force`` crowns all the same, with a ``reason``.
    """
    began = time.monotonic()
    given = (reason or "").strip()
    if force and not given:
        raise InputError("No reason to force it", expected="--force with --reason TEXT", found="none", do="Say why")
    home.source(plant)
    folder = bundle_folder(home, plant, version)
    progress.step(f"Verify {version}")
    bundle = load(home, plant, folder)
    before = _standing(home, plant)
    standing = before.champion
    lineage.reads(lineage.model(folder, version))
    with Tracking(home) as tracking:
        run_id = tracking.start(plant, f"{plant}/promote", tags={"plant": plant, "code_version": code_version()})
        found: Dossier | None = None
        if standing is None or standing.version != version:
            progress.step(f"Judge {version} beside {standing.version if standing else 'nobody'}")
            found = _dossier(home, bundle, before, run_id=run_id, reason=given, force=force)
            if _standing(home, plant) != before:
                raise MillwrightError(
                    "The champion changed meanwhile", expected=standing.version if standing else "none",
                    where=f"plant {plant}", do="Run it again: the challenger was judged beside the one before",
                )  # fmt: skip
            record(home, found, tracking)
        if found is None or found.promoted:
            register(
                home, plant, version=version, kind=bundle.spec.kind, folder=folder, run_id=run_id,
                reason=given or (found.why if found else "promoted again"),
                dossier=found.name if found else standing.dossier if standing else None,
                verdict=found.verdict if found else None,
            )  # fmt: skip
        tracking.end(run_id, True)
    if found is not None and not found.promoted:
        raise _refusal(home, found, standing)
    return PromoteReport(
        seconds=time.monotonic() - began, plant=plant, kind=bundle.spec.kind,
        before=standing.version if standing else None, after=version,
        verdict=found.verdict if found else None, why=found.why if found else "",
        forced=found.forced if found else False, dossier=str(_text_of(home, found)) if found else None,
    )  # fmt: skip


def crown(home: Home, plant: str, candidates: list[Candidate], *, tracking: Tracking, run_id: str) -> Candidate:
    """Choose the best of a study's candidates, log what was compared, register it. Ends the run."""
    best = choose(candidates)
    write_candidates(place_of(best.folder).parent, candidates)
    scores = {kind: c.log_likelihood for kind, c in best_of_each_kind(candidates).items()}
    metrics = {f"log_likelihood.{kind}": value for kind, value in scores.items()}
    # Tags: a study that goes on crowns again, and parameters of a run never change.
    tracking.log(run_id, tags={"champion": best.kind, "version": best.version}, metrics=metrics)
    reason = "highest censored log-likelihood on later time: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items())
    folder = place_of(best.folder)
    bundle = load(home, plant, folder)
    tracking.keep(run_id, "card.md", bundle.card)
    name, verdict = _chosen(home, bundle, scores, reason, tracking=tracking, run_id=run_id)
    register(
        home, plant, version=best.version, kind=best.kind, folder=folder, run_id=run_id, reason=reason, dossier=name,
        verdict=verdict,
    )  # fmt: skip
    tracking.end(run_id, True)
    return best


def _chosen(
    home: Home, bundle: Bundle, scores: dict[str, float], reason: str, *, tracking: Tracking, run_id: str
) -> tuple[str, str | None]:
    """The dossier of a study's choice, its name and verdict; a champion that was chosen already keeps its own."""
    plant = bundle.spec.plant
    before = _standing(home, plant).champion
    if before is not None and before.version == bundle.spec.version and before.dossier is not None:
        return before.dossier, None
    dossier = begun(bundle.spec, run_id=run_id, verdict="chosen" if before else "first", why=reason)
    finite = {kind: value for kind, value in scores.items() if abs(value) < float("inf")}
    update = {"candidates": finite, "champion": standing_contender(home, plant, before) if before else None}
    dossier = dossier.model_copy(update=update)
    record(home, dossier, tracking)
    return dossier.name, dossier.verdict


def _standing(home: Home, plant: str) -> _Standing:
    try:
        return _Standing(champion(home, plant))
    except InputError as error:
        return _Standing(None, str(error).rstrip("."))


def _dossier(
    home: Home, bundle: Bundle, before: _Standing, *, run_id: str, reason: str, force: bool
) -> Dossier:  # fmt: skip
    """Judge a bundle beside whoever stands, and write down what comes of it."""
    settings, standing = home.settings.promote, before.champion
    if standing is None and before.unknown is None:
        return begun(bundle.spec, run_id=run_id, verdict="first", why="no model answered before", reason=reason)
    champion, found = None, gate.not_judged(f"who answers now is not known. {before.unknown}")
    if standing is not None:
        champion = standing_contender(home, bundle.spec.plant, standing)
        try:
            found = gate.judge(home, bundle.spec.plant, load(home, bundle.spec.plant, standing.path), bundle)
        except InputError as error:
            found = gate.not_judged(f"the champion's bundle cannot be read. {str(error).rstrip('.')}")
    ruling = found.ruling
    dossier = begun(bundle.spec, run_id=run_id, verdict=ruling.verdict, why=ruling.why, reason=reason)
    dossier = judged(dossier, found, champion, share=settings.margin, least=settings.min_failures)
    forced = force and not ruling.passes
    return dossier.model_copy(update={"promoted": ruling.passes or forced, "forced": forced})


def _refusal(home: Home, dossier: Dossier, standing: Champion | None) -> GateError:
    who = standing.version if standing else "who answers now"
    first = "Wait for more failures and promote again" if dossier.verdict == "inconclusive" else "Train a better model"
    return GateError(
        f"{who} stays {dossier.plant}'s champion, {dossier.challenger.version} is {IN_WORDS[dossier.verdict]}",
        found=dossier.why, where=_text_of(home, dossier), do=f"{first}, {WHAT_NOW}",
    )  # fmt: skip


def _text_of(home: Home, dossier: Dossier) -> object:
    return home.of(dossier.plant).dossiers / f"{dossier.name}.md"

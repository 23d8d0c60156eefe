"""Who answers for a plant: the champion's alias and pointer, with the reason written down.

The one idea: a bundle is verified before it is crowned, and crowning is one atomic pointer, so the
service has the old model or the new one, never half of either.
"""

from __future__ import annotations

import time

from rich.text import Text

from cluster import lineage
from cluster.bundles import load
from cluster.home import Home
from cluster.places import place_of
from cluster.registry import Tracking, bundle_folder, champion, register
from cluster.report import Progress, Report, code_version
from jobs.candidates import best_of_each_kind, choose, write_candidates
from jobs.study import Candidate


class PromoteReport(Report):
    plant: str = ""
    kind: str = ""
    before: str | None = None
    after: str = ""

    def render(self) -> Text:
        return Text(f"{self.plant}: {self.after} answers now (before: {self.before or 'no model'}).")


def run(home: Home, *, progress: Progress, plant: str, version: str, reason: str = "promoted by hand") -> PromoteReport:
    """Make a version the plant's champion. Raises NotFoundError or InputError where its bundle is not whole."""
    began = time.monotonic()
    home.source(plant)
    folder = bundle_folder(home, plant, version)
    progress.step(f"Verify {version}")
    bundle = load(home, plant, folder)
    before = champion(home, plant)
    with Tracking(home) as tracking:
        run_id = tracking.start(plant, f"{plant}/promote", tags={"plant": plant, "code_version": code_version()})
        register(home, plant, version=version, kind=bundle.spec.kind, folder=folder, run_id=run_id, reason=reason)
        tracking.end(run_id, True)
    lineage.reads(lineage.model(folder, version))
    return PromoteReport(
        seconds=time.monotonic() - began, plant=plant, kind=bundle.spec.kind,
        before=before.version if before else None, after=version,
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
    tracking.keep(run_id, "card.md", load(home, plant, folder).card)
    register(home, plant, version=best.version, kind=best.kind, folder=folder, run_id=run_id, reason=reason)
    tracking.end(run_id, True)
    return best




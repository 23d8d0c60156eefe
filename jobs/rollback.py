"""`millwright rollback`: the champion before answers again, at once and without a gate.

The one idea: in need nobody should have to look up a version. The dossier of the champion that stands names who stood
before; its bundle is verified, the pointer is changed, and every replica has it a few seconds later.
"""

from __future__ import annotations

import time

from rich.text import Text

from cluster import dossiers, lineage
from cluster.bundles import load
from cluster.home import Home
from cluster.registry import Tracking, bundle_folder, register, standing_champion
from cluster.report import Progress, Report, code_version
from jobs.promotion.record import begun, record, standing_contender
from models.errors import InputError


class RollbackReport(Report):
    plant: str
    before: str
    after: str
    dossier: str

    def render(self) -> Text:
        return Text(f"{self.plant}: {self.after} answers again (before: {self.before}).\nDossier: {self.dossier}")


def run(home: Home, *, progress: Progress, plant: str, reason: str | None = None) -> RollbackReport:
    """Crown whom the plant's champion came after. Doing it twice returns to where it began.

    Raises NotFoundError without a champion, InputError where it was the first, its dossier is gone, or the bundle of
    the one before is not whole.
    """
    began = time.monotonic()
    standing = standing_champion(home, plant)
    earlier = dossiers.read(home, plant, standing.dossier).champion if standing.dossier else None
    if earlier is None:
        raise InputError(
            "Nobody to go back to", expected="a champion that another one came before", found=standing.version,
            where=f"plant {plant}", do="Promote another version with `millwright promote`",
        )  # fmt: skip
    progress.step(f"Verify {earlier.version}")
    folder = bundle_folder(home, plant, earlier.version)
    bundle = load(home, plant, folder)
    lineage.reads(lineage.model(folder, earlier.version))
    why = f"taken back from {standing.version}"
    with Tracking(home) as tracking:
        run_id = tracking.start(plant, f"{plant}/rollback", tags={"plant": plant, "code_version": code_version()})
        found = begun(bundle.spec, run_id=run_id, verdict="rolled-back", why=why, reason=(reason or "").strip())
        found = found.model_copy(update={"champion": standing_contender(home, plant, standing)})
        path = record(home, found, tracking)
        register(
            home, plant, version=earlier.version, kind=bundle.spec.kind, folder=folder, run_id=run_id,
            reason=found.reason or why, dossier=found.name, verdict=found.verdict,
        )  # fmt: skip
        tracking.end(run_id, True)
    return RollbackReport(
        plant=plant, before=standing.version, after=earlier.version, dossier=str(path),
        seconds=time.monotonic() - began,
    )  # fmt: skip

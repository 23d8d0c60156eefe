"""`millwright challenge`: a model on trial beside the champion, in the shadow or for a share of the machines.

The one idea: a trial changes who is asked, never who is champion. What the challenger says in the shadow is in the
journal as ``shadow``; whether it becomes champion is `millwright promote`'s to say.
"""

from __future__ import annotations

import time

from rich.text import Text

from cluster import challengers
from cluster.bundles import load
from cluster.home import Home
from cluster.registry import bundle_folder, standing_champion
from cluster.report import Progress, Report
from models.errors import InputError, NotFoundError


class ChallengeReport(Report):
    plant: str
    champion: str
    challenger: str | None
    share: float = 0.0

    def render(self) -> Text:
        if self.challenger is None:
            return Text(f"{self.plant}: the trial has ended; {self.champion} answers for every machine.")
        if not self.share:
            return Text(f"{self.plant}: {self.challenger} is asked in the shadow; {self.champion} answers.")
        share = f"{self.share:.1%} of the machines"
        return Text(f"{self.plant}: {self.challenger} answers for {share}, {self.champion} for the others.")


def run(
    home: Home, *, progress: Progress, plant: str, version: str | None = None, share: float = 0.0, end: bool = False
) -> ChallengeReport:
    """Put a version on trial, change its share, or end the trial.

    Raises InputError where the bundle is not whole or it is the champion itself, NotFoundError without a champion.
    """
    began = time.monotonic()
    standing = standing_champion(home, plant)
    if end == (version is not None):
        found = "both" if end else "neither"
        raise InputError("What shall it be?", expected="--version VERSION, or --end", found=found)
    if end:
        if not challengers.end(home, plant):
            raise NotFoundError("No model is on trial", where=f"plant {plant}")
    elif version == standing.version:
        raise InputError("The champion cannot challenge itself", found=version, where=f"plant {plant}")
    else:
        assert version is not None
        progress.step(f"Verify {version}")
        bundle = load(home, plant, bundle_folder(home, plant, version))
        challengers.put(home, plant, kind=bundle.spec.kind, version=version, share=share)
    return ChallengeReport(
        plant=plant, champion=standing.version, challenger=version, share=share, seconds=time.monotonic() - began
    )

"""The fleet's network as each plant would meet it on its first day: trained on all plants but that one.

The one idea: a network that never saw a plant is judged on the very ticks that judge the plant's own champion, so what
a plant without failures may hope for is measured where failures are known. Of the plant itself only readings are used,
as ``adopt`` uses them: to scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.bundles import load
from cluster.home import Home
from cluster.places import place_of
from cluster.registry import bundle_folder
from cluster.report import Progress
from jobs.candidates import studies_of
from jobs.pooling import adopt, fleets_of, teachers
from jobs.study import Study
from models.bundle import Bundle
from models.errors import InputError
from models.modes import NO_MODES

KIND = "as_new"
MOST_FLEETS = 8  # of more plants than these several are left out at once


def as_new(home: Home, plants: Sequence[str], *, progress: Progress) -> dict[str, Bundle]:
    """For each of these plants that has failures, the network of the home's others.

    Raises InputError where no plant is left to learn from, or the network is not `channels`.
    """
    studies = teachers(list(studies_of(home, "all", progress=progress)))
    names = [study.plant for study in studies]
    outside = sorted(set(plants) - set(names))
    if outside:
        progress.note(f"{', '.join(outside)}: not judged as new, for want of failures or of the others' clock")
    groups = {name: str(number % MOST_FLEETS) for number, name in enumerate(names)}
    return left_out(home, studies, groups, only=plants, progress=progress)


def left_out(
    home: Home, studies: Sequence[Study], groups: Mapping[str, str], *, progress: Progress,
    only: Sequence[str] | None = None,
) -> dict[str, Bundle]:  # fmt: skip
    """For each plant, or each of ``only``, the network that the plants of all other groups teach.

    ``groups`` [plant -> name of its group]. A group whose training diverges is told, and left out.
    """
    if home.settings.model.network.name != "channels":
        raise InputError(
            "This network cannot be shared by plants", expected='network.name = "channels"',
            found=repr(home.settings.model.network.name), do="Take the network `channels`",
        )  # fmt: skip
    asked = [study for study in studies if only is None or study.plant in only]
    names = sorted({groups[study.plant] for study in asked})
    others = [[study for study in studies if groups[study.plant] != name] for name in names]
    if not all(others):
        raise InputError(
            "No other plant to learn from", expected="two plants with failures and one clock", found=f"{len(studies)}",
            where=home.path, do="Ingest another plant, or leave this evaluation out",
        )  # fmt: skip
    fleets = dict(zip(names, fleets_of(home, home.registry / "left_out", others, progress=progress), strict=True))
    found = {}
    for study in asked:
        fleet = fleets[groups[study.plant]]
        if fleet is not None:
            unlabelled = replace(study, modes=NO_MODES)
            candidate = adopt(unlabelled, fleet, bundle_folder(home, study.plant, "x").parent)
            found[study.plant] = load(home, study.plant, place_of(candidate.folder))
    return found

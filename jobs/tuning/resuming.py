"""``--resume``: go on with what was begun, and say what differs rather than begin anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.home import Home
from cluster.places import Place, files_below
from cluster.report import Progress
from jobs.study import Study
from jobs.tuning.journal import FILE, Facts, facts_at
from models.errors import InputError

_IN_WORDS = {
    "data": "its data", "configuration": "its configuration", "code": "Millwright's version",
    "split": "how its parts are cut",
}  # fmt: skip


def require_resumable(home: Home, studies: Sequence[Study], asked: Sequence[Facts], *, progress: Progress) -> None:
    """Raises InputError where a plant's newest study is another than the one asked for, or where no plant has one."""
    begun = 0
    for study, facts in zip(studies, asked, strict=True):
        folder = home.of(study.plant).studies
        if facts_at(folder / facts.name()) is not None:
            begun += 1
            continue
        newest = _newest(folder)
        if newest is None:
            progress.note(f"{study.plant}: no study to go on with, so it begins one")
            continue
        other = facts_at(folder / newest)
        assert other is not None, "it was listed"
        differs = ", ".join(_IN_WORDS.get(name, f"its {name}") for name in other.unlike(facts))
        raise InputError(
            "Nothing to resume: that would be another study", expected=f"the study {newest} as it was begun",
            found=f"a difference in {differs}", where=f"plant {study.plant}",
            do="Give the same options, or leave out --resume to begin anew",
        )  # fmt: skip
    if not begun:
        raise InputError(
            "Nothing to resume", expected="a study that was begun", found="none",
            where=", ".join(study.plant for study in studies), do="Leave out --resume",
        )  # fmt: skip


def _newest(folder: Place) -> str | None:
    """The name of the study that was written last."""
    if isinstance(folder, Path) and not folder.is_dir():
        return None
    found = [f for f in files_below(folder, FILE) if f.path.count("/") == 1]
    return max(found, key=lambda f: f.modified).path.partition("/")[0] if found else None

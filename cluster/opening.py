"""What may become a home, and what the plants of a home may not share.

The one idea: a folder that holds something else is refused and left alone, before anything is written into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cluster.config import Settings
from cluster.places import Place, placed
from models.errors import InputError, NotFoundError

MARK = "millwright.toml"  # a folder with this file is a home
_FIRST = "# Only what differs from the default. `millwright config` lists every setting.\n"


def check_roots(*, path: Path, settings: Settings) -> None:
    """A plant's own root lies outside the home and outside every other's: what is inside is another's too."""
    roots = [
        (name, key, placed(text).resolve())
        for name, own in settings.plants.items() for key in ("root", "lake") if (text := getattr(own, key))
    ]  # fmt: skip
    shared = [path, *([placed(settings.storage.root).resolve()] if settings.storage.root else [])]
    for name, key, root in roots:
        around = [other for owner, _, other in roots if owner != name] + shared
        if inside := next((other for other in around if _is_inside(root, other)), None):
            raise InputError(
                f"Wrong setting 'plants.{name}.{key}'", expected="a folder of this plant alone", found=str(root),
                where=inside, do="Choose a folder outside the home and outside other plants' folders",
            )  # fmt: skip


def _is_inside(place: Place, other: Place) -> bool:
    return type(place) is type(other) and place.is_relative_to(other)  # type: ignore[arg-type]


def make_home(where: Path, create: bool) -> None:
    """A missing or empty folder becomes a home where ``create`` says so. Raises InputError, NotFoundError."""
    if where.exists() and not where.is_dir():
        raise InputError("Not a home", expected="a folder", found="a file", where=where, do="Choose another --home")
    contents = _names(where) if where.is_dir() else []
    if contents:
        raise InputError(
            "Not a Millwright home", expected=f"an empty folder or one with {MARK}",
            found=f"a folder that holds {', '.join(contents[:3])}", where=where, do="Choose another --home",
        )  # fmt: skip
    if not create:
        raise NotFoundError(
            "No home here", expected=f"a folder with {MARK}", found="nothing", where=where,
            do="Name one with --home or MILLWRIGHT_HOME, or make one with `millwright connect` or `millwright demo`",
        )  # fmt: skip
    try:
        where.mkdir(parents=True, exist_ok=True)
        (where / MARK).write_text(_FIRST, "utf-8")
    except OSError as error:
        raise InputError(
            "Cannot make a home", expected="a writable folder", found=error.strerror, where=where,
            do="Choose another --home",
        ) from error  # fmt: skip


def _names(folder: Path) -> list[str]:
    found: Iterable[str] = (p.name for p in folder.iterdir())
    return sorted(found)

"""Whose secret is it: the variables that a plant's job may see, and those that are another plant's.

The one idea: secrets live in the environment under a plant's prefix, or in a file that its owner alone can
read. A session takes those of its own plants along and removes all others *before* Ray starts, since
Ray's processes inherit the environment. It guards against mistakes, not against hostile code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cluster.home import Home
from cluster.stores import OF_STORES, of_stores, secrets_in
from models.errors import InputError


def session_environment(home: Home, environment: Mapping[str, str]) -> dict[str, str | None]:
    """What a session of this home's plants changes: its own files' variables, and None for every one that must go.

    Raises InputError or AccessError where a file is missing, malformed or open to others.
    """
    own = prefixed(home, environment)
    gone = {name: None for name in environment if name.startswith(home.withheld) and name not in own}
    return gone | from_files(home)


def prefixed(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that belong to the home's own plants: of two prefixes that fit, the longer owns."""
    own = tuple(text for text in _credentials(home).values() if text.endswith("_"))

    def fits(name: str, prefixes: tuple[str, ...]) -> int:
        return max((len(prefix) for prefix in prefixes if name.startswith(prefix)), default=0)

    return {name: value for name, value in environment.items() if fits(name, own) > fits(name, home.withheld)}


def from_files(home: Home) -> dict[str, str]:
    """The variables in the files of the home's own plants."""
    found: dict[str, tuple[str, str]] = {}
    for plant, text in sorted(_credentials(home).items()):
        if text.endswith("_"):
            continue
        for name, value in secrets_in(home.path / Path(text).expanduser()).items():
            if name.startswith(OF_STORES):
                continue  # looked up where a place is opened: two plants may each have their own
            before, other = found.setdefault(name, (value, plant))
            if before != value:
                raise InputError(
                    f"Two values for {name}", expected="one plant, or equal values",
                    found=f"{other} and {plant} differ",
                    do="Run the plants one at a time, with --plant or --plants",
                )  # fmt: skip
    return {name: value for name, (value, _) in found.items()}


def _credentials(home: Home) -> dict[str, str]:
    return {name: own.credentials for name, own in home.settings.plants.items() if own.credentials}


def handed_on(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """The plants' variables that may travel with a job: not an object store's, since who reads the job reads them."""
    found = prefixed(home, environment)
    return {name: found[name] for name in found.keys() - of_stores(found, tuple(_credentials(home).values()))}

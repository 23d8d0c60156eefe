"""Why a model answers for a plant: what was compared, what came of it, who wanted it, kept beside the bundles.

The one idea: a dossier is written once and never changed, refusals too; the pointer to the champion names its own,
so `status` reads one small file and no MLflow. JSON for machines, Markdown with the same for people.

    registry/dossiers/<plant>/<version>-<time>.json and .md
"""

from __future__ import annotations

import getpass
import re
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, ValidationError

from cluster.files import write_atomically
from cluster.home import Home
from models.config import Frozen
from models.errors import InputError
from models.ruling import Verdict
from models.source import checked_name

MOST_BYTES = 2**20
_MOMENT = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"(?P<version>.+)-\d{8}T\d{6}\.\d{6}Z")
# Nobody stood before; a study crowned the best of its candidates; somebody went back to the champion before.
Outcome = Verdict | Literal["first", "chosen", "rolled-back"]


class _Finite(Frozen):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Finite):
    """A figure with its 95 % interval by machine; None where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Contender(_Finite):
    """One of the two models. ``seen``: whether the slice is the one that it was calibrated on (None: not known)."""

    version: str
    kind: str
    scope: str = "plant"
    data_version: str = ""
    code_version: str = ""
    created_at: str = ""
    num_failures_trained_on: int = 0
    seen: bool | None = None
    log_likelihood: Interval = Interval()
    caught: int | None = None  # failures, at the champion's false alarms


class Slice(_Finite):
    """The ticks that both answered. ``fresh``: later than everything that either model could have met."""

    kind: Literal["fresh", "validation"]
    first: str
    last: str
    num_machines: int
    num_ticks: int
    every: int = 1  # a tick in so many
    num_failures: int
    num_announceable: int = 0  # failures that an alarm could have announced in time
    told: str = ""


class Dossier(_Finite):
    """``why`` is the gate's sentence, ``reason`` what whoever promoted gave. ``promoted`` is False of a refusal."""

    format: Literal["millwright-dossier/1"] = "millwright-dossier/1"
    plant: str
    at: str
    who: str
    run_id: str
    data_version: str
    code_version: str
    verdict: Outcome
    why: str
    reason: str = ""
    promoted: bool = True
    forced: bool = False
    challenger: Contender
    champion: Contender | None = None
    slice: Slice | None = None
    difference: Interval = Interval()
    caught_difference: Interval = Interval()  # share of the failures that the challenger catches more
    usual_log_likelihood: float | None = None
    margin: float | None = None  # nats a tick
    margin_share: float | None = None
    min_failures: int | None = None
    candidates: dict[str, float] = {}  # log-likelihoods that a study chose by

    @property
    def name(self) -> str:
        """How its files are called."""
        at = datetime.fromisoformat(self.at).strftime(_MOMENT)
        return f"{checked_name(self.challenger.version, 'version')}-{at}"


def keep(home: Home, dossier: Dossier, text: str) -> Path:
    """Write a dossier and its text for people; returns the JSON's path."""
    folder = home.of(dossier.plant).dossiers
    path = folder / f"{dossier.name}.json"
    write_atomically(path.with_suffix(".md"), text)
    write_atomically(path, dossier.model_dump_json(indent=1))
    return path


def read(home: Home, plant: str, name: str) -> Dossier:
    """A dossier of the plant. Raises InputError where it is not there, damaged, or another plant's."""
    path = _path(home, plant, name)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise _damaged(path, f"{size} bytes")
        found = Dossier.model_validate_json(path.read_bytes())
        datetime.fromisoformat(found.at)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"{where}: {first['msg']}".removeprefix(": ")) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, getattr(error, "strerror", None) or str(error)) from error
    if found.plant != plant:
        raise _damaged(path, f"one of plant {found.plant}")
    return found


def names(home: Home, plant: str) -> list[str]:
    """Every dossier of the plant, refusals too, oldest first."""
    found = home.of(plant).dossiers.glob("*.json")
    return [path.stem for path in sorted(found, key=lambda path: path.stem.rpartition("-")[2])]


def whoever() -> str:
    """The user of this process, as the machine knows it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def _path(home: Home, plant: str, name: str) -> Path:
    """Never outside the plant's folder, whatever a pointer says."""
    match = _NAME.fullmatch(name)
    folder = home.of(plant).dossiers
    if match is None:
        raise _damaged(folder, f"the name {name!r}")
    checked_name(match["version"], "version")
    return folder / f"{name}.json"


def _damaged(path: Path, found: str) -> InputError:
    return InputError(
        "Damaged dossier", expected="the JSON that a promotion wrote", found=found, where=path,
        do="Put it back from a copy, or promote a version again",
    )  # fmt: skip

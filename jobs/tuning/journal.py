"""What a plant's study has tried so far, in one small JSON file that any kill leaves whole.

The one idea: a study is its journal and, beside it, each trial's last epoch. Whoever opens it again, after whatever
ended the one before, knows what is over and goes on with the rest; nothing else is kept, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.files import write_atomically
from cluster.places import Place
from models.errors import InputError

FILE = "study.json"
FORMAT = "millwright-study/1"
WRITE_S = 5.0  # how often progress within a rung is written; what decides anything is written at once

State = Literal["waiting", "running", "finished", "stopped", "diverged", "out_of_memory", "invalid", "failed"]
OVER: tuple[State, ...] = ("finished", "stopped", "diverged", "out_of_memory", "invalid", "failed")
USABLE: tuple[State, ...] = ("finished", "stopped", "running")  # whose best epoch may win; a running one's so far
IN_WORDS = {
    "stopped": "stopped: no better than earlier trials", "diverged": "diverged", "out_of_memory": "out of memory",
    "invalid": "not a configuration of this plant", "failed": "failed", "running": "ended by the budget",
    "waiting": "not begun within the budget",
}  # fmt: skip


class Trial(BaseModel):
    """``settings`` go over the deployment's configuration; ``params`` are Optuna's; ``loss`` is the best epoch's.

    ``losses`` holds each epoch's own on later time, None where it was not finite or its telling was lost with a worker.
    """

    model_config = ConfigDict(extra="forbid")

    number: int
    settings: dict[str, Any]
    params: dict[str, Any] = {}
    state: State = "waiting"
    reason: str = ""
    epochs: int = 0
    seconds: float = 0.0
    loss: float | None = None
    rungs: dict[int, float | None] = {}  # epoch -> best loss by then; None where it had none
    losses: list[float | None] = []
    gpu: float = 0.0  # the share of a GPU that it had
    run_id: str | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER


class Facts(BaseModel):
    """What a study's outcome follows from; equal facts are the same study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    configuration: str
    space: str
    trials: int
    batch: int
    seed: int
    code: str
    split: str = ""  # a digest of how the parts were cut, and of the channels
    fleet: str = ""  # the version of the fleet's network that a plant starts from

    def name(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def unlike(self, other: Facts) -> list[str]:
        """The names of the facts that differ."""
        return [name for name in Facts.model_fields if getattr(self, name) != getattr(other, name)]


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["millwright-study/1"]
    plant: str
    facts: Facts
    run_id: str | None = None
    trials: list[Trial] = []


class Journal:
    """A plant's study on disk. ``resumed``: it was there already."""

    def __init__(self, folder: Place, plant: str, facts: Facts) -> None:
        self.folder, self.plant, self.facts = folder, plant, facts
        self.resumed = (folder / FILE).is_file()
        found = _read(folder / FILE) if self.resumed else None
        if found is not None:
            _require_same(folder / FILE, found, plant, facts)
        self.trials: list[Trial] = found.trials if found else []
        self.run_id: str | None = found.run_id if found else None
        self._written = 0.0
        if not self.resumed:
            self.write()

    def write(self, *, must: bool = True) -> None:
        """To disk, whole or not at all; without ``must`` only where the last time is a while ago."""
        now = time.monotonic()
        if not must and now - self._written < WRITE_S:
            return
        text = _Text(format=FORMAT, plant=self.plant, facts=self.facts, run_id=self.run_id, trials=self.trials)
        write_atomically(self.folder / FILE, json.dumps(text.model_dump(mode="json"), indent=1, allow_nan=False))
        self._written = now

    def state_of(self, number: int) -> Place:
        """Where a trial keeps its last epoch."""
        return self.folder / f"trial-{number:04d}.safetensors"

    @property
    def over(self) -> bool:
        """Every trial of the study has ended."""
        return len(self.trials) >= self.facts.trials and all(trial.over for trial in self.trials)

    def best(self) -> Trial | None:
        """The trial of the lowest loss, the earlier one on a tie; None where none has an epoch to show."""
        good = [t for t in self.trials if t.state in USABLE and t.loss is not None]
        return min(good, key=lambda t: (t.loss, t.number)) if good else None

    def tidy(self) -> None:
        """Once the study is over, only the best trial's state is needed again."""
        best = self.best()
        for trial in self.trials:
            if best is None or trial.number != best.number:
                self.state_of(trial.number).unlink(missing_ok=True)


def facts_at(folder: Place) -> Facts | None:
    """The facts of the study in a folder; None where there is none."""
    return _read(folder / FILE).facts if (folder / FILE).is_file() else None


def _require_same(path: Place, found: _Text, plant: str, facts: Facts) -> None:
    numbers = [trial.number for trial in found.trials]
    if found.plant != plant or found.facts != facts or numbers != list(range(len(numbers))):
        raise InputError(
            "A study that is not this one", expected=f"plant {plant}, study {facts.name()}, trials from 0 on",
            found=f"plant {found.plant}, study {found.facts.name()}, trials {numbers[:8]}", where=path,
            do="Remove that folder to search anew",
        )  # fmt: skip


def _read(path: Place) -> _Text:
    try:
        return _Text.model_validate_json(path.read_text("utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(
            "Unreadable study", expected=FORMAT, found=str(error).splitlines()[0], where=path,
            do="Remove that folder to search anew",
        ) from error  # fmt: skip

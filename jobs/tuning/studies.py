"""All plants' studies in one call: whose turn it is, what was heard, and when the time is over.

The one idea: one pool of workers serves every plant, and the plant that has begun the fewest trials gets the next
place. So ten studies move together on two cores, and a worker that has the libraries loaded trains any of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from cluster.places import reference
from jobs.tracking import TrackTrials
from jobs.trial import METRIC
from jobs.tuning.journal import State
from jobs.tuning.search import PlantSearch


@dataclass
class PlantStudies:
    """``told`` hears of plant and trial after every change, ``ended`` of a plant whose study has no more to train."""

    searches: dict[str, PlantSearch]
    tracks: dict[str, TrackTrials]
    places: int  # trials at once over all plants
    deadline: float | None = None  # of the monotonic clock
    gpu: float = 0.0  # the share of one that a trial has
    told: Callable[[str, int], None] = lambda plant, number: None
    ended: Callable[[str], None] = lambda plant: None
    live: dict[str, tuple[str, int]] = field(default_factory=dict)  # Tune's trial id -> plant and number
    training: set[str] = field(default_factory=set)  # those of them that have a worker
    epochs_run: dict[tuple[str, int], int] = field(default_factory=dict)  # trained by this call
    shares: dict[tuple[str, int], float] = field(default_factory=dict)  # how far each trial is

    def left(self) -> int:
        """Trials that have not ended, over all plants."""
        return sum(search.left for search in self.searches.values())

    def over(self) -> bool:
        """The budget has ended."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def next(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration for Tune of whoever's turn it is; None where nobody can begin now."""
        if self.over() or len(self.live) >= self.places:
            return None
        able = [plant for plant, search in self.searches.items() if search.ready()]
        if not able:
            return None
        plant = min(able, key=lambda name: self.searches[name].begun)
        trial = self.searches[plant].next()
        assert trial is not None, "a search that is ready has a trial"
        self.live[trial_id] = (plant, trial.number)
        state = reference(self.searches[plant].journal.state_of(trial.number))
        return {"plant": plant, "number": trial.number, "settings": trial.settings, "state": state}

    def begin(self, trial_id: str) -> None:
        """A worker has the trial."""
        plant, number = self.live[trial_id]
        search = self.searches[plant]
        trial = search.journal.trials[number]
        self.training.add(trial_id)
        trial.gpu = self.gpu
        self.tracks[plant].begin(trial, search.configuration(trial))
        self.told(plant, number)

    def heard(self, trial_id: str, result: dict[str, Any]) -> bool:
        """An epoch's result; whether the trial is to stop here."""
        plant, number = self.live[trial_id]
        search = self.searches[plant]
        trial = search.journal.trials[number]
        self.epochs_run[plant, number] = self.epochs_run.get((plant, number), 0) + int(result.get("trained", 0))
        self.shares[plant, number] = float(result["share_done"])
        state = result.get("ended")
        stop, seconds = False, float(result.get("time_this_iter_s", 0.0))
        if state is None:
            own = result.get("validate_loss")
            stop = search.heard(
                number, epoch=int(result["epoch"]), loss=float(result[METRIC]), seconds=seconds,
                own=None if own is None else float(own),
            )  # fmt: skip
        else:  # what went wrong was paid for too
            trial.seconds = round(trial.seconds + seconds, 3)
        self.tracks[plant].log(trial, result)
        if state is not None:
            search.end(number, cast(State, state), str(result.get("reason", "")))
        elif result.get("done"):
            search.end(number, "finished")
        elif stop:
            search.end(number, "stopped")
        self.told(plant, number)
        return stop or state is not None or bool(result.get("done")) or self.over()

    def leave(self, trial_id: str, error: str | None = None, state: State = "failed") -> None:
        """A trial has left its worker: for good, or because the budget has ended."""
        if trial_id not in self.live:
            return
        plant, number = self.live.pop(trial_id)
        self.training.discard(trial_id)
        search = self.searches[plant]
        if error is not None and not search.journal.trials[number].over:
            search.end(number, state, error)
        search.journal.write()
        self.shares[plant, number] = 1.0
        self.tracks[plant].end(search.journal.trials[number])
        self.told(plant, number)
        if search.left == 0:
            self.ended(plant)

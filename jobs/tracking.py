"""Tune's trials in MLflow: a parent run a plant, a child run a trial, a whitelist of metrics.

The one idea: a run id belongs to a trial id and survives a restart, so a resumed study goes on
in the runs that it began.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ray.tune

from cluster.files import write_atomically
from cluster.places import Place
from cluster.registry import Tracking

METRICS = ("train_loss", "validate_loss", "best_loss")
_LIVE: dict[str, TrackTrials] = {}  # by the file that names the study's runs


class TrackTrials(ray.tune.Callback):
    """Logs the trials of one plant's study; ``moved`` is told how many are done, a running one in part."""

    def __init__(
        self, tracking: Tracking, plant: str, runs_file: Place, tags: dict[str, str], moved: Callable[[float], None]
    ) -> None:
        self.tracking, self.plant, self.runs_file, self.tags, self.moved = tracking, plant, runs_file, tags, moved
        self.runs: dict[str, str] = json.loads(runs_file.read_text()) if runs_file.is_file() else {}
        self.done: dict[str, float] = {}  # trial -> share of its epochs
        _LIVE[str(runs_file)] = self

    def parent(self) -> str:
        """The study's run, begun at the first call."""
        return self._run("study", None)

    def _run(self, key: str, parent: str | None) -> str:
        if key not in self.runs:
            self.runs[key] = self.tracking.start(self.plant, f"{self.plant}/{key}", parent=parent, tags=self.tags)
            write_atomically(self.runs_file, json.dumps(self.runs))
        return self.runs[key]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        known = trial.trial_id in self.runs
        run = self._run(trial.trial_id, self.parent())
        if not known:
            self.tracking.log(run, params=trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        run = self._run(trial.trial_id, self.parent())
        metrics = {name: float(result[name]) for name in METRICS if name in result}
        self.tracking.log(run, metrics=metrics, step=int(result["training_iteration"]))
        self.done[trial.trial_id] = float(result["share_done"])
        self.moved(sum(self.done.values()))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, ok=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, ok=False)

    def _end(self, trial: Any, *, ok: bool) -> None:
        if trial.trial_id in self.runs:
            self.tracking.end(self.runs[trial.trial_id], ok)
        self.done[trial.trial_id] = 1.0
        self.moved(sum(self.done.values()))

    def __reduce__(self) -> tuple[Callable[[str], TrackTrials], tuple[str]]:
        # Tune saves its callbacks with the experiment and brings them back when a study is resumed; what comes
        # back is the one that this process has made for the study, with its connection and its progress.
        return _of_this_process, (str(self.runs_file),)


def _of_this_process(runs_file: str) -> TrackTrials:
    return _LIVE[runs_file]

"""Tune's trials in MLflow: a parent run a plant, a child run a trial, a whitelist of metrics.

The one idea: a trial's run id is in the study's journal and survives a restart, so a resumed study goes on in the runs
that it began; each says what it was trained from and how it ended. A write takes milliseconds of the one process that
drives all studies, so a trial's metrics are written at most every ``WRITE_S`` seconds, and all of them at its end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from cluster.registry import Step, Tracking
from jobs.tuning.journal import IN_WORDS, Journal, Trial

METRICS = ("train_loss", "validate_loss", "best_loss")
WRITE_S = 10.0


class TrackTrials:
    """Logs the trials of one plant's study. ``tags`` name the data and the code, on the parent and on each child."""

    def __init__(self, tracking: Tracking, journal: Journal, tags: Mapping[str, str]) -> None:
        self.tracking, self.journal, self.tags = tracking, journal, dict(tags)
        self._open: set[str] = set()  # runs that this process has begun or taken up again
        self._waiting: dict[str, list[Step]] = {}  # what is not written yet, by run
        self._written: dict[str, float] = {}  # when a run was last written to

    def parent(self) -> str:
        """The study's run, begun at the first call."""
        if self.journal.run_id is None:
            self.journal.run_id = self.tracking.start(self.journal.plant, f"{self.journal.plant}/study", tags=self.tags)
            self.journal.write()
            self._open.add(self.journal.run_id)
        return self._again(self.journal.run_id)

    def begin(self, trial: Trial, configuration: Mapping[str, Any]) -> str:
        """The trial's run, with its parameters."""
        parent = self.parent()
        if trial.run_id is None:
            name = f"{self.journal.plant}/trial-{trial.number:04d}"
            trial.run_id = self.tracking.start(self.journal.plant, name, parent=parent, tags=self.tags)
            self._open.add(trial.run_id)
            self.journal.write()
            self.tracking.log(trial.run_id, params=configuration)
        return self._again(trial.run_id)

    def log(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """An epoch's metrics, those of the whitelist that are numbers."""
        found = {name: float(result[name]) for name in METRICS if name in result}
        metrics = {name: value for name, value in found.items() if math.isfinite(value)}
        if trial.run_id is None or not metrics:
            return
        self._waiting.setdefault(trial.run_id, []).append(Step(int(result["epoch"]), metrics, time.time()))
        now = time.monotonic()
        if now - self._written.setdefault(trial.run_id, now) >= WRITE_S:
            self.tracking.log(trial.run_id, steps=self._waiting.pop(trial.run_id))
            self._written[trial.run_id] = now

    def end(self, trial: Trial) -> None:
        """How it ended, and why."""
        if trial.run_id is None:
            return
        ok = trial.state in ("finished", "stopped", "running")
        tags = {"state": trial.state, "reason": trial.reason or IN_WORDS.get(trial.state, trial.state)}
        self._written.pop(trial.run_id, None)
        self.tracking.log(trial.run_id, tags=tags, steps=self._waiting.pop(trial.run_id, ()))
        self.tracking.end(trial.run_id, ok)
        self._open.discard(trial.run_id)

    def _again(self, run_id: str) -> str:
        if run_id not in self._open:
            self.tracking.reopen(run_id)
            self._open.add(run_id)
        return run_id

"""Ray Tune as the pool of workers: it places trials, reuses their actors, and brings back what a lost node had.

The one idea: what comes next, what stops and what is kept is decided in ``PlantStudies``; Tune's searcher, stopper and
callback only pass it on. Nothing that Tune writes is read again, so its folder is a temporary one.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import ray.tune
from ray.tune.search import Searcher

from cluster.report import Progress
from jobs.trial import NetworkTrial, ended_by
from jobs.tuning.journal import State
from jobs.tuning.studies import PlantStudies

RETRIES = 3  # of a trial whose worker or node was lost
_LIVE: dict[str, PlantStudies] = {}  # by their pool: Tune copies and pickles what it is given


class _Passed:
    """Whatever Tune makes of it, a copy or a pickle, means the studies of this process."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.pool = pool

    @property
    def studies(self) -> PlantStudies:
        return _LIVE[self.pool]

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return type(self), (self.pool,)


class _Next(_Passed, Searcher):
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        # None means «ask again», which Tune does for ten minutes where nothing trains.
        return str(Searcher.FINISHED) if self.studies.over() else self.studies.next(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class _Stop(_Passed, ray.tune.Stopper):
    """Hears every result. At the budget's end those that train end at their next epoch; then those that wait do."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.studies.heard(trial_id, result)

    def stop_all(self) -> bool:
        return self.studies.over() and not self.studies.training


class _Watch(_Passed, ray.tune.Callback):
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.studies.begin(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.studies.leave(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.studies.leave(trial.trial_id, *_reason(trial))


def train_all(
    studies: PlantStudies, data: Mapping[str, Any], *, gpu: float, trial: type[ray.tune.Trainable] = NetworkTrial
) -> None:
    """Train until every study is over or the budget is; ``data`` [plant -> its Study in the object store].

    ``trial`` is what a worker does: it answers as ``NetworkTrial`` does.
    """
    if not studies.left() or studies.over():
        return
    pool = f"studies_{secrets.token_hex(4)}"  # equal names of trainables have collided
    named = type(f"Network_{pool}", (trial,), {})
    trainable = ray.tune.with_parameters(named, studies=dict(data), gpu=gpu)
    resources = {"cpu": 1} | ({"gpu": gpu} if gpu else {})
    _LIVE[pool] = studies
    try:
        with tempfile.TemporaryDirectory(prefix="millwright-tune-", ignore_cleanup_errors=True) as folder, _quiet():
            tuner = ray.tune.Tuner(
                ray.tune.with_resources(trainable, resources),
                tune_config=ray.tune.TuneConfig(
                    num_samples=studies.left(), reuse_actors=True, search_alg=_Next(pool),
                    trial_name_creator=_name, trial_dirname_creator=_name,
                ),
                run_config=ray.tune.RunConfig(
                    name=pool, storage_path=folder, verbose=0, stop=_Stop(pool), callbacks=[_Watch(pool)],
                    checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
                    failure_config=ray.tune.FailureConfig(max_failures=RETRIES),
                ),
            )  # fmt: skip
            tuner.fit()
    finally:
        del _LIVE[pool]


def say_who_waits(slots: int, progress: Progress) -> None:
    """Cores that other work has are waited for; whoever sees nothing happen should know why."""
    have, free = int(ray.cluster_resources().get("CPU", 0)), 0
    for pause in (0.0, 1.0):  # what this sweep has just given back is told a moment later
        time.sleep(pause)
        free = int(ray.available_resources().get("CPU", 0))
        if free >= min(slots, have):
            return
    told = f"{have - free} of {have} cores are in use by other work: trials begin as it gives them up"
    progress.note(f"{told}. Another sweep leaves some with tune.concurrent")


def _name(trial: Any) -> str:
    return f"{trial.config['plant']}-{trial.config['number']:04d}-{trial.trial_id}"


def _reason(trial: Any) -> tuple[str, State]:
    """Why Tune gave a trial up."""
    error = trial.get_pickled_error() or trial.get_error()
    cause = getattr(error, "cause", None) or error
    told = (str(cause).strip().splitlines() or [""])[0]
    killed = isinstance(error, ray.exceptions.OutOfMemoryError) or "low on memory" in str(error)
    memory = killed or (cause is not None and ended_by(cause) == "out_of_memory")
    return f"{type(cause).__name__}: {told}", "out_of_memory" if memory else "failed"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Tune's own files for each trial, which nobody reads, and its tracebacks: reasons are reported."""
    log, name = logging.getLogger("ray.tune"), "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"
    level = log.level
    log.setLevel(logging.CRITICAL)
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        log.setLevel(level)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

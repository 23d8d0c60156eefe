"""The orchestration of many plants' studies, trainings replaced by recorded curves; the last line printed is JSON.

    python -m tests.benchmarks.studies_dry HOME PLANTS WAY

WAY is ``tune``: all of it, through Ray Tune on two cores; or ``alone``: our part of it, without Ray, over ``PLACES``.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray.tune

from cluster.home import Home, open_home
from cluster.registry import Tracking
from cluster.report import Silent
from cluster.session import ray_session
from jobs.tracking import TrackTrials
from jobs.trial import METRIC
from jobs.tuning.journal import Facts, Journal
from jobs.tuning.live import Live
from jobs.tuning.search import PlantSearch, batch_size
from jobs.tuning.space import find_space, parse_space
from jobs.tuning.studies import PlantStudies
from jobs.tuning.workers import train_all
from tests.benchmarks.driver_steps import peak_mib

TRIALS, CORES, PLACES = 4, 2, 100
CURVES: list[list[float]] = json.loads((Path(__file__).parent / "curves.json").read_text())  # of real trials


class Recorded:
    """A trial that answers as `NetworkTrial` does, an epoch's recorded loss after the other."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.losses = CURVES[(hash(config["plant"]) + config["number"]) % len(CURVES)]
        self.epoch = 0

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        own, done = self.losses[: self.epoch], self.epoch == len(self.losses)
        return {
            "epoch": self.epoch, "train_loss": own[-1], "validate_loss": own[-1], METRIC: min(own), "trained": 1,
            "share_done": self.epoch / len(self.losses), "done": done, "time_this_iter_s": 1.0,
        }  # fmt: skip


class RecordedTrial(ray.tune.Trainable):
    def setup(self, config: dict[str, Any], studies: dict[str, Any], gpu: float) -> None:
        self.recorded = Recorded(config)

    def step(self) -> dict[str, Any]:
        return self.recorded.step()

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.recorded = Recorded(new_config)
        return True


class Timed:
    """Where the time of what it wraps goes, by method."""

    def __init__(self, inner: Any, seconds: Counter[str], calls: Counter[str]) -> None:
        self.inner, self.seconds, self.calls = inner, seconds, calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if not callable(method):
            return method

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - began
                self.calls[name] += 1

        return timed


def studies_of(home: Home, plants: int, places: int, seconds: Counter[str], calls: Counter[str]) -> PlantStudies:
    network = home.settings.model.network
    space = parse_space(*find_space(home.path, None), network)
    tracking = Timed(Tracking(home), seconds, calls)
    searches, tracks = {}, {}
    for number in range(plants):
        plant = f"plant-{number:04d}"
        facts = Facts(data="d", configuration="c", space=space.digest(), trials=TRIALS, batch=batch_size(TRIALS),
                      seed=number, code="1")  # fmt: skip
        journal = Journal(home.path / "studies" / plant / facts.name(), plant, facts)
        searches[plant] = PlantSearch(journal, space, network)
        tracks[plant] = TrackTrials(tracking, journal, {"plant": plant, "data_version": "d", "code_version": "1"})
    studies = PlantStudies(searches, tracks, places)
    studies.told = Live(studies, Silent(), dict.fromkeys(searches, 0)).told
    return studies


def alone(studies: PlantStudies) -> None:
    """What Tune would call, as fast as it can be called."""
    running: dict[str, Recorded] = {}
    while studies.left():
        while (config := studies.next(name := f"t{time.perf_counter_ns()}")) is not None:
            studies.begin(name)
            running[name] = Recorded(config)
        for name in list(running):
            if studies.heard(name, running[name].step()):
                studies.leave(name)
                del running[name]


def main() -> None:
    home = open_home(sys.argv[1], create=True, environment={}, assignments=[f"ray.num_cpus={CORES}"])
    plants, way = int(sys.argv[2]), sys.argv[3]
    seconds, calls = Counter[str](), Counter[str]()
    began = time.perf_counter()
    studies = studies_of(home, plants, CORES if way == "tune" else PLACES, seconds, calls)
    ready = time.perf_counter()
    before = peak_mib()
    if way == "tune":
        with ray_session(home):
            ready = time.perf_counter()
            train_all(studies, dict.fromkeys(studies.searches), gpu=0.0, trial=RecordedTrial)
            ended = time.perf_counter()
    else:
        alone(studies)
        ended = time.perf_counter()
    trials = [trial for search in studies.searches.values() for trial in search.journal.trials]
    assert len(trials) == plants * TRIALS and all(trial.over for trial in trials)
    print(json.dumps({
        "prepare_s": ready - began, "seconds": ended - ready, "epochs": sum(trial.epochs for trial in trials),
        "trials": len(trials), "mlflow_s": sum(seconds.values()), "mlflow_calls": sum(calls.values()),
        "by_call": {name: [calls[name], seconds[name]] for name in calls}, "peak_mib": peak_mib(), "before_mib": before,
        "journals_kb": sum(s.journal.folder.joinpath("study.json").stat().st_size for s in studies.searches.values())
        / 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()

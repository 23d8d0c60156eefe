"""Steps of the tuning benchmarks, each a process of its own; the last line printed is JSON.

    python -m tests.benchmarks.tuning_steps prepare HOME        ten small simulated plants, ingested
    python -m tests.benchmarks.tuning_steps ours HOME FOLDER    a study of eight trials each; leaves what it trained
    python -m tests.benchmarks.tuning_steps plain HOME FOLDER   the same trainings, in two plain processes
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from cluster.home import Home, open_home
from cluster.registry import Tracking
from cluster.report import Silent
from cluster.session import ray_session
from jobs import connect, ingest, simulate
from jobs.candidates import studies_of
from jobs.study import Study
from jobs.tracking import TrackTrials
from jobs.tuning.journal import Facts, Journal
from jobs.tuning.search import PlantSearch, batch_size
from jobs.tuning.space import find_space, parse_space
from jobs.tuning.studies import PlantStudies
from jobs.tuning.workers import train_all

KINDS, PLANTS, TRIALS, CORES = ("harbor", "ridge", "summit"), 10, 8, 2
SETTINGS = ["model.network.epochs=12", "model.network.patience=4", f"ray.num_cpus={CORES}", "tune.fleet=false"]


def opened(home: str) -> Home:
    return open_home(home, create=True, environment={}, assignments=SETTINGS)


def prepare(home: Home) -> dict[str, Any]:
    for number in range(PLANTS):
        kind, name = KINDS[number % len(KINDS)], f"plant-{number}"
        raw = home.path / "raw" / name
        simulate.run(home, out=raw, progress=Silent(), machines=10, days=120, seed=number, plants=[kind])
        connect.run(home, path=raw / kind, plant=name, progress=Silent())
        ingest.run(home, plant=name, progress=Silent())
    found = list(studies_of(home, "all", progress=Silent()))
    (home.path / "studies.pickle").write_bytes(pickle.dumps(found))  # our own, read by the next steps alone
    return {"plants": len(found)}


def _studies(home: Home) -> list[Study]:
    found: list[Study] = pickle.loads((home.path / "studies.pickle").read_bytes())
    return found


def ours(home: Home, folder: Path) -> dict[str, Any]:
    """The studies as `tune` runs them, with journals, MLflow and each epoch's state on disk."""
    found, tracking = _studies(home), Tracking(home)
    network = home.settings.model.network
    space = parse_space(*find_space(home.path, None), network)
    searches, order = {}, []
    for study in found:
        facts = Facts(data=study.data_version, configuration="c", space=space.digest(), trials=TRIALS,
                      batch=batch_size(TRIALS), seed=0, code="1")  # fmt: skip
        searches[study.plant] = PlantSearch(Journal(folder / study.plant, study.plant, facts), space, network)
    tracks = {plant: TrackTrials(tracking, search.journal, {"plant": plant}) for plant, search in searches.items()}
    studies = PlantStudies(searches, tracks, CORES, ended=order.append)
    data = {study.plant: ray.put(study) for study in found}
    began = time.perf_counter()
    train_all(studies, data, gpu=0.0)
    seconds = time.perf_counter() - began
    trained = [
        {"plant": plant, "number": trial.number, "settings": trial.settings, "epochs": trial.epochs,
         "losses": trial.losses}
        for plant, search in searches.items() for trial in search.journal.trials
    ]  # fmt: skip
    (folder / "trained.json").write_text(json.dumps(trained))
    return {"seconds": seconds, "trials": len(trained), "epochs": sum(one["epochs"] for one in trained)}


_STUDIES: dict[str, Study] = {}


def _begin(home: str) -> None:
    import torch

    torch.set_num_threads(1)
    _STUDIES.update({study.plant: study for study in _studies(opened(home))})


def _train(one: dict[str, Any]) -> list[float]:
    from jobs.trial import begin

    fit = begin(_STUDIES[one["plant"]], one["settings"])
    return [fit.epoch()["validate_loss"] for _ in range(one["epochs"])]


def plain(home: Home, folder: Path) -> dict[str, Any]:
    """Two processes that take the next training when they have ended one, and keep nothing."""
    trained: Sequence[dict[str, Any]] = json.loads((folder / "trained.json").read_text())
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(CORES, _begin, (str(home.path),)) as pool:
        losses = pool.map(_train, trained, chunksize=1)
    seconds = time.perf_counter() - began
    off = max(abs(a - b) / abs(b) for own, one in zip(losses, trained, strict=True)
              for a, b in zip(own, one["losses"], strict=True))  # fmt: skip
    return {"seconds": seconds, "off": off}


def main() -> None:
    step, home = sys.argv[1], opened(sys.argv[2])
    if step == "plain":
        print(json.dumps(plain(home, Path(sys.argv[3]))))
        return
    with ray_session(home):
        print(json.dumps(prepare(home) if step == "prepare" else ours(home, Path(sys.argv[3]))))


if __name__ == "__main__":
    main()

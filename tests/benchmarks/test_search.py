"""What searching buys: the tuned over the default configuration on held-out data, and what the search cost.

A study of the shipped space, its winner by validation; then default and winner are trained anew from three seeds each,
so that neither a lucky seed nor the choosing flatters, and judged on test engines, or later time and unseen machines.
`make bench` prints the tables. MILLWRIGHT_BENCH_TRIALS is the number of trials a study.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from cluster.bundles import load
from cluster.config import SplitSettings
from cluster.home import Home, open_home
from cluster.places import place_of, reference
from cluster.registry import Tracking, bundle_folder
from cluster.report import Silent
from cluster.sources import write_source
from jobs import ingest
from jobs.benchmarks import cmapss, simulated
from jobs.benchmarks.cmapss_files import read_labels
from jobs.candidates import study_of
from jobs.dataset import load_plant
from jobs.evaluation.allowed import counts_of
from jobs.evaluation.judging import Judged, judge_plant
from jobs.evaluation.kept import kept
from jobs.study import Study
from jobs.tracking import TrackTrials
from jobs.train import fit_network
from jobs.tuning.journal import Facts, Journal, Trial
from jobs.tuning.search import PlantSearch, batch_size
from jobs.tuning.space import find_space, parse_space
from jobs.tuning.studies import PlantStudies
from jobs.tuning.workers import train_all

pytestmark = [pytest.mark.slow, pytest.mark.ray]
NASA = Path(__file__).parents[3] / "shared" / "data" / "cmapss"
TRIALS, SEEDS, CORES = int(os.environ.get("MILLWRIGHT_BENCH_TRIALS", "8")), 3, 2
FLEET_SEED = 304  # beside those of the benchmark `fleet`


def searched(home: Home, studies: Sequence[Study], folder: Path) -> dict[str, tuple[Trial, float]]:
    """Each plant's winner, and the core-hours of its search."""
    tracking, searches = Tracking(home), {}
    for study in studies:
        space = parse_space(*find_space(home.path, None), study.config.network)
        facts = Facts(data=study.data_version, configuration="c", space=space.digest(), trials=TRIALS,
                      batch=batch_size(TRIALS), seed=0, code="1")  # fmt: skip
        journal = Journal(folder / study.plant, study.plant, facts)
        searches[study.plant] = PlantSearch(journal, space, study.config.network)
    tracks = {plant: TrackTrials(tracking, search.journal, {"plant": plant}) for plant, search in searches.items()}
    train_all(PlantStudies(searches, tracks, CORES), {s.plant: ray.put(s) for s in studies}, gpu=0.0)
    found = {}
    for plant, search in searches.items():
        best = search.journal.best()
        assert best is not None
        hours = sum(trial.seconds for trial in search.journal.trials) / 3600
        first = search.journal.trials[0].loss
        assert first is not None and best.loss is not None
        print(f"\n{plant}: {TRIALS} trials, {hours:.3f} core-hours; validation loss {first:.4f} as it is, "
              f"{best.loss:.4f} of trial {best.number}, {best.settings}", flush=True)  # fmt: skip
        found[plant] = best, hours
    return found


def from_seeds(home: Home, study: Study, settings: dict[str, Any]) -> list[Any]:
    """Tasks that train a configuration to its end, one a seed."""
    shared, bundles = ray.put(study), reference(bundle_folder(home, study.plant, "x").parent)
    return [fit_network.remote(shared, bundles, settings | {"seed": 100 + seed}) for seed in range(SEEDS)]


def test_what_searching_buys_on_cmapss(tmp_path: Path, ray_cluster: None) -> None:
    if not any((NASA / f"train_FD001.{suffix}").is_file() for suffix in ("txt", "txt.gz")):
        pytest.skip("NASA's FD001 is not beside this repository (shared/data/cmapss)")
    home = open_home(tmp_path / "home", create=True, environment={})
    source, labels = cmapss.description(NASA, "FD001"), np.minimum(read_labels(NASA, "FD001"), cmapss.CAP)
    home.sources.mkdir(parents=True, exist_ok=True)
    write_source(home.of(source.plant).source, source)
    ingest.run(home, plant=source.plant, progress=Silent())
    network = cmapss.CONFIG.network.model_copy(update={"folds": 1})  # a member of what is served
    config = cmapss.CONFIG.model_copy(update={"network": network})
    history = load_plant(home, source.plant, config=config)
    test = [f"test-{unit}" for unit in range(1, len(labels) + 1)]
    study = study_of(history, history.split_in_machines(SplitSettings(), frozenset(test)), config)
    best, hours = searched(home, [study], tmp_path)[study.plant]
    if not best.settings:
        print(f"FD001: the default won its own study; nothing is gained for {hours:.3f} core-hours")
        return
    tasks = {"default": from_seeds(home, study, {}), "tuned": from_seeds(home, study, best.settings)}
    cache = home.of(source.plant).cache / "bundles"
    lives = {
        name: [cmapss.remaining_life(c, history, test, cache) for c in ray.get(own)] for name, own in tasks.items()
    }
    rmse = {name: np.mean([np.sqrt(np.mean((own - labels) ** 2)) for own in found]) for name, found in lives.items()}
    gain, low, high = cmapss.gain_of([lives["default"], lives["tuned"]], labels)
    print(f"FD001, clipped RMSE, {SEEDS} seeds each: default {rmse['default']:.2f}, tuned {rmse['tuned']:.2f}; gain "
          f"{gain:.2f} ({low:.2f} to {high:.2f}, by engine), {gain / hours:.2f} a core-hour of search")  # fmt: skip


def test_what_searching_buys_on_the_simulated_fleet(tmp_path: Path, ray_cluster: None) -> None:
    home = open_home(tmp_path / "home", create=True, environment={})
    plants, _ = simulated.asked(home, None, 1)
    entries = [simulated.ready(home, plant, FLEET_SEED, progress=Silent(), steps={}) for plant in plants]
    best = searched(home, [entry.study for entry in entries], tmp_path)
    counts: dict[str, list[Any]] = {}
    for entry in entries:
        study, config = entry.study, entry.study.config
        winner, hours = best[study.plant]
        default, tuned = from_seeds(home, study, {}), from_seeds(home, study, winner.settings)
        data = load_plant(home, study.plant, config=config)
        split = data.split_in_time(home.settings.split, config)
        gains = []
        for pair in zip(ray.get(default), ray.get(tuned), strict=True):
            bundles = [load(home, study.plant, place_of(one.folder)) for one in pair]
            judged: Judged = judge_plant(data, split, {"tuned": bundles[1], "default": bundles[0]}, None)
            counts.setdefault(study.plant, []).append(counts_of(judged, ["tuned", "default"]))
            gains.append(next(c for c in judged.result.all.comparisons if c.against == "default"))
        told = "; ".join(f"{g.log_likelihood.value:+.4f} ({g.log_likelihood.low:+.4f} to {g.log_likelihood.high:+.4f})"
                         for g in gains)  # fmt: skip
        mean = float(np.mean([g.log_likelihood.value for g in gains]))
        print(f"{study.plant}: log-likelihood a tick, tuned less default by seed: {told}; mean {mean:+.4f}, "
              f"{mean / hours:+.4f} a core-hour of search", flush=True)  # fmt: skip
    for one in kept(counts, full="default", newcomers=["tuned"]):
        for at in one.at:
            rate = "default's own" if at.rate is None else f"{at.rate:g} a machine-month"
            print(f"{one.name}, {one.num_failures} failures over {SEEDS} seeds, false alarms {rate}: default "
                  f"{at.caught['default']}, tuned {at.caught['tuned']}, {at.kept['tuned']} of it")  # fmt: skip


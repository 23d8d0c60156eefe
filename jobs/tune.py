"""One study a plant, several at once: search a network, fit the baselines beside it, keep the best.

The one idea: every plant has its own study with its own scheduler, since one study over all plants
would prune hard plants instead of bad settings. All draw on the same cores; baselines are tasks in between.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import optuna
import ray
import ray.tune
from pydantic import BaseModel
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch
from rich.table import Table

from cluster import lineage, places
from cluster.home import Home
from cluster.places import Place, opened
from cluster.registry import Tracking, bundle_folder
from cluster.report import Progress, Report, code_version
from jobs.candidates import Study, studies_of
from jobs.dataset import named_plants
from jobs.promote import crown
from jobs.tracking import TrackTrials
from jobs.train import fit_baseline, fit_network
from jobs.trial import METRIC, STATE, NetworkTrial
from models.config import NetworkConfig
from models.errors import MillwrightError

GRACE_EPOCHS = 3  # every trial trains at least this long before a comparison can stop it
PRETRAIN_EPOCHS = (0, 3)


class PlantStudy(BaseModel):
    """One plant's outcome; ``best`` holds the champion and what it was compared with."""

    name: str
    trials: int
    finished: int
    resumed: bool
    best: dict[str, Any]


class TuneReport(Report):
    plants: list[PlantStudy] = []

    def render(self) -> Table:
        table = Table(title="Tuned: the best candidate of each plant, by log-likelihood on later time")
        for column in ("plant", "trials", "failures", "network", "trees", "no sensor", "champion", "version"):
            table.add_column(column, justify="right" if column in ("trials", "failures") else "left")
        for plant in self.plants:
            scores = plant.best["log_likelihood"]
            table.add_row(
                plant.name, f"{plant.finished}/{plant.trials}", str(plant.best["num_failures"]),
                *(f"{scores[k]:.4f}" if k in scores else "-" for k in ("network", "trees", "no_sensor")),
                plant.best["kind"], plant.best["version"],
            )  # fmt: skip
        return table


@dataclass(frozen=True)
class _Options:
    trials: int
    concurrent: int
    seed: int


@dataclass(frozen=True)
class _Ready:
    """A study, its data in the object store, and the name of its registered Trainable."""

    study: Study
    reference: Any
    trainable: str


def run(
    home: Home, *, progress: Progress, plants: str = "all", trials: int | None = None, seed: int | None = None
) -> TuneReport:
    """Tune the plants named (comma-separated, or ``all``). Raises InputError where one has too little to learn from."""
    began = time.monotonic()
    settings = home.settings.tune
    cores = int(ray.cluster_resources().get("CPU", 1))
    options = _Options(trials or settings.trials, settings.concurrent or cores, settings.seed if seed is None else seed)
    progress.step(f"Read the history of {', '.join(named_plants(home, plants))}")
    studies = list(studies_of(home, plants, progress=progress))
    progress.step(f"Tune {len(studies)} plants, {options.trials} trials each, on {cores} cores")
    done: dict[str, float] = {}

    def moved(plant: str, trials_done: float) -> None:
        done[plant] = trials_done
        progress.update(sum(done.values()), options.trials * len(studies), "trials")

    with Tracking(home) as tracking:
        tasks = []
        for study in studies:
            reference = ray.put(study)
            # Registered here, one after the other: Tune's registry is not safe to use from threads.
            ready = _Ready(study, reference, _trainable(study.plant, reference))
            tasks.append(partial(_study, home, ready, options, tracking, partial(moved, study.plant)))
        outcomes = side_by_side(tasks, at_once=2 * cores)
    for study, outcome in zip(studies, outcomes, strict=True):
        best = bundle_folder(home, study.plant, outcome.best["version"])
        lineage.learns(home, study.plant, study.data_version, [best])
    return TuneReport(seconds=time.monotonic() - began, plants=outcomes)


def side_by_side(tasks: Sequence[Callable[[], PlantStudy]], *, at_once: int) -> list[PlantStudy]:
    """Run each in a thread and return their results in order; the first error, or Ctrl-C, is raised at once.

    The threads are daemons: whoever is interrupted does not wait for the studies, which end with their Ray.
    """
    places, ended = threading.BoundedSemaphore(at_once), SimpleQueue[tuple[int, PlantStudy | BaseException]]()

    def work(index: int, task: Callable[[], PlantStudy]) -> None:
        with places:
            try:
                ended.put((index, task()))
            except BaseException as error:  # the thread's edge: the caller raises it
                ended.put((index, error))

    for index, task in enumerate(tasks):
        threading.Thread(target=work, args=(index, task), daemon=True).start()
    results: dict[int, PlantStudy] = {}
    while len(results) < len(tasks):
        index, result = ended.get()
        if isinstance(result, BaseException):
            raise result
        results[index] = result
    return [results[index] for index in range(len(tasks))]


def _study(
    home: Home, ready: _Ready, options: _Options, tracking: Tracking, moved: Callable[[float], None]
) -> PlantStudy:
    study, reference = ready.study, ready.reference
    bundles = places.reference(bundle_folder(home, study.plant, "x").parent)
    baselines = [fit_baseline.remote(reference, bundles, sensors) for sensors in (True, False)]
    folder = home.of(study.plant).studies / _study_name(study, options)
    tags = {"plant": study.plant, "data_version": study.data_version, "code_version": code_version()}
    callback = TrackTrials(tracking, study.plant, folder / "runs.json", tags, moved)
    results, resumed = _search(study, ready.trainable, folder, options, callback)
    good = [r for r in results if r.error is None and r.checkpoint is not None]
    if not good:
        reason = str(results.errors[0]).strip().splitlines()[-1] if results.errors else "no trial ended"
        raise MillwrightError(f"Every trial of plant {study.plant} failed", found=reason, where=folder)
    best = min(good, key=lambda r: r.metrics[METRIC])
    with best.checkpoint.filesystem.open_input_file(f"{best.checkpoint.path}/{STATE}") as file:
        state = bytes(file.read())
    candidates = ray.get([fit_network.remote(reference, bundles, best.config, state), *baselines])
    champion = crown(home, study.plant, candidates, tracking=tracking, run_id=callback.parent())
    scores = {c.kind: c.log_likelihood for c in candidates}
    outcome = {
        "kind": champion.kind, "version": champion.version, "log_likelihood": scores, "config": best.config,
        "num_failures": study.num_failures,
    }  # fmt: skip
    return PlantStudy(name=study.plant, trials=options.trials, finished=len(good), resumed=resumed, best=outcome)


def _study_name(study: Study, options: _Options) -> str:
    """Equal data, configuration and options are the same study: run again, it resumes."""
    text = f"{study.data_version}/{study.config.digest()}/{options.trials}/{options.seed}/{code_version()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _trainable(plant: str, reference: Any) -> str:
    """Register the plant's Trainable and return its name, unique to the plant: equal names have collided."""
    named = type(f"Network_{plant}", (NetworkTrial,), {})
    with_data = ray.tune.with_parameters(named, study=reference)
    ray.tune.register_trainable(named.__name__, ray.tune.with_resources(with_data, {"cpu": 1}), warn=False)
    return named.__name__


def _search(
    study: Study, trainable: str, folder: Place, options: _Options, callback: TrackTrials
) -> tuple[ray.tune.ResultGrid, bool]:
    files, (path,) = opened([places.reference(folder)])
    if ray.tune.Tuner.can_restore(path, storage_filesystem=files):
        tuner = ray.tune.Tuner.restore(
            path, trainable=trainable, resume_unfinished=True, restart_errored=True, storage_filesystem=files
        )
        return tuner.fit(), True
    network = study.config.network
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = OptunaSearch(
        search_space(network), metric=METRIC, mode="min", seed=options.seed, points_to_evaluate=[_default(study)]
    )
    tuner = ray.tune.Tuner(
        trainable,
        tune_config=ray.tune.TuneConfig(
            num_samples=options.trials, reuse_actors=True, metric=METRIC, mode="min",
            search_alg=ConcurrencyLimiter(search, max_concurrent=options.concurrent),
            scheduler=ASHAScheduler(max_t=network.epochs, grace_period=min(GRACE_EPOCHS, network.epochs)),
        ),
        run_config=ray.tune.RunConfig(
            name=folder.name, storage_path=path.rpartition("/")[0], storage_filesystem=files, verbose=0,
            callbacks=[callback],
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1, checkpoint_at_end=True),
            failure_config=ray.tune.FailureConfig(max_failures=1),
        ),
    )  # fmt: skip
    return tuner.fit(), False


def search_space(network: NetworkConfig) -> dict[str, Any]:
    """What is searched; pre-training, which only `channels` has, is kept where the later slice gains from it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    pretrained = CategoricalDistribution(sorted({*PRETRAIN_EPOCHS, network.pretrain_epochs}))
    return ({"pretrain_epochs": pretrained} if network.name == "channels" else {}) | {
        "hidden": IntDistribution(32, 128, step=16),
        "learning_rate": FloatDistribution(1e-3, 1e-2, log=True),
        "dropout": FloatDistribution(0.0, 0.3),
        "weight_decay": FloatDistribution(1e-4, 1e-1, log=True),
    }


def _default(study: Study) -> dict[str, Any]:
    """The default configuration is always the first trial: a search must beat it to be worth its hours."""
    network = study.config.network.model_dump()
    return {name: network[name] for name in search_space(study.config.network)}

"""Training the fleet's network: one task, or Ray Train where it is given several workers or GPUs.

The one idea: Ray Data has streamed the plants' tables into series on disk (``jobs.series``); an epoch maps them, each
worker its own share in an order that follows from the seed, so equal seeds and workers give equal weights. An epoch's
state is on disk before the next begins, and whoever trains the same version again, after whatever ended it, goes on.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from safetensors import SafetensorError

from cluster.files import write_atomically
from jobs.series.judged import judge
from jobs.study import Fleet, Study
from models.config import ModelConfig
from models.errors import InputError, MillwrightError
from models.together import ALONE, Together

if TYPE_CHECKING:
    from models.pooled import PooledFit

RETRIES = 3  # of a training whose worker or node was lost


@dataclass(frozen=True)
class Pooling:
    """What a fleet's network is trained from; ``state`` is where its last epoch is kept, which every node must see.

    After ``most_s`` seconds it ends at its next epoch.
    """

    studies: tuple[Study, ...]
    config: ModelConfig
    version: str
    state: Path
    most_s: float | None = None


@ray.remote(num_cpus=1, max_retries=RETRIES)
def train_alone(asked: Pooling) -> Fleet:
    """Raises DivergedError where no epoch had a finite loss."""
    return _finished(asked, _trained(asked))


@ray.remote(num_cpus=0, max_retries=RETRIES)
def train_together(asked: Pooling, *, workers: int, gpu: bool) -> Fleet:
    """By Ray Train, on ``workers`` of one core each, and of a GPU each with ``gpu``."""
    import ray.train.torch

    folder = asked.state.with_suffix(".train")  # nothing that Ray Train writes is read again
    data = ray.put(asked)
    try:
        with _quiet():
            ray.train.torch.TorchTrainer(
                _work, train_loop_config={"asked": [data]},
                scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpu),
                run_config=ray.train.RunConfig(
                    name=asked.version, storage_path=str(folder),
                    failure_config=ray.train.FailureConfig(max_failures=RETRIES),
                ),
            ).fit()  # fmt: skip
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _finished(asked, _begun(asked))


def require_room(workers: int, *, gpu: bool) -> None:
    """Raises InputError where the cluster has not a core, or with ``gpu`` a GPU, for each: they would wait for ever."""
    for name, wanted in (("CPU", workers), ("GPU", workers if gpu else 0)):
        have = int(ray.cluster_resources().get(name, 0))
        if have < wanted:
            raise InputError(
                "No room for the fleet's workers", expected=f"{wanted} {name}s", found=have,
                where="tune.fleet_workers", do="Lower it, or start a cluster with more",
            )  # fmt: skip


def _cause(error: Exception) -> MillwrightError:
    """What ended a worker: our own error where it is one."""
    found = list(getattr(error, "worker_failures", {}).values())
    own = next((one for one in found if isinstance(one, MillwrightError)), None)
    first = str(found[0] if found else error).strip().splitlines() or [""]
    return own or MillwrightError("The fleet's training failed on its workers", found=first[-1])


def epochs_of(asked: Pooling) -> int:
    """Epochs that a training has behind it, as far as its state on disk says."""
    from models.saved import about

    try:
        return int(about(asked.state.read_bytes())["epoch"])
    except (OSError, ValueError, KeyError):  # not begun, or just ended; whoever goes on from it says what is wrong
        return 0


def _work(config: dict[str, Any]) -> None:
    """A worker's part; the state on disk is what comes of it."""
    import ray.train.torch

    context = ray.train.get_context()
    together = Together(context.get_world_rank(), context.get_world_size())
    _trained(ray.get(config["asked"][0]), together=together, device=str(ray.train.torch.get_device()))


def _trained(asked: Pooling, *, together: Together = ALONE, device: str = "cpu") -> PooledFit:
    """Trained to its end, or until the time is over."""
    fit, began = _begun(asked, together=together, device=device), time.monotonic()
    while not fit.done:
        fit.epoch()
        if together.rank == 0:
            write_atomically(asked.state, fit.state())
        late = asked.most_s is not None and time.monotonic() - began > asked.most_s
        if together.sum([float(late)], device)[0]:
            break
    return fit


def _begun(asked: Pooling, *, together: Together = ALONE, device: str = "cpu") -> PooledFit:
    import torch

    from models.pooled import History, PooledFit

    torch.set_num_threads(1)
    plants = {study.plant: History(study.channels, study.train, study.validate) for study in asked.studies}
    fit = PooledFit(plants, asked.config, device=device, together=together)
    if asked.state.is_file():
        try:
            fit.restore(asked.state.read_bytes())
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                "Damaged state of the fleet's training", expected="what its last epoch wrote", found=str(error),
                where=asked.state, do="Remove it to train anew",
            ) from error  # fmt: skip
    return fit


def _finished(asked: Pooling, fit: PooledFit) -> Fleet:
    """Judged on every plant as if it had not seen it: by kinds, and scaled by the plant's own readings."""
    from models.networks import NetworkModel
    from models.sharing import adopted

    shared, config = fit.shared(), asked.config
    heard = [
        (
            [replace(s, machine=f"{study.plant}/{s.machine}") for s in study.validate],  # plants may share names
            NetworkModel(adopted(config, study.channels, study.train, shared)[0]),
        )
        for study in asked.studies
    ]
    return Fleet(
        asked.version if fit.done else f"{asked.version}-e{fit.epochs_done}", shared,
        tuple(study.plant for study in asked.studies), sum(study.num_failures for study in asked.studies),
        config.clock, judge(heard, config),
    )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Ray Train's own lines; what goes wrong is raised."""
    log = logging.getLogger("ray.train")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)

"""One trial of a study: a network's configuration, trained an epoch a step, stoppable and resumable.

The one idea: a class Trainable is reused from trial to trial and from plant to plant (starting a worker costs more than
a short training), reads its data once from the object store, and leaves each epoch's state in the study's folder, where
whoever continues it, after whatever ended this worker, finds it.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import ray
import ray.tune
from pydantic import ValidationError

from cluster import own_networks
from cluster.files import write_atomically
from cluster.places import place_of
from models.config import ModelConfig, NetworkConfig
from models.errors import InputError, MillwrightError

if TYPE_CHECKING:
    from jobs.study import Study
    from models.anchor import Anchor
    from models.fit import NetworkFit

METRIC = "best_loss"  # mean censored negative log-likelihood a tick on the later slice, at the best epoch so far


class NetworkTrial(ray.tune.Trainable):
    """``config``: plant, number, settings (fields of ``NetworkConfig``) and the place of its state.

    ``studies`` [plant -> its Study in the object store]; ``gpu`` is the share that a trial has of one.
    """

    fit: NetworkFit | None

    def setup(self, config: dict[str, Any], studies: dict[str, Any] | None = None, gpu: float = 0.0) -> None:
        import torch

        assert studies is not None, "a trial needs its study"
        torch.set_num_threads(1)  # Tune gives each trial one core
        self.studies, self.device = studies, "cuda" if gpu and torch.cuda.is_available() else "cpu"
        if self.device == "cuda":
            torch.cuda.set_per_process_memory_fraction(min(1.0, gpu))  # Ray's fraction is bookkeeping alone
        self._plant, self._study = "", cast("Study", None)
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self.fit, self.place = None, place_of(config["state"])
        self.ended: dict[str, str] = {}
        self.standing: dict[str, Any] | None = None
        try:
            if config["plant"] != self._plant:
                self._study, self._plant = ray.get(self.studies[config["plant"]]), config["plant"]
            self.fit = begin(self._study, config["settings"], device=self.device)
            with _storage():
                state = self.place.read_bytes() if self.place.is_file() else None
            if state is not None:
                self.fit.restore(state)
                self.standing = {"epoch": self.fit.epochs_done}
        except Exception as error:
            self._end(error)

    def step(self) -> dict[str, Any]:
        """An epoch, kept before it is told; first of all where a restored trial stands, which was perhaps not heard."""
        told: dict[str, Any] = {}
        if self.fit is not None:
            try:
                told, self.standing = self.standing or self._epoch(self.fit), None
            except Exception as error:
                self._end(error)
        if self.ended or self.fit is None:
            return {"epoch": 0, METRIC: math.inf, "share_done": 1.0, "done": True} | told | self.ended
        share = 1.0 if self.fit.done else min(1.0, self.fit.epochs_done / self.fit.epochs)
        return told | {METRIC: self.fit.best_loss, "share_done": share, "done": self.fit.done}

    def _epoch(self, fit: NetworkFit) -> dict[str, Any]:
        metrics = fit.epoch()
        lost = [name for name in ("train_loss", "validate_loss") if not math.isfinite(metrics[name])]
        if lost:
            told = f"{lost[0]} was {metrics[lost[0]]} in epoch {fit.epochs_done}"
            self.ended = {"ended": "diverged", "reason": told}
            return metrics | {METRIC: fit.best_loss, "trained": 1}
        with _storage():
            write_atomically(self.place, fit.state())
        return metrics | {"trained": 1}

    def _end(self, error: Exception) -> None:
        """What this configuration did to itself ends the trial; what happened to its machine is raised, and retried."""
        state = ended_by(error)
        if state is None:
            raise error
        told = str(error).strip().splitlines() or [""]
        self.fit, self.ended = None, {"ended": state, "reason": f"{type(error).__name__}: {told[0]}"}
        _free_memory()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the state of every epoch is in the study's folder already."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: ``_begin`` has read the state."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True


@contextmanager
def _storage() -> Iterator[None]:
    """What a store says of itself is nothing that the trial did: as an OSError it is tried again."""
    try:
        yield
    except MillwrightError as error:
        raise OSError(str(error)) from error


def ended_by(error: BaseException) -> str | None:
    """The state in which an error ends a trial; None for one of the machine or the storage, which is tried again."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "out_of_memory"
    if isinstance(error, InputError):
        return "invalid"
    return None if isinstance(error, OSError | ray.exceptions.RayError) else "failed"


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def begin(study: Study, config: dict[str, Any], *, device: str = "cpu") -> NetworkFit:
    """A fit of the study's data with ``config`` over the study's own network settings."""
    from models.fit import NetworkFit

    found = configured(study.config, config)
    own_networks.require(found.network.name, study.allowed_networks)
    return NetworkFit(
        study.train, study.validate, found, study.channels, modes=study.modes, device=device,
        scaled_by=study.scaled_by, anchor=_anchor(study, found),
    )  # fmt: skip


def _anchor(study: Study, config: ModelConfig) -> Anchor | None:
    from models.anchor import Anchor

    if config.network.start == "scratch":
        return None
    if study.fleet is None:
        raise InputError(
            "No fleet to start from", expected="a network of all plants", found="none", where=f"plant {study.plant}",
            do="Set network.start=scratch, or run `millwright tune --plants all`",
        )  # fmt: skip
    return Anchor.of(study.fleet.shared, config.network.pull / max(1, study.num_failures))


def configured(config: ModelConfig, choices: dict[str, Any]) -> ModelConfig:
    """``config`` with a trial's choices. Raises InputError for a setting that networks do not have, or not so."""
    unknown = sorted(set(choices) - set(NetworkConfig.model_fields))
    if unknown:
        raise InputError(
            "Unknown network setting", expected=f"one of {', '.join(NetworkConfig.model_fields)}", found=unknown[0]
        )
    try:
        network = NetworkConfig.model_validate(config.network.model_dump() | choices)
    except ValidationError as error:
        first = error.errors()[0]
        told = first["msg"].removeprefix("Value error, ")
        raise InputError("Not a configuration of a network", expected=told, found=str(choices)) from error
    return config.model_copy(update={"network": network})

"""One trial of a study: a network's configuration, trained an epoch a step, stoppable and resumable.

The one idea: a class Trainable is reused from trial to trial (starting a worker costs more than a
short training), reads its data once from the object store, and keeps its best weights in its checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.tune

from models.config import ModelConfig, NetworkConfig
from models.errors import InputError

if TYPE_CHECKING:
    from jobs.candidates import Study
    from models.fit import NetworkFit

STATE = "fit.safetensors"
METRIC = "best_loss"  # mean censored negative log-likelihood a tick on the later slice, at the best epoch so far


class NetworkTrial(ray.tune.Trainable):
    """``config`` holds fields of ``NetworkConfig``; ``study`` comes from the object store."""

    def setup(self, config: dict[str, Any], study: Study | None = None) -> None:
        import torch

        assert study is not None, "a trial needs its study"
        torch.set_num_threads(1)  # Tune gives each trial one core
        self.study = study
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self.fit = begin(self.study, config)

    def step(self) -> dict[str, Any]:
        metrics = self.fit.epoch()
        return metrics | {METRIC: self.fit.best_loss, "share_done": self._share(), "done": self.fit.done}

    def _share(self) -> float:
        return 1.0 if self.fit.done else min(1.0, (self.iteration + 1) / self.fit.epochs)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / STATE).write_bytes(self.fit.state())

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        self.fit.restore((Path(str(checkpoint)) / STATE).read_bytes())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True


def begin(study: Study, config: dict[str, Any]) -> NetworkFit:
    """A fit of the study's data with ``config`` over the study's own network settings."""
    from models.fit import NetworkFit

    return NetworkFit(
        study.train, study.validate, configured(study.config, config), study.channels, modes=study.modes,
        scaled_by=study.scaled_by,
    )  # fmt: skip


def configured(config: ModelConfig, choices: dict[str, Any]) -> ModelConfig:
    """``config`` with a trial's choices. Raises InputError for a setting that networks do not have."""
    unknown = sorted(set(choices) - set(NetworkConfig.model_fields))
    if unknown:
        raise InputError(
            "Unknown network setting", expected=f"one of {', '.join(NetworkConfig.model_fields)}", found=unknown[0]
        )
    network = NetworkConfig.model_validate(config.network.model_dump() | choices)
    return config.model_copy(update={"network": network})

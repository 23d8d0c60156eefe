"""What a model *is*: everything here is hashed into its bundle and changes what it answers.

The one idea: time is counted in *steps* of the machine type's clock, life in its *life unit*
(hours, or cycles); ``step_s`` ties the two for hours, and a cycle is one step.

Every size has an upper bound, far above what is of use: a configuration comes with a bundle too, and whoever wrote
that must not decide how much memory its reader takes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MOST_MEMBERS = 64
NETWORKS = ("channels", "tcn", "gru")  # the keys of ``models.networks.BODIES``, for whoever cannot import torch


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clock(Frozen):
    """The grid of a machine type: tick ``t`` covers ``(t - step, t]``, anchored at the epoch."""

    step_s: float = Field(3600.0, gt=0)
    life_unit: Literal["h", "cycle"] = "h"

    @property
    def step_us(self) -> int:
        return round(self.step_s * 1_000_000)

    @property
    def life_per_step(self) -> float:
        """Life units that pass in one step."""
        return self.step_s / 3600.0 if self.life_unit == "h" else 1.0


class WindowConfig(Frozen):
    """What a model sees: ``length`` steps, a value carried forward over at most ``carry`` steps."""

    length: int = Field(64, ge=4, le=100_000)
    carry: int = Field(3, ge=0, le=100_000)


class HazardConfig(Frozen):
    """Bins of the time to failure in life units; the last bin is open.

    ``edges`` are the inner edges; every horizon must be one of them, and there is at least one.
    """

    horizons: dict[str, float] = {"24h": 24.0, "48h": 48.0, "7d": 168.0}
    edges: tuple[float, ...] = Field(
        (6, 12, 24, 36, 48, 72, 96, 120, 144, 168, 216, 264, 336, 432, 576, 720, 960), max_length=1000
    )
    cap: float | None = None  # remaining life is reported as E[min(T, cap)] where a benchmark asks for it

    @property
    def alarm_horizon(self) -> str:
        """48 h where it is served, else the middle one of the horizons."""
        names = sorted(self.horizons, key=lambda name: self.horizons[name])
        return "48h" if "48h" in names else names[len(names) // 2]

    @property
    def alarm_within(self) -> float:
        """The alarm's horizon in life units."""
        return self.horizons[self.alarm_horizon]

    @field_validator("horizons")
    @classmethod
    def _at_least_one(cls, horizons: dict[str, float]) -> dict[str, float]:
        if not horizons:
            raise ValueError('at least one horizon by its name, such as {"48h": 48}')
        return horizons

    @model_validator(mode="after")
    def _horizons_are_edges(self) -> HazardConfig:
        if list(self.edges) != sorted(set(self.edges)) or not self.edges or self.edges[0] <= 0:
            raise ValueError("hazard.edges must be positive and strictly increasing")
        missing = [name for name, value in self.horizons.items() if value not in self.edges]
        if missing:
            raise ValueError(f"hazard.edges must include every horizon; missing: {', '.join(missing)}")
        return self


class NetworkConfig(Frozen):
    """The architecture (a file in ``models/networks``) and how it is fitted."""

    name: str = "channels"  # or the import path of an own one, `my_package.my_module:MyBody`
    hidden: int = Field(64, ge=4, le=1024)
    channel_hidden: int = Field(24, ge=4, le=1024)  # of the network `channels`: the width in which each channel is read
    layers: int = Field(3, ge=1, le=16)
    kernel: int = Field(4, ge=2, le=256)
    members: int = Field(1, ge=1, le=MOST_MEMBERS)  # networks from other seeds that answer as one
    folds: int = Field(1, ge=1, le=MOST_MEMBERS)  # where parts differ by machine: members that each leave out others
    start: Literal["scratch", "fleet"] = "scratch"  # at the fleet's weights, where a study has them
    pull: float = Field(1.0, ge=0)  # back there, in a step at learning rate 1 and a failure
    dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    epochs: int = Field(30, ge=1, le=100_000)
    train_steps: int = Field(0, ge=0)  # of histories that training reads in all, from which epochs follow; 0: `epochs`
    patience: int = Field(8, ge=1, le=100_000)
    batch_size: int = Field(16, ge=1, le=65_536)
    pretrain_epochs: int = Field(0, ge=0, le=100_000)  # of the network `channels`: on hidden patches, before the first
    deviations: bool = True  # of each sensor from what the others suggest at the same step, beside its values
    noise: float = Field(0.05, ge=0)  # added to scaled values in training, in standard deviations
    hide: float = Field(0.0, ge=0, lt=1)  # share of a piece's channels that training hides, as if they were missing
    crop: int = Field(256, ge=8, le=1_000_000)  # training sees pieces of at most so many steps, with their left context
    random_start: float = Field(0.0, ge=0, le=1)  # share of pieces whose left context is hidden in training
    mean_weight: float = Field(0.0, ge=0)  # of the squared error of E[min(T, cap)] / cap, beside the likelihood
    average: float = Field(0.98, ge=0, lt=1)  # decay of the running mean of weights that is kept; 0 keeps the last
    ignore: tuple[str, ...] = ()  # channels that the network does not read
    seed: int = 0

    @model_validator(mode="after")
    def _members_are_few(self) -> NetworkConfig:
        if self.members * self.folds > MOST_MEMBERS:
            raise ValueError(f"members times folds at most {MOST_MEMBERS}, not {self.members * self.folds}")
        return self

    @model_validator(mode="after")
    def _seeds_share_the_width(self) -> NetworkConfig:
        if self.name == "channels" and self.hidden % 4:
            raise ValueError(f"hidden {self.hidden} of the network `channels` is no multiple of 4")
        return self


class TreesConfig(Frozen):
    """The gradient-boosted baseline."""

    rounds: int = Field(200, ge=1, le=100_000)
    leaves: int = Field(15, ge=2, le=65_536)
    learning_rate: float = Field(0.08, gt=0)
    min_rows: int = Field(50, ge=1, le=2**31 - 1)
    max_windows: int = Field(20_000, ge=100, le=100_000_000)  # training windows, then rows (window times bin)
    max_rows: int = Field(100_000, ge=100, le=1_000_000_000)
    seed: int = 0


class ModelConfig(Frozen):
    clock: Clock = Clock()
    window: WindowConfig = WindowConfig()
    hazard: HazardConfig = HazardConfig()
    network: NetworkConfig = NetworkConfig()
    trees: TreesConfig = TreesConfig()

    def digest(self) -> str:
        """SHA-256 over the canonical JSON; equal digests mean equal models given equal data."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

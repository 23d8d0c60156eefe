"""What a bundle says of its model, ``bundle.json``: everything but the weights.

The one idea: it is plain data, checked when it is read; whoever serves a model needs nothing of its training.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from models.calibration import Calibration
from models.config import Frozen, ModelConfig
from models.conformal import NOMINAL, Levels
from models.errors import InputError
from models.regimes import Regimes
from models.scaling import Scaling
from models.source import checked_name
from models.windows import Channel

FORMAT = "millwright-bundle/1"


class Finite(Frozen):
    """Neither NaN nor infinity gets into a bundle: JSON has no word for them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScalingNumbers(Finite):
    """``models.scaling.Scaling`` as it is written: one centre and one scale a channel; empty for trees."""

    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    clip: float = Field(default=8.0, gt=0)
    keys: tuple[int, ...] = ()  # the channels that tell the operating regime, its levels of them, ...
    levels: tuple[tuple[float, ...], ...] = ()
    spread: tuple[float, ...] = ()
    center_in: tuple[tuple[float, ...], ...] = ()  # ... and the centres and scales of all channels in it
    scale_in: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, scaling: Scaling) -> ScalingNumbers:
        regimes = scaling.regimes or Regimes((), (), ())
        return cls(
            center=scaling.center, scale=scaling.scale, clip=scaling.clip, keys=regimes.keys, levels=regimes.levels,
            spread=regimes.spread, center_in=scaling.center_in, scale_in=scaling.scale_in,
        )  # fmt: skip

    @property
    def scaling(self) -> Scaling:
        regimes = Regimes(self.keys, self.levels, self.spread) if self.keys else None
        return Scaling(self.center, self.scale, self.clip, regimes, self.center_in, self.scale_in)


class Usual(Finite):
    """What is usual in the plant, from training rows: ``window`` holds each channel's median (None: never seen)."""

    window: tuple[float | None, ...]
    hazard: tuple[float, ...] = ()  # [K+1] of the Kaplan-Meier curve, beside every figure
    modes: tuple[float, ...] = ()  # share of each failure mode
    present: tuple[float, ...] = ()  # share of training's histories in which a channel has values; empty: in all


class Lineage(Finite):
    """Where the model comes from; ``created_at`` is ISO 8601, UTC."""

    data_version: str
    code_version: str
    parent: str | None = None
    created_at: str = ""


class BundleSpec(Finite):
    """``bundle.json``: everything but the weights.

    ``threshold`` is the alarm's, on the risk within ``alarm_horizon``, chosen on validation; ``life_levels`` are
    where p10, p50 and p90 of remaining life are read off the curve (``models.conformal``).
    """

    format: Literal["millwright-bundle/1"] = "millwright-bundle/1"
    plant: str
    kind: Literal["network", "trees", "no_sensor"]
    name: str
    version: str
    scope: Literal["plant", "fleet"] = "plant"
    config: ModelConfig
    channels: tuple[Channel, ...] = Field(min_length=1)
    machine_types: tuple[str, ...] = ()
    scaling: ScalingNumbers = ScalingNumbers()
    calibration: Calibration
    usual: Usual
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)  # channel -> low, high seen in training
    alarm_horizon: str = "48h"
    threshold: float = Field(default=0.5, ge=0, le=1)
    life_levels: Levels = NOMINAL
    num_failures_trained_on: int = Field(default=0, ge=0)
    failure_modes: tuple[str, ...] = ()
    mode_trust: float = Field(default=1.0, ge=0, le=1)  # in the network's shares of modes; the rest are usual.modes
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    lineage: Lineage
    doubts: dict[str, str] = Field(default_factory=dict)

    @field_validator("plant", "version")
    @classmethod
    def _safe(cls, name: str) -> str:
        # These two become folders and parts of a URL.
        try:
            return checked_name(name, "plant or version")
        except InputError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _agrees(self) -> BundleSpec:
        if self.alarm_horizon not in self.config.hazard.horizons:
            known = ", ".join(self.config.hazard.horizons)
            raise ValueError(f"alarm_horizon {self.alarm_horizon!r} is no horizon of the model ({known})")
        if not 0 < self.life_levels[0] < self.life_levels[1] < self.life_levels[2] < 1:
            raise ValueError(f"life_levels {self.life_levels} do not rise between 0 and 1")
        self._scaling_agrees()
        if len(self.usual.window) != len(self.channels):
            raise ValueError(f"usual.window has {len(self.usual.window)} values for {len(self.channels)} channels")
        if self.usual.present and len(self.usual.present) != len(self.channels):
            raise ValueError(f"usual.present has {len(self.usual.present)} shares for {len(self.channels)} channels")
        if self.usual.hazard and len(self.usual.hazard) != self.num_bins:
            raise ValueError(f"usual.hazard has {len(self.usual.hazard)} bins for {self.num_bins}")
        if len(self.usual.modes) != len(self.failure_modes):
            raise ValueError(f"usual.modes has {len(self.usual.modes)} shares for {len(self.failure_modes)} modes")
        return self

    def _scaling_agrees(self) -> None:
        try:
            scaling = self.scaling.scaling
        except InputError as error:
            raise ValueError(str(error)) from error
        keys = () if scaling.regimes is None else scaling.regimes.keys
        num = len(self.channels)
        if len(scaling.center) not in (0, num) or any(key >= num for key in keys):
            raise ValueError(f"scaling is of {len(scaling.center)} channels, its keys {keys}, for {num} channels")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> BundleSpec:
        found = super().model_copy(update=update, deep=deep)
        for name in ("is_sensor", "bounds", "present"):  # what was worked out of the old values
            found.__dict__.pop(name, None)
        return found

    @cached_property
    def is_sensor(self) -> NDArray[np.bool_]:
        return np.array([channel.role == "sensor" for channel in self.channels])

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """Lowest and highest value of each channel that training saw, [2, C]; infinite where nothing is known."""
        found = [self.ranges.get(channel.name, (-np.inf, np.inf)) for channel in self.channels]
        return np.array(found, np.float64).T

    @cached_property
    def present(self) -> NDArray[np.float64]:
        """Share of training's histories in which each sensor has values; 0 for what is no sensor."""
        return np.array(self.usual.present or [1.0] * len(self.channels)) * self.is_sensor

    @property
    def num_bins(self) -> int:
        """K + 1: one more than the inner edges, since the last bin is open."""
        return len(self.config.hazard.edges) + 1

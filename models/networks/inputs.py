"""What every network sees of a window: choice of channels, scaling within regimes, masks, deviations; in the graph.

The one idea: whatever was fitted on training machines is a buffer beside the weights, so that a bundle's network takes
canonical units with NaN for no value and nothing else.

Legend: B batch, T steps, C channels (those that are read, in ``inputs``), I inputs, G regimes, Q keys of regimes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.hazard import Float32
from models.scaling import Scaling


@dataclass(frozen=True)
class Fitted:
    """What training machines told of all C channels: ``used`` are those that are read, ``relations`` [C, C] or none."""

    scaling: Scaling
    used: tuple[int, ...]
    relations: Float32 | None = None


class Inputs(nn.Module):
    """Buffers of what was ``fitted``; in training noise is added, and a share of channels hidden."""

    center: Tensor
    scale: Tensor
    used: Tensor
    relations: Tensor
    keys: Tensor
    levels: Tensor
    spread: Tensor

    def __init__(self, fitted: Fitted, *, noise: float, hide: float) -> None:
        super().__init__()
        scaling, used = fitted.scaling, list(fitted.used)
        self.noise, self.hide, self.clip = noise, hide, scaling.clip
        self.deviates, self.num_regimes = fitted.relations is not None, 0
        kept = scaling.select(used)
        self.register_buffer("center", torch.from_numpy(kept.centers))
        self.register_buffer("scale", torch.from_numpy(kept.scales))
        self.register_buffer("used", torch.tensor(used, dtype=torch.int64))
        if fitted.relations is not None:
            self.register_buffer("relations", torch.from_numpy(fitted.relations[np.ix_(used, used)]))
        if scaling.regimes is not None:
            self.num_regimes = len(scaling.regimes.levels)
            spread = torch.tensor(scaling.regimes.spread)
            self.register_buffer("keys", torch.tensor(scaling.regimes.keys, dtype=torch.int64))
            self.register_buffer("levels", torch.tensor(scaling.regimes.levels) / spread)
            self.register_buffer("spread", spread)

    def inputs(self, values_BTC: Tensor) -> Tensor:
        """What bodies see [B, I, T], rows as in ``Layout``."""
        regime_BTG = self._regime(values_BTC) if self.num_regimes else None
        values_BTC = values_BTC.index_select(2, self.used)
        missing_BTC = torch.isnan(values_BTC)
        if self.training and self.hide:
            hidden = torch.rand(len(values_BTC), 1, values_BTC.shape[2], device=values_BTC.device) < self.hide
            missing_BTC = missing_BTC | hidden
        center, scale = (self.center, self.scale) if regime_BTG is None else (
            regime_BTG @ self.center, regime_BTG @ self.scale
        )  # fmt: skip
        scaled_BTC = ((values_BTC - center) / scale).clamp(-self.clip, self.clip)
        scaled_BTC = torch.where(missing_BTC, torch.zeros_like(scaled_BTC), scaled_BTC)
        parts = [self._noisy(scaled_BTC, missing_BTC), (~missing_BTC).to(scaled_BTC.dtype)]
        if self.deviates:
            parts.append(self._noisy(self._deviations(scaled_BTC, missing_BTC), missing_BTC))
        parts += [] if regime_BTG is None else [regime_BTG[:, :, :-1]]
        return torch.cat(parts, dim=2).transpose(1, 2)

    def covered(self, inputs_BIT: Tensor, hidden_BCT: Tensor) -> Tensor:
        """``inputs`` as they would be without the values that are hidden."""
        num = len(self.used)
        seen_BCT = (~hidden_BCT).to(inputs_BIT.dtype)
        values_BCT, masks_BCT = inputs_BIT[:, :num] * seen_BCT, inputs_BIT[:, num : 2 * num] * seen_BCT
        parts, rest = [values_BCT, masks_BCT], inputs_BIT[:, 2 * num :]
        if self.deviates:
            missing_BTC = masks_BCT.transpose(1, 2) == 0
            deviations_BTC = self._deviations(values_BCT.transpose(1, 2), missing_BTC)
            parts.append(deviations_BTC.masked_fill(missing_BTC, 0.0).transpose(1, 2))
            rest = rest[:, num:]
        return torch.cat([*parts, rest], dim=1)

    def _deviations(self, scaled_BTC: Tensor, missing_BTC: Tensor) -> Tensor:
        """How far each value is from what the others suggest; for missing ones they speak as well."""
        own = self.relations.diagonal().clamp(min=1e-6)[:, None]  # 0 of what is no sensor
        suggested_BTC = scaled_BTC - scaled_BTC @ (self.relations / own).T
        whole_BTC = torch.where(missing_BTC, suggested_BTC, scaled_BTC)
        return (whole_BTC @ self.relations.T).clamp(-self.clip, self.clip)

    def _noisy(self, scaled_BTC: Tensor, missing_BTC: Tensor) -> Tensor:
        """With training's noise, and 0 for no value."""
        if self.training and self.noise:
            scaled_BTC = scaled_BTC + self.noise * torch.randn_like(scaled_BTC)
        return torch.where(missing_BTC, torch.zeros_like(scaled_BTC), scaled_BTC)

    def scaled_levels(self) -> Tensor:
        """What each channel that is read has at its regime's level, scaled [G, C]: 0 but for the regimes' keys."""
        if not self.num_regimes:
            return torch.zeros(0, len(self.used))
        levels_GQ, is_key_CQ = self.levels * self.spread, self.used[:, None] == self.keys
        scaled_GC = ((levels_GQ @ is_key_CQ.to(levels_GQ.dtype).T - self.center[:-1]) / self.scale[:-1])
        return torch.where(is_key_CQ.any(1), scaled_GC.clamp(-self.clip, self.clip), torch.zeros_like(scaled_GC))

    def _regime(self, values_BTC: Tensor) -> Tensor:
        """A 1 at each step's regime [B, T, G + 1], at the last where no key has a value; ``Regimes.of`` in torch."""
        keys_BTQ = values_BTC.index_select(2, self.keys) / self.spread
        away_BTG = ((keys_BTQ[:, :, None] - self.levels) ** 2).nan_to_num(0.0).sum(3)
        nearest_BT = torch.where(torch.isnan(keys_BTQ).all(2), len(self.levels), away_BTG.argmin(2))
        return nn.functional.one_hot(nearest_BT, len(self.levels) + 1).to(values_BTC.dtype)

"""Sequence networks, one file an architecture: canonical windows in, hazard logits out.

The one idea: everything an architecture need not know is here, once: scaling, masks, left padding and the hazard
head are inside the graph, so a network takes canonical units with NaN for no value, whatever body it has. A new
architecture is a file with a body (``receptive_field``; [B, I, T + R - 1] -> [B, H, T]) and a line in BODIES.

Legend: B batch, T steps, W window, C channels, I inputs, H hidden, R receptive field, K1 hazard bins,
M failure modes, whose logits follow the bins' wherever a network has any: K1 stands for K1 + M there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.config import ModelConfig
from models.errors import InputError
from models.hazard import Float32
from models.networks.gru import Gru
from models.networks.tcn import Tcn
from models.scaling import Scaling

Logits = TypeVar("Logits", Tensor, Float32)
BODIES: dict[str, Callable[[ModelConfig, int], Tcn | Gru]] = {"tcn": Tcn, "gru": Gru}


class HazardNetwork(nn.Module):
    """Values [B, T, C] in canonical units, NaN for no value -> hazard logits [B, T, K1], causal."""

    center: Tensor
    scale: Tensor
    used: Tensor

    def __init__(
        self, body: Tcn | Gru, config: ModelConfig, scaling: Scaling, used: Sequence[int], num_modes: int = 0
    ) -> None:
        super().__init__()
        self.body = body
        self.num_bins = len(config.hazard.edges) + 1
        self.head = nn.Linear(config.network.hidden, self.num_bins + num_modes)
        nn.init.normal_(self.head.weight, std=0.01)
        self.noise, self.clip = config.network.noise, scaling.clip
        kept = scaling.select(used)
        self.register_buffer("center", torch.tensor(kept.center, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(kept.scale, dtype=torch.float32))
        self.register_buffer("used", torch.tensor(list(used), dtype=torch.int64))

    def forward(self, values_BTC: Tensor) -> Tensor:
        """Logits of every step [B, T, K1]; steps before the first count as NaN."""
        inputs_BIT = nn.functional.pad(self._inputs(values_BTC), (self.body.receptive_field - 1, 0))
        return self._logits(inputs_BIT)

    def valid(self, values_BTC: Tensor) -> Tensor:
        """Logits of the steps whose receptive field is given: values [B, R - 1 + T, C] -> [B, T, K1]."""
        return self._logits(self._inputs(values_BTC))

    def last(self, values_BWC: Tensor) -> Tensor:
        """Logits [B, K1] of the windows' last step, the one that is served; equals ``forward(...)[:, -1]``."""
        return self.valid(values_BWC[:, -self.body.receptive_field :])[:, 0]

    def _inputs(self, values_BTC: Tensor) -> Tensor:
        """Scaled values with 0 for no value, then the mask: [B, 2 C, T]."""
        values_BTC = values_BTC.index_select(2, self.used)
        missing_BTC = torch.isnan(values_BTC)
        scaled_BTC = ((values_BTC - self.center) / self.scale).clamp(-self.clip, self.clip)
        if self.training and self.noise:
            scaled_BTC = scaled_BTC + self.noise * torch.randn_like(scaled_BTC)
        scaled_BTC = torch.where(missing_BTC, torch.zeros_like(scaled_BTC), scaled_BTC)
        return torch.cat([scaled_BTC, (~missing_BTC).to(scaled_BTC.dtype)], dim=2).transpose(1, 2)

    def _logits(self, inputs_BIT: Tensor) -> Tensor:
        logits_BTK: Tensor = self.head(self.body(inputs_BIT).transpose(1, 2))
        return logits_BTK


def build(
    config: ModelConfig, scaling: Scaling, num_channels: int, *, used: Sequence[int] | None = None, num_modes: int = 0
) -> HazardNetwork:
    """An untrained network; ``used`` are the channels it reads (all of them by default).

    Raises InputError for an unknown name, a receptive field longer than the window, or a scaling that does not
    fit the channels.
    """
    name = config.network.name
    if name not in BODIES:
        raise InputError("Unknown network", expected=f"one of {', '.join(BODIES)}", found=repr(name))
    if len(scaling.center) != num_channels:
        raise InputError("Scaling does not fit", expected=f"{num_channels} channels", found=len(scaling.center))
    used = range(num_channels) if used is None else used
    if not used:
        raise InputError("A network needs a channel", expected="at least one that is not ignored", found="none")
    body = BODIES[name](config, 2 * len(used))
    if body.receptive_field > config.window.length:
        raise InputError(
            "The network looks back further than its window", expected=f"at most {config.window.length} steps",
            found=body.receptive_field, where=f"network {name}",
            do="Lower network.layers or network.kernel, or raise window.length",
        )  # fmt: skip
    return HazardNetwork(body, config, scaling, used, num_modes)


def split_modes(logits: Logits, num_bins: int) -> tuple[Logits, Logits]:
    """What a network gives [..., K1 + M] as hazard logits [..., K1] and mode logits [..., M]."""
    return logits[..., :num_bins], logits[..., num_bins:]


def weights_of(network: nn.Module) -> bytes:
    """Weights and buffers in the safetensors format."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    weights: bytes = safetensors.torch.save(tensors)
    return weights


def load_weights(network: nn.Module, weights: bytes) -> None:
    """Put ``weights_of`` back into a network of the same configuration."""
    network.load_state_dict(safetensors.torch.load(weights))


class NetworkModel:
    """A network with the face of every window model (``models.hazard.WindowModel``)."""

    kind = "network"

    def __init__(self, network: HazardNetwork, *, batch_size: int = 1024) -> None:
        self.network = network.eval()
        self.batch_size = batch_size

    def sequence_logits(self, values: Float32) -> Float32:
        """A history [T, C] -> uncalibrated hazard logits of every step [T, K1]."""
        return self.sequence_answers(values)[0]

    def sequence_answers(self, values: Float32) -> tuple[Float32, Float32]:
        """A history [T, C] -> uncalibrated hazard logits [T, K1] and mode logits [T, M] of every step."""
        with torch.inference_mode():
            whole = torch.from_numpy(np.array(values[None], np.float32)).to(self.network.center.device)
            found: Float32 = self.network(whole)[0].cpu().numpy()
        return split_modes(found, self.network.num_bins)

    def answers_at(
        self, values: Float32, rows: NDArray[np.int64], *, block: int = 4096
    ) -> tuple[Float32, Float32]:
        """A history [T, C] -> hazard logits [N, K1] and mode logits [N, M] of its rows, a block of it at a time.

        Equal to ``logits`` of the rows' windows up to float32 rounding, at the cost of one pass over the history.
        """
        context = self.network.body.receptive_field - 1
        device = self.network.center.device
        parts = [np.empty((0, self.network.head.out_features), np.float32)]
        with torch.inference_mode():
            start = 0
            while start < len(rows):
                stop = int(np.searchsorted(rows, rows[start] + block))
                first, last = int(rows[start]), int(rows[stop - 1])
                own = np.array(values[first - context : last + 1], np.float32)
                found = self.network.valid(torch.from_numpy(own)[None].to(device))[0]
                parts.append(found.cpu().numpy()[rows[start:stop] - first])
                start = stop
        return split_modes(np.concatenate(parts), self.network.num_bins)

    def logits(self, values: Float32) -> Float32:
        """Windows [B, W, C] -> uncalibrated hazard logits [B, K1]."""
        return self.answers(values)[0]

    def answers(self, values: Float32) -> tuple[Float32, Float32]:
        """Windows [B, W, C] -> uncalibrated hazard logits [B, K1] and mode logits [B, M]."""
        device = self.network.center.device
        parts = [np.empty((0, self.network.head.out_features), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(values), self.batch_size):
                # A copy: windows may be read-only views of shared memory, which torch warns about.
                part = torch.from_numpy(np.array(values[start : start + self.batch_size], np.float32)).to(device)
                parts.append(self.network.last(part).cpu().numpy())
        return split_modes(np.concatenate(parts), self.network.num_bins)

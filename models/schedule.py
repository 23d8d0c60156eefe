"""How a training starts and moves: the head at usual hazards, the learning rate, the running mean of weights.

The one idea: each is a number that follows from how far the training is, so a training that goes on has them again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks import HazardNetwork, Member

WARM_UP = 0.05  # share of the training in which the learning rate rises; then it falls as a cosine


def rate_at(progress: float) -> float:
    """Share of the learning rate after a share of the training."""
    rise = min(1.0, (progress + 1e-3) / WARM_UP)
    fall = 0.5 * (1.0 + math.cos(math.pi * progress)) if progress > WARM_UP else 1.0
    return rise * max(fall, 0.01)


def averaging(average: float, done: float) -> float:
    """Decay of the running mean after ``done`` steps: close to the weights early on, later over 1 / (1 - average)."""
    return min(average, done / (done + 10))


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def start_at(network: HazardNetwork, hazard: NDArray[np.float64], shares: Sequence[float] = ()) -> None:
    """Let the head's bias say these hazards [K1] and shares of failure modes [M]."""
    bias = torch.from_numpy(np.concatenate([np.log(hazard) - np.log1p(-hazard), np.log(shares)]))
    with torch.no_grad():
        for member in network.members:
            cast(Member, member).head.bias.copy_(bias)

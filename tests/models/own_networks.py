"""Bodies that are not Millwright's, as a user would write them, and some that keep no contract."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.networks.layout import Layout


class Last(nn.Module):
    """A linear layer over the last ``kernel`` steps."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        self.receptive_field = config.network.kernel
        self.over = nn.Conv1d(layout.num_inputs, config.network.hidden, config.network.kernel)

    def forward(self, x_BIT: Tensor) -> Tensor:
        return torch.tanh(self.over(x_BIT))


class Exploding(Last):
    """Not a number from its first step on."""

    def forward(self, x_BIT: Tensor) -> Tensor:
        return super().forward(x_BIT) / 0.0 * (0.0 if self.training else 1.0)


class Greedy(Last):
    """Asks for more memory than there is, once it trains."""

    def forward(self, x_BIT: Tensor) -> Tensor:
        if self.training and len(x_BIT) > 1:
            torch.empty(2**50)
        return super().forward(x_BIT)


class Broken(Last):
    """A mistake of whoever wrote it."""

    def forward(self, x_BIT: Tensor) -> Tensor:
        if self.training and len(x_BIT) > 1:
            raise ZeroDivisionError("no such sensor")
        return super().forward(x_BIT)


class Blind(nn.Module):
    """Does not say how far it looks back."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()


class Narrow(Last):
    """Gives one row where network.hidden are asked for."""

    def forward(self, x_BIT: Tensor) -> Tensor:
        return super().forward(x_BIT)[:, :1]


def not_a_class(config: ModelConfig, layout: Layout) -> None: ...

"""A causal temporal convolution network: residual layers, each looking back twice as far as the one before.

The one idea: convolutions are *valid*, never padded. The caller pads the input on the left once, so a step's
output follows from its own receptive field and nothing else, in a history of years as in one window.

Source: Bai, Kolter & Koltun (2018), "An empirical evaluation of generic convolutional and recurrent networks for
sequence modeling", arXiv:1803.01271. Legend: B batch, T steps, I inputs, H hidden, R receptive field.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.networks.layout import Layout


class Tcn(nn.Module):
    """x [B, I, T + R - 1] -> [B, H, T]."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        network = config.network
        self.receptive_field = 1 + (network.kernel - 1) * (2**network.layers - 1)
        self.stem = nn.Conv1d(layout.num_inputs, network.hidden, 1)
        self.layers = nn.ModuleList(
            _Layer(network.hidden, network.kernel, 2**depth, network.dropout) for depth in range(network.layers)
        )

    def forward(self, x_BIT: Tensor) -> Tensor:
        x_BHT: Tensor = torch.relu(self.stem(x_BIT))
        for layer in self.layers:
            x_BHT = layer(x_BHT)
        return x_BHT


class _Layer(nn.Module):
    def __init__(self, hidden: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.shorter_by = (kernel - 1) * dilation
        self.look_back = nn.Conv1d(hidden, hidden, kernel, dilation=dilation)
        self.mix = nn.Conv1d(hidden, hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BHT: Tensor) -> Tensor:
        seen_BHT: Tensor = self.mix(self.dropout(torch.relu(self.look_back(x_BHT))))
        return x_BHT[:, :, self.shorter_by :] + seen_BHT

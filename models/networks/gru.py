"""A recurrent network over patches of the window, started anew for every window.

The one idea: a GRU run along a whole history would remember what no window holds. So every step's output comes
from its own W steps: patches of ``kernel`` steps are embedded once for the whole history, and a GRU reads the
W / kernel patches that end at each step, from a zero state.

Source: Cho et al. (2014), arXiv:1406.1078. Legend: B batch, T steps, I inputs, H hidden, P patches, R receptive
field.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.networks.layout import Layout


class Gru(nn.Module):
    """x [B, I, T + R - 1] -> [B, H, T]."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        network = config.network
        self.patch, self.num_patches = network.kernel, max(1, config.window.length // network.kernel)
        self.receptive_field = self.patch * self.num_patches
        self.embed = nn.Conv1d(layout.num_inputs, network.hidden, self.patch)
        self.gru = nn.GRU(network.hidden, network.hidden, network.layers, batch_first=True)
        self.dropout = nn.Dropout(network.dropout)

    def forward(self, x_BIT: Tensor) -> Tensor:
        num_steps = x_BIT.shape[2] - (self.receptive_field - 1)
        patch_BHT = self.dropout(torch.relu(self.embed(x_BIT)))
        starts = range(0, self.num_patches * self.patch, self.patch)
        x_BTPH = torch.stack([patch_BHT[:, :, i : i + num_steps] for i in starts], dim=2).permute(0, 3, 2, 1)
        _, last = self.gru(x_BTPH.reshape(-1, self.num_patches, x_BTPH.shape[3]))
        out_BHT: Tensor = last[-1].reshape(-1, num_steps, x_BTPH.shape[3]).transpose(1, 2)
        return out_BHT

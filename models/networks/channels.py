"""The default network: a set of channels, each read by the same encoder, pooled by attention into one state.

The one idea: time is mixed within a channel, its deviation from what the others suggest (``models.relations``) beside
it, and channels are mixed at the end. So a model does not depend on which sensors a plant has or how they are ordered,
a missing one is simply no member of the set, and the answer with one channel exchanged (``occluded``) costs a pooling,
not a pass. In time, patches of ``kernel`` steps are joined ``kernel`` at a time: convolutions with dilation 1, k, k^2,
... over a history; a window needs only every k-th.

A channel's embedding is that of its kind (temperature, pressure, ...: what plants share) plus its own: this plant's, or
while plants train together (``models.pooled``), that of all their channels of one name and kind.

Source: Zaheer et al. (2017), "Deep sets", arXiv:1703.06114; Lee et al. (2019), "Set transformer", arXiv:1810.00825
(pooling by attention from learned seeds); van den Oord et al. (2016), "WaveNet", arXiv:1609.03499 (dilations).
Legend: B batch, T steps, I inputs, C channels, D a channel's hidden width, H hidden, R receptive field, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, max_pool1d

from models.config import ModelConfig
from models.networks.layout import Layout
from models.units import CANONICAL_UNIT

KINDS = {kind: number for number, kind in enumerate(CANONICAL_UNIT)}
EMBEDDING = 16
SEEDS = 4  # of the attention; each pools its share of the hidden width
UNSEEN = -1e4  # added to the attention of a channel without a value in the window


class Channels(nn.Module):
    """x [B, I, T + R - 1] -> [B, H, T]."""

    kind: Tensor
    own: nn.Parameter | None
    table: nn.Parameter | None  # own parts by name, [N, E], and each channel's row in it
    row: Tensor

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        network = config.network
        self.num_channels, self.num_regimes = len(layout.kinds), layout.num_regimes
        self.unnamed = False  # whether channels are known by their kinds alone
        self.kernel, self.receptive_field = network.kernel, network.kernel**network.layers
        width, hidden = network.channel_hidden, network.hidden
        kinds = [KINDS.get(kind, len(KINDS)) for kind in layout.kinds]
        self.register_buffer("kind", torch.tensor(kinds, dtype=torch.int64))
        self.of_kind = nn.Embedding(len(KINDS) + 1, EMBEDDING)
        self.own, self.table = nn.Parameter(torch.randn(self.num_channels, EMBEDDING) * 0.5), None
        nn.init.normal_(self.of_kind.weight, std=0.5)
        self.rows = layout.rows_a_channel
        self.stem = nn.Conv1d(self.rows, width, self.kernel)
        self.film = nn.Linear(EMBEDDING, 2 * width)
        self.layers = nn.ModuleList(_Layer(width, self.kernel, network.dropout) for _ in range(network.layers - 1))
        self.key, self.key_of = nn.Linear(width, SEEDS), nn.Linear(EMBEDDING, SEEDS)
        self.value, self.value_of = nn.Linear(width, hidden), nn.Linear(EMBEDDING, 2 * hidden)
        self.regime = nn.Parameter(torch.randn(hidden, self.num_regimes) * 0.02) if self.num_regimes else None
        self.norm = nn.LayerNorm(hidden)
        self.mix = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(network.dropout), nn.Linear(hidden, hidden)
        )

    def forward(self, x_BIT: Tensor) -> Tensor:
        seen_BCT = max_pool1d(self._mask(x_BIT), self.receptive_field, 1)
        keys, values = self._judged(self._tokens(x_BIT, window=False))
        return self._pooled(keys, values, seen_BCT, x_BIT[:, :, self.receptive_field - 1 :])

    def last(self, x_BIR: Tensor) -> Tensor:
        """``forward`` of windows as long as the receptive field, [B, I, R] -> [B, H, 1], at a fraction of its cost."""
        keys, values = self._judged(self._tokens(x_BIR, window=True))
        return self._pooled(keys, values, self._mask(x_BIR).amax(2, keepdim=True), x_BIR[:, :, -1:])

    def occluded(self, x_1IR: Tensor, usual_1IR: Tensor) -> Tensor:
        """One window and a usual one -> [C + 2, H, 1]: each channel exchanged for the usual one, none, all of them.

        What the others' deviations owe to an exchanged channel's values stays theirs.
        """
        num = self.num_channels
        both = torch.cat([x_1IR, usual_1IR])
        keys, values = self._judged(self._tokens(both, window=True))
        seen_BC = self._mask(both).amax(2)
        usual = torch.cat([torch.eye(num), torch.zeros(1, num), torch.ones(1, num)]).to(x_1IR.device) > 0
        keys = torch.where(usual[:, :, None, None], keys[1:], keys[:1])
        values = torch.where(usual[:, :, None, None], values[1:], values[:1])
        seen = torch.where(usual, seen_BC[1:], seen_BC[:1])[:, :, None]
        return self._pooled(keys, values, seen, x_1IR[:, :, -1:].expand(num + 2, -1, -1))

    def _mask(self, x_BIT: Tensor) -> Tensor:
        return x_BIT[:, self.num_channels : 2 * self.num_channels]

    def embedding(self) -> Tensor:
        """What tells the channels apart, [C, E]."""
        of_kind: Tensor = self.of_kind(self.kind)
        if self.unnamed:
            return of_kind
        own = self.own if self.table is None else self.table[self.row]
        assert own is not None, "a channel's own part is its network's or the table's"
        return of_kind + own

    def name(self, table: nn.Parameter, rows: Sequence[int]) -> None:
        """From now on the channels' own parts are these rows of ``table`` [N, E], which other networks share."""
        self.own, self.table = None, table
        self.row = torch.tensor(rows, dtype=torch.int64, device=table.device)

    def _tokens(self, x_BIT: Tensor, *, window: bool) -> Tensor:
        """[B, I, T + R - 1] -> [B C, D, T]; of a ``window`` [B, I, R] the last step alone, [B C, D, 1]."""
        num, width = self.num_channels, self.stem.out_channels
        parts = [x_BIT[:, at : at + num] for at in range(0, self.rows * num, num)]
        rows = torch.stack(parts, dim=2).flatten(1, 2)
        # What a channel's embedding does to its values, it does as well to the weights that read them: far fewer.
        gain, shift = self.film(self.embedding()).chunk(2, dim=1)
        weight = (self.stem.weight * (1 + gain)[:, :, None, None]).flatten(0, 1)
        bias = (self.stem.bias * (1 + gain) + shift).flatten()
        x = torch.relu(conv1d(rows, weight, bias, stride=self.kernel if window else 1, groups=num))
        x = x.reshape(-1, width, x.shape[2])
        for depth, layer in enumerate(self.layers):
            x = layer(x, 1 if window else self.kernel ** (depth + 1), window)
        return x

    def _judged(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B C, D, T] -> attention's keys [B, C, S, T] and values [B, C, H, T]."""
        embedded = self.embedding()
        x = x.reshape(-1, self.num_channels, x.shape[1], x.shape[2])
        keys = torch.matmul(self.key.weight, x) + (self.key.bias + self.key_of(embedded))[:, :, None]
        gain, shift = self.value_of(embedded).chunk(2, dim=1)
        weight = self.value.weight * (1 + gain)[:, :, None]
        bias = self.value.bias * (1 + gain) + shift
        return keys, torch.relu(torch.matmul(weight, x) + bias[:, :, None])

    def _pooled(self, keys: Tensor, values: Tensor, seen_BCT: Tensor, x_BIT: Tensor) -> Tensor:
        num, hidden, steps = self.num_channels, self.norm.normalized_shape[0], values.shape[3]
        weights = (keys + (seen_BCT[:, :, None] <= 0) * UNSEEN).softmax(dim=1)
        each = values.reshape(-1, num, SEEDS, hidden // SEEDS, steps)
        state = (weights[:, :, :, None] * each).sum(1).reshape(-1, hidden, steps) * math.sqrt(num)
        if self.regime is not None:
            state = state + torch.einsum("hr,brt->bht", self.regime, x_BIT[:, self.rows * num :])
        state_BTH = state.transpose(1, 2)
        out: Tensor = state_BTH + self.mix(self.norm(state_BTH))
        return out.transpose(1, 2)


class _Layer(nn.Module):
    """Joins ``kernel`` neighbours, ``dilation`` steps apart; in a window, of which only those are there, by stride."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.conv, self.mix = nn.Conv1d(width, width, kernel), nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout1d(dropout)  # of whole features: a number each, not one each step

    def forward(self, x: Tensor, dilation: int, window: bool) -> Tensor:
        stride = self.kernel if window else 1
        joined = conv1d(x, self.conv.weight, self.conv.bias, stride=stride, dilation=dilation)
        newest = x[:, :, self.kernel - 1 :: stride] if window else x[:, :, -joined.shape[2] :]
        out: Tensor = newest + self.dropout(self.mix(torch.relu(joined)))
        return out

"""Sequence networks, one file an architecture: canonical windows in, hazard logits out.

The one idea: everything an architecture need not know is here, once: scaling within regimes, masks, left padding and
the hazard head are inside the graph, so a network takes canonical units with NaN for no value, whatever body it has. A
new architecture is a file with a body (``receptive_field``; [B, I, T + R - 1] -> [B, H, T], I as in ``Layout``) and a
line in BODIES; one that is somebody's own is taken up by its import path (``models.networks.own``). Several ``members``
are trained side by side from other seeds and answer as one: the mean of logits.

Legend: B batch, T steps, W window, C channels, I inputs, H hidden, R receptive field, G regimes, K1 hazard bins,
M failure modes, whose logits follow the bins' wherever a network has any: K1 stands for K1 + M there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.config import ModelConfig
from models.errors import InputError
from models.hazard import Float32
from models.networks.channels import Channels
from models.networks.gru import Gru
from models.networks.inputs import Fitted, Inputs
from models.networks.layout import Layout
from models.networks.own import checked_body, is_own
from models.networks.tcn import Tcn
from models.scaling import Scaling

Logits = TypeVar("Logits", Tensor, Float32)
Body = Channels | Tcn | Gru
BODIES: dict[str, Callable[[ModelConfig, Layout], Body]] = {"channels": Channels, "tcn": Tcn, "gru": Gru}


def _body(config: ModelConfig, layout: Layout) -> Body:
    name = config.network.name
    if name in BODIES:
        return BODIES[name](config, layout)
    return cast(Body, checked_body(name, config, layout))


class Member(nn.Module):
    """A body with its head: inputs [B, I, T + R - 1] -> logits [B, T, K1]."""

    def __init__(self, config: ModelConfig, layout: Layout, num_outputs: int) -> None:
        super().__init__()
        self.body = _body(config, layout)
        self.head = nn.Linear(config.network.hidden, num_outputs)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, inputs_BIT: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs_BIT).transpose(1, 2))
        return logits

    @property
    def occludes(self) -> bool:
        """Whether ``occluded`` costs less than a window for each channel."""
        return isinstance(self.body, Channels)

    def occluded(self, inputs_1IR: Tensor, usual_1IR: Tensor) -> Tensor:
        """Logits [C + 2, K1] of ``Channels.occluded``."""
        assert isinstance(self.body, Channels)
        logits: Tensor = self.head(self.body.occluded(inputs_1IR, usual_1IR)[:, :, 0])
        return logits

    def last(self, inputs_BIR: Tensor) -> Tensor:
        """Logits [B, K1] of windows as long as the receptive field."""
        body = self.body
        out = body.last(inputs_BIR) if isinstance(body, Channels) else body(inputs_BIR)
        logits: Tensor = self.head(out[:, :, 0])
        return logits


class HazardNetwork(Inputs):
    """Values [B, T, C] in canonical units, NaN for no value -> hazard logits [B, T, K1], causal."""

    def __init__(self, config: ModelConfig, fitted: Fitted, kinds: Sequence[str], num_modes: int) -> None:
        super().__init__(fitted, noise=config.network.noise, hide=config.network.hide)
        self.num_bins = len(config.hazard.edges) + 1
        self.num_outputs = self.num_bins + num_modes
        layout = Layout(tuple(kinds[i] for i in fitted.used), self.num_regimes, fitted.relations is not None)
        num_members = config.network.members * config.network.folds
        made = [Member(config, layout, self.num_outputs) for _ in range(num_members)]
        self.members = nn.ModuleList(made)
        self.receptive_field = made[0].body.receptive_field

    def forward(self, values_BTC: Tensor) -> Tensor:
        """Logits of every step [B, T, K1]; steps before the first count as NaN."""
        inputs_BIT = nn.functional.pad(self.inputs(values_BTC), (self.receptive_field - 1, 0))
        return self._mean([member(inputs_BIT) for member in self.members])

    def valid(self, values_BTC: Tensor) -> Tensor:
        """Logits of the steps whose receptive field is given: values [B, R - 1 + T, C] -> [B, T, K1]."""
        return self._mean(self.each(values_BTC))

    def each(self, values_BTC: Tensor) -> list[Tensor]:
        """``valid`` of each member."""
        inputs_BIT = self.inputs(values_BTC)
        return [member(inputs_BIT) for member in self.members]

    def last(self, values_BWC: Tensor) -> Tensor:
        """Logits [B, K1] of the windows' last step, the one that is served; equals ``forward(...)[:, -1]``."""
        inputs_BIR = self.inputs(values_BWC[:, -self.receptive_field :])
        return self._mean([cast(Member, member).last(inputs_BIR) for member in self.members])

    @staticmethod
    def _mean(logits: list[Tensor]) -> Tensor:
        return logits[0] if len(logits) == 1 else torch.stack(logits).mean(0)


def build(
    config: ModelConfig,
    scaling: Scaling,
    kinds: Sequence[str],
    *,
    used: Sequence[int] | None = None,
    num_modes: int = 0,
    relations: Float32 | None = None,
) -> HazardNetwork:
    """An untrained network over channels of these kinds; ``used`` are those it reads (all of them by default).

    With ``relations`` [C, C] of all channels (``models.relations``) it reads deviations as well.

    Raises InputError for an unknown name, a receptive field longer than the window, or a scaling that does not
    fit the channels.
    """
    name = config.network.name
    if name not in BODIES and not is_own(name):
        raise InputError(
            "Unknown network", expected=f"one of {', '.join(BODIES)}", found=repr(name),
            do="Name a network of your own by its import path, `my_package.my_module:MyBody`",
        )  # fmt: skip
    if len(scaling.center) != len(kinds):
        raise InputError("Scaling does not fit", expected=f"{len(kinds)} channels", found=len(scaling.center))
    used = range(len(kinds)) if used is None else used
    if not used:
        raise InputError("A network needs a channel", expected="at least one that is not ignored", found="none")
    network = HazardNetwork(config, Fitted(scaling, tuple(used), relations), kinds, num_modes)
    if network.receptive_field > config.window.length:
        raise InputError(
            "The network looks back further than its window", expected=f"at most {config.window.length} steps",
            found=network.receptive_field, where=f"network {name}",
            do="Lower network.layers or network.kernel, or raise window.length",
        )  # fmt: skip
    return network


def joined(networks: Sequence[HazardNetwork]) -> HazardNetwork:
    """One network of all members of ``networks``, which share scaling and channels."""
    first = networks[0]
    shared = {name: t for name, t in first.state_dict().items() if not name.startswith("members.")}
    for other in networks[1:]:
        same = other.state_dict()
        assert all(torch.equal(t, same[name]) for name, t in shared.items()), "members share one scaling"
    whole = copy.deepcopy(first)
    whole.members = nn.ModuleList(member for network in networks for member in network.members)
    return whole


def split_modes(logits: Logits, num_bins: int) -> tuple[Logits, Logits]:
    """What a network gives [..., K1 + M] as hazard logits [..., K1] and mode logits [..., M]."""
    return logits[..., :num_bins], logits[..., num_bins:]


def weights_of(network: nn.Module) -> bytes:
    """Weights and buffers in the safetensors format."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    weights: bytes = safetensors.torch.save(tensors)
    return weights


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
        head = np.full((self.network.receptive_field - 1, values.shape[1]), np.nan, np.float32)
        return self.answers_at(np.concatenate([head, values]), len(head) + np.arange(len(values)))

    def answers_at(
        self, values: Float32, rows: NDArray[np.int64], *, block: int = 4096
    ) -> tuple[Float32, Float32]:
        """A history [T, C] -> hazard logits [N, K1] and mode logits [N, M] of its rows, a block of it at a time.

        Rows have their receptive field before them. Equal to ``logits`` of the rows' windows up to float32 rounding, at
        the cost of one pass over the history.
        """
        context = self.network.receptive_field - 1
        assert not len(rows) or rows[0] >= context, "a row without the steps that its answer needs"
        device = self.network.center.device
        parts = [np.empty((0, self.network.num_outputs), np.float32)]
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
        parts = [np.empty((0, self.network.num_outputs), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(values), self.batch_size):
                # A copy: windows may be read-only views of shared memory, which torch warns about.
                part = torch.from_numpy(np.array(values[start : start + self.batch_size], np.float32)).to(device)
                parts.append(self.network.last(part).cpu().numpy())
        return split_modes(np.concatenate(parts), self.network.num_bins)

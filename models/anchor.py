"""What a plant's network starts from and is pulled back to: the weights that all plants share.

The one idea: a plant with few failures stays near the fleet, one with many goes where its own data lead. What is a
plant's own (a channel's own part of its embedding, operating regimes, failure modes) moves freely; a channel that other
plants have by the same name and kind begins as theirs.

Source: Li, Grandvalet & Davoine (2018), "Explicit inductive bias for transfer learning with convolutional networks",
arXiv:1802.01483 (L2-SP); here apart from the gradient, as weight decay is in AdamW (arXiv:1711.05101).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from models.errors import InputError
from models.saved import about
from models.windows import Channel

OWN = ("body.own", "body.regime")
TABLE = "names"  # of the fleet's weights: the own parts of channels by name, [N, E]


@dataclass(frozen=True)
class Anchor:
    """The fleet's weights by a parameter's name; ``strength`` is the pull in a step at learning rate 1."""

    weights: dict[str, Tensor]
    strength: float
    names: dict[str, Tensor] = field(default_factory=dict)  # by ``named``, a channel's own part of its embedding

    @classmethod
    def of(cls, shared: bytes, strength: float) -> Anchor:
        """From ``models.pooled.PooledFit.shared``. Raises InputError for anything else."""
        try:
            weights = safetensors.torch.load(shared)
            table = weights.pop(TABLE, None)
            names = {} if table is None else dict(zip(about(shared)["names"], table, strict=True))
            return cls(weights, strength, names)
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise InputError("Unreadable weights of the fleet", expected="safetensors", found=str(error)) from error

    def put(self, network: nn.Module) -> None:
        """Start ``network`` at the fleet's weights. Raises InputError where its sizes are others."""
        mine = {name: tensor for name, tensor in network.named_parameters() if not is_own(name)}
        for name in sorted(self.weights.keys() | mine.keys()):
            have, need = self.weights.get(name), mine.get(name)
            if have is None or need is None or have.shape[1:] != need.shape[1:] or len(have) > len(need):
                raise InputError(
                    "The fleet's weights do not fit", expected=f"{name} of {_size(need)}", found=_size(have),
                    do="Train the fleet with the same network sizes and hazard bins",
                )  # fmt: skip
        self._move(network, 1.0)

    def name(self, network: nn.Module, channels: Sequence[Channel]) -> None:
        """Let channels that the fleet knows by name and kind begin as it knows them; ``channels`` [C] are in use."""
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith(OWN[0]):
                    for row, channel in enumerate(channels):
                        if (known := self.names.get(named(channel))) is not None:
                            parameter[row] = known

    def pull(self, network: nn.Module, rate: float) -> None:
        """Move the network's weights by a share of their way back; rows beyond the fleet's are its own."""
        self._move(network, min(1.0, rate * self.strength))

    def _move(self, network: nn.Module, share: float) -> None:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in self.weights:
                    target = self.weights[name]
                    parameter[: len(target)].lerp_(target.to(parameter.device), share)


def named(channel: Channel) -> str:
    """What a channel is known by among plants."""
    return f"{channel.kind}/{channel.name}"


def is_own(name: str) -> bool:
    """Whether a parameter, ``members.<number>.<rest>``, is a plant's own."""
    return name.split(".", 2)[-1] in OWN


def _size(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))

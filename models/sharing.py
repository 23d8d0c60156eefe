"""What plants share of a network, and how a plant that has not been seen takes it up.

The one idea: all but the scaling and the embedding of operating regimes is one parameter in every plant's network.
Channels of one name and kind share an embedding beside their kind's; ``unnamed`` hides it, so that the kinds alone must
do: that is how the network reads a channel that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from models.anchor import TABLE, Anchor, is_own, named
from models.config import ModelConfig
from models.errors import InputError
from models.features import Sequence
from models.fit import NetworkFit
from models.networks import HazardNetwork, Member, build
from models.networks.channels import EMBEDDING, Channels
from models.relations import relations_of
from models.scaling import Scaling, moving, scaling_of
from models.windows import Channel


def require_poolable(config: ModelConfig) -> None:
    """Raises InputError for a network that depends on the set of sensors."""
    if config.network.name != "channels":
        raise InputError(
            "This network cannot be shared by plants", expected='network.name = "channels"',
            found=repr(config.network.name), do="Take the network `channels`, or tune each plant alone",
        )  # fmt: skip


def adopted(
    config: ModelConfig, channels: tuple[Channel, ...], seen: Ordered[Sequence], shared: bytes
) -> tuple[HazardNetwork, Scaling]:
    """The fleet's network for a plant that it has not learned from, and its scaling.

    It is scaled by the plant's own readings, whose labels nothing reads. Channels are known by name and kind where the
    fleet has such, else by kind alone.
    """
    require_poolable(config)
    scaling = scaling_of(seen, channels, ignore=config.network.ignore)
    moves = set(moving(scaling, seen))
    kept = [i for i, channel in enumerate(channels) if channel.name not in config.network.ignore]
    relations = relations_of(scaling, seen, channels) if config.network.deviations else None
    used = [i for i in kept if i in moves] or kept
    network = build(config, scaling, [c.kind for c in channels], used=used, relations=relations)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if is_own(name):
                parameter.zero_()
    anchor = Anchor.of(shared, 0.0)
    anchor.put(network)
    anchor.name(network, [channels[index] for index in used])
    return network.eval(), scaling


def share(networks: list[HazardNetwork]) -> None:
    """Make one parameter of those that are not a plant's own, in all networks."""
    for name, parameter in networks[0].named_parameters():
        if not is_own(name):
            where, _, last = name.rpartition(".")
            for other in networks[1:]:
                setattr(other.get_submodule(where), last, parameter)


def name_channels(fits: Ordered[NetworkFit]) -> list[str]:
    """Make one embedding of those of channels with equal names and kinds, in all networks; returns what they are of."""
    names = sorted({named(channel) for fit in fits for channel in fit.used})
    place = {name: row for row, name in enumerate(names)}
    rng = torch.Generator().manual_seed(fits[0].config.network.seed)
    table = nn.Parameter((torch.randn(len(names), EMBEDDING, generator=rng) * 0.5).to(fits[0].device))
    for fit in fits:
        for member in fit.network.members:
            cast(Channels, cast(Member, member).body).name(table, [place[named(channel)] for channel in fit.used])
    return names


def shared_weights(network: HazardNetwork) -> dict[str, Tensor]:
    found = {name: parameter for name, parameter in network.named_parameters() if not is_own(name)}
    return {
        TABLE if name.endswith("body.table") else name: parameter.detach().cpu().clone()
        for name, parameter in found.items()
    }


@contextmanager
def unnamed(network: HazardNetwork, hidden: bool) -> Iterator[None]:
    """While it lasts and ``hidden`` holds, channels are known by their kinds alone."""
    bodies = [body for member in network.members if isinstance(body := cast(Member, member).body, Channels)]
    for body in bodies:
        body.unnamed = hidden
    try:
        yield
    finally:
        for body in bodies:
            body.unnamed = False

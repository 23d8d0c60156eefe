"""Masked-patch pre-training of the set of channels: what a hidden sensor read teaches before any failure does.

The one idea: patches of ``kernel`` steps are hidden from a history, now and then a whole channel, and the state at the
step that ends a patch must say its mean, from what else the window holds. That needs no label: steps that the loss of
the hazard leaves out count here. The decoder that says it is thrown away; the head is not touched.

A channel that tells the operating regime is never hidden, since the regime that the network reads would tell it.

Source: Nie et al. (2023), "A time series is worth 64 words", arXiv:2211.14730 (masked patches, without causality).
Legend: B pieces, T steps, L = R - 1 + T steps with their left context, C channels, H hidden, P patches that end in T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from models.config import ModelConfig
from models.errors import InputError
from models.features import Sequence
from models.networks import HazardNetwork, Member
from models.networks.channels import EMBEDDING, Channels
from models.pieces import Piece, cut, shuffled_groups, stack

HIDDEN, WHOLE = 0.3, 0.1  # shares of patches, and of whole channels, that are hidden
WARM_UP = 0.1  # share of the steps in which the learning rate rises; then it falls as a cosine
MAX_GRADIENT = 1.0
_STREAM = 1  # sets the random numbers apart from those of the fit's own epochs


@dataclass(frozen=True)
class Hiding:
    """hidden [B, C, L], in patches of ``kernel`` steps; the first that ends in T does so at its step ``offset``."""

    hidden: Tensor
    offset: int
    kernel: int

    def patches(self, x_BCL: Tensor, context: int) -> Tensor:
        """The steps of the patches that end at or after step ``context``, [B, C, P, kernel]."""
        start = context + self.offset - self.kernel + 1
        num = (x_BCL.shape[2] - start) // self.kernel
        return x_BCL[:, :, start : start + num * self.kernel].reshape(*x_BCL.shape[:2], num, self.kernel)


class Decoder(nn.Module):
    """States [B, H, P] and the channels' embeddings [C, E] -> what each channel read [B, C, P]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mix = nn.Linear(hidden, hidden)
        self.weight_of, self.bias_of = nn.Linear(EMBEDDING, hidden), nn.Linear(EMBEDDING, 1)

    def forward(self, state_BHP: Tensor, embedded_CE: Tensor) -> Tensor:
        mixed_BHP = nn.functional.gelu(self.mix(state_BHP.transpose(1, 2))).transpose(1, 2)
        scale = math.sqrt(mixed_BHP.shape[1])
        found: Tensor = torch.matmul(self.weight_of(embedded_CE) / scale, mixed_BHP) + self.bias_of(embedded_CE)
        return found


def require_channels(network: HazardNetwork, name: str) -> None:
    """Raises InputError for a network whose body does not read a set of channels."""
    if not all(isinstance(_body(member), Channels) for member in network.members):
        raise InputError(
            "This network cannot be pre-trained", expected="network.name = \"channels\"", found=repr(name),
            where="network.pretrain_epochs", do="Set network.pretrain_epochs = 0, or take the network `channels`",
        )  # fmt: skip


def pretrain(
    network: HazardNetwork, sequences: Ordered[Sequence], config: ModelConfig, *, shuffle_bytes: int
) -> list[float]:
    """Train the bodies of ``network`` in place on all steps of the sequences; the mean loss of each epoch.

    The loss is that of the scaled means of hidden patches, smooth L1. Equal seeds give equal weights. Raises
    InputError for a network that does not read a set of channels.
    """
    require_channels(network, config.network.name)
    device, settings = network.center.device, config.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        decoders = nn.ModuleList(Decoder(settings.hidden) for _ in network.members).to(device)
        trained = [p for member in network.members for p in _body(member).parameters()] + [*decoders.parameters()]
        optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        losses = []
        for epoch in range(settings.pretrain_epochs):
            rng = np.random.default_rng([settings.seed, epoch, _STREAM])
            torch.manual_seed(int(rng.integers(2**62)))
            sums = torch.zeros(2)
            for done, values in _batches(sequences, network, config, shuffle_bytes=shuffle_bytes, rng=rng):
                rate = settings.learning_rate * _share((epoch + done) / settings.pretrain_epochs)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                sums += _step(network, decoders, optimizer, values.to(device))
            losses.append(float(sums[0] / sums[1].clamp(min=1)))
    return losses


def hide(network: HazardNetwork, num_pieces: int, length: int, *, kernel: int) -> Hiding:
    """Draw what to hide of pieces of ``length`` steps, context included, from torch's own random numbers."""
    own = length - network.receptive_field + 1
    offset = int(torch.randint(min(kernel, own), ()))
    patch_of = torch.arange(length) - (network.receptive_field + offset)
    patch_of = torch.div(patch_of, kernel, rounding_mode="floor")
    patch_of = patch_of - patch_of[0]
    num_channels = len(network.used)
    hidden = torch.rand(num_pieces, num_channels, int(patch_of[-1]) + 1) < HIDDEN
    hidden = hidden | (torch.rand(num_pieces, num_channels, 1) < WHOLE)
    if network.num_regimes:
        hidden = hidden & ~torch.isin(network.used, network.keys).cpu()[:, None]
    return Hiding(hidden[:, :, patch_of].to(network.center.device), offset, kernel)


def guesses(member: Member, decoder: Decoder, seen_BIL: Tensor, hiding: Hiding) -> Tensor:
    """What a member says of all patches [B, C, P] of inputs in which those that are hidden are covered."""
    body = member.body
    assert isinstance(body, Channels)
    states_BHP = body(seen_BIL)[:, :, hiding.offset :: hiding.kernel]
    found: Tensor = decoder(states_BHP, body.embedding())
    return found


def answers(inputs_BIL: Tensor, hiding: Hiding, context: int) -> tuple[Tensor, Tensor]:
    """The mean of each patch over its steps with a value, and whether it was hidden and had any: both [B, C, P]."""
    num = hiding.hidden.shape[1]
    scaled, known = (hiding.patches(inputs_BIL[:, at : at + num], context) for at in (0, num))
    count = known.sum(3)
    return scaled.sum(3) / count.clamp(min=1), hiding.patches(hiding.hidden, context)[:, :, :, 0] & (count > 0)


def _step(network: HazardNetwork, decoders: nn.ModuleList, optimizer: torch.optim.Optimizer, values: Tensor) -> Tensor:
    """One step of the optimizer; the sum of losses, the mean over members, and the number of hidden patches."""
    body = _body(network.members[0])
    network.eval()  # the answers are without the noise of training
    inputs_BIL = network.inputs(values)
    network.train()
    hiding = hide(network, *values.shape[:2], kernel=body.kernel)
    truth, counts = answers(inputs_BIL, hiding, network.receptive_field - 1)
    number, seen_BIL = counts.sum(), network.covered(inputs_BIL, hiding.hidden)
    losses = []
    for member, decoder in zip(network.members, decoders, strict=True):
        guessed = guesses(cast(Member, member), cast(Decoder, decoder), seen_BIL, hiding)
        losses.append((smooth_l1_loss(guessed, truth, reduction="none") * counts).sum())
    optimizer.zero_grad()
    (torch.stack(losses).sum() / number.clamp(min=1)).backward()  # type: ignore[no-untyped-call]
    for member, decoder in zip(network.members, decoders, strict=True):
        nn.utils.clip_grad_norm_([*_body(member).parameters(), *decoder.parameters()], MAX_GRADIENT)
    optimizer.step()
    return torch.stack([torch.stack(losses).mean().detach(), number]).cpu()


def _batches(
    sequences: Ordered[Sequence], network: HazardNetwork, config: ModelConfig, *, shuffle_bytes: int,
    rng: np.random.Generator,
) -> Iterator[tuple[float, Tensor]]:  # fmt: skip
    """All steps of the sequences as values [B, L, C], pieces of like length together, and the share that is done."""
    size, context, hazard = config.network.batch_size, network.receptive_field - 1, config.hazard
    groups = shuffled_groups(sequences, shuffle_bytes, rng=rng)
    for number, group in enumerate(groups):
        pieces = cut([_unlabelled(sequences[index]) for index in group], config.network.crop, rng=rng)
        pieces.sort(key=lambda piece: piece.stop - piece.start)
        batches: list[list[Piece]] = [pieces[start : start + size] for start in range(0, len(pieces), size)]
        for place, index in enumerate(rng.permutation(len(batches)).tolist()):
            values = stack(batches[index], context, hazard.edges, hazard.edges[-1]).values
            yield (number + place / len(batches)) / len(groups), values


def _unlabelled(sequence: Sequence) -> Sequence:
    """All steps of it, without what became of the machine."""
    steps = len(sequence.time)
    nothing = np.zeros(steps, np.float32)
    return replace(sequence, time=nothing, event=np.zeros(steps, bool), usable=np.ones(steps, bool))


def _share(progress: float) -> float:
    """Of the learning rate."""
    return min(1.0, (progress + 1e-3) / WARM_UP) * max(0.01, 0.5 * (1.0 + math.cos(math.pi * progress)))


def _body(member: nn.Module) -> Channels:
    return cast(Channels, cast(Member, member).body)

"""One network of all plants, trained on the histories of all of them: what a plant with few failures starts from.

The one idea: the set of channels shares everything but what is a plant's own: the scaling, the embedding of operating
regimes. Channels of one name and kind share an embedding too, beside their kind's. In half of the steps it is hidden,
so that the kinds alone must do: that is how the network reads a channel that it has not seen (``adopted``).

Source: Gelman & Hill (2007), "Data analysis using regression and multilevel/hierarchical models", chapter 12.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Ordered
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from models.anchor import TABLE, Anchor, is_own, named
from models.config import ModelConfig
from models.errors import DivergedError, InputError
from models.features import Sequence
from models.fit import MAX_GRADIENT, SHUFFLE_BYTES, NetworkFit
from models.hazard import usual_hazard_over
from models.networks import HazardNetwork, Member, build
from models.networks.channels import EMBEDDING, Channels
from models.pieces import Piece, batched, cut
from models.relations import relations_of
from models.saved import about, packed, unpacked
from models.scaling import Scaling, moving, scaling_of
from models.schedule import averaging, copy_of, rate_at, start_at
from models.together import ALONE, Together
from models.windows import Channel

FORMAT, STATE = "millwright-pooled/1", "millwright-pooling/1"
HIDE_OWN = 0.5  # share of the steps in which a plant's own embeddings are hidden


@dataclass(frozen=True)
class History:
    """A plant's training and validation parts, under the clock and the bins of all."""

    channels: tuple[Channel, ...]
    train: Ordered[Sequence]
    validate: Ordered[Sequence]


class PooledFit:
    """Trains one network over all plants; call ``epoch`` until ``done``. Raises InputError for other networks."""

    def __init__(
        self, plants: Mapping[str, History], config: ModelConfig, *, device: str = "cpu", together: Together = ALONE
    ) -> None:
        """Of several workers ``together``, each trains on its share of the machines and judges its share of the
        plants; all must be given the same plants."""
        require_poolable(config)
        self.config, self.plants, self.device, self._together = config, dict(plants), device, together
        self._fits = {
            name: NetworkFit(plant.train, plant.validate, config, plant.channels, device=device)
            for name, plant in self.plants.items()
        }
        networks = [fit.network for fit in self._fits.values()]
        _share(networks)
        self._names = _name(list(self._fits.values()))
        labels = ((s.time[s.usable], s.event[s.usable]) for plant in self.plants.values() for s in plant.train)
        start_at(networks[0], usual_hazard_over(config.hazard.edges, labels))
        self._all = nn.ModuleDict({f"p{number}": network for number, network in enumerate(networks)})
        self._averaged = copy_of(self._all)
        self._best, self._best_loss, self._best_epoch = _shared_weights(networks[0]), math.inf, 0
        self._epoch, self._steps = 0, 0
        self._usable = sum(int(s.usable.sum()) for plant in self.plants.values() for s in plant.train)
        self._optimizer = torch.optim.AdamW(
            self._all.parameters(), lr=config.network.learning_rate, weight_decay=config.network.weight_decay
        )

    @property
    def done(self) -> bool:
        network = self.config.network
        return self._epoch >= network.epochs or self._epoch - self._best_epoch >= network.patience

    @property
    def epochs_done(self) -> int:
        return self._epoch

    def network(self, plant: str) -> HazardNetwork:
        """A plant's network as it stands."""
        return self._fits[plant].network

    def epoch(self) -> dict[str, float]:
        """One pass over all plants' training parts, in random order.

        ``validate_loss`` is the mean over plants of a step's censored negative log-likelihood.
        """
        network = self.config.network
        rng = np.random.default_rng([network.seed, self._epoch])
        total, steps, working = 0.0, 0.0, True
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)) + self._together.rank)
            self._all.train()
            batches = self._batches(rng)
            while working:
                progress = (self._epoch + min(1.0, steps / self._usable)) / network.epochs
                working, loss, count = self._step(next(batches, None), progress)
                total, steps = total + loss, steps + count
        self._epoch += 1
        found, found_weights = self._validated()
        mean = float(np.mean(list(found.values())))
        if mean < self._best_loss:
            self._best, self._best_loss, self._best_epoch = found_weights, mean, self._epoch
        return {"epoch": float(self._epoch), "train_loss": total / max(steps, 1.0), "validate_loss": mean} | {
            f"validate_loss.{name}": loss for name, loss in found.items()
        }

    def shared(self) -> bytes:
        """The weights that all plants share, of the best epoch: safetensors, in its header what they are for.

        Raises DivergedError where no epoch had a finite loss.
        """
        if self._epoch and not self._best_epoch:
            raise DivergedError(
                "The training diverged", expected="a finite loss", found=f"none in {self._epoch} epochs",
                do="Lower network.learning_rate",
            )  # fmt: skip
        told = json.dumps({"format": FORMAT, "names": self._names})
        saved: bytes = safetensors.torch.save(self._best, metadata={"about": told})
        return saved

    def state(self) -> bytes:
        """All that the next epoch depends on, but configuration and data; alike in every worker."""
        parts = {"all": self._all.state_dict(), "averaged": self._averaged, "best": self._best}
        return packed(parts, self._optimizer, {
            "format": STATE, "config": self.config.digest(), "plants": list(self.plants), "epoch": self._epoch,
            "steps": self._steps, "best_epoch": self._best_epoch, "best_loss": self._best_loss,
        })  # fmt: skip

    def restore(self, state: bytes) -> None:
        """Go on where ``state`` was taken; raises InputError for a state of other plants or another configuration."""
        told, own = about(state), [self.config.digest(), list(self.plants)]
        if [told["config"], told["plants"]] != own:
            raise InputError(
                "State of another fit", expected=f"configuration {own[0][:12]} of {', '.join(self.plants)}",
                found=f"{str(told['config'])[:12]} of {', '.join(told['plants'])}", do="Remove it, and train anew",
            )  # fmt: skip
        parts = unpacked(state, self._optimizer)
        self._all.load_state_dict(parts["all"])
        self._averaged = {name: tensor.to(self.device) for name, tensor in parts["averaged"].items()}
        self._best = parts["best"]
        self._epoch, self._steps, self._best_epoch = told["epoch"], told["steps"], told["best_epoch"]
        self._best_loss = told["best_loss"]

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[NetworkFit, list[Piece], bool]]:
        """Batches of one plant each, and whether channels are known by their kinds alone; plants and pieces are mixed
        within ``SHUFFLE_BYTES`` of histories."""
        every = [(name, at) for name, plant in self.plants.items() for at in range(len(plant.train))]
        own = rng.permutation(len(every))[self._together.rank :: self._together.size]
        if self._together.rank:
            rng = np.random.default_rng([self.config.network.seed, self._epoch, self._together.rank])
        held: dict[str, list[Sequence]] = {}
        size = 0
        for place, index in enumerate(own):
            name, at = every[index]
            sequence = self.plants[name].train[at]
            held.setdefault(name, []).append(sequence)
            size += sequence.values.nbytes
            if size > SHUFFLE_BYTES or place + 1 == len(own):
                for plant, pieces in self._cut(held, rng):
                    yield self._fits[plant], pieces, bool(rng.random() < HIDE_OWN)
                held, size = {}, 0

    def _cut(self, held: dict[str, list[Sequence]], rng: np.random.Generator) -> Iterator[tuple[str, list[Piece]]]:
        network = self.config.network
        found = [
            (name, batch)
            for name in sorted(held)
            for batch in batched(cut(held[name], network.crop, rng=rng), network.batch_size, rng=rng)
        ]
        for index in rng.permutation(len(found)):
            yield found[index]

    def _step(
        self, found: tuple[NetworkFit, list[Piece], bool] | None, progress: float
    ) -> tuple[bool, float, float]:
        """Whether any worker had a batch; over all of them the sum of the steps' losses, and their number."""
        network, counts = self.config.network, (0.0, 0.0, 0.0)
        for group in self._optimizer.param_groups:
            group["lr"] = network.learning_rate * rate_at(progress)
        self._optimizer.zero_grad(set_to_none=True)
        if found is not None:
            fit, pieces, hidden = found
            batch = fit.stacked(pieces)
            with _unnamed(fit.network, hidden):
                loss, total = fit.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(fit.network.parameters(), MAX_GRADIENT)
            counts = (1.0, total, float(batch.usable.sum()))
        working, total, steps = self._together.mean_gradients(self._all.parameters(), counts)
        if not working:
            return False, 0.0, 0.0
        self._optimizer.step()
        self._steps += 1
        decay = averaging(network.average, self._steps)
        now = self._all.state_dict()
        names = [name for name, tensor in now.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self._averaged[n] for n in names], [now[n] for n in names], 1 - decay)
        return True, total, steps

    def _validated(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Each plant's validation loss under the averaged weights, and the shared ones among these."""
        own = copy_of(self._all)
        self._all.load_state_dict(self._averaged)
        rank, size = self._together.rank, self._together.size
        mine = [fit.validated()[0] if at % size == rank else 0.0 for at, fit in enumerate(self._fits.values())]
        losses = dict(zip(self._fits, self._together.sum(mine, self.device), strict=True))
        shared = _shared_weights(next(iter(self._fits.values())).network)
        self._all.load_state_dict(own)
        return losses, shared


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


def _share(networks: list[HazardNetwork]) -> None:
    """Make one parameter of those that are not a plant's own, in all networks."""
    for name, parameter in networks[0].named_parameters():
        if not is_own(name):
            where, _, last = name.rpartition(".")
            for other in networks[1:]:
                setattr(other.get_submodule(where), last, parameter)


def _name(fits: Ordered[NetworkFit]) -> list[str]:
    """Make one embedding of those of channels with equal names and kinds, in all networks; returns what they are of."""
    names = sorted({named(channel) for fit in fits for channel in fit.used})
    place = {name: row for row, name in enumerate(names)}
    rng = torch.Generator().manual_seed(fits[0].config.network.seed)
    table = nn.Parameter((torch.randn(len(names), EMBEDDING, generator=rng) * 0.5).to(fits[0].device))
    for fit in fits:
        for member in fit.network.members:
            cast(Channels, cast(Member, member).body).name(table, [place[named(channel)] for channel in fit.used])
    return names


def _shared_weights(network: HazardNetwork) -> dict[str, Tensor]:
    found = {name: parameter for name, parameter in network.named_parameters() if not is_own(name)}
    return {
        TABLE if name.endswith("body.table") else name: parameter.detach().cpu().clone()
        for name, parameter in found.items()
    }


@contextmanager
def _unnamed(network: HazardNetwork, hidden: bool) -> Iterator[None]:
    """While it lasts and ``hidden`` holds, channels are known by their kinds alone."""
    bodies = [body for member in network.members if isinstance(body := cast(Member, member).body, Channels)]
    for body in bodies:
        body.unnamed = hidden
    try:
        yield
    finally:
        for body in bodies:
            body.unnamed = False

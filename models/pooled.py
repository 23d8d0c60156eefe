"""One network of all plants, trained on the histories of all of them: what a plant with few failures starts from.

The one idea: the set of channels shares everything but what is a plant's own: the scaling, the embedding of operating
regimes (``models.sharing``). In half of the steps the names of its channels are hidden from it.

Source: Gelman & Hill (2007), "Data analysis using regression and multilevel/hierarchical models", chapter 12.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.errors import DivergedError, InputError
from models.features import Sequence
from models.fit import MAX_GRADIENT, SHUFFLE_BYTES, NetworkFit
from models.hazard import usual_hazard_over
from models.networks import HazardNetwork
from models.pieces import Piece, batched, cut
from models.saved import about, packed, unpacked
from models.schedule import averaging, rate_at, start_at
from models.sharing import name_channels, require_poolable, share, shared_weights, unnamed
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
        share(networks)
        self._names = name_channels(list(self._fits.values()))
        labels = ((s.time[s.usable], s.event[s.usable]) for plant in self.plants.values() for s in plant.train)
        start_at(networks[0], usual_hazard_over(config.hazard.edges, labels))
        self._all = nn.ModuleDict({f"p{number}": network for number, network in enumerate(networks)})
        self._weights = dict(self._all.named_parameters())  # each once, however many plants share it
        self._averaged = self._copied()
        self._best, self._best_loss, self._best_epoch = shared_weights(networks[0]), math.inf, 0
        self._epoch, self._steps = 0, 0
        self._usable = sum(int(s.usable.sum()) for plant in self.plants.values() for s in plant.train)
        self._optimizer = torch.optim.AdamW(
            self._weights.values(), lr=config.network.learning_rate, weight_decay=config.network.weight_decay
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
        parts = {"weights": self._copied(), "averaged": self._averaged, "best": self._best}
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
        self._put(parts["weights"])
        self._averaged = {name: parts["averaged"][name].to(self.device) for name in self._weights}
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
            with unnamed(fit.network, hidden):
                loss, total = fit.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(fit.network.parameters(), MAX_GRADIENT)
            counts = (1.0, total, float(batch.usable.sum()))
        working, total, steps = self._together.mean_gradients(self._weights.values(), counts)
        if not working:
            return False, 0.0, 0.0
        self._optimizer.step()
        self._steps += 1
        decay = averaging(network.average, self._steps)
        now = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self._averaged.values()), now, 1 - decay)
        return True, total, steps

    def _validated(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Each plant's validation loss under the averaged weights, and the shared ones among these."""
        own = self._copied()
        self._put(self._averaged)
        rank, size = self._together.rank, self._together.size
        mine = [fit.validated()[0] if at % size == rank else 0.0 for at, fit in enumerate(self._fits.values())]
        losses = dict(zip(self._fits, self._together.sum(mine, self.device), strict=True))
        shared = shared_weights(next(iter(self._fits.values())).network)
        self._put(own)
        return losses, shared

    def _copied(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._weights.items()}

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(weights[name])

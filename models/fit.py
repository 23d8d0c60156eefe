"""Fitting a network: whole histories in pieces, a loss at every step, one epoch at a time.

The one idea: a network sees W steps and nothing else, so one pass over a history yields the answer of every
window in it; training on sequences is training on windows, at a fraction of the cost. Everything random in an
epoch follows from the seed and the epoch's number, so a fit that was stopped goes on as if it never had been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Ordered

import numpy as np
import torch
from torch import Tensor

from models.anchor import Anchor
from models.config import ModelConfig
from models.errors import DivergedError, InputError
from models.features import Sequence
from models.hazard import usual_hazard_over
from models.loss import RestrictedMean, mode_loss, negative_log_likelihood
from models.modes import NO_MODES, Modes
from models.networks import HazardNetwork, build, split_modes
from models.pieces import Batch, Piece, batched, cut, shuffled_groups, stack
from models.pretrain import pretrain, require_channels
from models.relations import relations_of
from models.saved import about, packed, unpacked
from models.scaling import moving, scaling_of
from models.schedule import averaging, copy_of, rate_at, start_at
from models.windows import Channel

__all__ = ["FORMAT", "NetworkFit", "Sequence"]

MAX_GRADIENT = 1.0
FORMAT = "millwright-fit/1"
SHUFFLE_BYTES = 1 << 30  # of histories whose pieces are mixed at a time; what does not fit comes group by group


class NetworkFit:
    """Trains one network; call ``epoch`` until ``done``. Torch's number of threads is the caller's to set."""

    def __init__(
        self,
        train: Ordered[Sequence],
        validate: Ordered[Sequence],
        config: ModelConfig,
        channels: tuple[Channel, ...],
        *,
        device: str = "cpu",
        shuffle_bytes: int = SHUFFLE_BYTES,
        modes: Modes = NO_MODES,
        scaled_by: Ordered[Sequence] | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        """``scaled_by`` (default ``train``): members that answer as one share a scaling, whatever each trains on.

        With an ``anchor`` training starts at its weights and is pulled back to them.
        """
        _require_usable(train, "training")
        _require_usable(validate, "validation")
        self.config, self.device, self.modes = config, torch.device(device), modes
        self._train, self._validate = train, validate
        self._channels = channels
        self._cap = config.hazard.cap or config.hazard.edges[-1]
        self._usable = np.array([int(s.usable.sum()) for s in train])
        self._shuffle_bytes = shuffle_bytes
        self._near = max(config.hazard.horizons.values())
        scaled_by = train if scaled_by is None else scaled_by
        self.scaling = scaling_of(scaled_by, channels, ignore=config.network.ignore)
        moves = set(moving(self.scaling, scaled_by))
        self._relations = relations_of(self.scaling, scaled_by, channels) if config.network.deviations else None
        kept = [i for i, channel in enumerate(channels) if channel.name not in config.network.ignore]
        self._used = [i for i in kept if i in moves] or kept
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.network.seed)
            self.network = self._empty_network()
        if config.network.pretrain_epochs:
            require_channels(self.network, config.network.name)
        self._start_at_usual_hazard()
        self._anchor = anchor
        if anchor is not None:
            anchor.put(self.network)
            anchor.name(self.network, self.used)
        self._mean = RestrictedMean(config.hazard.edges, self._cap).to(self.device)
        self._averaged, self._best = copy_of(self.network), copy_of(self.network)
        self._weights = {n: t for n, t in self.network.state_dict().items() if t.is_floating_point()}
        wanted = round(config.network.train_steps / max(1, int(self._usable.sum())))
        self.epochs = max(1, wanted) if config.network.train_steps else config.network.epochs
        self._epoch, self._best_epoch, self._best_objective, self._best_loss = 0, 0, math.inf, math.inf
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.network.learning_rate, weight_decay=config.network.weight_decay
        )

    @property
    def done(self) -> bool:
        """All epochs are over, or validation has not gained for ``patience`` of them."""
        return self._epoch >= self.epochs or self._epoch - self._best_epoch >= self.config.network.patience

    @property
    def used(self) -> tuple[Channel, ...]:
        """The channels that the network reads, in its order."""
        return tuple(self._channels[index] for index in self._used)

    @property
    def epochs_done(self) -> int:
        return self._epoch

    @property
    def best_loss(self) -> float:
        """``validate_loss`` of the best epoch; inf before the first."""
        return self._best_loss

    def epoch(self) -> dict[str, float]:
        """One pass over the training histories: epoch, train_loss, validate_loss and validate_rmse.

        The first is preceded by ``pretrain_epochs`` over all their steps, labelled or not.

        ``validate_loss`` is the mean censored negative log-likelihood of a step, ``validate_rmse`` the error of
        E[min(T, cap)] where the truth is known (NaN where it nowhere is).
        """
        network = self.config.network
        if self._epoch == 0 and network.pretrain_epochs:
            pretrain(self.network, self._train, self.config, shuffle_bytes=self._shuffle_bytes)
            self._averaged = copy_of(self.network)
        rng = np.random.default_rng([network.seed, self._epoch])
        total, steps, before = 0.0, 0.0, 0.0
        with torch.random.fork_rng(devices=[]):
            self.network.train()
            for number, group in enumerate(shuffled_groups(self._train, self._shuffle_bytes, rng=rng)):
                share = float(self._usable[group].sum() / self._usable.sum())
                sequences = [self._train[index] for index in group]
                pieces = cut(sequences, network.crop, rng=rng, random_start=network.random_start)
                batches = batched(pieces, network.batch_size, rng=rng)
                if number == 0:
                    torch.manual_seed(int(rng.integers(2**62)))
                for place, batch in enumerate(batches):
                    self._set_learning_rate((self._epoch + before + share * (place / len(batches))) / self.epochs)
                    loss, count = self._step(self.stacked(batch))
                    total, steps = total + loss, steps + count
                before += share
        self._epoch += 1
        validate_loss, validate_mse = self._validated()
        objective = validate_loss + network.mean_weight * (0.0 if math.isnan(validate_mse) else validate_mse)
        if objective < self._best_objective:
            self._best_objective, self._best_loss, self._best_epoch = objective, validate_loss, self._epoch
            self._best = {name: tensor.clone() for name, tensor in self._averaged.items()}
        return {
            "epoch": float(self._epoch), "train_loss": total / steps, "validate_loss": validate_loss,
            "validate_rmse": math.sqrt(validate_mse) * self._cap,
        }  # fmt: skip

    def best(self) -> HazardNetwork:
        """The network with the weights of the best validation epoch, on the CPU, in evaluation mode.

        Raises DivergedError where no epoch had a finite loss: what would come back has learned nothing.
        """
        if self._epoch and not self._best_epoch:
            raise DivergedError(
                "The training diverged", expected="a finite loss", found=f"none in {self._epoch} epochs",
                do="Lower network.learning_rate",
            )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            network = self._empty_network()
        network.load_state_dict(self._best)
        return network.cpu().eval()

    def state(self) -> bytes:
        """All that the next epoch depends on, but configuration and data: safetensors, JSON in its header."""
        parts = {"network": self.network.state_dict(), "averaged": self._averaged, "best": self._best}
        return packed(parts, self._optimizer, {
            "format": FORMAT, "config": self.config.digest(), "epoch": self._epoch, "best_epoch": self._best_epoch,
            "best_objective": self._best_objective, "best_loss": self._best_loss,
        })  # fmt: skip

    def restore(self, state: bytes) -> None:
        """Go on where ``state`` was taken; raises InputError for a state of another configuration."""
        told = about(state)
        if told["config"] != self.config.digest():
            raise InputError(
                "State of another fit", expected=f"configuration {self.config.digest()[:12]}",
                found=str(told["config"])[:12], do="Restore with the configuration that the fit was started with",
            )  # fmt: skip
        parts = unpacked(state, self._optimizer)
        self.network.load_state_dict(parts["network"])
        self._averaged = {name: t.to(self.device) for name, t in parts["averaged"].items()}
        self._best = {name: t.to(self.device) for name, t in parts["best"].items()}
        self._epoch, self._best_epoch = told["epoch"], told["best_epoch"]
        self._best_objective, self._best_loss = told["best_objective"], told["best_loss"]

    def _empty_network(self) -> HazardNetwork:
        kinds, num_modes = [channel.kind for channel in self._channels], len(self.modes.names)
        return build(
            self.config, self.scaling, kinds, used=self._used, num_modes=num_modes, relations=self._relations
        ).to(self.device)

    def _start_at_usual_hazard(self) -> None:
        """The head's bias starts at the hazards of the training part, so that rare failures need no warming up."""
        labels = ((s.time[s.usable], s.event[s.usable]) for s in self._train)
        start_at(self.network, usual_hazard_over(self.config.hazard.edges, labels), self.modes.shares)

    def _set_learning_rate(self, progress: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.network.learning_rate * rate_at(progress)

    def stacked(self, pieces: list[Piece]) -> Batch:
        context, hazard = self.network.receptive_field - 1, self.config.hazard
        return stack(
            pieces, context, hazard.edges, self._cap, modes=self.modes,
            mode_within=self._near, finding_within=hazard.alarm_within,
        ).to(self.device)  # fmt: skip

    def loss(self, batch: Batch) -> tuple[Tensor, float]:
        """What a step of the optimizer lowers, added up over members; and the sum of the steps' likelihood losses,
        mean over members."""
        network, members = self.config.network, self.network.members
        count = int(batch.usable.sum())
        known = max(1, int((~batch.target.isnan() & batch.usable).sum()))
        total, loss = 0.0, torch.zeros((), device=self.device)
        for logits in self.network.each(batch.values):
            nll, squared, named = self._losses(batch, logits)
            loss = loss + (nll if named is None else nll + named) / count + network.mean_weight * squared / known
            total += float(nll.detach()) / len(members)
        return loss, total

    def _step(self, batch: Batch) -> tuple[float, float]:
        """One step of the optimizer; the sum of the steps' losses, mean over members, and their number."""
        network, members = self.config.network, self.network.members
        loss, total = self.loss(batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for member in members:
            torch.nn.utils.clip_grad_norm_(member.parameters(), MAX_GRADIENT)
        self._optimizer.step()
        if self._anchor is not None:
            self._anchor.pull(self.network, self._optimizer.param_groups[0]["lr"])
        decay = averaging(network.average, float(next(iter(self._optimizer.state.values()))["step"]))
        averaged = [self._averaged[name] for name in self._weights]
        torch._foreach_lerp_(averaged, list(self._weights.values()), 1 - decay)
        return total, float(batch.usable.sum())

    def _losses(self, batch: Batch, output: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of a network's output: sums over usable steps of negative log-likelihood, squared error of
        E[min(T, cap)] / cap, and modes' loss.

        Epochs are judged by the first two alone: what is said of modes never changes which weights are kept.
        """
        logits, of_modes = split_modes(output, self.network.num_bins)
        nll = (negative_log_likelihood(logits, batch.exposed, batch.failed) * batch.usable).sum()
        known = batch.usable & ~batch.target.isnan()
        error = (self._mean(logits) - batch.target.nan_to_num()) / self._cap
        named = (mode_loss(of_modes, batch.mode) * batch.usable).sum() if self.modes.names else None
        return nll, (error * error * known).sum(), named

    def _validated(self) -> tuple[float, float]:
        """Mean negative log-likelihood, and mean squared error of E[min(T, cap)] / cap, of the averaged weights."""
        own = copy_of(self.network)
        self.network.load_state_dict(self._averaged)
        found = self.validated()
        self.network.load_state_dict(own)
        return found

    def validated(self) -> tuple[float, float]:
        """Mean negative log-likelihood, and mean squared error of E[min(T, cap)] / cap, of the weights as they are."""
        self.network.eval()
        sums = np.zeros(4)
        with torch.inference_mode():
            for pieces in batched(cut(self._validate, 512), self.config.network.batch_size):
                batch = self.stacked(pieces)
                nll, squared, _ = self._losses(batch, self.network.valid(batch.values))
                known = (batch.usable & ~batch.target.isnan()).sum()
                sums += [float(nll), float(batch.usable.sum()), float(squared), float(known)]
        return float(sums[0] / sums[1]), float(sums[2] / sums[3]) if sums[3] else math.nan


def _require_usable(sequences: Ordered[Sequence], part: str) -> None:
    if not any(sequence.usable.any() for sequence in sequences):
        raise InputError(
            f"Nothing to fit: the {part} part is empty", expected="at least one usable step",
            found=f"{len(sequences)} machines without any", do="Ingest a longer history, or change the split",
        )  # fmt: skip

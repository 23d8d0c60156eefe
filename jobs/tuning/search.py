"""One plant's study: which trial comes next, which is stopped, which was best. No Ray, no clock.

The one idea: trials come in batches, and a trial is drawn by, and judged against, earlier batches alone. Then what is
tried and what wins follows from seed, data and space, however many cores there are, whatever ended first and however
often the study was killed. The rule is ASHA's: at epochs 3, 12, 48, ... the best quarter goes on.

Source: Li et al. (2020), "A system for massively parallel hyperparameter tuning", arXiv:1810.05934; Bergstra et al.
(2011), "Algorithms for hyper-parameter optimization" (the tree-structured Parzen estimator, here Optuna's).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.tuning.journal import Journal, State, Trial
from jobs.tuning.space import Space
from models.config import NetworkConfig

GRACE_EPOCHS = 3  # every trial trains at least this long before a comparison can stop it
REDUCTION = 4


def batch_size(trials: int) -> int:
    """Two at a time, or a quarter of all where that is more: the first batch is stopped by nothing."""
    return max(2, math.ceil(trials / 4))


class PlantSearch:
    """The study of ``journal``, over ``default``; ``heads`` are its first trials, which a search must beat."""

    def __init__(
        self, journal: Journal, space: Space, default: NetworkConfig, heads: Sequence[dict[str, Any]] = ({},)
    ) -> None:
        self.journal, self.space, self.default, self.heads = journal, space, default, heads
        self.batch = max(journal.facts.batch, min(len(heads), journal.facts.trials))
        self.rungs = [r for k in range(20) if (r := GRACE_EPOCHS * REDUCTION**k) < default.epochs]
        self._taken: set[int] = set()  # begun, or begun again, by this process

    @property
    def begun(self) -> int:
        """Trials that have ended or train now."""
        return sum(trial.over or trial.number in self._taken for trial in self.journal.trials)

    @property
    def left(self) -> int:
        """Trials that have not ended."""
        return self.journal.facts.trials - sum(trial.over for trial in self.journal.trials)

    def next(self) -> Trial | None:
        """The next trial to train, with its last epoch where it has one; None while a batch waits for its last."""
        waiting = self._waiting()
        if waiting is None and all(trial.over for trial in self.journal.trials):
            self._draw_batch()
            waiting = self._waiting()
        if waiting is not None:
            self._taken.add(waiting.number)
        return waiting

    def ready(self) -> bool:
        """Whether ``next`` has one."""
        trials = self.journal.trials
        more = len(trials) < self.journal.facts.trials
        return self._waiting() is not None or (more and all(trial.over for trial in trials))

    def _waiting(self) -> Trial | None:
        return next((t for t in self.journal.trials if not t.over and t.number not in self._taken), None)

    def heard(self, number: int, *, epoch: int, loss: float, seconds: float, own: float | None = None) -> bool:
        """Note the best loss by an epoch, and its ``own`` where it is told; whether the trial is to stop here."""
        trial = self.journal.trials[number]
        trial.state = "running"
        trial.epochs, trial.loss = epoch, loss if math.isfinite(loss) else None
        trial.seconds = round(trial.seconds + seconds, 3)
        trial.losses += [None] * (epoch - len(trial.losses))
        if own is not None and math.isfinite(own):
            trial.losses[epoch - 1] = float(f"{own:.6g}")  # a page is drawn from it, nothing is decided by it
        at_rung = epoch in self.rungs and epoch not in trial.rungs
        if at_rung:
            trial.rungs[epoch] = trial.loss
        self.journal.write(must=at_rung)
        return epoch in self.rungs and self._worse(trial, epoch)

    def end(self, number: int, state: State, reason: str = "") -> None:
        """A trial is over, and why."""
        trial = self.journal.trials[number]
        trial.state, trial.reason = state, reason
        self.journal.write()

    def _worse(self, trial: Trial, rung: int) -> bool:
        first = trial.number - trial.number % self.batch
        found = [t.rungs[rung] for t in self.journal.trials[:first] if rung in t.rungs]
        losses = [loss for loss in found if loss is not None]
        if not losses:
            return False
        return trial.loss is None or trial.loss > float(np.quantile(losses, 1 / REDUCTION))

    def _draw_batch(self) -> None:
        trials, facts = self.journal.trials, self.journal.facts
        first = len(trials)
        heads = self.heads[: facts.trials] if first == 0 else []
        drawn = [Trial(number=number, settings=settings) for number, settings in enumerate(heads)]
        count = min(self.batch, facts.trials - first) - len(drawn)
        if count > 0:
            drawn += self._drawn(first + len(drawn), count)
        trials += drawn
        self.journal.write()

    def _drawn(self, first: int, count: int) -> list[Trial]:
        """Drawn by an Optuna made anew for each batch, so that there is no state of it to keep."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells how it draws what not every trial has
        seed = int(np.random.SeedSequence([self.journal.facts.seed % 2**32, first]).generate_state(1)[0])
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        )
        losses = [t.loss for t in self.journal.trials if t.over and t.loss is not None and t.state != "diverged"]
        for trial in self.journal.trials:
            if trial.params and losses:
                loss = max(losses) if trial.loss is None or trial.state == "diverged" else trial.loss
                distributions = {key: self.space.distribution(key) for key in trial.params}
                study.add_trial(optuna.trial.create_trial(params=trial.params, distributions=distributions, value=loss))
        found = []
        for number in range(first, first + count):
            asked = study.ask()
            settings = self.space.draw(asked, self.default)
            found.append(Trial(number=number, settings=settings, params=dict(asked.params)))
        return found

    def configuration(self, trial: Trial) -> dict[str, Any]:
        """The values of everything that is searched, as the trial has them."""
        own: dict[str, Any] = self.default.model_dump() | trial.settings
        return {name: own[name] for name in self.space.options}

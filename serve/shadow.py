"""The model on trial, asked beside the champion: what it says goes to the journal, as ``shadow``, and to nobody else.

The one idea: it is asked in the background and never waited for. Where it cannot keep up it is not asked, and that is
counted; where it fails, that is counted too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import numpy as np

from serve.batching import seen
from serve.cuts import Prediction, cut, lasting_causes, predicted
from serve.journal import Journal
from serve.metrics import Metrics
from serve.scorer import Model, Scorer

log = logging.getLogger("millwright.serve")
MOST = 8  # requests that it is asked about at once


class Shadow:
    """``ask`` returns at once. Only the loop that answers requests may use it."""

    def __init__(self, scorer: Scorer, journal: Journal, metrics: Metrics, now_us: Callable[[], int]) -> None:
        self._scorer, self._journal, self._metrics, self._now_us = scorer, journal, metrics, now_us
        self._asking: set[asyncio.Task[None]] = set()

    def ask(self, plant: str, machines: Sequence[str], as_of_us: int | None) -> None:
        """About those of the machines that it does not answer for."""
        trial = self._scorer.trial(plant)
        own = [] if trial is None else [machine for machine in machines if not trial.answers(machine)]
        if trial is None or not own:
            return
        if len(self._asking) >= MOST:
            self._metrics.count("shadow_dropped", len(own))
            return
        task = asyncio.get_running_loop().create_task(self._ask(trial.model, own, as_of_us))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, model: Model, machines: Sequence[str], as_of_us: int | None) -> None:
        try:
            found = await asyncio.to_thread(_said, model, machines, as_of_us)
        except Exception:  # a model on trial must not disturb who answers
            self._metrics.count("shadow_dropped", len(machines))
            log.exception("plant %s: the model on trial did not answer", model.plant.name)
            return
        self._metrics.count("shadowed", len(found), plant=model.plant.name, model_version=model.spec.version)
        self._journal.add(model.plant.name, found, self._now_us())


def _said(model: Model, machines: Sequence[str], as_of_us: int | None) -> list[Prediction]:
    cuts = [found for machine in machines if (found := cut(model, machine, as_of_us))]
    if not cuts:
        return []
    told = seen(model.predictor, np.stack([each.values for each in cuts]))
    return [
        predicted(model, own, each, [*each.causes, *lasting_causes(model)], False) | {"source": "shadow"}
        for own, each in zip(cuts, told, strict=True)
    ]

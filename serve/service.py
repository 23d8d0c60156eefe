"""What the service does, whatever the transport: readings in, windows cut, predictions out.

The one idea: one path for every route. Rows are committed first, then the window is cut by the same
functions as in training, scored with the plant's model, answered, and put into the journal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from cluster.home import Home
from cluster.keys import open_keys
from cluster.serving import ServeSettings
from models.errors import InputError, NotFoundError
from models.predict import Cause, iso, untrained_type
from models.predictor import Scored
from models.windows import Float
from serve.auth import Access
from serve.batching import INLINE_WINDOWS
from serve.cuts import Cut, Prediction, cut, lasting_causes, predicted
from serve.journal import Journal, to_delta
from serve.limits import Rates
from serve.metrics import Metrics
from serve.past import past
from serve.schemas import Delivery
from serve.scorer import Model, Scorer
from serve.shadow import Shadow
from serve.tokens import Tokens
from serve.windows import Windows

log = logging.getLogger("millwright.serve")
METRICS = "metrics"  # where replicas leave theirs, below the home's `run`
_FUTURE_US = 3_600_000_000  # clocks of plants are wrong by minutes; more than an hour is a wrong zone
# Windows that were sent whole; windows out of the store; the same, asked about this moment, so that old data count.
About = Literal["sent", "stored", "now"]


class Service:
    """Everything a replica holds. ``now_us`` is the clock, microseconds UTC."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        access: Access,
        scorer: Scorer,
        journal: Journal,
        metrics: Metrics,
        now_us: Callable[[], int],
    ) -> None:
        self.settings, self.access, self.metrics = settings, access, metrics
        self.scorer, self._journal, self.now_us = scorer, journal, now_us
        self._pasts = asyncio.Semaphore(2)  # each reads tables, in a thread
        self._shadow = Shadow(scorer, journal, metrics, now_us)

    @property
    def ready(self) -> bool:
        return bool(self.scorer.plants())

    def latest_us(self) -> int:
        """The latest time that a reading may have."""
        return self.now_us() + _FUTURE_US

    async def deliver(
        self, model: Model, delivery: Delivery, *, as_of_us: int | None = None, with_reasons: bool = False
    ) -> list[Prediction]:
        """Commit readings, then answer for each of their machines, in the order of their first row."""
        with self.metrics.stage("store"):
            written = model.state.append(delivery.rows)
            for one in self.scorer.readers(model):
                one.recent.note(delivery.rows, written)
        self.metrics.count("readings", len(delivery.rows.time_us), plant=model.plant.name)
        return await self._stored(model, delivery.machines, as_of_us, _delivered(delivery), with_reasons)

    async def _stored(
        self, model: Model, machines: Sequence[str], as_of_us: int | None, causes: Sequence[Cause], with_reasons: bool
    ) -> list[Prediction]:  # fmt: skip
        """Answers for machines from what is stored, in their order: of the champion, or of the model on trial."""
        found: dict[str, Prediction] = {}
        for one, own in self._asked(model, machines):
            cuts = await self._cut(one, own, as_of_us)
            told = await self._answer(one, cuts, [*causes, *lasting_causes(one)], with_reasons, about="stored")
            found |= {each["machine"]: each for each in told}
        self._shadow.ask(model.plant.name, machines, as_of_us)
        return [found[machine] for machine in machines if machine in found]

    def _asked(self, model: Model, machines: Sequence[str]) -> list[tuple[Model, Sequence[str]]]:
        """Which model answers for which machines."""
        trial = self.scorer.trial(model.plant.name)
        if trial is None or not trial.challenger.share:
            return [(model, machines)]
        theirs = [machine for machine in machines if trial.answers(machine)]
        both = [(model, [machine for machine in machines if not trial.answers(machine)]), (trial.model, theirs)]
        return [(one, own) for one, own in both if own]

    async def machine(self, model: Model, machine: str, *, as_of_us: int | None, with_reasons: bool) -> Prediction:
        """The prediction from a machine's newest readings and the state of its data. Raises NotFoundError."""
        ((model, _),) = self._asked(model, [machine])
        found = await self._cut(model, [machine], as_of_us)
        if not found:
            raise NotFoundError("Unknown machine", found=repr(machine), where=f"plant {model.plant.name}")
        predictions = await self._answer(
            model, found, lasting_causes(model), with_reasons, about="stored" if as_of_us else "now"
        )
        return predictions[0] | {"data": self._data(model, found[0])}

    async def history(self, model: Model, machine: str, *, steps: int, as_of_us: int | None) -> dict[str, Any]:
        """The last ``steps`` ticks: sensors, events, what the model makes of them. Raises NotFoundError."""
        ((model, _),) = self._asked(model, [machine])
        until_us = model.state.newest_us(machine, as_of_us)
        if until_us is None:
            raise NotFoundError("Unknown machine", found=repr(machine), where=f"plant {model.plant.name}")
        async with self._pasts:
            return await asyncio.to_thread(past, self.scorer.home, model, machine, steps=steps, until_us=until_us)

    async def machines(self, model: Model) -> list[Prediction]:
        """Every machine that has readings, the most at risk first."""
        both: list[Prediction] = []
        for one, machines in self._asked(model, [latest.machine for latest in model.state.machines()]):
            found = await self._cut(one, machines, None)
            predictions = await self._answer(one, found, lasting_causes(one), False, about="now")
            both += [p | {"data": self._data(one, c)} for p, c in zip(predictions, found, strict=True)]
        horizon = model.spec.alarm_horizon
        return sorted(both, key=lambda p: (-p["failure_probability"][horizon], p["machine"]))

    async def score(self, model: Model, windows: Windows, *, with_reasons: bool = False) -> list[Prediction]:
        """Answer for complete windows. Without a time, a window ends with the tick that covers now."""
        step_us = model.spec.config.clock.step_us
        now = -(-self.now_us() // step_us) * step_us  # the end of the tick that covers it
        times = [now if at is None else at for at in windows.as_of_us]
        cuts = [
            Cut(machine, -(-at // step_us), at, values, 0)
            for machine, at, values in zip(windows.machines, times, windows.values, strict=True)
        ]
        causes = [Cause(code="channel_missing", text=f"{name} was not sent") for name in windows.missing]
        causes += lasting_causes(model)
        return await self._answer(model, cuts, causes, with_reasons, about="sent", windows=windows.values)

    async def infer(self, model: Model, values: Float) -> Scored:
        """What the model says of windows [B, W, C], as the open inference protocol asks for it."""
        with self.metrics.stage("score"):
            found = await self._score(model, values)
        self.metrics.count("predictions", len(found.hazard), plant=model.plant.name, model_version=model.spec.version)
        return found

    async def check(self, deadline_s: float) -> None:
        """Score a window within ``deadline_s``. Raises where the models do not answer."""
        await asyncio.wait_for(asyncio.to_thread(self.scorer.check), deadline_s)

    def start(self) -> None:
        """Begin to look for new models and to write the journal."""
        self.scorer.start()
        self._journal.start()

    def close(self) -> None:
        self.scorer.close()
        self._journal.close()
        self.access.close()

    async def _cut(self, model: Model, machines: Sequence[str], as_of_us: int | None) -> list[Cut]:
        """Windows of the machines that have readings."""

        def cut_all() -> list[Cut]:
            return [found for machine in machines if (found := cut(model, machine, as_of_us))]

        with self.metrics.stage("window"):
            return cut_all() if len(machines) <= INLINE_WINDOWS else await asyncio.to_thread(cut_all)

    async def _answer(
        self, model: Model, cuts: Sequence[Cut], causes: Sequence[Cause], with_reasons: bool, *, about: About,
        windows: Float | None = None,
    ) -> list[Prediction]:  # fmt: skip
        """Predictions in the order of ``cuts``, each with ``causes`` and its own; ``windows`` are all of theirs."""
        if not cuts:
            return []
        self.metrics.observe("windows", len(cuts), plant=model.plant.name)
        with self.metrics.stage("score"):
            found = await model.batcher.see([c.values for c in cuts] if windows is None else windows)

        def all_of_them() -> list[Prediction]:
            return [
                predicted(model, c, each, [*each.causes, *self._own_causes(model, c, about), *causes], with_reasons)
                for c, each in zip(cuts, found, strict=True)
            ]

        with self.metrics.stage("answer"):
            many = len(cuts) > INLINE_WINDOWS
            predictions = await asyncio.to_thread(all_of_them) if many else all_of_them()
        self._observe(model, predictions)
        self._journal.add(model.plant.name, predictions, self.now_us())
        return predictions

    def _own_causes(self, model: Model, found: Cut, about: About) -> list[Cause]:
        """Why one prediction is worth less than usual, but for what its window shows."""
        causes: list[Cause] = []
        if about != "sent" and found.machine not in model.plant.types:
            causes.append(Cause(code="unknown_machine", text="not in the plant's list of machines"))
        causes += untrained_type(model.spec, model.plant.types.get(found.machine))
        if about == "now" and self._stale(model, found):
            hours = self._age_s(found) / 3600
            causes.append(Cause(code="stale", text=f"the last reading is {hours:.0f} h old"))
        return causes

    def _age_s(self, found: Cut) -> float:
        return max(0.0, (self.now_us() - found.data_until_us) / 1e6)

    def _stale(self, model: Model, found: Cut) -> bool:
        """Older than is carried forward. Cycles have no wall clock: how long ago the last one was says nothing."""
        clock = model.spec.config.clock
        return clock.life_unit == "h" and self._age_s(found) > (model.spec.config.window.carry + 1) * clock.step_s

    async def _score(self, model: Model, values: Float) -> Scored:
        self.metrics.observe("windows", len(values), plant=model.plant.name)
        if len(values) <= INLINE_WINDOWS:
            return model.predictor.score(values)
        return await asyncio.to_thread(model.predictor.score, values)

    def _observe(self, model: Model, found: Sequence[Prediction]) -> None:
        self.metrics.count("predictions", len(found), plant=model.plant.name, model_version=model.spec.version)
        for one in found:
            for cause in one["degraded"]:
                self.metrics.count("degraded", cause=cause["code"])

    def _data(self, model: Model, found: Cut) -> dict[str, Any]:
        """The state of a machine's data."""
        sensors = len(model.sensors)
        present = ~np.isnan(found.values[:, :sensors])
        return {
            "last_reading": iso(found.data_until_us),
            "age_s": round(self._age_s(found), 3),
            "stale": self._stale(model, found),
            "readings": found.num_rows,
            "coverage": round(float(present.mean()), 4) if present.size else 0.0,
            "sensors_missing": [s for i, s in enumerate(model.sensors) if not present[:, i].any()],
        }


def _delivered(delivery: Delivery) -> list[Cause]:
    causes = [Cause(code="unknown_sensor", text=f"{name} is no sensor of the plant") for name in delivery.unknown]
    if delivery.dropped:
        causes.append(Cause(code="impossible_value", text=f"{delivery.dropped} values that no sensor can read"))
    return causes


def paid(price_per_hour: float, metrics: Metrics, clock: Callable[[], float]) -> Callable[[], None]:
    """Counts what the time since the last call cost; ``clock`` tells seconds."""
    before = clock()

    def count() -> None:
        nonlocal before
        now = clock()
        metrics.count("cost", (now - before) / 3600 * price_per_hour)
        before = now

    return count


def open_service(home: Home, *, now_us: Callable[[], int]) -> Service:
    """Everything a replica needs, loaded and warm, without its background threads."""
    settings, metrics = home.settings.serve, Metrics(home.run / METRICS)
    tokens = None if settings.jwt is None else Tokens(settings.jwt)
    rates = Rates(settings.most_replicas or settings.replicas, time.monotonic)
    access = Access(open_keys(home), metrics, rates=rates, tokens=tokens)
    try:
        access.refresh()
    except InputError as error:  # the provider may be away; keys of ours open what they open
        log.error("%s", error)
    cost = paid(settings.price_per_hour, metrics, time.monotonic)
    scorer = Scorer(home, metrics, also=(access.refresh, cost, metrics.leave))
    scorer.refresh()
    journal = Journal(to_delta(home), metrics, max_rows=settings.journal_rows)
    return Service(settings, access=access, scorer=scorer, journal=journal, metrics=metrics, now_us=now_us)

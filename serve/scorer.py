"""Every plant's champion, in memory, verified and warm.

The one idea: a model is replaced as a whole by one assignment. A request takes the model once and keeps it,
so no answer mixes two; a new bundle that does not load changes nothing but a metric and a log line.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cluster.bundles import load
from cluster.challengers import Challenger, challenger
from cluster.home import Home
from cluster.received import State
from cluster.registry import Champion, champion
from models.errors import GateError, InputError, MillwrightError, NotFoundError
from models.explain import reasons
from models.predictor import Predictor
from models.spec import BundleSpec
from models.windows import Channel, Float, context_of, span_us
from serve.batching import Batcher
from serve.metrics import Metrics
from serve.plant import Plant, is_current, load_plant, seed_state
from serve.recent import Recent

log = logging.getLogger("millwright.serve")


@dataclass(frozen=True)
class Model:
    """A plant's champion, ready to score, with what is known of the plant and where its readings are."""

    plant: Plant
    champion: Champion
    predictor: Predictor
    state: State
    batcher: Batcher

    @property
    def spec(self) -> BundleSpec:
        return self.predictor.spec

    @cached_property
    def recent(self) -> Recent:
        return Recent(self.state, self.sensors, self.spec.config.clock, self.spec.config.window)

    @cached_property
    def sensors(self) -> tuple[str, ...]:
        """The sensors of a window, in its order; context channels follow them."""
        return tuple(channel.name for channel in self.spec.channels if channel.role == "sensor")

    @cached_property
    def channels(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.spec.channels)

    @cached_property
    def context(self) -> tuple[Channel, ...]:
        return context_of(self.spec.channels)

    @cached_property
    def span_us(self) -> int:
        return span_us(self.spec.config.clock, self.spec.config.window)

    def empty_windows(self, num: int) -> Float:
        return np.full((num, self.spec.config.window.length, len(self.spec.channels)), np.nan, np.float32)


@dataclass(frozen=True)
class Trial:
    """A model on trial beside a plant's champion."""

    challenger: Challenger
    model: Model

    def answers(self, machine: str) -> bool:
        return self.challenger.answers(self.model.plant.name, machine)


class Scorer:
    """Holds the models and keeps them current. ``refresh`` does one round; ``start`` does it forever.

    ``also`` is what else each round of the background looks after.
    """

    def __init__(self, home: Home, metrics: Metrics, *, also: Sequence[Callable[[], None]] = ()) -> None:
        self.home, self._metrics, self._also = home, metrics, also
        self._models: dict[str, Model] = {}
        self._trials: dict[str, Trial] = {}
        self._states: dict[str, State] = {}
        self._checks = itertools.count()
        self._said: dict[str, str] = {}  # the last failure of a plant, so that a log line comes once
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def known(self) -> Sequence[str]:
        """Every connected plant, with a model or without, sorted."""
        return self.home.plants()

    def plants(self) -> Sequence[str]:
        """Plants with a model, sorted."""
        return sorted(self._models)

    def model(self, plant: str) -> Model:
        """The plant's current model. Raises NotFoundError for an unknown plant, GateError where it has no model."""
        found = self._models.get(plant)
        if found is not None:
            return found
        if plant not in self.known():
            raise NotFoundError("Unknown plant", found=repr(plant), do="Check the name, or connect the plant")
        raise GateError(
            "The plant has no model", expected="a champion", found="none that loads", where=f"plant {plant}",
            do=f"Run `millwright tune --plants {plant}`; the service takes the champion over by itself",
        )  # fmt: skip

    def trial(self, plant: str) -> Trial | None:
        """The plant's model on trial, where there is one."""
        return self._trials.get(plant)

    def readers(self, model: Model) -> list[Model]:
        """A plant's model, and its model on trial: both read one store."""
        trial = self._trials.get(model.plant.name)
        return [model] if trial is None else [model, trial.model]

    def refresh(self) -> list[str]:
        """Load what is new. Returns the plants whose model changed; a failure leaves the last good one."""
        changed = []
        for name in self.home.plants():
            if self._tried(name, lambda name=name: self._refresh_plant(name)):  # type: ignore[misc]
                changed.append(name)
            self._tried(f"{name}, challenger", lambda name=name: self._refresh_trial(name))  # type: ignore[misc]
        self._metrics.set("models", len(self._models))
        return changed

    def _tried(self, what: str, work: Callable[[], bool]) -> bool:
        try:
            found = work()
        except Exception as error:  # what is wrong with one plant must not reach the others
            self._metrics.count("model_loads", result="failed")
            if self._said.get(what) != str(error):
                known = isinstance(error, MillwrightError | OSError)
                log.error("plant %s: %s", what, error, exc_info=None if known else error)
            self._said[what] = str(error)
            return False
        self._said.pop(what, None)
        return found

    def check(self) -> None:
        """Score one empty window with one plant's model, another's each time. Raises where it does not answer."""
        models = list(self._models.values())
        if models:
            model = models[next(self._checks) % len(models)]
            model.predictor.hazard(model.empty_windows(1))

    def start(self) -> None:
        """Refresh every ``serve.model_poll_s`` in the background. Each work in a thread of its own: a registry
        that hangs holds up neither an identity provider's keys nor metrics."""
        for work in (self.refresh, *self._also):
            self._threads.append(threading.Thread(target=self._poll, args=(work,), daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        self._stop.set()
        until = time.monotonic() + 5
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for state in self._states.values():
            state.close()

    def _poll(self, work: Callable[[], object]) -> None:
        while not self._stop.wait(self.home.settings.serve.model_poll_s):
            try:
                work()
            except Exception as error:  # the thread's edge: what is in memory serves on
                known = isinstance(error, MillwrightError)
                log.error("looking for what is new failed: %s", error, exc_info=None if known else error)

    def _refresh_plant(self, name: str) -> bool:
        pointer, current = champion(self.home, name), self._models.get(name)
        if pointer is None:
            return False
        fresh = current is None or current.champion != pointer
        predictor = self._load(pointer, name) if fresh else current.predictor  # type: ignore[union-attr]
        plant = self._current_plant(name, current)
        if not fresh and current is not None and plant is current.plant:
            return False
        model = Model(plant, pointer, predictor, self._state(name), self._batcher(name, predictor))
        seed_state(self.home, plant, model.state, span_us=model.span_us)
        self._models = self._models | {name: model}
        return fresh

    def _refresh_trial(self, name: str) -> bool:
        """A model on trial that does not load leaves every machine to the champion."""
        champion_model, current = self._models.get(name), self._trials.get(name)
        pointer = challenger(self.home, name) if champion_model is not None else None
        if pointer is None or champion_model is None or pointer.version == champion_model.spec.version:
            self._trials.pop(name, None)
            return current is not None
        if current and current.challenger == pointer and current.model.plant is champion_model.plant:
            return False
        standing = Champion(pointer.kind, pointer.version, pointer.path)
        if current and current.model.champion == standing:
            predictor = current.model.predictor
        else:
            self._trials.pop(name, None)  # the one before has ended, whether this one loads or not
            predictor = self._load(standing, name)
            _comparable(predictor.spec, champion_model.spec)
        model = Model(champion_model.plant, standing, predictor, champion_model.state, self._batcher(name, predictor))
        seed_state(self.home, model.plant, model.state, span_us=model.span_us)
        self._trials[name] = Trial(pointer, model)
        return True

    def _load(self, pointer: Champion, name: str) -> Predictor:
        bundle = load(self.home, name, pointer.path)
        if bundle.spec.plant != name:
            raise InputError(
                "The bundle is another plant's", expected=name, found=bundle.spec.plant, where=pointer.path
            )
        if bundle.spec.version != pointer.version:
            raise InputError(
                "The bundle is another version", expected=pointer.version, found=bundle.spec.version, where=pointer.path
            )
        predictor = Predictor(bundle, device="cuda" if self.home.settings.serve.gpus else None)
        warm(predictor)
        self._metrics.count("model_loads", result="loaded")
        log.info("plant %s: model %s (%s)", name, pointer.version, pointer.kind)
        return predictor

    def _current_plant(self, name: str, current: Model | None) -> Plant:
        if current is not None and is_current(self.home, current.plant):
            return current.plant
        return load_plant(self.home, name)

    def _batcher(self, name: str, predictor: Predictor) -> Batcher:
        return Batcher(predictor, lambda num_windows: self._metrics.observe("batch", num_windows, plant=name))

    def _state(self, name: str) -> State:
        if name not in self._states:
            self._states[name] = State(self.home.of(name).state)
        return self._states[name]


def _comparable(one: BundleSpec, other: BundleSpec) -> None:
    """Raises InputError where lists of machines could not hold answers of both."""
    found = [(spec.config.clock, dict(spec.config.hazard.horizons)) for spec in (one, other)]
    if found[0] != found[1]:
        raise InputError(
            "The challenger answers another question", expected="the champion's clock and horizons", found=one.version,
            where=f"plant {one.plant}", do="End the trial with `millwright challenge --end`",
        )  # fmt: skip


def warm(predictor: Predictor) -> None:
    """Score before the first request does: a shape's first run plans its memory. Raises where the model is broken."""
    shape = (predictor.spec.config.window.length, len(predictor.spec.channels))
    for num in (1, 8):
        found = predictor.hazard(np.full((num, *shape), np.nan, np.float32))
        if found.shape != (num, predictor.spec.num_bins) or not np.isfinite(found).all():
            raise InputError(
                "The model does not answer an empty window", expected=f"{num} x {predictor.spec.num_bins} numbers",
                found=f"{found.shape}, {int((~np.isfinite(found)).sum())} not finite", do="Train it again",
            )  # fmt: skip
    reasons(predictor, np.zeros(shape, np.float32))

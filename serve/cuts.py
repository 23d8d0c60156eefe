"""A machine's window out of the store, and the prediction that is made of it: the same for whoever asks.

The one idea: windows are cut by the functions that training cuts them by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.added import causes_of
from models.explain import reasons
from models.online import window_at
from models.predict import Cause, lasting, prediction
from models.windows import Float, tick_of
from serve.batching import Seen
from serve.scorer import Model

Prediction = dict[str, Any]


@dataclass(frozen=True)
class Cut:
    """A machine's window as of a tick, and how far its data reach."""

    machine: str
    tick: int
    data_until_us: int
    values: Float  # [W, C]
    num_rows: int


def cut(model: Model, machine: str, as_of_us: int | None) -> Cut | None:
    """The window that ends with the machine's newest reading, or with the tick that covers ``as_of_us``.

    None where there is no reading up to then.
    """
    config = model.spec.config
    if as_of_us is None:
        found = model.recent.window(machine, model.plant.events_of(machine), model.context)
        return None if found is None else Cut(machine, found.tick, found.data_until_us, found.values, found.num_rows)
    newest = model.state.newest_us(machine, as_of_us)
    if newest is None:
        return None
    tick = int(tick_of(np.array([as_of_us]), config.clock)[0])
    since = tick * config.clock.step_us - model.span_us
    times, values = model.state.read(machine, model.sensors, span_us=as_of_us - since, until_us=as_of_us)
    window = window_at(
        times, values, model.plant.events_of(machine), tick=tick, clock=config.clock, window=config.window,
        channels=model.context,
    )  # fmt: skip
    return Cut(machine, tick, newest, window, len(times))


def lasting_causes(model: Model) -> list[Cause]:
    """Causes that every prediction of the model has."""
    return lasting(model.spec) + causes_of(model.plant.changes, model.sensors)


def predicted(model: Model, found: Cut, seen: Seen, causes: Sequence[Cause], with_reasons: bool) -> Prediction:
    return prediction(
        model.spec, seen.outlook, plant=model.plant.name, machine=found.machine,
        as_of_us=found.tick * model.spec.config.clock.step_us, data_until_us=found.data_until_us, digest=seen.digest,
        degraded=causes, reasons=list(map(dict, reasons(model.predictor, found.values))) if with_reasons else None,
    )  # fmt: skip

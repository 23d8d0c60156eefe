"""What a machine did lately: its sensors on the model's grid, what the model makes of each moment, and its log.

The one idea: the past is asked as the present is. Rows of history and of the store are one series, windows are cut from
it as ever, and the model that answers now says what it would have said then; what was in fact said is in the journal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.home import Home
from cluster.storage import read_events, read_readings
from models.errors import NotFoundError
from models.predict import iso
from models.windows import Float, Int, grid, series_of, silence, tick_of, windows_ending
from serve.batching import seen
from serve.scorer import Model

STEPS, MOST_STEPS = 300, 1_000
MOST_ROWS = 500_000  # in memory at once, 44 MB of 22 sensors: fewer steps are told where a tick holds many rows
POINTS = 100  # moments at which the model is asked: a hundred windows take seven milliseconds
_EVENT = ("kind", "code", "component", "failure_mode", "finding")


def past(home: Home, model: Model, machine: str, *, steps: int, until_us: int) -> dict[str, Any]:
    """The ``steps`` ticks up to ``until_us``, or as many as ``MOST_ROWS`` hold.

    Raises NotFoundError where the machine has no reading.
    """
    config, sensors = model.spec.config, model.sensors
    steps = min(steps, _most_steps(model, machine))
    step_us, length = config.clock.step_us, config.window.length
    tick = int(tick_of(np.array([until_us]), config.clock)[0])
    first = tick - steps + 1
    times, values = _rows(home, model, machine, (first - 1) * step_us - model.span_us, until_us)
    if not len(times):
        raise NotFoundError("Unknown machine", found=repr(machine), where=f"plant {model.plant.name}")
    start, gridded = grid(times, values, config.clock)
    series = series_of(
        machine, times, values, model.plant.events_of(machine), clock=config.clock, window=config.window,
        channels=model.context,
    )  # fmt: skip
    last = start + len(gridded) - 1
    ends = np.arange(last, max(first, start) - 1, -max(1, steps // POINTS))[::-1]
    windows = windows_ending(series.values, ends - series.first_tick, length)
    heard = np.isfinite(windows[:, :, : len(sensors)]).any(axis=(1, 2))
    ends, windows = ends[heard], windows[heard]
    shown_from = max(first, start)
    return {
        "machine": machine,
        "step_s": config.clock.step_s,
        "life_unit": config.clock.life_unit,
        "times": [iso(int(t) * step_us) for t in range(shown_from, last + 1)],
        "sensors": [_sensor(model, i, gridded[shown_from - start :, i]) for i in range(len(sensors))],
        "horizon": model.spec.alarm_horizon,
        "predictions": _said(model, ends, windows),
        "events": _events(home, model.plant.name, machine, (first - 1) * step_us, until_us),
    }


def _most_steps(model: Model, machine: str) -> int:
    back = silence(model.spec.config.window)
    newest = model.recent.window(machine, model.plant.events_of(machine), model.context)
    rows_a_tick = 1.0 if newest is None else max(1.0, newest.num_rows / back)
    return max(1, int(MOST_ROWS / rows_a_tick) - back)


def _rows(home: Home, model: Model, machine: str, since_us: int, until_us: int) -> tuple[Int, Float]:
    """Rows of history and of the store, sorted by time; where both have a cell, what was sent last is in the store."""
    sensors = model.sensors
    sent_at, sent = model.state.read(machine, sensors, span_us=until_us - since_us, until_us=until_us)
    try:
        known = read_readings(
            home, model.plant.name, machines=[machine], since_us=since_us, until_us=until_us, sensors=sensors
        )
    except NotFoundError:  # nothing was ingested yet
        return sent_at, sent
    if not known.num_rows:
        return sent_at, sent
    before = np.stack([known[name].to_numpy(zero_copy_only=False) for name in sensors], axis=1).astype(np.float32)
    times = np.concatenate([known["time"].cast(pa.int64()).to_numpy(), sent_at])
    unique, place = np.unique(times, return_inverse=True)
    found = np.full((len(unique), len(sensors)), np.nan, np.float32)
    for rows, own in ((place[: len(before)], before), (place[len(before) :], sent)):
        found[rows] = np.where(np.isnan(own), found[rows], own)
    return unique, found


def _sensor(model: Model, index: int, values: Float) -> dict[str, Any]:
    spec, channel = model.spec, model.spec.channels[index]
    usual, bounds = spec.usual.window[index], spec.ranges.get(channel.name)
    return {
        "sensor": channel.name,
        "unit": channel.unit,
        "values": [round(v, 6) if np.isfinite(v) else None for v in values.astype(float).tolist()],
        "usual": usual if usual is not None and np.isfinite(usual) else None,
        "trained": list(bounds) if bounds is not None else None,
    }


def _said(model: Model, ends: Int, windows: Float) -> list[dict[str, Any]]:
    return [
        {
            "as_of": iso(int(end) * model.spec.config.clock.step_us),
            "failure_probability": each.outlook.failure_probability,
            "remaining_useful_life": each.outlook.remaining_useful_life,
        }
        for end, each in zip(ends, seen(model.predictor, windows), strict=True)
    ]


def _events(home: Home, plant: str, machine: str, since_us: int, until_us: int) -> list[dict[str, Any]]:
    table = read_events(home, plant)
    at = table["started_at"].cast(pa.int64())
    keep = pc.and_(pc.equal(table["machine"], machine), pc.and_(pc.greater(at, since_us), pc.less_equal(at, until_us)))
    rows = table.filter(keep).select(["started_at", "ended_at", *_EVENT]).to_pylist()
    return [
        row | {name: None if row[name] is None else row[name].isoformat() for name in ("started_at", "ended_at")}
        for row in rows
    ]

"""Online windows equal offline windows byte for byte, whatever the order and the parts in which readings come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.home import Home
from cluster.received import Rows, State
from models.predict import prediction_id, window_digest
from models.quality import scale_of
from models.windows import (
    CONTEXT,
    Channel,
    Float,
    Int,
    MachineEvents,
    context_of,
    series_of,
    tick_of,
    window_ending,
)
from serve.cuts import cut
from serve.scorer import Model
from serve.service import Service

HOUR_US = 3_600_000_000
START_US = 1_748_736_000_000_000  # 2025-06-01, far from now


@pytest.fixture
def model(service: Service) -> Model:
    return service.scorer.model("mill")


def history(seed: int, num: int = 60) -> tuple[Int, Float]:
    """Irregular readings with gaps, several in a tick, values missing."""
    rng = np.random.default_rng(seed)
    times = START_US + np.sort(rng.choice(40 * 60, num, replace=False)).astype(np.int64) * 60_000_000
    values = rng.normal(50, 20, (num, 2)).astype(np.float32)
    values[rng.random((num, 2)) < 0.3] = np.nan
    return times, values


def offline(model: Model, times: Int, values: Float, events: MachineEvents, tick: int) -> Float:
    config = model.spec.config
    series = series_of("m", times, values, events, clock=config.clock, window=config.window)
    return window_ending(series, tick, config.window.length)


def send_shuffled(model: Model, times: Int, values: Float, seed: int) -> None:
    """Cell by cell, in any order, some twice, in parts of any size."""
    rng = np.random.default_rng(seed)
    cells = [(i, j) for i in range(len(times)) for j in range(2) if not np.isnan(values[i, j])]
    cells += [(i, 0) for i in range(len(times)) if np.isnan(values[i]).all()]  # a row without any value is a row
    order = rng.permutation(len(cells)).tolist() + rng.integers(0, len(cells), 20).tolist()
    for part in np.array_split(np.array(order), 7):
        rows = np.full((len(part), 2), np.nan, np.float32)
        for k, c in enumerate(part):
            i, j = cells[c]
            rows[k, j] = values[i, j]
        at = times[[cells[c][0] for c in part]]
        model.state.append(Rows(["m"] * len(part), at, model.sensors, rows))


@pytest.mark.parametrize("seed", range(12))
def test_the_window_of_the_newest_reading_is_the_same_bytes(model: Model, seed: int) -> None:
    times, values = history(seed)
    send_shuffled(model, times, values, seed)
    found = cut(model, "m", None)
    assert found is not None
    tick = int(tick_of(times[-1:], model.spec.config.clock)[0])
    assert found.tick == tick
    assert found.values.tobytes() == offline(model, times, values, MachineEvents(), tick).tobytes()


@pytest.mark.parametrize("seed", range(6))
def test_the_window_as_of_any_tick_is_the_same_bytes(model: Model, seed: int) -> None:
    times, values = history(seed)
    send_shuffled(model, times, values, seed)
    ticks = tick_of(times, model.spec.config.clock)
    for tick in range(int(ticks[0]), int(ticks[-1]) + 1):
        found = cut(model, "m", tick * HOUR_US)
        assert found is not None
        # A tick knows what was received up to its end; the series ends there, as history did then.
        assert found.values.tobytes() == offline(model, times, values, MachineEvents(), tick).tobytes()


@pytest.mark.parametrize("seed", range(12))
def test_whoever_writes_what_and_when_the_newest_window_is_that_of_the_store(
    model: Model, plant_home: Home, seed: int
) -> None:
    rng, other = np.random.default_rng(seed), State(plant_home.of("mill").state)
    for step in range(120):
        at = START_US + int(rng.integers(0, 30 + 2 * step)) * 1_800_000_000  # old and new ticks, and gaps between
        at = max(at, (model.state.newest_us("m") or 0) + HOUR_US) if step % 4 == 0 else at  # the next tick, alone
        num = 1 if step % 4 == 0 else int(rng.integers(1, 6))
        times = at + rng.integers(0, 120, num) * 60_000_000
        values = rng.normal(50, 20, (num, 2)).astype(np.float32)
        values[rng.random((num, 2)) < 0.3] = np.nan
        sensors = [model.sensors, model.sensors[::-1], model.sensors[:1]][step % 3]
        machines = [["m", "n"][i] for i in rng.integers(0, 2, num)]
        rows = Rows(machines, times, sensors, np.ascontiguousarray(values[:, : len(sensors)]))
        match rng.choice(["own", "own", "own", "another", "history", "taken"]):
            case "own":
                model.recent.note(rows, model.state.append(rows))
            case "another":
                other.append(rows)
            case "history":
                other.seed(rows)
            case "taken":
                other.taken(10**9)
                other.prune(model.span_us)
        for machine in [name for name in ("m", "n") if rng.random() < 0.6]:  # others write several times between
            newest = model.state.newest_us(machine)
            found, expected = cut(model, machine, None), None if newest is None else cut(model, machine, newest)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert found.values.tobytes() == expected.values.tobytes()
                assert (found.tick, found.data_until_us, found.num_rows) == (
                    expected.tick, expected.data_until_us, expected.num_rows,
                )  # fmt: skip
    other.close()


def test_what_nobody_asks_about_is_not_kept_and_a_window_reads_only_what_has_changed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(tick: int, minute: int = 0) -> None:
        at = np.array([START_US + (60 * tick + minute) * 60_000_000])
        rows = Rows(["m"], at, model.sensors, np.array([[50.0 + tick, 1.0]], np.float32))
        model.recent.note(rows, model.state.append(rows))

    for tick in range(30):
        send(tick)
    cut(model, "m", None)
    read, spans = model.state.read, list[int]()

    def counted(*asked: Any, span_us: int, **more: Any) -> Any:
        spans.append(span_us)
        return read(*asked, span_us=span_us, **more)

    monkeypatch.setattr(model.state, "read", counted)
    send(30)
    cut(model, "m", None)
    assert spans == []  # a row that begins a tick alone
    send(30, -7)
    cut(model, "m", None)
    assert spans == [HOUR_US]  # its tick, not its window
    for tick in range(31, 90):
        send(tick)
        send(tick, -5)
    assert "m" not in model.recent._tails
    assert cut(model, "m", None) is not None
    assert spans == [HOUR_US, model.span_us]  # all of it, once


def test_no_more_machines_are_kept_than_may_be(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.recent.MOST_MACHINES", 2)
    for name in ("a", "b", "c"):
        model.state.append(Rows([name], np.array([START_US]), model.sensors, np.array([[1.0, 2.0]], np.float32)))
        assert cut(model, name, None) is not None
    assert set(model.recent._tails) == {"b", "c"}


def test_context_channels_are_the_same_bytes(model: Model) -> None:
    times, values = history(3)
    events = MachineEvents(
        installed_us=START_US - 500 * HOUR_US, renewed_us=np.array([START_US + 5 * HOUR_US]),
        renewed_known_us=np.array([START_US + 9 * HOUR_US]), errors_known_us=START_US + np.arange(0, 30, 7) * HOUR_US,
    )  # fmt: skip
    known = replace(model, plant=replace(model.plant, events={"m": events}))
    send_shuffled(known, times, values, 3)
    ticks = tick_of(times, model.spec.config.clock)
    for tick in range(int(ticks[0]), int(ticks[-1]) + 1):
        found = cut(known, "m", tick * HOUR_US)
        assert found is not None
        assert found.values.tobytes() == offline(model, times, values, events, tick).tobytes()
        assert not np.isnan(found.values[:, 2]).all()


def test_a_bundle_that_names_components_and_codes_is_served_the_bytes_that_it_was_trained_on(
    service: Service, plant_home: Home, champion_of: Callable[..., Path]
) -> None:
    times, values = history(4)
    events = MachineEvents(
        installed_us=START_US - 500 * HOUR_US, errors_known_us=START_US + np.arange(0, 30, 7) * HOUR_US,
        parts={"seal": (np.array([START_US + 3 * HOUR_US]), np.array([START_US + 4 * HOUR_US]))},
        codes={"e7": START_US + np.arange(0, 30, 14) * HOUR_US},
    )  # fmt: skip
    own = Channel("since_service.seal", "time", "life", "context")
    named = (own, Channel("errors_24h.e7", "number", "1", "context"))
    champion_of(plant_home, "mill", "v2", context=(*CONTEXT, *named))
    assert service.scorer.refresh() == ["mill"]
    model = service.scorer.model("mill")
    spec, known = model.spec, replace(model, plant=replace(model.plant, events={"m": events}))
    send_shuffled(known, times, values, 4)
    ticks = tick_of(times, spec.config.clock)
    for tick in range(int(ticks[0]), int(ticks[-1]) + 1):
        found = cut(known, "m", tick * HOUR_US)
        assert found is not None
        series = series_of(
            "m", times, values, events, clock=spec.config.clock, window=spec.config.window,
            channels=context_of(spec.channels),
        )  # fmt: skip
        assert found.values.tobytes() == window_ending(series, tick, spec.config.window.length).tobytes()
        assert found.values.shape[1] == 6
    assert found.values[-1, 4] == (ticks[-1] * HOUR_US - START_US - 3 * HOUR_US) / HOUR_US


def test_a_time_after_the_last_reading_carries_as_offline(model: Model) -> None:
    times, values = np.array([START_US]), np.array([[60.0, 1.0]], np.float32)
    send_shuffled(model, times, values, 0)
    later = cut(model, "m", START_US + 2 * HOUR_US)
    gone = cut(model, "m", START_US + 3 * HOUR_US)
    assert later is not None
    assert later.values[-1, :2].tolist() == [60.0, 1.0]  # carried over two ticks
    assert gone is not None
    assert np.isnan(gone.values[-1, :2]).all()
    assert gone.data_until_us == START_US


def test_over_http_in_the_plants_own_units_the_prediction_is_of_the_offline_window(
    call: Callable[..., Any], model: Model, plant_home: Home
) -> None:
    times, _ = history(5)
    rng = np.random.default_rng(5)
    raw = rng.normal(150, 20, (len(times), 2)).round(1)  # degF and mm/s, as the plant writes them
    body = [{"time": t / 1e6, "oil_degF": f, "vib": v} for t, (f, v) in zip(times.tolist(), raw.tolist(), strict=True)]
    answer = None
    for i in rng.permutation(len(body)):
        answer = call("POST", "/v1/plants/mill/machines/m/readings", {"readings": [body[i]]})
        assert answer.status == 200
    scale = scale_of(plant_home.source("mill").by_raw_name()["oil_degF"])
    values = np.stack([raw[:, 0] * scale.factor + scale.offset, raw[:, 1]], axis=1).astype(np.float32)
    window = offline(model, times, values, MachineEvents(), int(tick_of(times, model.spec.config.clock)[-1]))
    assert answer is not None
    assert answer.json["prediction_id"] == prediction_id("v1", "mill", "m", window_digest(window), int(times[-1]))

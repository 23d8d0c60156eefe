"""Parts of a history: what each may know, and that Ray reads what ingest wrote."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.config import SplitSettings
from cluster.home import Home
from cluster.logs import machine_events as events_of
from cluster.storage import read_events, read_machines, read_readings, sensors
from jobs.dataset import PlantData, load_plant, named_plants
from jobs.series.cache import store
from jobs.series.gather import StoredSeries
from jobs.series.later import count_failures
from models.config import Clock, ModelConfig, WindowConfig
from models.errors import InputError, NotFoundError
from models.labels import MachineLog
from models.online import window_at
from models.windows import MachineEvents, channels_of, context_of, series_of, tick_of, window_ending

HOUR = 3_600_000_000
CLOCK = Clock()
WINDOW = WindowConfig(length=8, carry=0)
HOURS = 3000


def plant_data(**logs: MachineLog) -> PlantData:
    """Four machines that count the hours, with the logs given."""
    times = np.arange(1, HOURS + 1) * HOUR
    values = np.arange(HOURS, dtype=np.float32)[:, None]
    series = {
        name: series_of(name, times, values, MachineEvents(0), clock=CLOCK, window=WINDOW) for name in "abcd"
    }  # fmt: skip
    return PlantData(
        "p", CLOCK, channels_of([("x", "number", "1")]), series, {}, logs, dict.fromkeys("abcd", "pump"), "v1", {}
    )


def on_disk(data: PlantData, folder: Path, *, cut: int = HOURS) -> PlantData:
    """The same plant as files of the cache; every machine's history in two chunks from ``cut`` hours on."""
    chunks = []
    for s in data.series.values():
        chunks.append(replace(s, values=s.values[: s.lead + cut]))
        if cut < HOURS:
            chunks.append(replace(s, first_tick=s.first_tick + cut, values=s.values[cut:]))
    unit = store(folder, "unit", chunks, num_channels=len(data.channels))
    return replace(data, series=StoredSeries.of([unit], {m: MachineEvents(0) for m in data.series}, CLOCK))


def log(failed: int, known: int) -> MachineLog:
    return MachineLog(*(np.array([hour * HOUR]) for hour in (failed, failed + 5, known)))


def test_training_does_not_know_a_failure_that_was_booked_after_its_end(tmp_path: Path) -> None:
    config, settings = ModelConfig(window=WINDOW), SplitSettings(unseen_machines=0)
    on_time, late = (on_disk(plant_data(a=log(1500, booked)), tmp_path) for booked in (1505, 1900))
    split = on_time.split_in_time(settings, config)
    assert split.bounds_us["train"][1] == HOUR + int(2999 * HOUR * 0.6)  # hour 1800
    known = {s.machine: s for s in on_time.sequences("train", split)}
    unknown = {s.machine: s for s in late.sequences("train", split)}
    assert known["a"].event.any() and not unknown["a"].event.any()
    assert not known["b"].event.any()


def test_a_sequence_has_its_windows_context_and_learns_only_from_its_own_ticks(tmp_path: Path) -> None:
    data, settings = on_disk(plant_data(a=log(2100, 2105)), tmp_path), SplitSettings(unseen_machines=0)
    split = data.split_in_time(settings, ModelConfig(window=WINDOW))
    (train, validate) = (data.sequences(part, split)[0] for part in ("train", "validate"))
    assert not train.usable[:7].any() and not validate.usable[:7].any()
    assert train.usable[7:].any() and validate.usable[7:].any()
    last_trained = np.nanmax(train.values[train.usable][:, 0])
    assert np.nanmin(validate.values[validate.usable][:, 0]) >= last_trained + 168  # the longest horizon between


def test_a_history_in_chunks_teaches_what_it_teaches_whole(tmp_path: Path) -> None:
    plain, settings = plant_data(a=log(1000, 1005), b=log(1600, 1605)), SplitSettings(unseen_machines=0)
    whole, chunked = on_disk(plain, tmp_path / "whole"), on_disk(plain, tmp_path / "cut", cut=900)
    assert whole.spans == chunked.spans == plain.spans
    split = whole.split_in_time(settings, ModelConfig(window=WINDOW))
    learned = []
    for data in (whole, chunked):
        steps = {}
        for s in pickle.loads(pickle.dumps(data.sequences("train", split))):  # as a worker gets them
            for row in np.flatnonzero(s.usable):
                key = (s.machine, s.first_tick + int(row))
                assert key not in steps
                window = s.values[row - 7 : row + 1]
                steps[key] = (window.tobytes(), float(s.time[row]), bool(s.event[row]))
        learned.append(steps)
    assert learned[0] == learned[1] and len(learned[0]) > 6000
    assert count_failures(chunked.sequences("train", split), CLOCK) == 2
    a, b = whole.series["a"], chunked.series["a"]
    assert (a.first_tick, a.lead, a.values.tobytes()) == (b.first_tick, b.lead, b.values.tobytes())


def test_test_windows_are_the_series_own_and_later_than_everything_else() -> None:
    data, settings = plant_data(a=log(2900, 2905)), SplitSettings(unseen_machines=0.25)
    split = data.split_in_time(settings, ModelConfig(window=WINDOW))
    pieces = list(data.part("test", split))
    assert {p.machine for p in pieces} == set("abcd") and sum(p.unseen for p in pieces) == 1
    piece = pieces[0]
    windows = piece.windows(8)
    assert windows.shape == (len(piece.rows), 8, 3)
    np.testing.assert_array_equal(windows[0, :, 0], np.arange(windows[0, -1, 0] - 7, windows[0, -1, 0] + 1))


def test_failures_after_training_do_not_choose_the_unseen_machines() -> None:
    config, settings = ModelConfig(window=WINDOW), SplitSettings(unseen_machines=0.25)
    before = {"a": log(100, 105), "b": log(200, 205)}
    drawn = {
        plant_data(**before, **later).split_in_time(settings, config).unseen
        for later in ({}, {"c": log(2900, 2905)}, {"d": log(2500, 2505)}, {"c": log(1500, 1900), "d": log(2000, 2005)})
    }
    assert len(drawn) == 1
    many = {"c": MachineLog(*(np.arange(1, 20) * 10 * HOUR for _ in range(3)))}
    assert {plant_data(**before, **many).split_in_time(settings, config).unseen} != drawn


def test_ticks_inside_an_outage_are_not_judged() -> None:
    from jobs.evaluation.rows import later_rows

    data = plant_data(a=log(2700, 2705))  # down for five hours, sensors still sending
    split = data.split_in_time(SplitSettings(unseen_machines=0), ModelConfig(window=WINDOW))
    rows = later_rows(data, split)
    of_a = set((rows.time_us[rows.ticks.machine == rows.machines.index("a")] // HOUR).tolist())
    assert {2699, 2705} <= of_a and of_a.isdisjoint(range(2700, 2705))


def test_an_unknown_plant_is_named_with_those_that_are_known(home: Home) -> None:
    with pytest.raises(InputError, match=r"No plant.*millwright connect"):
        named_plants(home, "all")
    with pytest.raises(NotFoundError, match=r"Unknown plant.*'x'"):
        named_plants(home, "x")


@pytest.mark.ray
def test_ray_grids_every_machine_of_the_history(plant_home: Home) -> None:
    data = load_plant(plant_home, "harbor")
    assert len(data.series) == 12 and [c.role for c in data.channels].count("sensor") == 6
    assert sum(data.failures().values()) > 0
    table = read_readings(plant_home, "harbor", machines=["P-03"])
    assert int(data.series["P-03"].ticks[-1]) == -(-int(table["time"].to_numpy()[-1].astype("int64")) // HOUR)


@pytest.mark.ray
def test_a_window_from_the_last_rows_of_a_real_history_equals_the_trained_one(plant_home: Home) -> None:
    data, window = load_plant(plant_home, "harbor"), plant_home.settings.model.window
    known = events_of(read_events(plant_home, "harbor"), read_machines(plant_home, "harbor"))
    table = read_readings(plant_home, "harbor", machines=["P-05"], sensors=sensors(plant_home, "harbor"))
    times = table["time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    values = np.stack([table[c].to_numpy() for c in table.column_names[2:]], axis=1)
    for stop in (70, 500, len(times)):
        tick, rows = int(tick_of(times[stop - 1 : stop], CLOCK)[0]), slice(max(0, stop - 80), stop)
        online = window_at(
            times[rows], values[rows], known["P-05"], tick=tick, clock=CLOCK, window=window,
            channels=context_of(data.channels),
        )  # fmt: skip
        assert online.tobytes() == window_ending(data.series["P-05"], tick, window.length).tobytes()


@pytest.mark.ray
def test_a_plant_without_history_says_what_to_run(plant_home: Home, home: Home) -> None:
    home.sources.mkdir()
    (home.sources / "harbor.toml").write_bytes((plant_home.sources / "harbor.toml").read_bytes())
    with pytest.raises(InputError, match=r"No history.*millwright ingest --plant harbor"):
        load_plant(home, "harbor")

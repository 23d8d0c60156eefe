"""Azure's sample through the code of any plant: on files that the test writes, and on Microsoft's where they are."""

from __future__ import annotations

import csv
import gzip
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from cluster.storage import read_events, read_readings
from jobs import benchmark, ingest
from jobs.benchmarks import azure
from jobs.benchmarks.azure import check, description
from jobs.benchmarks.folds import OutOfFold, Said, folds_of, judged_history, limited
from jobs.benchmarks.paired import compared, event_weights
from jobs.candidates import study_of
from jobs.dataset import load_plant, training_end_us
from models.config import HazardConfig
from models.episodes import Ticks
from models.errors import InputError
from models.windows import CONTEXT, Channel, context_of

MICROSOFT = Path(__file__).parents[3] / "shared" / "data" / "azure_pdm"
START = datetime(2015, 1, 1, 6)
HOUR_US = 3_600_000_000


def write_sample(folder: Path, *, machines: int = 6, days: int = 30, packed: bool = False) -> None:
    """Each machine fails every eight days or so: telemetry shifts 48 h before, errors come 24 h before."""
    rng = np.random.default_rng(0)
    tables: dict[str, list[tuple[Any, ...]]] = {name: [columns] for name, columns in azure.COLUMNS.items()}
    for machine in range(1, machines + 1):
        failures = [START + timedelta(days=d) for d in range(4 + machine % 3, days, 8)]
        tables["PdM_machines"].append((machine, f"model{machine % 2 + 1}"))
        tables["PdM_maint"].append((datetime(2014, 12, 1, 6), machine, "comp1"))
        for number, at in enumerate(failures):
            component = f"comp{number % 2 + 1}"
            tables["PdM_failures"].append((at, machine, component))
            tables["PdM_maint"].append((at, machine, component))
            tables["PdM_errors"] += [
                (at - timedelta(hours=h), machine, f"error{n}") for n, h in enumerate((20, 22), start=1 + number % 2)
            ]
        hours = np.arange(days * 24)
        near = np.zeros(len(hours), bool)
        for at in failures:
            ahead = (at - START) / timedelta(hours=1) - hours
            near |= (ahead > 0) & (ahead <= 48)
        values = rng.normal([170, 450, 100, 40], 1.0, (len(hours), 4)) + near[:, None] * [0, 0, 0, 8.0]
        for hour, row in zip(hours.tolist(), values.round(4).tolist(), strict=True):
            tables["PdM_telemetry_hourly_m1-20_90d"].append((START + timedelta(hours=hour), machine, *row))
        for day, rows in enumerate(np.split(values, days)):
            date = (START + timedelta(days=day)).date()
            tables["PdM_telemetry_daily_mean"].append((date, f"{machine}.0", *rows.mean(axis=0).round(4).tolist()))
    for name, table in tables.items():
        path = folder / (f"{name}.csv.gz" if packed else f"{name}.csv")
        with gzip.open(path, "wt", newline="") if packed else path.open("w", newline="") as file:
            csv.writer(file).writerows(table)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("azure")
    write_sample(folder, packed=True)
    return folder


@pytest.fixture(scope="module")
def hourly(tmp_path_factory: pytest.TempPathFactory, sample: Path, ray_cluster: None) -> Home:
    return ingested(open_home(tmp_path_factory.mktemp("h") / "home", create=True, environment={}), "hourly", sample)


def ingested(home: Home, name: str, data: Path) -> Home:
    source = description(name, check(data, [name]), home.path / "raw" / name)
    home.sources.mkdir(parents=True, exist_ok=True)
    azure.write_source(home.of(source.plant).source, source)
    ingest.run(home, plant=source.plant, progress=Silent())
    return home


@pytest.mark.ray
def test_both_parts_are_judged_beside_the_baselines_with_a_paired_gain(
    tmp_path: Path, ray_cluster: None, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, config in azure.CONFIG.items():
        network = config.network.model_copy(update={"epochs": 3, "hidden": 8, "layers": 2})
        quick = {"network": network, "trees": config.trees.model_copy(update={"rounds": 20, "min_rows": 20})}
        monkeypatch.setitem(azure.CONFIG, name, config.model_copy(update=quick))
    monkeypatch.setattr(azure, "FOLDS", 3)
    home = open_home(tmp_path / "home", create=True, environment={})
    report = benchmark.run(home, progress=Silent(), name="azure", data=sample, seeds=1)
    assert isinstance(report, azure.AzureReport)
    found = report.as_json()
    assert [part["name"] for part in found["parts"]] == ["hourly", "daily"] and found["simulated"]
    for kind in ("model", "baseline", "no_sensor"):
        assert 0 < found[kind]["average_precision"]["value"] <= 1 and len(found[kind]["repeats"]) == 1
    judged = report.parts[0].found
    assert (judged.num_machines, judged.num_failures) == (6, 22)
    assert judged.baseline.average_precision.value is not None
    assert judged.baseline.average_precision.value > 0.9 > judged.positive_share  # telemetry shifts 48 h ahead
    assert judged.gain.low is not None and judged.gain.high is not None and judged.gain.low <= judged.gain.high
    assert judged.model == report.model and judged.gain == report.gain


@pytest.mark.ray
def test_context_channels_come_from_the_components_and_codes_of_the_log(hourly: Home) -> None:
    data = load_plant(hourly, "azure-hourly", config=azure.CONFIG["hourly"], by_machine=True)
    assert [c.name for c in data.channels] == [
        "pressure", "rotate", "vibration", "volt", *(c.name for c in CONTEXT), "since_service.comp1",
        "since_service.comp2", "errors_24h.error1", "errors_24h.error2", "errors_24h.error3",
    ]  # fmt: skip
    history, _ = judged_history(data, "1")
    first = azure.CONFIG["hourly"].window.length - 1
    assert history.values[first, 6] == 31 * 24  # the replacement of 2014 counts, though readings begin later
    failure = first + 5 * 24
    assert (history.time[failure - 1], history.event[failure - 1]) == (1, True)
    assert history.values[failure - 1, 6] == 36 * 24 - 1 and history.values[failure, 6] == 0
    assert history.values[failure - 19, 8:10].tolist() == [1, 1]
    assert history.values[failure - 21, 8:10].tolist() == [
        0,
        1,
    ]


@pytest.mark.ray
def test_what_only_test_time_has_seen_names_no_channel(tmp_path: Path, hourly: Home) -> None:
    home, config = open_home(tmp_path / "home", create=True, environment={}), azure.CONFIG["hourly"]
    (tmp_path / "raw").mkdir()
    write_sample(tmp_path / "raw")
    cut = START + timedelta(hours=(30 * 24 - 1) * home.settings.split.train_until)
    with (tmp_path / "raw" / "PdM_errors.csv").open("a", newline="") as file:
        rows = [(cut + timedelta(hours=hour), machine, "error9") for hour in range(1, 200) for machine in range(1, 7)]
        csv.writer(file).writerows((at.replace(microsecond=0), *rest) for at, *rest in rows)
    ingested(home, "hourly", tmp_path / "raw")
    assert training_end_us(home, "azure-hourly") == (cut - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    before, after = (load_plant(one, "azure-hourly", config=config) for one in (hourly, home))
    assert after.channels == before.channels
    train_end = after.split_in_time(home.settings.split, config).bounds_us["train"][1]
    assert 0 <= train_end - training_end_us(home, "azure-hourly") <= after.clock.step_us
    assert "errors_24h.error9" in [c.name for c in load_plant(home, "azure-hourly", by_machine=True).channels]
    # A model of before, which was given that channel, still finds it.
    asked = (*CONTEXT, Channel("errors_24h.error9", "number", "1", "context"))
    found = load_plant(home, "azure-hourly", config=config, context=asked)
    assert context_of(found.channels) == asked
    assert found.series["1"].values[-1, -1] == 0 and np.nanmax(found.series["1"].values[:, -1]) == 24


@pytest.mark.ray
def test_a_service_of_a_component_does_not_end_the_life_of_its_machine(hourly: Home) -> None:
    data = load_plant(hourly, "azure-hourly", config=azure.CONFIG["hourly"])
    assert all(len(log.serviced_us) == 0 for log in data.logs.values())
    assert sum(data.failures().values()) == read_events(hourly, "azure-hourly")["kind"].to_pylist().count("failure")


@pytest.mark.ray
def test_a_days_mean_is_known_at_six_of_the_next_day_and_used_from_the_midnight_after(
    tmp_path: Path, ray_cluster: None, sample: Path
) -> None:
    home = ingested(open_home(tmp_path / "home", create=True, environment={}), "daily", sample)
    assert str(read_readings(home, "azure-daily", machines=["1"])["time"][0]) == "2015-01-02 06:00:00+00:00"
    data = load_plant(home, "azure-daily", config=azure.CONFIG["daily"])
    midnight = (datetime(2015, 1, 3) - datetime(1970, 1, 1)) // timedelta(hours=1) * HOUR_US
    assert data.spans["1"][0] * data.clock.step_us == midnight


@pytest.mark.ray
def test_lives_are_censored_at_the_last_edge_for_training_alone(hourly: Home) -> None:
    config = azure.CONFIG["hourly"]
    data = load_plant(hourly, "azure-hourly", config=config)
    split = folds_of(data.failures(), 3, seed=0)[0]
    whole = study_of(data, split, config)
    near = limited(whole)
    for before, after in zip([*whole.train, *whole.validate], [*near.train, *near.validate], strict=True):
        np.testing.assert_array_equal(after.time, np.minimum(before.time, 96))
        np.testing.assert_array_equal(after.event, before.event & (before.time <= 96))
        assert (before.time > 96).any()
    assert near.num_failures == whole.num_failures


def test_each_machine_is_test_once_and_trains_nothing_that_judges_it() -> None:
    failures = {f"m{i}": i % 4 for i in range(20)}
    splits = folds_of(failures, 5, seed=1)
    assert sorted(m for split in splits for m in split.unseen) == sorted(failures)
    for split in splits:
        assert not split.unseen & split.held_out and len(split.unseen) == len(split.held_out) == 4
        assert sum(failures[m] for m in split.unseen) == 6
        assert not split.owns("train", next(iter(split.unseen)), np.array([0])).any()
    assert [s.unseen for s in folds_of(failures, 5, seed=2)] != [s.unseen for s in splits]
    with pytest.raises(InputError, match="Too few machines for the folds: expected at least 5, found 4"):
        folds_of(dict.fromkeys("abcd", 1), 5, seed=0)


def ticks_of(lives: list[tuple[int, int, bool]]) -> Ticks:
    """Hourly ticks of lives (machine, hours, ends in failure), a machine's one after the other."""
    machine = np.concatenate([np.full(hours, m) for m, hours, _ in lives])
    time = np.concatenate([np.arange(hours, 0, -1.0) for _, hours, _ in lives])
    now = np.concatenate([np.arange(hours) + 1000.0 * i for i, (_, hours, _) in enumerate(lives)])
    event = np.concatenate([np.full(hours, failed) for _, hours, failed in lives])
    return Ticks(machine, now, time, event, 1 + max(m for m, _, _ in lives), 1.0)


def test_a_failure_weighs_one_however_many_of_its_hours_are_scored() -> None:
    ticks = ticks_of([(0, 10, True), (0, 100, True), (1, 60, False)])
    found = event_weights(ticks, 48.0)
    assert found[:10].sum() == pytest.approx(1)  # ten hours alone precede the first failure
    assert found[62:110].sum() == pytest.approx(1) and found[10:62].sum() == pytest.approx(52 / 48)
    assert found[110:122].sum() == pytest.approx(12 / 48)
    assert not found[122:].any()  # the record ends before anybody can know


def said(risk: np.ndarray[Any, Any]) -> Said:
    return Said(risk, risk >= 0.5, np.full(len(risk), 0.1))


def answers(network: np.ndarray[Any, Any], other: np.ndarray[Any, Any], ticks: Ticks) -> OutOfFold:
    kinds = {"network": said(network), "trees": said(other), "no_sensor": said(other), "blind": said(other)}
    return OutOfFold(tuple(str(m) for m in range(ticks.num_machines)), ticks, (kinds, kinds))


def test_who_knows_all_gains_all_over_who_knows_nothing() -> None:
    ticks = ticks_of([(m, hours, True) for m in range(8) for hours in (100, 120)])
    positive = ticks.time <= 48
    found = compared(
        answers(positive * 0.98 + 0.01, np.full(len(positive), 0.1), ticks), HazardConfig(), horizon=48.0
    )  # fmt: skip
    share = 16 / (16 + 8 * (52 + 72) / 48)
    assert (found.num_failures, found.num_ticks) == (16, 1760)
    assert found.model.average_precision.value == 1 and found.model.caught.value == 1
    assert found.no_sensor.average_precision.value == pytest.approx(share, abs=1e-4)
    assert found.gain.value == pytest.approx(1 - share, abs=1e-4)
    assert found.sensor_gain == found.gain and found.blind == found.no_sensor
    assert found.baseline_gain.value == 0 and found.baseline_gain.low is None
    assert found.no_sensor.auc.value == 0.5 and found.no_sensor.brier_skill.value == 0


def test_noise_gains_nothing_and_its_interval_says_so() -> None:
    ticks = ticks_of([(m, hours, True) for m in range(12) for hours in (100, 120)])
    rng = np.random.default_rng(0)
    first, second = (rng.random(12 * 220) for _ in range(2))
    found = compared(answers(first, second, ticks), HazardConfig(), horizon=48.0)
    assert found.gain.low is not None and found.gain.high is not None
    assert found.gain.low < 0 < found.gain.high


def test_missing_and_broken_files_are_named(tmp_path: Path, home: Home) -> None:
    with pytest.raises(InputError, match="No such folder: expected a folder with Microsoft's"):
        check(tmp_path / "nowhere", ["hourly"])
    with pytest.raises(InputError, match=r"A file is missing: expected PdM_errors.csv or .csv.gz"):
        check(tmp_path, ["hourly"])
    write_sample(tmp_path, machines=1, days=2)
    (tmp_path / "PdM_telemetry_daily_mean.csv").unlink()
    assert "PdM_telemetry_daily_mean" not in check(tmp_path, ["hourly"])
    with pytest.raises(InputError, match=r"A file is missing: expected PdM_telemetry_daily_mean.csv"):
        check(tmp_path, ["daily"])
    (tmp_path / "PdM_maint.csv").write_text("datetime,machine\n")
    with pytest.raises(InputError, match=r"A column is missing: expected datetime, machineID, comp.*PdM_maint"):
        check(tmp_path, ["hourly"])
    (tmp_path / "PdM_maint.csv").unlink()
    (tmp_path / "PdM_maint.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"Unreadable file.*PdM_maint.csv.gz"):
        check(tmp_path, ["hourly"])
    with pytest.raises(InputError, match=r"Unknown subset: expected one of hourly, daily, found 'weekly'"):
        benchmark.run(home, progress=Silent(), name="azure", data=tmp_path, subset="weekly")


@pytest.mark.ray
def test_a_row_that_history_cannot_take_ends_the_benchmark(tmp_path: Path, ray_cluster: None) -> None:
    write_sample(tmp_path, machines=3, days=3)
    with (tmp_path / "PdM_errors.csv").open("a") as file:
        file.write("yesterday,1,error1\n")
    home = open_home(tmp_path / "home", create=True, environment={})
    with pytest.raises(InputError, match="Rows that history cannot take: expected none, found 1 in quarantine"):
        benchmark.run(home, progress=Silent(), name="azure", data=tmp_path, subset="hourly", seeds=1)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(not MICROSOFT.is_dir(), reason="Microsoft's files are not beside this repository (azure_pdm)")
@pytest.mark.parametrize("part", ["hourly", "daily"])
def test_sensors_gain_average_precision_over_the_logs_alone(tmp_path: Path, ray_cluster: None, part: str) -> None:
    home = open_home(tmp_path / "home", create=True, environment={})
    report = benchmark.run(home, progress=Silent(), name="azure", data=MICROSOFT, subset=part, seeds=3)
    assert isinstance(report, azure.AzureReport)
    found = report.parts[0].found
    for gain in (found.baseline_gain, found.sensor_gain):
        assert gain.low is not None and gain.low > 0
    if part == "hourly":  # on the daily part the network is behind both kinds of trees; docs/decisions.md says why
        assert found.gain.low is not None and found.gain.low > 0
    assert report.seconds <= 600

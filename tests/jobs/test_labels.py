"""Every event has one verdict with its reason, worked by hand; the counts add up and are those of training."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import SplitSettings
from cluster.home import Home, open_home
from cluster.logs import machine_logs
from cluster.report import Silent
from cluster.storage import EVENTS, read_events
from jobs import connect, ingest, labels
from jobs.candidates import study_of
from jobs.dataset import PlantData, load_plant
from jobs.labelling.counts import PlantLabels, summary
from jobs.labelling.verdicts import Account, Life, account
from jobs.labelling.words import NOT_USED, WHY
from models.config import Clock, ModelConfig, WindowConfig
from models.errors import InputError, NotFoundError
from models.windows import MachineEvents, channels_of, series_of

HOUR = 3_600_000_000
AZURE = Path(__file__).parents[3] / "shared" / "data" / "azure_pdm"
WINDOW = WindowConfig(length=8, carry=0)
OBSERVED = {"a": [(1, 1000)], "b": [(401, 1000)], "c": [(1, 500), (700, 1000)]}
# machine, kind, start, end, effect; each booked 20 h after its start
LOG: list[tuple[str | None, str, int | None, int | None, str | None]] = [
    ("a", "failure", 100, 105, None), ("a", "failure", 100, 104, None), ("a", "failure", 103, 110, None),
    ("a", "maintenance", 105, 106, "replaced"), ("a", "maintenance", 300, 301, "repaired"),
    ("a", "maintenance", 300, 301, "replaced"), ("a", "maintenance", 320, 321, "inspected"),
    ("a", "maintenance", 340, 341, None), ("a", "error", 350, None, None), ("a", "operating_state", 360, None, None),
    ("a", "failure", 990, 991, None), ("a", "failure", 1500, 1501, None), ("a", "failure", 3000, 3001, None),
    ("zz", "failure", 50, 51, None), ("b", "failure", 401, 402, None), ("b", "failure", 800, 801, None),
    ("b", "failure", 950, 951, None), ("c", "failure", 600, 605, None), ("c", "failure", 650, 651, None),
    (None, "failure", 10, 11, None), ("b", "failure", None, None, None),
    ("b", "maintenance", 850, 851, "replaced"), ("b", "maintenance", 900, 901, "repaired"),
]  # fmt: skip
ON_CONDITION = {850: "no finding", 900: "crack in the shaft"}  # start -> finding
EXPECTED = [
    ("failure", "label", "train"), ("excluded", "same_moment", ""), ("excluded", "in_outage", ""),
    ("excluded", "repair", ""), ("censored", "service", ""), ("excluded", "same_moment", ""),
    ("context", "inspected", ""), ("context", "no_effect", ""), ("context", "error", ""),
    ("context", "operating_state", ""), ("excluded", "recent", ""), ("excluded", "after_readings", ""),
    ("excluded", "future", ""), ("excluded", "no_readings", ""), ("excluded", "before_readings", ""),
    ("failure", "label", "between_parts"), ("failure", "label", "test"), ("failure", "label", "unsettled"),
    ("excluded", "unobserved", ""), ("excluded", "no_machine", ""), ("excluded", "no_time", ""),
    ("censored", "condition", ""), ("censored", "finding", ""),
]  # fmt: skip


def moment(hour: int | None) -> datetime | None:
    return None if hour is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)


def table(log: list[tuple[str | None, str, int | None, int | None, str | None]] = LOG) -> pa.Table:
    rows = [
        {
            "event_id": str(number), "machine": machine, "kind": kind, "started_at": moment(start),
            "ended_at": moment(end), "effect": effect, "recorded_at": moment(start + 20 if start else None),
            "failure_mode": "seal" if kind == "failure" else None, "finding": ON_CONDITION.get(start),
            "trigger": ("condition" if start in ON_CONDITION else "calendar") if effect else None,
        }
        for number, (machine, kind, start, end, effect) in enumerate(log)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EVENTS)


def history(events: pa.Table) -> PlantData:
    """Hourly readings of a, b and c; c has a gap of 200 h."""
    series = {}
    for machine, spans in OBSERVED.items():
        times = np.concatenate([np.arange(low, high + 1) for low, high in spans]) * HOUR
        values = np.ones((len(times), 1), np.float32)
        series[machine] = series_of(machine, times, values, MachineEvents(), clock=Clock(), window=WINDOW)
    types = dict.fromkeys("abc", "pump")
    channels = channels_of([("x", "number", "1")])
    return PlantData("p", Clock(), channels, series, {}, machine_logs(events), types, "v1", {})


def judged(unseen: float = 0.0) -> tuple[PlantLabels, Account]:
    events = table()
    data = history(events)
    split = data.split_in_time(SplitSettings(unseen_machines=unseen), ModelConfig(window=WINDOW))
    found = account(data, events, split, now_us=2000 * HOUR, blind_us=48 * HOUR)
    return summary(data, events, found, split, blind_h=48.0), found


def test_every_event_has_the_verdict_that_follows_from_the_labels() -> None:
    _, found = judged()
    assert [(v.verdict, v.reason, v.use) for v in found.verdicts] == EXPECTED
    assert found.delay_us == 20 * HOUR


def test_the_counts_add_up_to_the_events_and_every_reason_has_its_words() -> None:
    report, found = judged()
    assert report.verdicts == {"failure": 4, "censored": 3, "excluded": 12, "context": 4}
    assert report.events == len(LOG) == sum(report.verdicts.values()) == sum(r.count for r in report.reasons)
    assert sum(p.failures for p in report.parts) + sum(report.not_used.values()) == report.verdicts["failure"]
    assert {v.reason for v in found.verdicts} == set(WHY), "a reason without words, or words without a reason"


def test_lives_run_from_what_made_the_machine_new_to_what_ended_them() -> None:
    report, found = judged()
    of_a = [life for life in found.lives if life.machine == "a"]
    assert of_a == [
        Life("a", 1 * HOUR, "readings", 100 * HOUR, "failure", 99, False),
        Life("a", 110 * HOUR, "repair", 300 * HOUR, "service", 190, False, "service"),  # the second outage is the later
        Life("a", 300 * HOUR, "service", 980 * HOUR, "end", 680, False),
    ]
    assert report.lives == {"failure": 4, "service": 3, "end": 3}
    assert report.censored_by == {"condition": 2, "calendar": 1}
    assert report.maintenance == {"service": 1, "condition": 1, "finding": 1}


def test_a_failure_after_two_days_of_silence_is_a_label_that_nobody_can_learn() -> None:
    report, found = judged()
    assert [life.ended_us for life in found.lives if life.blind] == [600 * HOUR]
    assert report.blind == 1
    assert any("1 of 4 failures have no reading in the 48 h before" in line for line in report.too_little)


def test_failures_of_machines_that_are_kept_apart_serve_no_earlier_part() -> None:
    report, found = judged(unseen=0.99)
    assert Counter(v.use for v in found.verdicts if v.use) == {"kept_apart": 3, "test": 1}
    assert report.not_used == {"kept_apart": 3} and set(report.not_used) <= set(NOT_USED)
    assert [m.name for m in report.machines if m.unseen] == ["a", "b", "c"]


def test_a_failure_before_its_parts_first_reading_serves_no_part() -> None:
    events = table([("b", "failure", 919, 920, None)])  # the test part begins at hour 918.25; tick 919 is past it
    data = history(events)
    split = data.split_in_time(SplitSettings(unseen_machines=0), ModelConfig(window=WINDOW))
    assert split.bounds_us["test"][0] == int(918.25 * HOUR)
    found = account(data, events, split, now_us=2000 * HOUR, blind_us=HOUR)
    assert [(v.verdict, v.use) for v in found.verdicts] == [("failure", "too_early")]


def test_too_few_failures_are_said_with_their_number() -> None:
    report, _ = judged()
    assert report.too_little[0].startswith("the plant: not enough failures (n = 4)")
    assert report.modes[0].model_dump() == {"name": "seal", "booked": 14, "labels": 4, "enough": False}


def test_delays_are_those_of_training_and_bookings_before_the_event_are_counted() -> None:
    report, _ = judged()
    delay = {d.kind: d for d in report.delays}
    assert (delay["failure"].p50_h, delay["failure"].worst_h, report.held_back_h) == (20.0, 20.0, 20.0)
    events = table([("a", "failure", 100, 105, None)])
    early = events.set_column(8, EVENTS.field("recorded_at"), pa.array([moment(90)], EVENTS.field("recorded_at").type))
    found = account(history(early), early, None, now_us=2000 * HOUR, blind_us=HOUR)
    assert summary(history(early), early, found, None, blind_h=1.0).delays[0].booked_before_start == 1


def test_a_plant_without_readings_or_events_says_so(home: Home) -> None:
    home.sources.mkdir()
    stream = '[[streams]]\nname = "x"\nrole = "readings"\nfiles = "x.csv"\n'
    (home.sources / "p.toml").write_text(f'plant = "p"\nroot = "{home.path}"\n{stream}')
    report = labels.run(home, progress=Silent())
    assert report.plants[0].events == 0
    assert report.plants[0].too_little == [
        "no event at all: nothing can be learnt about failures; ingest the plant's logs"
    ]


def test_plants_are_named_one_way_only_and_must_exist(home: Home) -> None:
    with pytest.raises(InputError, match="Two choices of plants: expected --plant or --plants, found both"):
        labels.run(home, progress=Silent(), plants="a,b", plant="a")
    with pytest.raises(NotFoundError, match="Unknown plant"):
        labels.run(home, progress=Silent(), plant="none")


@pytest.mark.ray
def test_the_failures_of_the_training_part_are_those_that_a_study_learns_from(plant_home: Home) -> None:
    report = labels.run(plant_home, progress=Silent(), plants="harbor")
    [plant] = report.plants
    data, config = load_plant(plant_home, "harbor"), plant_home.settings.model
    study = study_of(data, data.split_in_time(plant_home.settings.split, config), config)
    assert plant.parts[0].failures == study.num_failures > 0
    with Path(report.files[0]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == plant.events == read_events(plant_home, "harbor").num_rows


@pytest.mark.ray
def test_every_logged_failure_of_the_simulated_truth_is_a_label_or_has_its_reason(plant_home: Home) -> None:
    """The truth knows when each machine failed and what was logged; readings end with the simulation."""
    report = labels.run(plant_home, progress=Silent(), plant="harbor")
    truth = pq.read_table(plant_home.path.parent / "raw" / ".truth" / "harbor" / "failures.parquet").to_pylist()
    with Path(report.files[0]).open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "failure"]
    booked = {(row["machine"], datetime.fromisoformat(row["started_at"])): row["verdict"] for row in rows}
    assert set(booked) == {(t["machine"], t["failed_at"]) for t in truth if t["logged"]}
    data = load_plant(plant_home, "harbor")
    until_us = data.last_us - round(report.plants[0].held_back_h * HOUR)
    for (machine, started), verdict in booked.items():
        inside = started.timestamp() * 1e6 <= until_us
        assert verdict == ("failure" if inside else "excluded"), machine


@pytest.mark.ray
@pytest.mark.skipif(not AZURE.is_dir(), reason="Azure's files are not beside this repository (shared/data/azure_pdm)")
def test_azures_761_failures_are_719_moments_of_which_20_precede_the_readings(
    tmp_path: Path, ray_cluster: None
) -> None:
    """Two components of a machine fail at one moment 42 times; daily readings are known from 2 January, 06:00, on."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("failures", "maint", "machines"):
        (raw / f"PdM_{name}.csv.gz").write_bytes((AZURE / f"PdM_{name}.csv.gz").read_bytes())
    with gzip.open(AZURE / "PdM_telemetry_daily_mean.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    with (raw / "telemetry.csv").open("w", newline="") as out:
        written = csv.writer(out)
        written.writerow(["datetime", "machineID", "volt", "rotate", "pressure", "vibration"])
        for row in rows:
            known = datetime.fromisoformat(row["date"]) + timedelta(hours=30)
            written.writerow([known, int(float(row["machineID"])), *(row[c] for c in list(row)[4:])])
    home = open_home(tmp_path / "home", create=True, environment={})
    connect.run(home, path=raw, plant="azure", progress=Silent())
    ingest.run(home, progress=Silent())
    [plant] = labels.run(home, progress=Silent(), plant="azure").plants
    counts = {(r.kind, r.reason): r.count for r in plant.reasons}
    assert sum(n for (kind, _), n in counts.items() if kind == "failure") == 761
    assert counts["failure", "label"] == 699 and counts["failure", "same_moment"] == 41
    assert counts["failure", "before_readings"] == 21
    assert counts["maintenance", "no_effect"] == 3286, "its log does not say what a visit changed"
    assert not any(d.late for d in plant.delays)

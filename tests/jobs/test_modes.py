"""Failure modes from the log to the answer: names reach labels and classes, and every way to an answer gives them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.home import Home
from cluster.logs import confirmed, machine_logs, mode_names
from cluster.predictions import as_table
from cluster.storage import EVENTS, read_events
from jobs.candidates import baseline, network_candidate, study_of
from jobs.dataset import load_plant
from jobs.scoring.devices import answers_of
from jobs.scoring.rows import journal_rows
from jobs.series.modes import known_modes
from jobs.study import Study
from jobs.trial import begin
from models.bundle import Bundle, load_bundle
from models.config import Clock, ModelConfig, NetworkConfig, TreesConfig, WindowConfig
from models.features import Sequence
from models.labels import CONDITION, FINDING, SERVICE, UNNAMED, at_once
from models.modes import NO_MODES, Modes
from models.predict import answer, window_digest
from models.predictor import Predictor
from models.split import Split
from models.windows import channels_of, windows_ending

CONFIG = ModelConfig(
    window=WindowConfig(length=16),
    network=NetworkConfig(hidden=8, layers=2, kernel=3, epochs=8, batch_size=4, crop=64, learning_rate=0.02),
    trees=TreesConfig(rounds=10),
)  # fmt: skip
MODES = Modes(("bearing", "seal"), (0.5, 0.5), (0, 1))


def events(*rows: dict[str, object]) -> pa.Table:
    """Events an hour apart, of machine m unless they say another."""
    at = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(len(rows))]
    common = [{"event_id": str(n), "machine": "m", "started_at": t, "recorded_at": t} for n, t in enumerate(at)]
    return pa.Table.from_pylist([known | row for known, row in zip(common, rows, strict=True)], schema=EVENTS)


def failure(mode: str | None = None, component: str | None = None, **more: object) -> dict[str, object]:
    return {"kind": "failure", "failure_mode": mode, "component": component, **more}


def maintenance(trigger: str | None, finding: str | None = None, effect: str = "replaced") -> dict[str, object]:
    return {"kind": "maintenance", "trigger": trigger, "finding": finding, "effect": effect}


def test_failure_modes_name_failures_where_the_log_has_any_else_components_do() -> None:
    both = events(failure("wear", "motor"), failure(None, "motor"), failure(" ", "pump"), failure(" leak "))
    assert mode_names(both) == ("leak", "wear")
    assert machine_logs(both)["m"].failed_mode.tolist() == [1, UNNAMED, UNNAMED, 0]
    components = events(failure(None, "comp2"), failure("", "comp1"), maintenance("calendar"))
    assert mode_names(components) == ("comp1", "comp2")
    assert machine_logs(components)["m"].failed_mode.tolist() == [1, 0]
    assert mode_names(events(failure(), maintenance("calendar"))) == ()
    assert machine_logs(events(failure()))["m"].failed_mode.tolist() == [UNNAMED]


def test_of_a_thousand_modes_the_most_frequent_keep_their_names() -> None:
    table = events(*(failure(f"free text {number:04d}") for number in range(300)), failure("free text 0299"))
    names = mode_names(table)
    assert len(names) == 127 and names[-1] == "free text 0299"
    assert machine_logs(table)["m"].failed_mode.dtype == np.int8


def test_components_that_fail_at_one_moment_name_a_mode_only_together() -> None:
    at = datetime(2025, 1, 1, tzinfo=UTC)
    pairs = [("a", "a"), ("a", "b"), ("b", None), (None, None)]
    table = events(*(failure(mode) for pair in pairs for mode in pair))
    times = [at + timedelta(hours=hour) for hour in range(4) for _ in range(2)]
    for column in ("started_at", "recorded_at"):
        place = EVENTS.get_field_index(column)
        table = table.set_column(place, EVENTS.field(column), pa.array(times, EVENTS.field(column).type))
    assert at_once(machine_logs(table)["m"]).failed_mode.tolist() == [0, UNNAMED, 1, UNNAMED]


def test_maintenance_counts_by_what_triggered_it_and_what_was_found() -> None:
    log = machine_logs(events(
        maintenance("calendar", "signs of wear"), maintenance(None, "crack"), maintenance("opportunistic"),
        maintenance("condition"), maintenance("condition", "none"), maintenance("condition", "signs of wear"),
        maintenance("millwright", "Riss im Lager"), maintenance("condition", "crack", effect="inspected"),
    ))["m"]  # fmt: skip
    assert log.serviced_as.tolist() == [SERVICE] * 3 + [CONDITION] * 2 + [FINDING] * 2


@pytest.mark.parametrize(
    "finding", [None, "", " - ", "none", "None.", "N/A", "no", "NFF", "No fault found", "no defects", "OK", "o.B.",
                "i.O.", "ohne Befund", "keine", "kein Befund", "Keine Auffälligkeiten", "unauffällig", "0", "false"],
)  # fmt: skip
def test_a_finding_that_says_nothing_was_found_confirms_nothing(finding: str | None) -> None:
    assert not confirmed(finding)


@pytest.mark.parametrize("finding", ["signs of wear", "no oil left in the bearing", "Riss", "ohne Schmierung", "yes"])
def test_a_finding_with_other_words_confirms(finding: str) -> None:
    assert confirmed(finding)


def worn(name: str, mode: int, seed: int, hours: int = 300) -> Sequence:
    """One sensor rises over the last 60 hours before failures of its mode."""
    rng = np.random.default_rng(seed)
    left = np.arange(hours, 0, -1).astype(np.float32)
    values = rng.normal(0, 1, (hours, 4)).astype(np.float32)
    values[:, 2:] = 0
    values[:, mode] += np.maximum(0, 60 - left)
    numbers = np.full(hours, mode, np.int8)
    return Sequence(name, values, left, np.ones(hours, bool), np.arange(hours) >= 15, 0, numbers)


def a_study(modes: Modes = MODES) -> Study:
    channels = channels_of([("x", "number", "1"), ("y", "number", "1")])
    return Study(
        "p", channels, CONFIG, ("pump",), "v1", {}, [worn(f"m{i}", i % 2, i) for i in range(12)],
        [worn(f"v{i}", i % 2, 100 + i) for i in range(8)], 12, modes,
    )  # fmt: skip


def test_failures_of_a_mode_are_counted_once_each_whatever_the_chunks() -> None:
    whole = [worn(f"m{i}", int(i >= 7), i) for i in range(12)]
    chunks = [
        Sequence(s.machine, s.values[part], s.time[part], s.event[part], s.usable[part], part.start, s.mode[part])
        for s in whole for part in (slice(0, 150), slice(150, 300))
    ]  # fmt: skip
    expected = Modes(("bearing", "seal"), (7 / 12, 5 / 12), (0, 1))
    assert known_modes(whole, ("bearing", "seal"), Clock()) == expected
    assert known_modes(chunks, ("bearing", "seal"), Clock()) == expected
    assert known_modes(whole[:9], ("bearing", "seal"), Clock()) == NO_MODES  # two failures of one are too few
    assert known_modes(whole, (), Clock()) == NO_MODES


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    study = a_study()
    fit = begin(study, {})
    while not fit.done:
        fit.epoch()
    return load_bundle(Path(network_candidate(study, tmp_path_factory.mktemp("modes"), {}, fit.state()).folder))


def test_the_graph_and_a_pass_over_the_series_give_the_same_modes(bundle: Bundle) -> None:
    assert bundle.spec.failure_modes == MODES.names and bundle.spec.usual.modes == MODES.shares
    series, rows = worn("t", 1, 50).values, np.array([30, 200, 299])
    windows = windows_ending(series, rows, 16)
    served, batch = Predictor(bundle).score(windows), answers_of(bundle, device="cpu", newest=False)(series, rows)
    np.testing.assert_allclose(batch.hazard, served.hazard, atol=1e-5)
    np.testing.assert_allclose(batch.modes, served.modes, atol=1e-5)
    by_torch = Predictor(bundle, device="cpu").score(windows)  # as on a GPU
    np.testing.assert_allclose(by_torch.hazard, served.hazard, atol=1e-5)
    np.testing.assert_allclose(by_torch.modes, served.modes, atol=1e-5)
    untrusted = replace(bundle, spec=bundle.spec.model_copy(update={"mode_trust": 0.0}))
    assert Predictor(untrusted, device="cpu").score(windows).modes.tolist() == [[0.5, 0.5]] * 3
    assert served.modes[2, 1] > 0.6 > served.modes[0, 1]  # worn out by its mode; nothing to see yet


def test_the_journals_rows_hold_the_modes_of_each_answer(bundle: Bundle) -> None:
    spec, rows = bundle.spec, np.array([100, 299])
    windows = windows_ending(worn("t", 0, 51).values, rows, 16)
    scored, times = Predictor(bundle).score(windows), rows.astype(np.int64) * 3_600_000_000
    found = journal_rows(spec, scored, windows, plant="p", machine="t", as_of_us=times, always=[], predicted_us=5)
    answers = [
        answer(
            spec, h, plant="p", machine="t", as_of_us=int(at), data_until_us=int(at), digest=window_digest(w), modes_M=m
        )
        for h, m, w, at in zip(scored.hazard, scored.modes, windows, times, strict=True)
    ]  # fmt: skip
    assert found["failure_modes"].equals(as_table((("p", a, 5) for a in answers), source="score")["failure_modes"])
    assert answers[1]["failure_modes"]["bearing"] > answers[1]["failure_modes"]["seal"]


def test_trees_give_the_shares_of_the_training_part(tmp_path: Path) -> None:
    trees = load_bundle(Path(baseline(a_study(), tmp_path, sensors=True).folder))
    windows = windows_ending(worn("t", 0, 52).values, np.array([100, 299]), 16)
    assert Predictor(trees).score(windows).modes.tolist() == [[0.5, 0.5]] * 2


def test_a_study_without_modes_bundles_a_model_without(tmp_path: Path) -> None:
    trees = load_bundle(Path(baseline(a_study(NO_MODES), tmp_path, sensors=True).folder))
    assert trees.spec.failure_modes == () and trees.spec.usual.modes == ()
    assert Predictor(trees).score(np.zeros((3, 16, 4), np.float32)).modes.shape == (3, 0)


@pytest.mark.ray
def test_the_simulators_modes_and_findings_reach_labels_and_sequences(plant_home: Home) -> None:
    data, settings = load_plant(plant_home, "harbor"), plant_home.settings
    log = read_events(plant_home, "harbor")
    booked = {e["failure_mode"] for e in log.to_pylist() if e["kind"] == "failure"}
    assert data.failure_modes == tuple(sorted(booked)) and len(booked) > 1
    named = {int(n) for own in data.logs.values() for n in own.failed_mode}
    assert named == set(range(len(booked)))
    kinds = {int(k) for own in data.logs.values() for k in own.serviced_as}
    assert kinds == {SERVICE, FINDING}  # the simulator repairs on condition only what it has found
    study = study_of(data, data.split_in_time(settings.split, settings.model), settings.model)
    for s in study.train:
        assert ((s.mode >= 0) == s.event).all()
        ends = np.round((s.first_tick + np.arange(len(s.time)) + s.time)[s.event]).astype(np.int64)
        logged = dict(zip((data.logs[s.machine].failed_us // data.clock.step_us).tolist(),
                          data.logs[s.machine].failed_mode.tolist(), strict=True))  # fmt: skip
        near = [logged.get(end, logged.get(end - 1)) for end in ends.tolist()]
        assert near == s.mode[s.event].tolist()
    found = {m: own.serviced_us[own.serviced_as == FINDING].tolist() for m, own in data.logs.items()}
    parts = {p.machine: p for p in data.part("test", Split({"test": (0, data.last_us)}, frozenset()))}
    ended = [(m, end) for m, p in parts.items() for end in np.unique(p.labels.end_us[p.labels.ended_by == FINDING])]
    assert ended and all(int(end) in found[machine] for machine, end in ended)

"""Candidates are judged alike, bundled whole, and the best one wins whatever it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.candidates import baseline, choose, network_candidate, write_candidates
from jobs.series.later import count_failures, judging, later_ticks
from jobs.study import Candidate, Study
from jobs.trial import begin, configured
from models.bundle import load_bundle
from models.calibration import Calibration, fit_calibration
from models.config import Clock, ModelConfig, NetworkConfig, TreesConfig, WindowConfig
from models.errors import InputError
from models.features import Sequence
from models.hazard import log_likelihood
from models.networks import NetworkModel
from models.predictor import Predictor
from models.trees import fit_trees
from models.windows import channels_of, windows_ending

CONFIG = ModelConfig(
    window=WindowConfig(length=16),
    network=NetworkConfig(hidden=8, layers=2, kernel=3, epochs=1),
    trees=TreesConfig(rounds=10),
)


def worn(machine: str, seed: int, hours: int = 300) -> Sequence:
    """A machine whose one sensor rises in its last 60 hours before it fails at the end."""
    rng = np.random.default_rng(seed)
    left = np.arange(hours, 0, -1).astype(np.float32)
    values = np.full((hours, 3), 0, np.float32)
    values[:, 0] = np.maximum(0, 60 - left) + rng.normal(0, 1, hours)
    return Sequence(machine, values, left, np.ones(hours, bool), np.arange(hours) >= 15)


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(
        "p", channels_of([("x", "number", "1")]), CONFIG, ("pump",), "v1", {},
        [worn(f"m{i}", i) for i in range(12)], [worn(f"v{i}", 100 + i) for i in range(8)], 12,
    )  # fmt: skip


def test_each_run_to_a_failure_counts_once() -> None:
    time = np.array([3, 2, 1, 9, 8, 7], np.float32)
    sequence = Sequence("m", np.zeros((6, 1), np.float32), time, np.ones(6, bool), np.ones(6, bool))
    assert count_failures([sequence], Clock()) == 2
    assert count_failures([replace(sequence, event=np.array([1, 1, 1, 0, 0, 0], bool))], Clock()) == 1
    assert count_failures([replace(sequence, event=np.zeros(6, bool))], Clock()) == 0


def test_baseline_and_network_are_whole_bundles_that_tell_worn_from_new(study: Study, tmp_path: Path) -> None:
    fit = begin(study, {"epochs": 3})
    while not fit.done:
        fit.epoch()
    candidates = [
        network_candidate(study, tmp_path, {"epochs": 3}, fit.state()), baseline(study, tmp_path, sensors=True),
    ]  # fmt: skip
    worn_out, new = (study.train[0].values[None, stop - 16 : stop] for stop in (300, 100))
    for candidate in candidates:
        predictor = Predictor(load_bundle(Path(candidate.folder)))
        assert predictor.risk(worn_out)[0] > predictor.risk(new)[0]
        assert predictor.spec.num_failures_trained_on == 12 and 0 < predictor.spec.threshold < 1
        assert predictor.spec.metrics["validation_log_likelihood"] == candidate.log_likelihood


def test_a_bundle_is_calibrated_on_the_later_slice(study: Study, tmp_path: Path) -> None:
    candidate = baseline(study, tmp_path, sensors=True)
    spec = load_bundle(Path(candidate.folder)).spec
    model = fit_trees(study.train, study.validate, study.config, study.channels, sensors=True)
    ticks, failures = later_ticks(study.validate, CONFIG.clock)
    values = np.concatenate([windows_ending(s.values, np.flatnonzero(s.usable), 16) for s in study.validate])
    edges = CONFIG.hazard.edges
    expected = fit_calibration(model.logits(values), edges, ticks.time, ticks.event, num_failures=failures)
    assert spec.calibration == expected != Calibration()
    hazard = expected.hazard(model.logits(values))
    assert candidate.log_likelihood == pytest.approx(log_likelihood(hazard, edges, ticks.time, ticks.event).mean())


def test_the_same_study_gives_the_same_version_and_writes_it_once(study: Study, tmp_path: Path) -> None:
    first, second = (baseline(study, tmp_path, sensors=False) for _ in range(2))
    assert first.version == second.version and len(list(tmp_path.iterdir())) == 1
    spec = json.loads((tmp_path / first.version / "bundle.json").read_text())
    assert spec["kind"] == "no_sensor" and spec["lineage"]["data_version"] == "v1"


def test_every_later_tick_judges_and_knows_its_machine(study: Study) -> None:
    ticks, failures = later_ticks(study.validate, CONFIG.clock)
    assert failures == 8 and ticks.num_machines == 8
    assert np.bincount(ticks.machine).tolist() == [285] * 8 and ticks.step == 1.0


def test_too_many_later_ticks_are_judged_on_whole_machines_drawn_over_their_failures(study: Study) -> None:
    kept = judging(study.validate, CONFIG.clock, most=285 * 4)
    assert len(kept) == 4 and all(s.usable.sum() == 285 for s in kept)
    assert len(judging(study.validate, CONFIG.clock, most=10)) == 1


def test_a_failure_that_two_chunks_lead_to_counts_once(study: Study) -> None:
    whole = study.validate[0]
    halves = [
        replace(whole, **{n: getattr(whole, n)[part] for n in ("values", "time", "event", "usable")}, first_tick=first)
        for part, first in ((slice(0, 150), 0), (slice(150, 300), 150))
    ]
    assert count_failures(halves, CONFIG.clock) == count_failures([whole], CONFIG.clock) == 1
    ticks, failures = later_ticks(halves, CONFIG.clock)
    assert failures == 1 and ticks.num_machines == 1 and len(set(ticks.lives().tolist())) == 1


def test_a_network_judged_in_one_pass_says_what_it_says_of_each_window(study: Study) -> None:
    model, sequence = NetworkModel(begin(study, {}).best()), study.validate[0]
    rows = np.flatnonzero(sequence.usable)
    one_by_one = model.logits(windows_ending(sequence.values, rows, CONFIG.window.length))
    np.testing.assert_allclose(model.sequence_logits(sequence.values)[rows], one_by_one, atol=1e-5)


def test_without_later_ticks_there_is_nothing_to_judge_by(study: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Nothing to fit trees on.*Ingest a longer history"):
        baseline(replace(study, validate=[]), tmp_path, sensors=False)


def test_the_highest_likelihood_wins_be_it_a_baseline() -> None:
    def candidate(kind: str, value: float) -> Candidate:
        return Candidate(kind, kind, kind, value, 1.0)

    assert choose([candidate("network", -0.5), candidate("trees", -0.4), candidate("no_sensor", -0.6)]).kind == "trees"


def test_a_setting_that_networks_do_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown network setting.*found depth"):
        configured(CONFIG, {"depth": 3})


def test_of_several_seeds_the_best_stands_for_its_kind(tmp_path: Path) -> None:
    seeds = [Candidate("trees", f"trees-{i}", "x", value, 1.0) for i, value in enumerate((-0.5, -0.3, -0.4))]
    write_candidates(tmp_path, seeds)
    assert json.loads((tmp_path / "candidates.json").read_text())["trees"]["version"] == "trees-1"

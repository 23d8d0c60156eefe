"""Members that take turns: each machine is left out once, judged by who has not seen it, and served by all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.candidates import network_candidate
from jobs.crossfit import members_of, whole
from jobs.series.judged import judge
from jobs.study import Study
from jobs.trial import begin
from models.bundle import load_bundle
from models.config import ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.features import Sequence
from models.hazard import log_likelihood
from models.networks import NetworkModel
from models.predictor import Predictor
from models.windows import channels_of, windows_ending

FOLDS = 3
CONFIG = ModelConfig(
    window=WindowConfig(length=16), network=NetworkConfig(hidden=8, layers=2, kernel=3, epochs=2, folds=FOLDS)
)


def worn(machine: str, seed: int, hours: int = 120) -> Sequence:
    """One sensor rises over the last 60 hours before the machine fails at the end."""
    rng = np.random.default_rng(seed)
    left = np.arange(hours, 0, -1).astype(np.float32)
    values = np.zeros((hours, 3), np.float32)
    values[:, 0] = np.maximum(0, 60 - left) + rng.normal(0, 1, hours)
    return Sequence(machine, values, left, np.ones(hours, bool), np.arange(hours) >= 15)


@pytest.fixture(scope="module")
def study() -> Study:
    train, validate = [worn(f"m{i}", i) for i in range(6)], [worn(f"v{i}", 100 + i) for i in range(3)]
    channels = channels_of([("x", "number", "1")])
    return Study("p", channels, CONFIG, ("pump",), "v1", {}, train, validate, 6, by_machine=True)


@pytest.fixture(scope="module")
def states(study: Study) -> list[bytes]:
    found = []
    for member in members_of(study, {}):
        fit = begin(member, {})
        while not fit.done:
            fit.epoch()
        found.append(fit.state())
    return found


def test_every_machine_is_left_out_by_one_member_and_taught_to_all_others(study: Study) -> None:
    members = members_of(study, {"seed": 4})
    everyone = {s.machine for s in [*study.train, *study.validate]}
    left_out = [{s.machine for s in member.validate} for member in members]
    assert sorted(machine for one in left_out for machine in one) == sorted(everyone)
    assert [len(one) for one in left_out] == [3, 3, 3]
    assert [{s.machine for s in member.train} for member in members] == [everyone - one for one in left_out]
    assert [m.config.network.seed for m in members] == [4, 1004, 2004] and {
        m.config.network.folds for m in members
    } == {1}
    again = [{s.machine for s in member.validate} for member in members_of(study, {"seed": 5})]
    assert again != left_out


def test_a_network_of_one_fold_is_its_own_study(study: Study) -> None:
    (member,) = members_of(study, {"folds": 1})
    assert member.train is study.train and member.validate is study.validate and member.scaled_by is None


def test_parts_that_differ_by_time_cannot_be_cross_fitted(study: Study) -> None:
    with pytest.raises(InputError, match=r"(?s)differ by machine.*9 machines in parts that differ by time.*folds=1"):
        members_of(replace(study, by_machine=False), {})
    with pytest.raises(InputError, match="at least 10 machines"):
        members_of(study, {"folds": 10})


def test_the_bundle_answers_with_the_mean_of_its_members(study: Study, states: list[bytes], tmp_path: Path) -> None:
    candidate = network_candidate(study, tmp_path, {}, *states)
    predictor = Predictor(load_bundle(Path(candidate.folder)))
    windows = windows_ending(worn("new", 7).values, np.array([40, 80, 119]), 16)
    logits = []
    for member, state in zip(members_of(study, {}), states, strict=True):
        fit = begin(member, {})
        fit.restore(state)
        logits.append(NetworkModel(fit.best()).logits(windows))
    assert not np.allclose(logits[0], logits[1], atol=1e-3)
    expected = predictor.spec.calibration.hazard(np.mean(logits, axis=0))
    np.testing.assert_allclose(predictor.hazard(windows), expected, atol=1e-5)
    assert predictor.spec.num_failures_trained_on == 9 and predictor.spec.config.network.folds == FOLDS


def test_each_machine_is_judged_by_the_member_that_has_not_seen_it(
    study: Study, states: list[bytes], tmp_path: Path
) -> None:
    candidate = network_candidate(study, tmp_path, {}, *states)
    spec = load_bundle(Path(candidate.folder)).spec
    heard, edges = [], CONFIG.hazard.edges
    of_compared = []
    for member, state in zip(members_of(study, {}), states, strict=True):
        fit = begin(member, {})
        fit.restore(state)
        model = NetworkModel(fit.best())
        heard.append((member.validate, model))
        for s in member.validate:
            if s.machine.startswith("v"):
                hazard = spec.calibration.hazard(model.sequence_logits(s.values)[s.usable])
                of_compared.append(log_likelihood(hazard, edges, s.time[s.usable], s.event[s.usable]))
    assert spec.calibration == judge(heard, CONFIG).calibration
    assert candidate.log_likelihood == pytest.approx(np.concatenate(of_compared).mean())


def test_members_share_the_scaling_of_all_machines(study: Study) -> None:
    member = members_of(study, {})[1]
    assert begin(member, {}).scaling == begin(whole(study), {"folds": 1}).scaling

"""A plant as new: its network learns from the others alone, and what is kept is counted at equal false alarms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.evaluate import run
from jobs.evaluation.allowed import Alarms, Counts
from jobs.evaluation.as_new import left_out
from jobs.evaluation.kept import kept
from jobs.pooling import teachers
from models.config import Clock
from models.errors import InputError
from models.predictor import Predictor
from tests.jobs.conftest import PLANT, Tuned
from tests.jobs.test_pooling import SMALL, machine, study

# By threshold, lowest first: failures caught and false alarms of machines 0, 1 and 2.
OWN = Alarms(np.array([[1.0, 2, 1], [1, 1, 1], [0, 1, 0]]), np.array([[2.0, 2, 1], [1, 1, 0], [0, 0, 0]]), own=1)
NEW = Alarms(np.array([[1.0, 2, 2], [1, 1, 0], [0, 1, 0]]), np.array([[3.0, 1, 1], [1, 0, 1], [0, 0, 0]]), own=0)
COUNTS = Counts({"own": OWN, "new": NEW}, np.array([2.0, 2, 2]), np.array([1.0, 2, 1]))


def test_what_is_kept_is_counted_at_the_references_false_alarms_and_at_fixed_rates() -> None:
    (found,) = kept({"harbor": [COUNTS]}, full="own", newcomers=["new"])
    own, *rates = found.at
    # Its own threshold gives 2 false alarms and 3 of 6 failures; with 2 the newcomer catches 2 (5 would cost 5).
    assert (found.name, found.num_failures, found.num_machines) == ("harbor", 6, 3)
    assert (own.rate, own.false_alarms, own.caught) == (None, 2, {"new": 2, "own": 3})
    assert own.kept["new"].value == round(2 / 3, 4)
    # In 4 machine-months 0.1 allows none, where each catches one; 1 allows 4, where they catch 3 and 2.
    assert [(at.rate, at.false_alarms) for at in rates] == [(0.1, 0), (0.2, 0), (0.5, 2), (1.0, 4)]
    assert [at.caught for at in rates] == [{"new": 1, "own": 1}] * 2 + [{"new": 2, "own": 3}] * 2


def test_counts_are_summed_over_repetitions_and_plants_before_they_are_divided() -> None:
    none = Counts({"own": NEW, "new": OWN}, np.array([2.0, 2, 2]), np.array([1.0, 2, 1]))  # allowed 5: 5 and 4
    found = kept({"harbor": [COUNTS, none], "ridge": [COUNTS]}, full="own", newcomers=["new"])
    assert [one.name for one in found] == ["harbor", "ridge", "all"]
    assert [one.at[0].caught for one in found] == [
        {"new": 6, "own": 8}, {"new": 2, "own": 3}, {"new": 8, "own": 11}
    ]  # fmt: skip
    assert found[2].at[0].kept["new"].value == round(8 / 11, 4)
    low, high = found[2].at[0].kept["new"].low, found[2].at[0].kept["new"].high
    assert low is not None and high is not None and low < 8 / 11 < high


def test_where_the_reference_catches_nothing_there_is_no_share() -> None:
    silent = Alarms(np.zeros((1, 3)), np.zeros((1, 3)), own=0)
    (found,) = kept({"dale": [replace(COUNTS, alarms={"own": silent, "new": NEW})]}, full="own", newcomers=["new"])
    assert found.at[0].kept["new"].value is None


def test_teachers_have_failures_and_share_the_clock_of_most(home: Home) -> None:
    found = [study(home, name, ("vib",)) for name in ("south", "north", "east")]
    slow = replace(found[2], config=found[2].config.model_copy(update={"clock": Clock(step_s=600)}))
    new = study(home, "dale", ("vib",), failures=0)
    assert [one.plant for one in teachers([*found[:2], slow, new])] == ["north", "south"]
    assert teachers([new]) == []


@pytest.fixture(scope="module")
def pooled_home(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Home:
    return open_home(tmp_path_factory.mktemp("new") / "home", create=True, environment={}, assignments=SMALL)


@pytest.mark.ray
def test_a_plant_that_is_left_out_teaches_nothing(pooled_home: Home) -> None:
    studies = [study(pooled_home, name, ("vib", "temp")) for name in ("east", "north", "south")]
    groups = {one.plant: one.plant for one in studies}
    found = left_out(pooled_home, studies, groups, progress=Silent())
    assert list(found) == ["east", "north", "south"]
    spec = found["east"].spec
    assert (spec.scope, spec.num_failures_trained_on, spec.plant) == ("fleet", 12, "east")

    # Whatever the plant's own labels say, the network that answers for it is the same.
    healthy = replace(studies[0], train=[replace(s, event=np.zeros(200, bool)) for s in studies[0].train])
    again = left_out(pooled_home, [healthy, *studies[1:]], groups, progress=Silent(), only=["east"])
    windows = machine("east9", 9, ("vib", "temp")).values[None, -16:]
    assert list(again) == ["east"]
    np.testing.assert_array_equal(Predictor(again["east"]).hazard(windows), Predictor(found["east"]).hazard(windows))
    shelf = pooled_home.registry / "left_out"
    assert len(list(shelf.glob("fleet-*"))) == 3 and not (pooled_home.registry / "fleet").exists()


@pytest.mark.ray
def test_plants_of_one_group_are_left_out_together(pooled_home: Home) -> None:
    studies = [study(pooled_home, name, ("vib",)) for name in ("east", "north", "south")]
    found = left_out(pooled_home, studies, {"east": "a", "north": "a", "south": "b"}, progress=Silent())
    assert [found[name].spec.num_failures_trained_on for name in found] == [6, 6, 12]


def test_nobody_to_learn_from_is_refused(home: Home) -> None:
    with pytest.raises(InputError, match="No other plant to learn from: expected two plants with failures"):
        left_out(home, [study(home, "east", ("vib",))], {"east": "east"}, progress=Silent())
    tcn = open_home(home.path, environment={}, assignments=["model.network.name=tcn"])
    with pytest.raises(InputError, match="cannot be shared by plants"):
        left_out(tcn, [study(home, "east", ("vib",))], {"east": "east"}, progress=Silent())


@pytest.mark.ray
def test_evaluate_says_that_a_lone_plant_cannot_be_new(tuned: Tuned) -> None:
    with pytest.raises(InputError, match="No other plant to learn from"):
        run(tuned.home, progress=Silent(), plants=PLANT, unseen=True)

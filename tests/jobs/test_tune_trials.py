"""Trials that go wrong, and ten studies at once, on a real pool of workers."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from cluster.bundles import load_version
from cluster.home import Home, open_home
from cluster.registry import Tracking, champion
from cluster.report import Silent
from jobs import tune
from jobs.candidates import CANDIDATES, studies_of
from jobs.study import Study
from jobs.tracking import TrackTrials
from jobs.tuning.journal import Facts, Journal, Trial
from jobs.tuning.search import PlantSearch
from jobs.tuning.space import find_space, parse_space
from jobs.tuning.studies import PlantStudies
from jobs.tuning.workers import RETRIES, say_who_waits, train_all
from models.errors import InputError

pytestmark = pytest.mark.ray
OWN = "tests.models.own_networks"
PLACES = 2
SMALL = ["model.network.epochs=4", "model.network.hidden=16", "model.network.name=tcn", "model.trees.rounds=20",
         "split.unseen_machines=0.25"]  # fmt: skip


@pytest.fixture(scope="module")
def study(plant_home: Home) -> Study:
    listed = json.dumps([f"{OWN}:{name}" for name in ("Exploding", "Greedy", "Broken")])
    home = open_home(
        plant_home.path, environment={}, assignments=[*SMALL, f"registry.allowed_networks={listed}"]
    )  # fmt: skip
    (found,) = studies_of(home, "harbor", progress=Silent())
    return found


@pytest.fixture
def own_home(plant_home: Home, tmp_path: Path) -> Home:
    """A copy of the plant's home, with nothing tuned in it."""
    path = tmp_path / "home"
    shutil.copytree(plant_home.path, path, ignore=shutil.ignore_patterns("registry", "studies", "run"))
    return open_home(path, environment={}, assignments=[*SMALL, f'registry.allowed_networks=["{OWN}:Exploding"]'])


def facts(trials: int) -> Facts:
    return Facts(data="d", configuration="c", space="s", trials=trials, batch=2, seed=0, code="1")


def studies_at(folder: Path, study: Study, plants: dict[str, list[dict]], kind: type = PlantStudies) -> PlantStudies:
    """Studies whose trials are given; nothing is drawn."""
    home = open_home(folder / "home", create=True, environment={})
    network, tracking = study.config.network, Tracking(home)
    space = parse_space(*find_space(folder, None), network)
    searches = {}
    for plant, trials in plants.items():
        journal = Journal(folder / plant, plant, facts(len(trials)))
        journal.trials = [Trial(number=number, settings=settings) for number, settings in enumerate(trials)]
        searches[plant] = PlantSearch(journal, space, network)
    tracks = {plant: TrackTrials(tracking, s.journal, {"plant": plant}) for plant, s in searches.items()}
    found: PlantStudies = kind(searches, tracks, PLACES)
    return found


def test_what_goes_wrong_in_a_trial_is_told_and_the_study_goes_on(study: Study, tmp_path: Path) -> None:
    wrong = [{"name": f"{OWN}:{name}"} for name in ("Exploding", "Greedy", "Broken")]
    too_long = {"kernel": 8, "layers": 6}
    studies = studies_at(tmp_path, study, {"harbor": [{}, *wrong, too_long, {"dropout": 0.0}]})
    train_all(studies, {"harbor": ray.put(study)}, gpu=0.0)
    trials = studies.searches["harbor"].journal.trials
    assert [t.state for t in trials] == ["finished", "diverged", "out_of_memory", "failed", "invalid", "finished"]
    reasons = [t.reason for t in trials[1:5]]
    assert reasons[0] == "train_loss was nan in epoch 1"
    assert "can't allocate memory" in reasons[1] and reasons[2] == "ZeroDivisionError: no such sensor"
    assert reasons[3].startswith("InputError: The network looks back further than its window")
    assert trials[0].epochs == trials[5].epochs == 4 and trials[0].loss is not None
    runs = studies.tracks["harbor"].tracking._client
    tags = [runs.get_run(t.run_id).data.tags for t in trials]
    assert [t["state"] for t in tags] == [t.state for t in trials] and tags[1]["reason"] == reasons[0]
    assert [runs.get_run(t.run_id).info.status for t in trials] == ["FINISHED", *["FAILED"] * 4, "FINISHED"]


class Killing(PlantStudies):
    """Kills the worker of trial 1 at each of its results, as long as ``kills`` lasts."""

    kills = 1

    def heard(self, trial_id: str, result: dict[str, Any]) -> bool:
        stop = super().heard(trial_id, result)
        if self.live[trial_id][1] == 1 and self.kills:
            self.kills -= 1
            os.kill(result["pid"], signal.SIGKILL)
        return stop


@pytest.mark.parametrize("kills", [1, pytest.param(RETRIES + 1, marks=pytest.mark.slow)])
def test_a_killed_worker_goes_on_where_it_was_and_one_that_always_dies_fails(
    study: Study, tmp_path: Path, kills: int
) -> None:
    studies = studies_at(tmp_path, study, {"harbor": [{}, {"dropout": 0.0}]}, Killing)
    studies.kills = kills  # type: ignore[attr-defined]
    train_all(studies, {"harbor": ray.put(study)}, gpu=0.0)
    first, second = studies.searches["harbor"].journal.trials
    assert first.state == "finished" and first.epochs == 4
    if kills == 1:
        assert second.state == "finished" and second.epochs == 4
        assert studies.epochs_run["harbor", 1] == 4, "what was trained is not trained again"
    else:
        assert second.state == "failed" and "died" in second.reason.lower()


class Short(PlantStudies):
    """Its budget ends while the first epoch is being told."""

    def heard(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.deadline = time.monotonic()
        return super().heard(trial_id, result)


def test_what_trains_when_the_budget_ends_stops_at_its_epoch_and_goes_on_from_it(study: Study, tmp_path: Path) -> None:
    studies = studies_at(tmp_path, study, {"harbor": [{}, {"dropout": 0.0}, {"dropout": 0.2}]}, Short)
    data = {"harbor": ray.put(study)}
    train_all(studies, data, gpu=0.0)
    journal = studies.searches["harbor"].journal
    trained = [t.epochs for t in journal.trials]
    assert trained[0] == 1 and max(trained) == 1 and journal.trials[2].state == "waiting" and not journal.over
    best = journal.best()
    assert best is not None and best.state == "running" and journal.state_of(best.number).is_file()
    rest = Journal(journal.folder, "harbor", journal.facts)
    more = PlantStudies({"harbor": PlantSearch(rest, studies.searches["harbor"].space, study.config.network)},
                        {"harbor": TrackTrials(studies.tracks["harbor"].tracking, rest, {})}, PLACES)  # fmt: skip
    train_all(more, data, gpu=0.0)
    assert [t.state for t in rest.trials[:2]] == ["finished"] * 2 and [t.epochs for t in rest.trials[:2]] == [4, 4]
    assert rest.trials[2].over and rest.trials[2].epochs >= 3  # it may be stopped at its first comparison
    assert sum(more.epochs_run.values()) == sum(t.epochs for t in rest.trials) - sum(trained)
    assert [t.run_id for t in rest.trials[:1]] == [t.run_id for t in journal.trials[:1]]


class Watched(PlantStudies):
    """Notes how many trials of each plant had begun whenever a study was over."""

    seen: list[list[int]]

    def leave(self, trial_id: str, *why: Any) -> None:
        super().leave(trial_id, *why)
        self.seen.append([search.begun for search in self.searches.values()])


def test_ten_studies_on_two_cores_move_together(study: Study, tmp_path: Path) -> None:
    names = [f"plant-{number}" for number in range(10)]
    settings = [{"epochs": 1, "dropout": dropout} for dropout in (0.0, 0.1, 0.2)]
    studies = studies_at(tmp_path, study, dict.fromkeys(names, settings), Watched)
    studies.seen = []  # type: ignore[attr-defined]
    data = {name: ray.put(replace(study, plant=name)) for name in names}
    train_all(studies, data, gpu=0.0)
    assert all(search.journal.over for search in studies.searches.values())
    seen = studies.seen  # type: ignore[attr-defined]
    first_over = next(begun for begun in seen if max(begun) == len(settings))
    assert min(first_over) >= len(settings) - 1, "when the first begins its last trial, nobody is further behind"
    assert all(max(begun) - min(begun) <= 1 for begun in seen)


def test_a_study_whose_every_draw_diverges_has_its_default_and_says_so(own_home: Home) -> None:
    space = own_home.path / "space.toml"
    space.write_text(f'[name]\ntype = "fixed"\nvalue = "{OWN}:Exploding"\n')
    report = tune.run(own_home, progress=Silent(), trials=3)
    (plant,) = report.plants
    assert report.space == str(space)
    assert plant.stopped == {"diverged": 2} and plant.finished == 1 and plant.best["trial"] == 0
    assert [t["state"] for t in plant.outcomes] == ["finished", "diverged", "diverged"]
    assert "harbor: 2 diverged" in _rendered(report)
    space.write_text(f'[name]\ntype = "fixed"\nvalue = "{OWN}:Last"\n')
    with pytest.raises(InputError, match=r"code of its own.* found 'tests.models.own_networks:Last'"):
        tune.run(own_home, progress=Silent())


def test_a_study_on_disk_cannot_name_code_that_the_deployment_does_not_list(study: Study, tmp_path: Path) -> None:
    studies = studies_at(tmp_path, study, {"harbor": [{}, {"name": "tests.models.strangers_code:Body"}]})
    train_all(studies, {"harbor": ray.put(study)}, gpu=0.0)
    trials = studies.searches["harbor"].journal.trials
    assert [t.state for t in trials] == ["finished", "invalid"] and "not allowed here" in trials[1].reason


def test_a_champion_of_own_code_is_loaded_only_where_it_is_allowed(own_home: Home) -> None:
    allowed = [*SMALL, f"model.network.name={OWN}:Last", f'registry.allowed_networks=["{OWN}:Last"]']
    home = open_home(own_home.path, environment={}, assignments=allowed)
    (plant,) = tune.run(home, progress=Silent(), trials=1).plants
    assert "network" in plant.best["log_likelihood"] and plant.outcomes[0]["epochs"] == 4
    best = champion(home, "harbor")
    assert best is not None
    version = json.loads((best.path.parent / CANDIDATES).read_text())["network"]["version"]
    assert load_version(home, "harbor", version).spec.config.network.name == f"{OWN}:Last"
    with pytest.raises(InputError, match="code of its own, which is not allowed here"):
        load_version(own_home, "harbor", version)


def test_a_budget_that_is_over_bundles_what_there_is_and_the_rest_goes_on_later(own_home: Home) -> None:
    short = tune.run(own_home, progress=Silent(), trials=2, budget="0.001s")
    (plant,) = short.plants
    assert short.budget_ended and plant.budget_ended and plant.epochs_run == 0 and plant.finished == 0
    assert plant.best["kind"] in ("trees", "no_sensor") and plant.best["trial"] is None
    assert plant.stopped == {"not begun within the budget": 2}
    assert "The budget of 0.001s ended the search" in _rendered(short)
    (rest,) = tune.run(own_home, progress=Silent(), trials=2, resume=True).plants
    assert rest.resumed and not rest.budget_ended and rest.finished == 2
    assert rest.epochs_run == sum(t["epochs"] for t in rest.outcomes) > 0
    (again,) = tune.run(own_home, progress=Silent(), trials=2).plants
    assert again.epochs_run == 0 and again.outcomes == rest.outcomes
    assert again.best | {"seconds": {}} == rest.best | {"seconds": {}}  # baselines are fitted again


def test_resume_says_what_differs_and_never_begins_anew(own_home: Home) -> None:
    with pytest.raises(InputError, match=r"Nothing to resume: expected a study .*, found none \(in harbor\)"):
        tune.run(own_home, progress=Silent(), resume=True)
    tune.run(own_home, progress=Silent(), trials=1, budget="0.001s")
    with pytest.raises(InputError, match=r"another study: .* found a difference in its seed \(in plant harbor\)"):
        tune.run(own_home, progress=Silent(), trials=1, seed=5, resume=True)
    with pytest.raises(InputError, match="Wrong budget"):
        tune.run(own_home, progress=Silent(), budget="90")


def test_a_share_of_a_gpu_that_is_not_there_is_refused(own_home: Home) -> None:
    home = open_home(own_home.path, environment={}, assignments=[*SMALL, "tune.gpu_per_trial=0.5"])
    if ray.cluster_resources().get("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"No room for a trial on a GPU: expected 0.5 of a GPU, found 0 GPUs"):
        tune.run(home, progress=Silent())


def _rendered(report: tune.TuneReport) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.render())
    return console.export_text()


def test_a_sweep_that_has_to_wait_for_cores_says_so(ray_cluster: None) -> None:
    class Noted(Silent):
        def __init__(self) -> None:
            self.told: list[str] = []

        def note(self, text: str) -> None:
            self.told.append(text)

    @ray.remote(num_cpus=2)
    class Busy:
        def ready(self) -> None: ...

    def free(cores: int) -> None:
        until = time.monotonic() + 30
        while int(ray.available_resources().get("CPU", 0)) != cores:
            assert time.monotonic() < until
            time.sleep(0.1)

    said = Noted()
    free(2)
    say_who_waits(2, said)
    assert said.told == []
    other = Busy.remote()
    ray.get(other.ready.remote())
    free(0)
    say_who_waits(2, said)
    ray.kill(other)
    assert said.told == [
        "2 of 2 cores are in use by other work: trials begin as it gives them up. Another sweep leaves some with "
        "tune.concurrent"
    ]

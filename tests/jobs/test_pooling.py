"""The fleet's network is trained once, taken up by plants without failures, and what plants with few start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ray.train import WorkerGroupError

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.candidates import network_candidate
from jobs.pooled_training import _cause
from jobs.pooling import adopt, fleet_of
from jobs.study import Fleet, Study
from jobs.trial import begin
from models.bundle import load_bundle
from models.config import Clock
from models.errors import InputError
from models.features import Sequence
from models.predictor import Predictor
from models.windows import channels_of

SMALL = [
    "model.window.length=16", "model.network.hidden=16", "model.network.channel_hidden=8", "model.network.layers=2",
    "model.network.epochs=4", "model.network.learning_rate=0.02", "model.network.batch_size=4",
]  # fmt: skip
SENSORS = {"vib": ("vib", "vibration", "mm/s"), "temp": ("temp", "temperature", "degC")}


def machine(name: str, seed: int, columns: tuple[str, ...], *, fails: bool = True) -> Sequence:
    """Vibration rises over the last 60 hours before the failure at the end; temperature says nothing."""
    rng = np.random.default_rng(seed)
    left = np.arange(200, 0, -1).astype(np.float32)
    wear = np.maximum(0, 60 - left) / 6 if fails else np.zeros(200)
    made = {"vib": wear + rng.normal(0, 0.5, 200), "temp": 60 + rng.normal(0, 1, 200)}
    values = np.zeros((200, len(columns) + 2), np.float32)
    values[:, : len(columns)] = np.stack([made[c] for c in columns], axis=1)
    return Sequence(name, values, left, np.full(200, fails), np.arange(200) >= 15)


def study(home: Home, plant: str, columns: tuple[str, ...], *, failures: int = 6) -> Study:
    fails = failures > 0
    train = [machine(f"{plant}{i}", i, columns, fails=fails) for i in range(6)]
    validate = [machine(f"{plant}v{i}", 50 + i, columns, fails=fails) for i in range(4)]
    channels = channels_of([SENSORS[c] for c in columns])
    return Study(plant, channels, home.settings.model, ("pump",), "v1", {}, train, validate, failures)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Home:
    return open_home(tmp_path_factory.mktemp("fleet") / "home", create=True, environment={}, assignments=SMALL)


@pytest.fixture(scope="module")
def studies(home: Home) -> list[Study]:
    return [study(home, "harbor", ("vib", "temp")), study(home, "ridge", ("temp", "vib"))]


@pytest.fixture(scope="module")
def fleet(home: Home, studies: list[Study]) -> Fleet:
    found = fleet_of(home, [*studies, study(home, "dale", ("vib",), failures=0)], progress=Silent())
    assert found is not None
    return found


@pytest.mark.ray
def test_the_fleet_is_trained_on_plants_with_failures_once(home: Home, studies: list[Study], fleet: Fleet) -> None:
    assert fleet.plants == ("harbor", "ridge") and fleet.num_failures == 12
    folder = home.registry / "fleet" / fleet.version
    made = (folder / "fleet.json").stat().st_mtime_ns
    assert fleet_of(home, studies[::-1], progress=Silent()) == fleet
    assert (folder / "fleet.json").stat().st_mtime_ns == made
    other = fleet_of(home, [replace(studies[0], data_version="v2"), studies[1]], progress=Silent())
    assert other is not None and other.version != fleet.version


@pytest.mark.ray
def test_a_plant_without_failures_is_answered_by_the_fleet_from_its_first_day(
    home: Home, fleet: Fleet, tmp_path: Path
) -> None:
    new = study(home, "dale", ("vib",), failures=0)
    bundle = load_bundle(Path(adopt(new, fleet, tmp_path).folder))
    assert bundle.spec.scope == "fleet" and bundle.spec.num_failures_trained_on == 12
    assert bundle.spec.lineage.parent == fleet.version and bundle.spec.plant == "dale"
    assert "none of this plant's" in bundle.card
    worn, fresh = (machine("dale9", 9, ("vib",), fails=fails).values[None, -16:] for fails in (True, False))
    predictor = Predictor(bundle)
    assert predictor.risk(worn)[0] > 3 * predictor.risk(fresh)[0]


@pytest.mark.ray
def test_without_failures_the_newest_fleet_that_was_ever_trained_is_taken(home: Home, fleet: Fleet) -> None:
    found = fleet_of(home, [study(home, "dale", ("vib",), failures=0)], progress=Silent())
    assert found is not None and found.plants == fleet.plants


@pytest.mark.ray
def test_a_network_from_the_fleet_names_it_as_its_parent(studies: list[Study], fleet: Fleet, tmp_path: Path) -> None:
    own = replace(studies[0], fleet=fleet)
    parents = []
    for settings in ({"start": "fleet", "epochs": 1}, {"epochs": 1}):
        fit = begin(own, settings)
        fit.epoch()
        candidate = network_candidate(own, tmp_path, settings, fit.state())
        spec = load_bundle(Path(candidate.folder)).spec
        parents.append(spec.lineage.parent)
        assert spec.scope == "plant" and spec.num_failures_trained_on == 6
    assert parents == [fleet.version, None]


def test_a_start_without_a_fleet_is_refused(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=SMALL)
    with pytest.raises(InputError, match="No fleet to start from"):
        begin(study(home, "harbor", ("vib",)), {"start": "fleet"})


@pytest.mark.ray
def test_another_clock_is_refused_and_does_not_join(
    home: Home, studies: list[Study], fleet: Fleet, tmp_path: Path
) -> None:
    slow = home.settings.model.model_copy(update={"clock": Clock(step_s=600)})
    third = replace(study(home, "mill", ("vib",)), config=slow)
    assert fleet_of(home, [*studies, third], progress=Silent()) == fleet
    with pytest.raises(InputError, match=r"The fleet has another clock: expected 3600 s a step"):
        adopt(replace(third, num_failures=0), fleet, tmp_path)


@pytest.mark.ray
def test_a_damaged_fleet_is_named(home: Home, studies: list[Study]) -> None:
    made = fleet_of(home, [replace(s, data_version="damaged") for s in studies], progress=Silent())
    assert made is not None
    folder = home.registry / "fleet" / made.version
    about, weights = (folder / "fleet.json").read_text(), (folder / "shared.safetensors").read_bytes()
    for name, content in (("fleet.json", b"{}"), ("fleet.json", b"{"), ("shared.safetensors", weights[:-8])):
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match="Damaged fleet network"):
            fleet_of(home, [replace(s, data_version="damaged") for s in studies], progress=Silent())
        (folder / "fleet.json").write_text(about)
        (folder / "shared.safetensors").write_bytes(weights)


@pytest.mark.ray
def test_plants_may_give_their_machines_the_same_names(home: Home) -> None:
    one, other = study(home, "north", ("vib", "temp")), study(home, "south", ("temp",))

    def renamed(found: Study) -> Study:
        parts = ([replace(s, machine=str(n)) for n, s in enumerate(part)] for part in (found.train, found.validate))
        train, validate = parts
        return replace(found, train=train, validate=validate)

    found = fleet_of(home, [renamed(one), renamed(other)], progress=Silent())
    named = fleet_of(home, [one, replace(other, data_version="named")], progress=Silent())
    assert found is not None and named is not None and found.judged == named.judged


@pytest.mark.ray
def test_another_split_is_another_fleet(home: Home, studies: list[Study], fleet: Fleet) -> None:
    later = open_home(home.path, environment={}, assignments=[*SMALL, "split.train_until=0.5"])
    lone = [study(home, "dale", ("vib",), failures=0)]
    assert fleet_of(later, lone, progress=Silent()) is None
    found = fleet_of(later, studies, progress=Silent())
    assert found is not None and found.version != fleet.version
    kept = fleet_of(home, lone, progress=Silent())
    assert kept is not None and kept.version != found.version


@pytest.mark.ray
def test_a_budget_ends_the_training_at_an_epoch_and_never_stands_for_the_whole(
    home: Home, studies: list[Study]
) -> None:
    hurried = [replace(s, data_version="hurried") for s in studies]
    cut = fleet_of(home, hurried, progress=Silent(), most_s=0.0)
    assert cut is not None and cut.version.endswith("-e1")
    whole = fleet_of(home, hurried, progress=Silent())
    assert whole is not None and whole.version == cut.version.removesuffix("-e1") and whole.shared != cut.shared


@pytest.mark.ray
def test_a_training_that_diverges_leaves_no_fleet_and_says_so(home: Home, studies: list[Study]) -> None:
    class Noted(Silent):
        def __init__(self) -> None:
            self.told: list[str] = []

        def note(self, text: str) -> None:
            self.told.append(text)

    wild = open_home(home.path, environment={}, assignments=[*SMALL, "model.network.learning_rate=1e30"])
    said = Noted()
    assert fleet_of(wild, [replace(s, config=wild.settings.model) for s in studies], progress=said) is None
    assert "no fleet to start from" in said.told[0] and "diverged" in said.told[0]
    assert not list((home.registry / "fleet").glob("*.state"))


@pytest.mark.ray
def test_a_training_that_was_killed_goes_on_from_its_last_epoch(home: Home, studies: list[Study]) -> None:
    killed = [replace(s, data_version="killed") for s in studies]
    cut = fleet_of(home, killed, progress=Silent(), most_s=0.0)
    assert cut is not None
    state = home.registry / "fleet" / f"{cut.version.removesuffix('-e1')}.state"
    whole_state = state.read_bytes()
    state.write_bytes(whole_state[:-8])
    with pytest.raises(InputError, match=r"Damaged state of the fleet's training.* Remove it to train anew"):
        fleet_of(home, killed, progress=Silent())
    state.write_bytes(whole_state)
    whole = fleet_of(home, killed, progress=Silent())
    assert whole is not None and not state.exists()
    other = [replace(s, data_version="never killed") for s in studies]
    never = fleet_of(home, other, progress=Silent())
    assert never is not None and never.shared == whole.shared and never.judged == whole.judged


@pytest.mark.ray
def test_several_workers_train_it_by_ray_train(home: Home, studies: list[Study], fleet: Fleet) -> None:
    pair = open_home(home.path, environment={}, assignments=[*SMALL, "tune.fleet_workers=2"])
    found = fleet_of(pair, studies, progress=Silent())
    assert found is not None and found.version != fleet.version
    assert found.plants == fleet.plants and found.num_failures == 12 and found.shared != fleet.shared
    assert found.judged.log_likelihood > 1.5 * fleet.judged.log_likelihood  # both negative, by a few epochs
    assert not [*(home.registry / "fleet").glob("*.train"), *(home.registry / "fleet").glob(f"{found.version}.state")]
    assert fleet_of(pair, studies, progress=Silent()) == found


@pytest.mark.ray
def test_more_workers_than_cores_are_refused_and_what_ends_a_worker_is_told(home: Home, studies: list[Study]) -> None:
    many = open_home(home.path, environment={}, assignments=[*SMALL, "tune.fleet_workers=64"])
    with pytest.raises(InputError, match=r"No room for the fleet's workers: expected 64 CPUs, found 2 \(in tune.fleet"):
        fleet_of(many, studies, progress=Silent())
    own, other = InputError("Damaged state"), ValueError("a matrix\nof no such shape")
    assert _cause(WorkerGroupError("x", {0: other, 1: own})) is own
    assert "of no such shape" in str(_cause(WorkerGroupError("x", {0: other})))
    assert "workers: found no node" in str(_cause(RuntimeError("no node")))

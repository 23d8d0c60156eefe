"""The simulated fleet as a benchmark: the share of the way by hand, the frozen generator, a small fleet to its end."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs import benchmark, simulate
from jobs.benchmarks import fleet, simulated
from jobs.benchmarks.shares import KINDS, Case, shares
from jobs.evaluation.allowed import Alarms, Counts
from jobs.evaluation.judging import Judged
from jobs.fleet.history import readings_of, simulate_plant
from jobs.fleet.plants import PLANTS
from models.config import HazardConfig
from models.errors import InputError

# By threshold, lowest first: failures caught and false alarms of machines 0, 1 and 2.
NETWORK = Alarms(np.array([[1.0, 2, 1], [1, 1, 1], [0, 1, 0]]), np.array([[2.0, 2, 1], [1, 1, 0], [0, 0, 0]]), own=1)
TREES = Alarms(np.array([[1.0, 2, 2], [1, 1, 0], [0, 1, 0]]), np.array([[3.0, 1, 1], [1, 0, 1], [0, 0, 0]]), own=0)
NO_SENSOR = Alarms(np.array([[1.0, 1, 0], [0, 0, 0]]), np.array([[2.0, 1, 1], [1, 0, 0]]), own=0)
ORACLE = Alarms(np.array([[2.0, 2, 2], [1, 2, 1]]), np.array([[1.0, 2, 2], [0, 1, 0]]), own=1)
ALARMS = dict(zip(KINDS, (NETWORK, TREES, NO_SENSOR, ORACLE), strict=True))
FAILURES, MONTHS = np.array([2.0, 2, 2]), np.array([1.0, 2, 1])


def case(plant: str = "harbor", seed: int = 101, champion: str = "network", **changed: Alarms) -> Case:
    return Case(plant, seed, Counts(ALARMS | changed, FAILURES, MONTHS), champion)


def test_each_candidate_catches_what_its_best_threshold_allows_at_the_networks_false_alarms() -> None:
    found = shares([case()])
    # The network's own threshold gives 2 false alarms, and 3 of 6 failures. With 2, trees catch 2 (5 would cost 5),
    # who sees no sensor 0 (2 would cost 4), the oracle 4 (6 would cost 5): (3 - 2) / (4 - 2).
    assert (found.false_alarms, found.num_failures, found.num_machines, found.machine_months) == (2, 6, 3, 4.0)
    assert [one.num_caught for one in (found.model, found.baseline, found.no_sensor, found.oracle)] == [3, 2, 0, 4]
    assert (found.better.num_caught, found.share.value, found.model.caught.value) == (2, 0.5, 0.5)
    assert (found.champion.num_caught, found.champion_share.value) == (3, 0.5)


def test_a_champion_of_trees_is_at_the_better_baseline() -> None:
    found = shares([case(champion="trees")])
    assert (found.champion.num_caught, found.champion_share.value, found.share.value) == (2, 0.0, 0.5)


def test_at_a_fixed_rate_nobodys_threshold_says_what_is_allowed() -> None:
    # In 4 machine-months 0.2 allows 0.8 false alarms, 0.5 allows 2 and 1 allows 4.
    found = {one.rate: one for one in shares([case()]).at_rates}
    assert list(found) == [0.1, 0.2, 0.5, 1.0]
    low, middle, high = found[0.2], found[0.5], found[1.0]
    assert (low.model, low.baseline, low.no_sensor, low.better, low.oracle, low.share.value) == (1, 1, 0, 1, 0, None)
    assert (middle.model, middle.baseline, middle.better, middle.oracle, middle.share.value) == (3, 2, 2, 4, 0.5)
    assert (high.model, high.baseline, high.no_sensor, high.oracle, high.share.value) == (3, 2, 2, 4, 0.5)


def test_a_rate_is_allowed_to_each_plant_alone() -> None:
    # 4 false alarms each at 1 a month: ridge raises none, but harbor has not 8, which would catch 4, 5 and 6.
    quiet = {kind: Alarms(np.zeros((1, 3)), np.zeros((1, 3)), own=0) for kind in KINDS}
    found = {one.rate: one for one in shares([case(), case("ridge", **quiet)]).at_rates}
    assert (found[1.0].model, found[1.0].baseline, found[1.0].oracle) == (3, 2, 4)


def test_counts_are_summed_before_the_ratio_and_the_better_baseline_is_one_a_plant() -> None:
    blind = {"trees": NO_SENSOR, "no_sensor": TREES}
    found = shares([case(), case(seed=102, **blind), case("ridge", **blind)])
    # Of harbor, trees catch 2 + 0 and no sensor 0 + 2 over its seeds, so the better one has 2; of ridge no sensor, 2.
    assert (found.model.num_caught, found.better.num_caught, found.oracle.num_caught) == (9, 4, 12)
    assert found.share.value == round(5 / 8, 4)


def test_where_the_oracle_is_not_ahead_there_is_no_share() -> None:
    found = shares([case(oracle=TREES)])
    assert (found.share.value, found.share.low, found.oracle.num_caught) == (None, None, 2)


def test_without_a_failure_there_is_no_share_of_failures() -> None:
    none = {kind: Alarms(np.zeros((1, 3)), np.ones((1, 3)), own=0) for kind in KINDS}
    found = shares([Case("harbor", 101, Counts(none, np.zeros(3), MONTHS), "trees")])
    assert (found.num_failures, found.false_alarms, found.model.num_caught) == (0, 3, 0)
    assert (found.model.caught.value, found.share.value, found.champion_share.value) == (None, None, None)


def test_nothing_is_caught_within_an_allowance_that_no_threshold_keeps() -> None:
    always = Alarms(np.array([[2.0, 2, 2]]), np.array([[1.0, 1, 1]]), own=0)
    assert shares([case(trees=always)]).baseline.num_caught == 0
    assert always.most_within(np.array([3.0, 2.0]), np.ones((2, 3))).tolist() == [6, 0]


def test_draws_count_a_machine_as_often_as_it_is_drawn_for_all_candidates_alike() -> None:
    weight = np.array([[2.0, 0, 1], [0, 3, 0]])
    allowed = NETWORK.allowed(weight)
    assert allowed.tolist() == [2, 3]
    assert NETWORK.most_within(allowed, weight).tolist() == [3, 3]
    assert TREES.most_within(allowed, weight).tolist() == [0, 6]


def test_intervals_hold_the_value_and_a_model_like_the_oracle_has_no_doubt() -> None:
    found = shares([case(seed=seed) for seed in range(20)])
    assert found.share.low is not None and found.share.value is not None and found.share.high is not None
    assert found.share.low < found.share.value == 0.5 < found.share.high
    same = shares([case(seed=seed, oracle=NETWORK) for seed in range(20)])
    assert (same.share.value, same.share.low, same.share.high) == (1.0, None, None)  # all draws agree
    assert shares([case()]) == shares([case()])


def test_a_plant_is_of_the_demos_size_and_never_of_the_demos_seed() -> None:
    defaults = inspect.signature(simulate.run).parameters
    assert (defaults["machines"].default, defaults["days"].default) == (simulated.MACHINES, simulated.DAYS)
    assert defaults["seed"].default < simulated.FIRST_SEED


@pytest.mark.parametrize(
    ("plant", "failures", "digest", "mean"),
    [
        ("harbor", 7, "86f578f5573e", 278.40532),
        ("ridge", 8, "3813aca35bba", 108.040882),
        ("summit", 10, "035edbe2f513", 987.398567),
    ],
)
def test_the_generator_is_frozen(plant: str, failures: int, digest: str, mean: float) -> None:
    """Golden, from the generator as it was before the default network was chosen: figures are of this fleet alone."""
    history = simulate_plant(PLANTS[plant], machines=12, days=60, seed=101)
    told = repr([(f.machine, f.mode, f.started_s) for f in history.lives.failures])
    assert len(history.lives.failures) == failures
    assert hashlib.sha256(told.encode()).hexdigest()[:12] == digest
    assert float(np.nanmean(readings_of(history).spoiled.values)) == pytest.approx(mean, rel=1e-6)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(simulated, "MACHINES", 10)
    monkeypatch.setattr(simulated, "DAYS", 100)
    quick = ["model.network.epochs=1", "model.network.hidden=16", "model.trees.rounds=10", "split.unseen_machines=0.25"]
    return open_home(tmp_path / "home", create=True, environment={}, assignments=quick)


@pytest.mark.ray
def test_a_plant_goes_the_whole_way_and_its_counts_are_those_of_evaluate(
    small: Home, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Judged] = []

    def kept(plant: str, seed: int, judged: Judged, champion: str) -> Case:
        seen.append(judged)
        return case_of(plant, seed, judged, champion)

    case_of = fleet.case_of
    monkeypatch.setattr(fleet, "case_of", kept)
    report = benchmark.run(small, progress=Silent(), name="fleet", subset="harbor", seeds=1)
    assert isinstance(report, fleet.FleetReport)
    (judged,), (part,) = seen, report.parts
    found = {c.kind: c for c in judged.result.all.candidates}
    for kind, one in zip(KINDS, (part.model, part.baseline, part.no_sensor, part.oracle), strict=True):
        assert one.num_caught == found[kind].caught_at_equal_false_alarms
    assert part.false_alarms == found["network"].false_alarms and found["network"].champion
    assert part.num_failures == part.oracle.num_caught == 2
    told = report.as_json()
    assert {"model", "baseline", "no_sensor", "oracle", "share"} <= set(told)
    assert told["seeds"] == [301] and told["plants"][0]["plant"] == "harbor" and told["simulated"]
    assert set(told["steps"]) == {"simulate", "ingest", "train", "judge"}
    assert small.plants() == ["fleet-harbor-301"]
    screen = Console(width=200, file=StringIO())
    screen.print(report.render())
    told_to_people = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "fleet: 10 machines and 100 days a plant" in told_to_people
    assert "Of 2 failures that an alarm could have announced" in told_to_people

    raw = small.path / "fleet" / "harbor-301" / "harbor" / "failures.csv"
    written = raw.stat().st_mtime_ns
    again = benchmark.run(small, progress=Silent(), name="fleet", subset="harbor", seeds=1)
    assert raw.stat().st_mtime_ns == written, "a fleet that is whole was simulated again"
    assert again.as_json()["parts"] == told["parts"]
    monkeypatch.setattr(simulated, "DAYS", 101)
    with pytest.raises(InputError, match=r'another fleet of this seed: expected .*"days": 101.*"days": 100.*--home'):
        benchmark.run(small, progress=Silent(), name="fleet", subset="harbor", seeds=1)


def test_a_fleet_reads_no_files_and_the_public_benchmarks_do(home: Home, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The benchmark fleet makes its own data: expected no --data"):
        benchmark.run(home, progress=Silent(), name="fleet", data=tmp_path)
    for name in ("azure", "cmapss"):
        with pytest.raises(InputError, match=rf"The benchmark {name} reads files: expected --data DIR, found no"):
            benchmark.run(home, progress=Silent(), name=name)
    with pytest.raises(InputError, match=r"Unknown subset: expected one of harbor, ridge, summit, found 'atlantis'"):
        benchmark.run(home, progress=Silent(), name="fleet", subset="atlantis")
    other = home.settings.model.model_copy(update={"hazard": HazardConfig(horizons={"72h": 72.0})})
    changed = replace(home, settings=home.settings.model_copy(update={"model": other}))
    with pytest.raises(InputError, match=r"expected an alarm within one of \(24, 48, 168\) hours, found 72h"):
        benchmark.run(changed, progress=Silent(), name="fleet")
    assert set(benchmark.BENCHMARKS) >= benchmark.MAKES_ITS_DATA

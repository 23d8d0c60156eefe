"""One plant's study without a cluster: what is drawn, what is stopped, and what a kill or another order changes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs.tuning.journal import FILE, Facts, Journal, facts_at
from jobs.tuning.report import outcomes
from jobs.tuning.search import PlantSearch, batch_size
from jobs.tuning.space import find_space, parse_space
from jobs.tuning.studies import PlantStudies
from models.config import NetworkConfig
from models.errors import InputError

NETWORK = NetworkConfig(epochs=15)


def facts(trials: int = 8, seed: int = 0, batch: int = 2) -> Facts:
    return Facts(data="d", configuration="c", space="s", trials=trials, batch=batch, seed=seed, code="1")


def search_in(folder: Path, **given: int) -> PlantSearch:
    space = parse_space(*find_space(folder, None), NETWORK)
    return PlantSearch(Journal(folder / "study", "harbor", facts(**given)), space, NETWORK)


def loss_of(settings: dict, epoch: int) -> float:
    """A curve that falls, towards where the settings are best."""
    own = NETWORK.model_dump() | settings
    return abs(own["hidden"] - 80) / 100 + abs(own["dropout"] - 0.2) + 1.0 / epoch


def train(search: PlantSearch, rng: random.Random, *, most: int = 10**6) -> int:
    """Train with two workers of any speed until all is over, or ``most`` epochs; returns how many were trained."""
    training: dict[int, int] = {}
    trained = 0
    while trained < most:
        while len(training) < 2 and (trial := search.next()) is not None:
            training[trial.number] = trial.epochs
        if not training:
            break
        number = rng.choice(sorted(training))
        training[number] += 1
        trained += 1
        epoch = training[number]
        loss = loss_of(search.journal.trials[number].settings, epoch)
        if search.heard(number, epoch=epoch, loss=loss, seconds=0.1):
            search.end(number, "stopped")
            del training[number]
        elif epoch == NETWORK.epochs:
            search.end(number, "finished")
            del training[number]
    return trained


def tried(search: PlantSearch) -> list[tuple]:
    return [(t.settings, t.state, t.epochs, t.loss, t.rungs) for t in search.journal.trials]


def test_the_default_configuration_is_the_first_trial(tmp_path: Path) -> None:
    first = search_in(tmp_path).next()
    assert first is not None and first.number == 0 and first.settings == {}


def test_a_batch_waits_for_the_one_before_and_for_nothing_else(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    assert [search.next().number, search.next().number] == [0, 1]  # type: ignore[union-attr]
    assert not search.ready() and search.next() is None
    search.end(1, "finished")
    assert not search.ready()
    search.end(0, "diverged", "train_loss was nan in epoch 1")
    assert search.ready() and search.next().number == 2  # type: ignore[union-attr]


def test_a_trial_is_stopped_by_earlier_batches_alone(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    search.next(), search.next()
    assert not search.heard(0, epoch=3, loss=1.0, seconds=1.0)
    assert not search.heard(1, epoch=3, loss=9.0, seconds=1.0), "its own batch does not judge it"
    search.end(0, "finished"), search.end(1, "finished")
    search.next(), search.next()
    assert not search.heard(2, epoch=2, loss=9.0, seconds=1.0), "no rung"
    assert search.heard(2, epoch=3, loss=3.1, seconds=1.0), "the best quarter of 1 and 9 ends at 3"
    assert not search.heard(3, epoch=3, loss=2.9, seconds=1.0)
    assert not search.heard(3, epoch=12, loss=2.8, seconds=1.0), "nobody was there before"


def test_equal_seeds_try_and_choose_the_same_whatever_ends_first(tmp_path: Path) -> None:
    searches = [search_in(tmp_path / str(n)) for n in range(3)]
    for order, search in enumerate(searches):
        train(search, random.Random(order))
    assert tried(searches[0]) == tried(searches[1]) == tried(searches[2])
    assert any(t.state == "stopped" for t in searches[0].journal.trials)
    other = search_in(tmp_path / "other", seed=1)
    train(other, random.Random(0))
    assert tried(other) != tried(searches[0])


def test_a_study_killed_after_any_epoch_ends_like_one_that_never_was(tmp_path: Path) -> None:
    whole = search_in(tmp_path / "whole")
    total = train(whole, random.Random(0))
    for killed_after in (1, 4, 31, total - 1):
        folder = tmp_path / str(killed_after)
        first = search_in(folder)
        before = train(first, random.Random(1), most=killed_after)
        first.journal.write()
        again = search_in(folder)
        assert again.journal.resumed
        assert before + train(again, random.Random(2)) == total, "no epoch is trained twice"
        assert tried(again) == tried(whole)
        assert again.journal.best() == whole.journal.best().model_copy(update={"seconds": again.journal.best().seconds})


def test_later_trials_are_drawn_where_earlier_ones_were_good(tmp_path: Path) -> None:
    search = search_in(tmp_path, trials=60, batch=6)
    train(search, random.Random(0))
    early, late = ([abs(t.settings["hidden"] - 80) for t in part]
                   for part in (search.journal.trials[1:13], search.journal.trials[-24:]))  # fmt: skip
    assert sum(late) / len(late) < 0.6 * sum(early) / len(early)


def test_what_diverged_is_never_the_best_and_says_why(tmp_path: Path) -> None:
    search = search_in(tmp_path, trials=4)
    search.next(), search.next()
    search.heard(0, epoch=1, loss=0.1, seconds=1.0), search.heard(1, epoch=1, loss=0.5, seconds=1.0)
    search.end(0, "diverged", "train_loss was nan in epoch 2"), search.end(1, "finished")
    best = search.journal.best()
    assert best is not None and best.number == 1
    assert outcomes(search.journal) == {"diverged": 1, "not begun within the budget": 2}
    nobody = search_in(tmp_path / "nobody", trials=1)
    nobody.next(), nobody.end(0, "out_of_memory")
    assert nobody.journal.best() is None and nobody.journal.over


def test_a_journal_says_what_differs_and_a_damaged_one_where_it_is(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    assert facts_at(search.journal.folder) == facts() and facts_at(tmp_path) is None
    assert facts(seed=1, trials=9).unlike(facts()) == ["trials", "seed"]
    assert facts().name() != facts(seed=1).name()
    (tmp_path / "study" / FILE).write_text('{"format": "other"}')
    with pytest.raises(InputError, match=r"Unreadable study: expected millwright-study/1, .*study\.json"):
        search_in(tmp_path)


def test_the_first_batch_is_two_or_a_quarter() -> None:
    assert [batch_size(n) for n in (1, 4, 8, 9, 100)] == [2, 2, 2, 3, 25]


class Unlogged:
    """What is told about trials, with no registry behind it."""

    def begin(self, trial: object, configuration: object) -> None: ...
    def log(self, trial: object, result: object) -> None: ...
    def end(self, trial: object) -> None: ...


def test_ten_plants_take_turns_at_two_places(tmp_path: Path) -> None:
    names = [f"plant-{n}" for n in range(10)]
    searches = {name: search_in(tmp_path / name, trials=4) for name in names}
    studies = PlantStudies(searches, {name: Unlogged() for name in names}, 2)  # type: ignore[arg-type]
    rng, ids, begun = random.Random(0), iter(range(10**6)), []
    while studies.left():
        while (found := studies.next(trial := str(next(ids)))) is not None:
            begun.append(found["plant"])
            studies.begin(trial)
            counts = [begun.count(name) for name in names]
            # A plant may wait for the other trial of its batch, so the turns are not exact.
            assert max(counts) - min(counts) <= 2
        trial = rng.choice(sorted(studies.live))
        result = {"epoch": 1, "best_loss": rng.random(), "share_done": 1.0, "done": True, "trained": 1}
        assert studies.heard(trial, result)
        studies.leave(trial)
    assert all(search.journal.over for search in searches.values())


def test_a_journal_of_another_study_is_refused(tmp_path: Path) -> None:
    search_in(tmp_path, trials=4).next()
    path = tmp_path / "study" / "study.json"
    whole = path.read_text()
    for old, new in (
        ('"plant": "harbor"', '"plant": "ridge"'),
        ('"trials": 4', '"trials": 5'),
        ('"number": 0', '"number": 7'),
    ):
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(InputError, match="A study that is not this one"):
            search_in(tmp_path, trials=4)


def test_two_first_trials_of_one_batch_do_not_judge_each_other(tmp_path: Path) -> None:
    space = parse_space(*find_space(tmp_path, None), NETWORK)
    journal = Journal(tmp_path / "study", "harbor", facts(trials=4).model_copy(update={"batch": 1}))
    search = PlantSearch(journal, space, NETWORK, [{"start": "fleet"}, {}])
    first, second = search.next(), search.next()
    assert first is not None and second is not None and second.number == 1
    assert not search.heard(0, epoch=3, loss=0.1, seconds=1.0) and not search.heard(1, epoch=3, loss=9.0, seconds=1.0)

"""Deaths around the judgement of a batch: while it is held, while it is accepted, while its cells are emptied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.ingest import run
from jobs.ingesting.gate import quality_path
from jobs.ingesting.plan import plans, save
from models.source import Checks
from tests.jobs.once_checker import State, check_every_version, state
from tests.jobs.once_crashes import KILL, Forks, disk
from tests.jobs.once_held import deliver, describe
from tests.jobs.once_plants import PLANT

OTHER = "other"
OFF = dict.fromkeys(("gap", "clock_step", "dst_fold", "stuck", "future"), "off")


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(disk(tmp_path_factory.mktemp("disk"))) as found:
        yield found


def two_plants(folder: Path, forks: Forks, unit_jump: str) -> Home:
    """A home whose plants have a history; the next delivery of the first one is in another unit."""
    home = open_home(folder / "home", create=True, environment={})
    for name in (PLANT, OTHER):
        raw = folder / f"raw-{name}"
        raw.mkdir()
        describe(home, raw, Checks.model_validate(OFF | {"unit_jump": unit_jump}), plant=name)
        deliver(raw, "a.csv", first_day=0, days=8)
    assert forks.run(home.path)["code"] == 0
    deliver(folder / f"raw-{PLANT}", "b.csv", first_day=8, days=7, fahrenheit=True)
    deliver(folder / f"raw-{OTHER}", "b.csv", first_day=8, days=2)
    return home


def copied(home: Home, name: str) -> Home:
    return open_home(shutil.copytree(home.path, home.path.with_name(name)), environment={})


def states(home: Home) -> tuple[State, State]:
    return state(home), state(home, OTHER)


def chosen(steps: int, number: int | None) -> list[int]:
    """All steps, or some of them, the same ones every time."""
    every = range(1, steps + 1)
    return list(every) if number is None else sorted(Random(0).sample(every, number))


def die_held(folder: Path, forks: Forks, number: int | None) -> None:
    """Die while one plant is held and the other committed."""
    home = two_plants(folder, forks, "stop")
    clean, before = copied(home, "clean"), states(home)
    answer = forks.run(clean.path)
    assert (answer["code"], len(answer["held"])) == (3, 1)
    after = states(clean)
    assert after[0] == before[0]
    assert len(after[1]["readings"]) == 10 * 24 * 6
    killed = 0
    for step in chosen(answer["steps"], number):
        dying = copied(home, "dying")
        killed += forks.run(dying.path, mode=KILL, at=step).get("killed", False)
        assert states(dying)[0] == before[0]
        assert states(dying)[1] in (before[1], after[1])
        going_on = forks.run(dying.path)
        assert going_on.get("code") in (0, 3), going_on
        assert states(dying) == after, f"other rows after death at {step}"
        assert [plan.held for plan in plans(dying, PLANT)] == [False, True], f"not held after death at {step}"
        assert forks.run(dying.path)["files"] == 0
        check_every_version(dying)
        assert not list(dying.table(PLANT, "quarantine").glob("*.parquet"))
        shutil.rmtree(dying.path)
    assert killed >= (number or answer["steps"]) - 2


def die_accepting(folder: Path, forks: Forks, number: int | None) -> None:
    """Die while a held batch is let in; whoever comes next finishes it, or can let it in again."""
    home = two_plants(folder, forks, "stop")
    (batch,) = forks.run(home.path)["held"]
    clean, before = copied(home, "clean"), state(home)
    answer = forks.run(clean.path, accept=batch)
    after = state(clean)
    assert len(after["readings"]) == 15 * 24 * 6
    for step in chosen(answer["steps"], number):
        dying = copied(home, "dying")
        assert forks.run(dying.path, mode=KILL, at=step, accept=batch).get("killed"), step
        assert state(dying) in (before, after)
        if step % 2:
            assert forks.run(dying.path)["code"] == 0
        again = forks.run(dying.path, accept=batch)
        assert again["code"] == 0 or "No such held batch" in again["failed"], again
        assert state(dying) == after, f"other rows after death at {step}"
        assert len(plans(dying, PLANT)) == 3
        check_every_version(dying)
        shutil.rmtree(dying.path)


def die_emptying(folder: Path, forks: Forks, number: int | None) -> None:
    """Die while cells of a batch go to quarantine: they are in it afterwards, each once."""
    home = two_plants(folder, forks, "quarantine")
    clean, before = copied(home, "clean"), states(home)
    answer = forks.run(clean.path)
    after = states(clean)
    assert len(after[0]["quarantine"]) == 7 * 24 * 6
    for step in chosen(answer["steps"], number):
        dying = copied(home, "dying")
        assert forks.run(dying.path, mode=KILL, at=step).get("killed"), step
        assert all(seen in pair for seen, *pair in zip(states(dying), before, after, strict=True))
        forks.run(dying.path)
        assert states(dying) == after, f"other rows after death at {step}"
        shutil.rmtree(dying.path)


def test_death_while_a_batch_is_held_beside_another_leaves_what_a_clean_run_does(tmp_path: Path, forks: Forks) -> None:
    die_held(tmp_path, forks, 1)


def test_death_while_a_batch_is_accepted_lets_it_in_once(tmp_path: Path, forks: Forks) -> None:
    die_accepting(tmp_path, forks, 1)


def test_death_while_cells_go_to_quarantine_loses_none_of_them(tmp_path: Path, forks: Forks) -> None:
    die_emptying(tmp_path, forks, 1)


@pytest.mark.slow
@pytest.mark.parametrize("die", [die_held, die_accepting, die_emptying])
def test_death_at_many_changes_on_disk_around_a_judgement(
    tmp_path: Path, forks: Forks, die: Callable[[Path, Forks, int], None]
) -> None:
    die(tmp_path, forks, 16)


def test_a_batch_that_is_half_in_history_is_finished_whatever_would_now_be_said_of_it(
    tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = two_plants(tmp_path, forks, "off")
    (home.sources / f"{OTHER}.toml").unlink()
    before, clean = state(home), copied(home, "clean")
    forks.run(clean.path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the readings are in their table, the events are not
        patch.setattr("jobs.ingest.tables.commit_events", die)
        with pytest.raises(KeyboardInterrupt):
            run(home, progress=Silent(), spread=map)
    assert state(home) == before
    plan = plans(home, PLANT)[-1]
    stern = plan.source.model_copy(update={"checks": Checks.model_validate(OFF | {"unit_jump": "stop"})})
    save(home, plan.model_copy(update={"source": stern}))
    answer = forks.run(home.path)
    assert (answer["code"], answer["held"]) == (0, [])
    assert state(home) == state(clean)
    assert plans(home, PLANT)[-1].done
    assert '"held":false' in quality_path(home, PLANT, plan.batch).read_text().replace(" ", "")

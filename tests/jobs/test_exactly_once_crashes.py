"""Exactly once, whenever the process dies: before every change on disk, one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from cluster.home import open_home
from tests.jobs.once_checker import NO_ROWS, State, check_every_version, check_model, state
from tests.jobs.once_crashes import KILL, NO_CUTS, SMALL_CUTS, TORN, Forks, disk, lose_power
from tests.jobs.once_model import History
from tests.jobs.once_plants import RawFile, connect, hostile, put

STRIDE = 8  # with 1 they die before every change there is: that takes an hour


@dataclass(frozen=True)
class Stage:
    """A run that can be repeated: its home before it, its raw files, what a clean run shows after it."""

    before: Path
    raw: Path
    steps: int
    earlier: State
    later: State


@dataclass(frozen=True)
class Plant:
    folder: Path
    stages: list[Stage]
    cuts: dict[str, int]

    def home(self, stage: Stage, name: str) -> Path:
        """A copy of the stage's home; the raw files are put where the description looks for them."""
        shutil.rmtree(self.folder / "raw", ignore_errors=True)
        shutil.copytree(stage.raw, self.folder / "raw", copy_function=shutil.copy2)
        return Path(shutil.copytree(stage.before, self.folder / name))


def plant(folder: Path, forks: Forks, *, seed: int, runs: int, rows: int = 8, cuts: dict[str, int] = NO_CUTS) -> Plant:
    """Clean runs of a hostile plant, each kept with what it began from."""
    home = open_home(folder / "clean", create=True, environment={})
    connect(home, folder / "raw")
    model, present, stages, earlier = History(), dict[str, RawFile](), list[Stage](), NO_ROWS
    for number, delivery in enumerate(hostile(Random(seed), runs=runs, rows=rows)):
        put(folder / "raw", delivery)
        present = {path: file for path, file in (present | delivery).items() if file is not None}
        model.run(present)
        before, raw = folder / f"before-{number}", folder / f"raw-{number}"
        shutil.copytree(home.path, before)
        shutil.copytree(folder / "raw", raw, copy_function=shutil.copy2)
        steps = forks.run(home.path, cuts=cuts)["steps"]
        check_model(home, model)
        later = state(home)
        stages.append(Stage(before, raw, steps, earlier, later))
        earlier = later
    return Plant(folder, stages, cuts)


def die_and_go_on(
    made: Plant, stage: Stage, forks: Forks, deaths: list[tuple[int, int]], *, power: bool = False
) -> int:
    """Die at each of ``deaths`` (mode, step) one after the other, then finish; how many deaths there were.

    ``power``: what was not flushed to disk before the death is lost with it.
    """
    path = made.home(stage, "dying")
    home = open_home(path, environment={})
    killed = 0
    for mode, step in deaths:
        trace = made.folder / "trace"
        answer = forks.run(path, mode=mode, at=step, trace=trace if power else "", cuts=made.cuts)
        if power:
            lose_power(path, trace)
            trace.unlink(missing_ok=True)
        assert "broken" not in answer, answer
        assert "failed" not in answer, answer
        killed += answer.get("killed", False)
        seen = state(home)
        assert seen in (stage.earlier, stage.later), f"half a batch is visible after death at {mode, step}"
        if not power:  # a table may end with an entry cut short, which the next run takes away
            check_every_version(home)
    answer = forks.run(path, cuts=made.cuts)
    assert "steps" in answer, (deaths, answer)
    assert state(home) == stage.later, f"other rows after deaths at {deaths}"
    check_every_version(home)
    assert forks.run(path)["files"] == 0
    shutil.rmtree(path)
    return killed


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def some_forks(library: Path | None) -> Iterator[Forks]:
    with Forks(library) as found:
        yield found


@pytest.fixture(params=["every change that libc makes", "every change that Python sees"])
def forks(request: pytest.FixtureRequest, library: Path | None) -> Iterator[Forks]:
    if "libc" in request.param and library is None:
        pytest.skip("no C compiler")
    with Forks(library if "libc" in request.param else None) as found:
        yield found


def die_somewhere(made: Plant, forks: Forks, deaths: int) -> None:
    """Die at some changes of each stage, the same ones every time, and again while going on."""
    rng = Random(0)
    for stage in made.stages:
        for _ in range(deaths):
            first = (rng.choice((KILL, TORN)), rng.randint(1, stage.steps))
            assert die_and_go_on(made, stage, forks, [first, (KILL, 30)])


def test_death_at_some_changes_on_disk_leaves_the_rows_of_a_clean_run(tmp_path: Path, some_forks: Forks) -> None:
    die_somewhere(plant(tmp_path, some_forks, seed=2, runs=2), some_forks, 1)


def test_death_while_files_and_history_are_cut_small_leaves_the_same_rows(tmp_path: Path, some_forks: Forks) -> None:
    made = plant(tmp_path, some_forks, seed=2, runs=1, rows=40, cuts=SMALL_CUTS)
    whole = plant(tmp_path / "whole", some_forks, seed=2, runs=1, rows=40)
    assert made.stages[-1].later == whole.stages[-1].later
    assert made.stages[-1].steps > whole.stages[-1].steps  # it was cut
    die_somewhere(made, some_forks, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3])
def test_death_at_many_changes_while_files_and_history_are_cut_small(tmp_path: Path, forks: Forks, seed: int) -> None:
    die_somewhere(plant(tmp_path, forks, seed=seed, runs=2, rows=30, cuts=SMALL_CUTS), forks, 8)


@pytest.mark.slow
def test_death_at_many_changes_on_disk_leaves_the_rows_of_a_clean_run(tmp_path: Path, forks: Forks) -> None:
    made = plant(tmp_path, forks, seed=1, runs=2)
    rng = Random(1)
    for stage in made.stages:
        for step in range(1 + stage.steps % STRIDE, stage.steps + 1, STRIDE):
            deaths = [(rng.choice((TORN, KILL)), step)]
            if rng.random() < 0.2:  # and die again while going on
                deaths.append((KILL, rng.randint(1, stage.steps)))
            assert die_and_go_on(made, stage, forks, deaths)


@pytest.fixture
def traced(library: Path | None) -> Iterator[Forks]:
    if library is None:
        pytest.skip("no C compiler")
    with Forks(library) as found:
        yield found


def test_power_loss_at_some_changes_on_disk_leaves_the_rows_of_a_clean_run(tmp_path: Path, traced: Forks) -> None:
    made = plant(tmp_path, traced, seed=2, runs=2)
    rng = Random(1)
    for stage in made.stages:
        die_and_go_on(made, stage, traced, [(KILL, rng.randint(stage.steps // 2, stage.steps))], power=True)


@pytest.mark.slow
def test_power_loss_at_many_changes_on_disk_leaves_the_rows_of_a_clean_run(tmp_path: Path, traced: Forks) -> None:
    made = plant(tmp_path, traced, seed=4, runs=2)
    for stage in made.stages:
        for step in range(1 + stage.steps % STRIDE, stage.steps + 1, STRIDE):
            die_and_go_on(made, stage, traced, [(KILL, step)], power=True)

"""Two ingests of one plant at once, and readers beside them: also where no lock keeps them apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.ingest import run
from tests.jobs.once_checker import NO_ROWS, State, check_every_version, check_model, state
from tests.jobs.once_crashes import Forks
from tests.jobs.once_model import History
from tests.jobs.once_plants import RawFile, connect, hostile, put


@pytest.fixture
def forks() -> Iterator[Forks]:
    with Forks(None) as found:
        yield found


def cells(found: State) -> dict[str, list[Any]]:
    """Without the batch: two unlocked runs may both plan the same files. Without quarantine, which is kept by batch."""
    return {
        kind: sorted((of, tuple(cell for cell in row if cell[0] != "source_id")) for of, row in rows)
        for kind, rows in found.items()
        if kind != "quarantine"
    }  # fmt: skip


class Reader(threading.Thread):
    """Reads what is visible, over and over."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self.home, self.seen, self.over, self.wrong = home, list[dict[str, list[Any]]](), threading.Event(), ""

    def run(self) -> None:
        try:
            while not self.over.is_set():
                found = cells(state(self.home))
                if not self.seen or self.seen[-1] != found:
                    self.seen.append(found)
        except Exception as error:
            self.wrong = repr(error)

    def end(self) -> list[dict[str, list[Any]]]:
        self.over.set()
        self.join()
        assert not self.wrong
        return self.seen


def race(folder: Path, forks: Forks, *, seed: int, runs: int, unlocked: bool) -> int:
    """Each delivery ingested by two processes at once; how many of them gave up."""
    home = open_home(folder / "home", create=True, environment={})
    clean = open_home(folder / "clean", create=True, environment={})
    for each in (home, clean):
        connect(each, folder / "raw")
    model, present, states, gave_up = History(), dict[str, RawFile](), [cells(NO_ROWS)], 0
    for delivery in hostile(Random(seed), runs=runs):
        put(folder / "raw", delivery)
        present = {path: file for path, file in (present | delivery).items() if file is not None}
        model.run(present)
        run(clean, progress=Silent(), spread=map)
        states.append(cells(state(clean)))
        reader = Reader(home)
        reader.start()
        for _ in range(2):
            forks.start(home.path, unlocked=unlocked)
        answers = [forks.end(), forks.end()]
        seen = reader.end()
        assert not any("broken" in answer for answer in answers), answers
        gave_up += sum("failed" in answer for answer in answers)
        assert all(found in states[-2:] for found in seen), "readers saw a part of a batch"
        if not unlocked:
            assert sorted(answer["files"] for answer in answers)[0] == 0
            check_model(home, model)
        run(home, progress=Silent(), spread=map)
        assert cells(state(home)) == states[-1]
        check_every_version(home)
    return gave_up


def test_two_ingests_at_once_take_turns_and_readers_see_whole_batches(tmp_path: Path, forks: Forks) -> None:
    assert race(tmp_path, forks, seed=5, runs=1, unlocked=False) == 0


def test_two_ingests_that_no_lock_keeps_apart_end_with_the_rows_of_one(tmp_path: Path, forks: Forks) -> None:
    race(tmp_path, forks, seed=6, runs=1, unlocked=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_ingests_that_no_lock_keeps_apart_end_with_the_rows_of_one(
    tmp_path: Path, forks: Forks, seed: int
) -> None:
    race(tmp_path, forks, seed=100 + seed, runs=3, unlocked=True)

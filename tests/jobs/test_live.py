"""What a person sees while studies run, on a terminal and in a log."""

from __future__ import annotations

import io
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from rich.console import Console

from cluster.console import Drawing
from jobs.study import Candidate
from jobs.tuning.journal import Facts, Journal, Trial
from jobs.tuning.live import MOST_ROWS, Live, early, line
from jobs.tuning.search import PlantSearch
from jobs.tuning.space import find_space, parse_space
from jobs.tuning.studies import PlantStudies
from models.config import NetworkConfig


def studies_of(folder: Path, *plants: str) -> PlantStudies:
    """Eight trials a plant: one finished, one stopped, one diverged, one that trains, four to come."""
    network = NetworkConfig()
    space = parse_space(*find_space(folder, None), network)
    searches = {}
    for plant in plants:
        facts = Facts(data="d", configuration="c", space="s", trials=8, batch=2, seed=0, code="1")
        journal = Journal(folder / plant, plant, facts)
        journal.trials = [
            Trial(number=0, settings={}, state="finished", epochs=12, loss=0.05),
            Trial(number=1, settings={}, state="stopped", epochs=3, loss=0.07),
            Trial(number=2, settings={}, state="diverged", reason="train_loss was nan in epoch 1"),
            Trial(number=3, settings={}, state="running", epochs=4, loss=0.04125),
        ]
        searches[plant] = PlantSearch(journal, space, network)
    return PlantStudies(searches, {}, 2)


def drawn(live: Live, width: int = 120) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(live)
    return [" ".join(text.split()) for text in stream.getvalue().splitlines()]


def ended(kind: str, log_likelihood: float) -> Future[Candidate]:
    found: Future[Candidate] = Future()
    found.set_result(Candidate(kind, f"{kind}-1", "", log_likelihood, 1.0))
    return found


def test_the_table_says_what_is_done_what_runs_what_ended_early_and_whose_the_best_is(tmp_path: Path) -> None:
    studies = studies_of(tmp_path, "north")
    live = Live(studies, Drawing(io.StringIO(), live=False), {"north": 2})
    studies.live["t"] = ("north", 3)
    live.baseline("north", "trees", ended("trees", -0.05))
    assert drawn(live) == [
        "plant done running ended early best loss of trial baselines",
        "north 3/8 1 1 no better, 1 diverged 0.0413 3 trees -0.0500, 1 running",
        "time left not known yet",
    ]
    live.baseline("north", "no_sensor", ended("no_sensor", -0.06))
    assert drawn(live)[1].endswith("trees -0.0500, no sensor -0.0600")


def test_plants_that_train_come_first_and_the_rest_are_counted(tmp_path: Path) -> None:
    names = [f"plant-{number:02d}" for number in range(MOST_ROWS + 3)]
    studies = studies_of(tmp_path, *names)
    studies.live["t"] = (names[-1], 3)
    live = Live(studies, Drawing(io.StringIO(), live=False), {})
    found = drawn(live)
    assert found[1].startswith("plant-22 3/8 1 ") and found[2].startswith("plant-00 3/8 0 ")
    assert len(found) == MOST_ROWS + 2 and found[-1] == "and 3 more plants; time left not known yet"


def test_the_time_left_is_that_of_the_pace_or_of_the_budget_whichever_is_less(tmp_path: Path) -> None:
    studies = studies_of(tmp_path, "north")
    live = Live(studies, Drawing(io.StringIO(), live=False), {})
    assert live.left_s() is None
    live.began = time.monotonic() - 10
    studies.shares["north", 3] = 1.0  # a fifth of what this call has to train
    assert live.left_s() == pytest.approx(40, abs=0.5)
    studies.deadline = time.monotonic() + 7
    assert live.left_s() == pytest.approx(7, abs=0.5)
    studies.deadline = time.monotonic() - 1
    assert live.left_s() == 0.0


def test_a_line_says_how_a_trial_ended_and_the_best_so_far(tmp_path: Path) -> None:
    journal = studies_of(tmp_path, "north").searches["north"].journal
    assert [line("north", trial, journal) for trial in journal.trials] == [
        "north, trial 0: finished, after 12 epochs, loss 0.0500; best 0.0413 of trial 3",
        "north, trial 1: stopped: no better than earlier trials, after 3 epochs, loss 0.0700; best 0.0413 of trial 3",
        "north, trial 2: diverged (train_loss was nan in epoch 1), after 0 epochs, no loss; best 0.0413 of trial 3",
        "north, trial 3: ended by the budget, after 4 epochs, loss 0.0413; best 0.0413 of trial 3",
    ]
    assert early(Journal(tmp_path / "new", "new", journal.facts)) == "-"


def test_a_log_gets_a_line_when_a_trial_ends_and_none_an_epoch(tmp_path: Path) -> None:
    stream = io.StringIO()
    studies = studies_of(tmp_path, "north")
    with Drawing(stream, live=False) as progress:
        progress.step("Tune")
        live = Live(studies, progress, {"north": 2})
        studies.live["t"] = ("north", 3)
        for _ in range(5):
            live.told("north", 3)
        del studies.live["t"]
        live.told("north", 3)
        live.baseline("north", "trees", ended("trees", -0.05))
        wrong: Future[Candidate] = Future()
        wrong.set_exception(ValueError("no rows"))
        live.baseline("north", "no_sensor", wrong)
    lines = [text.split("s] ")[1].strip() for text in stream.getvalue().splitlines()]
    assert lines == [
        "Tune", "north, trial 3: ended by the budget, after 4 epochs, loss 0.0413; best 0.0413 of trial 3",
        "north, trees: log-likelihood -0.0500", "north, no sensor: failed",
    ]  # fmt: skip


def test_a_terminal_shows_the_table_below_the_step_and_forgets_it_with_the_step(tmp_path: Path) -> None:
    stream = io.StringIO()
    studies = studies_of(tmp_path, "north")
    with Drawing(stream, live=True) as progress:
        progress.step("Tune")
        live = Live(studies, progress, {"north": 2})
        live.told("north", 3)
        progress._live.refresh()
        seen = io.StringIO()
        Console(file=seen, width=100).print(progress._live.renderable)
        assert "Tune" in seen.getvalue() and "no better" in seen.getvalue()
        progress.step("Bundle")
        after = io.StringIO()
        Console(file=after, width=100).print(progress._live.renderable)
        assert "Bundle" in after.getvalue() and "no better" not in after.getvalue()

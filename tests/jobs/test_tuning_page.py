"""The page of what tuning found: sound HTML that fetches nothing, and no difference without its doubt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.home import open_home
from jobs.reporting.plots import canvas
from jobs.reporting.tuning_page import render
from jobs.reporting.tuning_words import sureness, why
from jobs.study import Candidate
from jobs.tuning.journal import Facts, Journal, Trial
from jobs.tuning.page import write_page
from jobs.tuning.report import PlantStudy, TuneReport, counted, hours, outcomes
from jobs.tuning.search import PlantSearch
from jobs.tuning.space import find_space, parse_space
from jobs.tuning.sureness import FEWEST, against, difference, importance, runners_up
from models.config import NetworkConfig
from tests.jobs.evaluated_plant import Balanced


def trials_of(count: int) -> list[Trial]:
    """The default, then trials whose loss follows from their learning rate alone."""
    rng = np.random.default_rng(3)
    curve = [0.09, 0.06, 0.05]
    found = [Trial(number=0, settings={}, state="finished", epochs=3, seconds=36.0, loss=0.05, losses=curve)]
    for number in range(1, count):
        rate = float(np.exp(rng.uniform(np.log(1e-3), np.log(1e-2))))
        drawn = {
            "hidden": int(rng.integers(2, 9)) * 16, "learning_rate": rate, "dropout": float(rng.uniform(0, 0.3)),
            "weight_decay": 0.01 * rate + float(rng.uniform(1e-4, 1e-1)), "pretrain_epochs": int(rng.choice([0, 3])),
        }  # fmt: skip
        loss = round(0.04 + abs(np.log(rate / 4e-3)) / 20, 6)
        state = "stopped" if loss > 0.08 else "finished"
        found.append(Trial(number=number, settings=drawn, params=drawn, state=state, epochs=3, seconds=36.0, loss=loss,
                           losses=[loss + 0.03, None, loss], gpu=0.25))  # fmt: skip
    return found


def searched(folder: Path, trials: list[Trial], plant: str = "north") -> PlantSearch:
    network = NetworkConfig()
    facts = Facts(data="d", configuration="c", space="s", trials=len(trials), batch=2, seed=0, code="1")
    journal = Journal(folder / plant, plant, facts)
    journal.trials = trials
    journal.write()
    return PlantSearch(Journal(folder / plant, plant, facts), parse_space(*find_space(folder, None), network), network)


def machines(level: float, count: int = 10) -> dict[str, tuple[float, int]]:
    return {f"M-{n}": (100 * (level - 0.001 * n), 100) for n in range(count)}


def studied(search: PlantSearch, **changes: Any) -> PlantStudy:
    """The network won against trees and the no-sensor baseline by 0.01 and 0.02 on every machine alike."""
    journal, best = search.journal, search.journal.best()
    levels = {"network": -0.05, "trees": -0.06, "no_sensor": -0.07}
    candidates = [Candidate(k, f"{k}-1", "", v, 72.0, machines(v)) for k, v in levels.items()]
    told: dict[str, Any] = {
        "kind": "network", "version": "network-1", "log_likelihood": levels, "config": {},
        "trial": best.number if best else None, "num_failures": 31, "seconds": {c.kind: c.seconds for c in candidates},
        "against": against(candidates[0], candidates),
    }  # fmt: skip
    cores, gpus = hours(journal.trials, told["seconds"])
    return PlantStudy(
        owner="anna", core_hours=cores, gpu_hours=gpus, name=journal.plant, trials=len(journal.trials),
        finished=counted(journal.trials, "finished", "stopped"),
        resumed=False, stopped=outcomes(journal), best=told | changes,
    )  # fmt: skip


def page_of(search: PlantSearch, **changes: Any) -> str:
    report = TuneReport(plants=[studied(search, **changes)])
    return render(report, {search.journal.plant: search}, origin="Millwright 1.")


def text_of(page: str) -> str:
    bare = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare)).replace("&#39;", "'")


def test_the_page_is_sound_asks_for_nothing_and_describes_its_figures(tmp_path: Path) -> None:
    page = page_of(searched(tmp_path, trials_of(16)))
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not re.findall(r"""(?:src|href)="(?!#)|url\((?!#)|@import|https?://""", page)
    assert "<script" not in page and page.count("<svg") == page.count('<figure role="group" aria-label=') == 3
    titles = [page.index(t) for t in ("Did training pay", "Which settings went with", "Which settings mattered")]
    assert titles == sorted(titles)


def test_the_page_says_what_was_chosen_why_and_how_sure_that_is(tmp_path: Path) -> None:
    trials = [
        Trial(number=0, settings={}, state="finished", epochs=9, seconds=90.0, loss=0.05, losses=[0.05]),
        Trial(number=1, settings={"hidden": 80}, state="finished", epochs=9, seconds=90.0, loss=0.042, losses=[0.042]),
        Trial(number=2, settings={"hidden": 32}, state="stopped", epochs=3, seconds=30.0, loss=0.0475, losses=[0.0475]),
        Trial(number=3, settings={"hidden": 96}, state="diverged", reason="train_loss was nan in epoch 1", seconds=6.0),
    ]  # fmt: skip
    search = searched(tmp_path, trials)
    plant = studied(search)
    assert why(plant, search) == [
        "Chosen: network, version network-1, for the highest log-likelihood of a tick on later time: -0.0500; "
        "trees -0.0600, no sensor -0.0700.",
        "The network is trial 1, of the lowest loss among 3 that could be compared.",
    ]
    assert list(sureness(plant, search)) == [
        "Network minus trees: +0.0100 (+0.0100 to +0.0100, 10 machines): higher on these machines.",
        "Network minus no sensor: +0.0200 (+0.0200 to +0.0200, 10 machines): higher on these machines.",
        "The next best network, trial 2, is 0.0055 a tick in log-likelihood worse (it was ended after 3 epochs, and "
        "might have come nearer).",
        "The configuration as it is, trial 0, is 0.0080 a tick in log-likelihood worse.",
        "Between trials there is no interval: each has one seed, and leaves a mean. The lowest of many losses is also "
        "lower than it would be again.",
        "Failures in the training part: 31.",
    ]
    said = text_of(page_of(search))
    assert "1 plant tuned: the network answers for 1." in said
    assert "north: the best network tried is 0.0080 a tick in log-likelihood better than" in said
    assert "Ended before their own end: 1 stopped: no better than earlier trials, 1 diverged." in said
    assert "diverged: train_loss was nan in epoch 1" in said and "hidden 80 64" in said
    assert "too few trials (0 drawn with a loss; 8 are needed)" in said


def test_cost_is_a_core_a_trial_and_a_baseline_and_the_share_of_a_gpu(tmp_path: Path) -> None:
    search = searched(tmp_path, trials_of(11))  # 36 s each, ten of them with a quarter of a GPU; baselines 72 s each
    study = studied(search)
    cores, gpus = study.core_hours, study.gpu_hours
    assert cores == pytest.approx((11 * 36 + 2 * 72) / 3600) and gpus == pytest.approx(10 * 36 * 0.25 / 3600)
    said = text_of(page_of(search))
    assert "Cost: 0.150 core-hours, 0.025 GPU-hours, for anna." in said
    assert "Cost by owner: anna 0.150 core-hours, 0.025 GPU-hours (1 plant)." in said


def test_costs_add_up_by_owner(tmp_path: Path) -> None:
    study = studied(searched(tmp_path, trials_of(11)))
    report = TuneReport(plants=[study, study, study.model_copy(update={"owner": None})])
    assert report.model_dump()["owners"] == {
        "": {"plants": 1, "core_hours": 0.15, "gpu_hours": 0.025},
        "anna": {"plants": 2, "core_hours": 0.3, "gpu_hours": 0.05},
    }


def test_the_setting_that_made_the_loss_is_the_weightiest_and_few_trials_say_nothing(tmp_path: Path) -> None:
    shares = importance(searched(tmp_path / "many", trials_of(60)))
    assert shares is not None and next(iter(shares)) == "learning_rate" and sum(shares.values()) == pytest.approx(1)
    assert importance(searched(tmp_path / "few", trials_of(FEWEST))) is None  # one of them is the default, not drawn
    assert importance(searched(tmp_path / "enough", trials_of(FEWEST + 1))) is not None


def test_a_difference_is_a_mean_over_ticks_with_an_interval_by_machine() -> None:
    one = {"A": (-10.0, 100), "B": (-90.0, 300)}
    other = {"A": (-14.0, 100), "B": (-90.0, 300), "C": (-1.0, 10)}
    assert difference(one, other) == {"machines": 2, "value": pytest.approx(0.01), "low": None, "high": None}
    assert difference(one, {}) == {"machines": 0, "value": None, "low": None, "high": None}
    mixed = {m: (total + (60 if n % 2 else -50), ticks) for n, (m, (total, ticks)) in enumerate(machines(0).items())}
    found = difference(mixed, machines(0))
    assert found["value"] == pytest.approx(0.05) and found["low"] < 0 < found["high"]
    assert difference(mixed, machines(0)) == found, "equal candidates, equal interval"


def test_without_doubt_known_none_is_claimed(tmp_path: Path) -> None:
    few = {"trees": {"machines": 3, "value": 0.01, "low": None, "high": None},
           "no_sensor": {"machines": 10, "value": 0.01, "low": -0.02, "high": 0.04}}  # fmt: skip
    search = searched(tmp_path, trials_of(1))
    told = list(sureness(studied(search, against=few, num_failures=7), search))
    assert told == [
        "Network minus trees: +0.0100, without an interval: 3 machines are fewer than 8.",
        "Network minus no sensor: +0.0100 (-0.0200 to +0.0400, 10 machines): no difference shown.",
        "Failures in the training part: 7, not enough to be sure.",
    ]
    said = text_of(page_of(search, against=few, num_failures=7))
    assert "Not enough failures to be sure of anything: north (n = 7)" in said
    assert "north: the configuration as it is was the best network tried; searching bought nothing." in said


def test_the_next_best_and_the_default_are_other_trials_than_the_best(tmp_path: Path) -> None:
    trials = trials_of(3)
    trials[1].loss, trials[2].loss = 0.06, 0.07
    assert runners_up(trials, trials[0]) == (trials[1], None)
    assert runners_up(trials, trials[1]) == (trials[0], trials[0])
    assert runners_up(trials[:1], trials[0]) == (None, None)


@pytest.mark.parametrize("state", ["failed", "waiting", "invalid"])
def test_a_study_without_any_loss_still_has_a_page(tmp_path: Path, state: str) -> None:
    search = searched(tmp_path, [Trial(number=0, settings={}, state=state, reason="<b>why</b>")])
    page = page_of(search, kind="trees", version="trees-1")
    assert "No trial of the network came to a loss." in page and "<svg" not in page and "<b>why" not in page


def test_a_plant_that_the_fleet_answers_for_is_told_so(tmp_path: Path) -> None:
    best = {"kind": "network", "version": "network-9", "scope": "fleet", "config": {}, "trial": None,
            "log_likelihood": {"network": -0.05}, "num_failures": 0}  # fmt: skip
    plant = PlantStudy(name="new", trials=0, finished=0, resumed=False, best=best, fleet="fleet-1")
    said = text_of(render(TuneReport(plants=[plant]), {}, origin="Millwright 1."))
    assert "No failure of its own to learn from: the fleet's network answers, version network-9." in said
    assert "Nothing was searched." in said and "new (n = 0)" in said


def test_a_journal_opened_again_draws_the_same_page(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home", create=True, environment={})
    search = searched(tmp_path, trials_of(12))
    pages = []
    for one in (search, PlantSearch(Journal(tmp_path / "north", "north", search.journal.facts), search.space,
                                    search.default)):  # fmt: skip
        (file,) = write_page(home, TuneReport(plants=[studied(one)], space="space.toml"), {"north": one})
        pages.append(Path(file).read_text("utf-8"))
    assert file == str(home.path / "reports" / "tuning.html") and pages[0] == pages[1]


def test_a_journal_holds_every_epochs_own_loss_and_gaps_where_none_was_heard(tmp_path: Path) -> None:
    search = searched(tmp_path, [Trial(number=0, settings={})])
    for epoch, own in ((1, 0.123456789), (3, 0.2), (3, None), (4, float("nan"))):
        search.heard(0, epoch=epoch, loss=0.1, seconds=1.0, own=own)
    search.journal.write()
    (trial,) = Journal(tmp_path / "north", "north", search.journal.facts).trials
    assert trial.losses == [0.123457, None, 0.2, None] and trial.seconds == 4.0


def test_numbers_that_are_read_keep_their_digits_and_coordinates_lose_theirs() -> None:
    with canvas(2.0) as (figure, out):
        axis = figure.subplots()
        axis.plot([0.1234567, 0.7654321], [0.00222, 0.00413])
        axis.set_yticks([0.00222, 0.00413])
    assert ">0.00222<" in out[0] and ">0.00413<" in out[0]
    assert not re.search(r"<[^>]*\d\.\d{3}[^>]*>", out[0])

"""A study from history to champion, tracked, and what comes after it: promote, train, score."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cluster.home import open_home
from cluster.registry import Tracking, champion
from cluster.report import Silent
from cluster.storage import read_readings
from jobs import evaluate, promote, score, train, tune
from jobs.evaluation.truth import read_truth
from jobs.questions import questions_for
from jobs.study import Candidate
from models.bundle import load_bundle
from models.errors import InputError, NotFoundError
from tests.jobs.conftest import SMALL
from tests.journal import journal_ids

pytestmark = pytest.mark.ray
PLANT = "harbor"


class Notes(Silent):
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_study_ends_with_a_champion_beside_its_baselines(tuned) -> None:
    (plant,) = tuned.report.as_json()["plants"]
    assert plant["name"] == PLANT and plant["trials"] == plant["finished"] == 2 and not plant["resumed"]
    scores = plant["best"]["log_likelihood"]
    assert set(scores) == {"network", "trees", "no_sensor"}
    best = champion(tuned.home, PLANT)
    assert best is not None and best.version == plant["best"]["version"]
    assert scores[best.kind] == max(scores.values())
    assert load_bundle(best.path).spec.lineage.data_version.startswith("readings/pump@")


def test_unasked_a_lone_plant_is_trained_as_it_is_and_nothing_is_drawn(tuned, tmp_path: Path) -> None:
    shutil.copytree(tuned.fresh, tmp_path / "home")
    assignments = [text for text in SMALL if not text.startswith("tune.trials")]
    home = open_home(tmp_path / "home", environment={}, assignments=assignments)
    (plant,) = tune.run(home, progress=Silent()).plants
    assert (plant.trials, plant.finished) == (1, 1)
    assert [outcome["settings"] for outcome in plant.outcomes] == [{}]


def test_every_trial_is_a_child_run_that_has_ended(tuned) -> None:
    runs = tuned.home.studies(PLANT)
    assert len(runs) == 2 and set(runs["study"]) == {"harbor/study"} and runs["trial"].nunique() == 2
    assert set(runs["status"]) == {"FINISHED"} and runs["best_loss"].notna().all()


def test_a_study_leaves_a_page_with_each_trials_curve_and_the_doubt_of_the_choice(tuned) -> None:
    (file,) = tuned.report.as_json()["files"]
    assert file == str(tuned.home.path / "reports" / "tuning.html")
    page, best = Path(file).read_text("utf-8"), tuned.report.plants[0].best
    assert f"Chosen: {best['kind'].replace('_', ' ')}, version {best['version']}" in page and "Did training pay" in page
    (study,) = (tuned.home.path / "studies" / PLANT).glob("*/study.json")
    trials = json.loads(study.read_text())["trials"]
    assert [len(t["losses"]) for t in trials] == [t["epochs"] for t in trials] == [2, 2]
    assert [min(t["losses"]) for t in trials] == [pytest.approx(t["loss"], rel=1e-5) for t in trials]
    scores = best["log_likelihood"]
    for kind, gain in best["against"].items():
        assert gain["value"] == pytest.approx(scores[best["kind"]] - scores[kind], abs=1e-9)
        assert gain["low"] <= gain["value"] <= gain["high"] and gain["machines"] >= 8


def test_the_same_study_again_resumes_and_reruns_nothing(tuned) -> None:
    runs_before, first = len(tuned.home.studies(PLANT)), Path(tuned.report.files[0]).read_text("utf-8")
    again = tune.run(tuned.home, progress=Silent())
    (plant,) = again.plants
    drawn, before = (re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
                     for page in (Path(again.files[0]).read_text("utf-8"), first))  # fmt: skip
    assert drawn == before, "a resumed study draws the same curves"
    assert plant.resumed and plant.best["version"] == tuned.report.plants[0].best["version"]
    assert len(tuned.home.studies(PLANT)) == runs_before


def test_a_study_that_goes_on_may_crown_another_than_before(tuned) -> None:
    before = champion(tuned.home, PLANT)
    listed = json.loads((Path(before.path).parent / "candidates.json").read_text())
    candidates = [Candidate(**entry) for entry in listed.values()]
    with Tracking(tuned.home) as tracking:
        run = tracking.start(PLANT, f"{PLANT}/again")
        worse = [c for c in candidates if c.kind != before.kind]
        assert promote.crown(tuned.home, PLANT, worse, tracking=tracking, run_id=run).version != before.version
        tracking.reopen(run)
        assert promote.crown(tuned.home, PLANT, candidates, tracking=tracking, run_id=run).version == before.version
    assert champion(tuned.home, PLANT).version == before.version


def test_folds_are_refused_before_anything_is_trained(tuned) -> None:
    home = open_home(tuned.home.path, environment={}, assignments=["model.network.folds=3"])
    with pytest.raises(InputError, match="A study has parts that differ by time"):
        tune.run(home, progress=Silent())


def test_training_alone_is_a_challenger_until_it_is_promoted(tuned) -> None:
    before, notes = champion(tuned.home, PLANT), Notes()
    (plant,) = train.run(tuned.home, progress=notes, seed=7).plants
    assert champion(tuned.home, PLANT) == before
    assert f"{before.version} stays" in notes.notes[0] and "millwright promote" in notes.notes[0]
    candidates = json.loads((Path(before.path).parent / "candidates.json").read_text())
    other = next(c["version"] for kind, c in candidates.items() if kind != before.kind)
    forced = {"force": True, "reason": "a test"}
    report = promote.run(tuned.home, progress=Silent(), plant=PLANT, version=other, **forced)
    assert (report.before, report.after) == (before.version, other)
    assert champion(tuned.home, PLANT).version == other
    promote.run(tuned.home, progress=Silent(), plant=PLANT, version=before.version, **forced)
    with pytest.raises(NotFoundError, match="No bundle here"):
        promote.run(tuned.home, progress=Silent(), plant=PLANT, version="network-0000000000")
    assert plant["name"] == PLANT


def test_scoring_writes_each_prediction_once(tuned) -> None:
    first = score.run(tuned.home, progress=Silent())
    assert first.predictions_written == first.predictions_total == 12
    again = score.run(tuned.home, progress=Silent())
    assert again.predictions_written == 0 and again.predictions_total == 12
    more = score.run(tuned.home, progress=Silent(), plant=PLANT, since="2025-04-08T00:00Z")
    assert more.predictions_total > 12 and more.predictions_written == more.predictions_total - 12
    assert len(journal_ids(tuned.home, PLANT)) == more.predictions_total
    with pytest.raises(InputError, match=r"Not a time.*ISO 8601.*'yesterday'"):
        score.run(tuned.home, progress=Silent(), since="yesterday")


def test_a_notebook_scores_a_frame_as_the_batch_does(tuned) -> None:
    frame = read_readings(tuned.home, PLANT, machines=["P-02"]).to_pandas()
    (row,) = tuned.home.score(PLANT, frame).to_dict("records")
    assert row["machine"] == "P-02" and row["prediction_id"] in journal_ids(tuned.home, PLANT)
    with pytest.raises(InputError, match="A column is missing"):
        tuned.home.score(PLANT, pd.DataFrame({"machine": ["P-02"]}))


def test_evaluation_stands_beside_baselines_and_the_oracle(tuned) -> None:
    report = evaluate.run(tuned.home, progress=Silent(), truth=tuned.raw / ".truth")
    kinds = {c.kind for c in report.plants[0].all.candidates}
    assert {"network", "trees", "no_sensor"} < kinds and len(kinds) >= 5
    for file in report.files:
        assert Path(file).is_file()


def test_the_demo_asks_by_log_and_truth_about_held_out_time(tuned) -> None:
    asked = questions_for(tuned.home, PLANT, read_truth(tuned.raw / ".truth", PLANT))
    healthy = next(q for q in asked if q.about == "healthy")
    assert 0 < len(healthy.rows) <= 67 and all(row["time"] <= "2025-04-11" for row in healthy.rows)
    assert not any(isinstance(v, float) and math.isnan(v) for row in healthy.rows for v in row.values())

"""The page of all figures: sound HTML that fetches nothing, findings in words by weight, each number with its count."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jobs.evaluation.results import (
    BandResult,
    Bin,
    BoundResult,
    Comparison,
    CurvePoint,
    Figure,
    GroupResult,
    OnCondition,
    PlantResult,
)
from jobs.reporting.figures_page import render
from jobs.reporting.findings import findings
from tests.jobs.evaluated_plant import STORY, Balanced, candidate
from tests.jobs.evaluated_plant import plant as plain_plant


def plant(**changes: Any) -> PlantResult:
    """One plant with a champion, trees and an oracle, an age band and a failure mode."""
    one: PlantResult = plain_plant(**changes)
    champion = one.all.champion
    band = {"width": 90.0, "beyond": 0.25, "settled": 0.4, "num_ticks": 1234, "num_failures": 3}
    champion.bands_predicted = [
        BandResult(low=0, high=24, coverage=Figure(value=0.35, low=0.1, high=0.6), **band),
        BandResult(low=960, high=None, coverage=Figure(value=0.82, low=0.7, high=0.9), **band),
    ]
    champion.bands_true = [BandResult(low=0, high=24, coverage=Figure(value=0.2), **band)]
    champion.curve = [CurvePoint(threshold=t, recall=1 - t, precision=t, false_per_month=2.0) for t in (0.1, 0.5)]
    champion.leads, champion.threshold = [40.0], 0.2
    champion.reliability = [Bin(predicted=0.1, observed=0.3, count=4321, num_failures=4, low=0.2, high=0.4)]
    one.all.comparisons = [
        Comparison(against="trees", average_precision=Figure(value=0.1, low=-0.05, high=0.2),
                   brier_skill=Figure(value=0.2, low=0.1, high=0.3)),
    ]  # fmt: skip
    candidates = [candidate("network", 0, champion=True, recall=Figure(value=0.0)), candidate("trees", 1)]
    one.groups.append(
        GroupResult(name="old: over 500 h", kind="age", num_machines=2, num_failures=3, machine_months=2.5,
                    note="not enough failures (n = 3)", candidates=candidates)
    )  # fmt: skip
    return one


def _text(page: str) -> str:
    bare = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


def test_the_page_is_sound_asks_for_nothing_and_describes_its_figures() -> None:
    page = render([plant()], {"harbor": STORY}, origin="Millwright 1.")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "http" not in page
    assert not re.search(r"(src|@import|<link|<script|url\((?!#))", page)
    assert page.count("<figure role=\"group\" aria-label=\"") == page.count("<figure") == 5
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page


def test_every_table_says_what_it_counts() -> None:
    text = _text(render([plant()], {}, origin=""))
    for words in (
        "old: over 500 h not enough failures (n = 3)", "0 to 24 h 35% 10% to 60% 90 h 25% 40% 1,234 3",
        "over 960 h 82% 70% to 90%", "by true life, failures alone (biased: it knows the end)",
        "10.0% 30% 20% to 40% 4,321 4", "gradient-boosted trees 0.100 -0.050 to 0.200 0.200 0.100 to 0.300 -",
        "better by Brier skill", "gradient-boosted trees 1, oracle 2",
    ):  # fmt: skip
        assert words in text


def test_maintenance_on_condition_is_shown_between_its_bounds() -> None:
    one = plant()
    none = "No maintenance of this time was triggered by a machine's condition"
    assert none in _text(render([one], {}, origin=""))

    def bound(kind: str, assumed: Any, caught: int, auc: float) -> BoundResult:
        return BoundResult(
            kind=kind, assumed=assumed, num_failures=caught + 2, caught=caught, recall=Figure(), auc=Figure(value=auc),
            brier_skill=Figure(value=auc / 2), log_likelihood=Figure(value=-1.5) if kind == "network" else Figure(),
        )  # fmt: skip

    one.on_condition = OnCondition(num=4, bounds=[
        bound(c.kind, assumed, caught, auc)
        for c in one.all.candidates
        for assumed, caught, auc in (("logged", 1, 0.8), ("failed", 5, 0.9), ("never", 1, 0.6))
    ])  # fmt: skip
    page = render([one], {}, origin="")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    text = _text(page)
    assert (
        "4 machines were replaced on condition; as logged / had each failed then / had none within 48h: "
        "caught 1 of 3 / 5 of 7 / 1 of 3, AUC 0.80 / 0.90 / 0.60, Brier skill 0.40 / 0.45 / 0.30, "
        "log-likelihood -1.500 / -1.500 / -1.500."
    ) in text
    assert "oracle (knows the truth) 1 of 3 5 of 7 / 1 of 3 0.80 0.90 / 0.60 0.40 0.45 / 0.30 -" in text
    assert none not in text


def test_failure_modes_are_shown_as_the_log_names_them() -> None:
    one = plant()
    candidates = [candidate("network", 2, champion=True), candidate("trees", 1)]
    one.groups += [
        GroupResult(name="bearing_wear", kind="failure mode", num_machines=4, num_failures=3, machine_months=5.5,
                    candidates=candidates)
    ]  # fmt: skip
    text = _text(render([one], {}, origin=""))
    assert "failure mode, as logged bearing wear 4 5.5 2 of 3" in text


def test_the_alarm_is_told_step_by_step() -> None:
    text = _text(render([plant()], {"harbor": STORY}, origin=""))
    assert "P-1; the plant&#39;s usual risk within 48h is 2.0%, an alarm is raised from 20.0%." in text
    assert "24 h before the end the risk first reached that." in text
    assert "It failed at 2025-05-20 00:00 UTC (bearing wear). The alarm that counts came 40 h ahead: caught." in text
    missed = STORY | {"caught": False, "lead": None, "risk": [0.0, 0.1, 0.1]}
    told = _text(render([plant()], {"harbor": missed}, origin=""))
    assert "No alarm came in time: missed." in told
    assert "first reached" not in told


def test_findings_come_in_words_the_weightiest_first() -> None:
    told = findings([plant()])
    assert told[0] == (
        "harbor: 2 of 3 failures came without an alarm in time; 1 of them came without any warning in the sensors "
        "(3 known failures are too few for a verdict)."
    )
    rest = " ".join(told[1:])
    assert "caught 0 of 3 failures of old machines (over 500 h), 1 of 3 in all (not enough failures (n = 3))" in rest
    assert "where the median life predicted is 0 to 24 h, the 80 % interval held 35% (10% to 60%) of lives" in rest
    assert "where the risk within 48h is given as 10 %, 30 % failed (20 % to 40 %): it is too low there" in rest
    assert "not shown to be better than the gradient-boosted baseline: average precision differs by 0.10" in rest
    assert "2 false alarms, 0.50 per machine and month (0.40 to 0.60)" in rest


def test_a_baseline_that_is_better_by_any_figure_is_named() -> None:
    one = plant()
    one.all.comparisons[0].log_likelihood = Figure(value=-0.09, low=-0.19, high=-0.01)
    told = findings([one])
    worse = "harbor: worse than the gradient-boosted baseline by log-likelihood, -0.090 (-0.190 to -0.010)."
    assert worse in told
    assert not any("not shown to be better" in text for text in told)


def test_findings_are_about_the_worse_plant_first_and_few() -> None:
    good, bad = plant(name="harbor"), plant(name="ridge")
    bad.failures = [f.model_copy(update={"caught": False, "sudden": False}) for f in bad.failures]
    told = findings([good, bad])
    assert told[0].startswith("ridge: 3 of 3 failures")
    assert len(told) == 9


def test_a_plant_without_failures_or_curves_has_a_page_too() -> None:
    one = plain_plant().model_copy(update={"failures": [], "alarms": []})
    one.groups[0].candidates = [
        candidate("network", 0, champion=True, num_failures=0, recall=Figure(), false_alarms=0, reliability=[],
                  coverage_80=Figure(), rmse=Figure())
    ]  # fmt: skip
    page = render([one], {}, origin="")
    assert page.count("<figure") == 1
    assert findings([one]) == []


@pytest.mark.parametrize("field", ["mode", "machine"])
def test_what_comes_from_data_is_escaped(field: str) -> None:
    story = STORY | {field: "<script>alert(1)</script>"}
    one = plant()
    one.groups[1].name = "<script>"
    assert "<script" not in render([one], {"harbor": story}, origin="<script>")

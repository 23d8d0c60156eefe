"""The page: one file, nothing fetched, every word from data escaped, the same figures as the evaluation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cluster.files import write_atomically
from cluster.home import Home
from cluster.report import Silent
from jobs.evaluation.results import PlantResult
from jobs.report import PageReport, run
from jobs.reporting.words import summary
from models.errors import InputError, NotFoundError
from tests.jobs.evaluated_plant import STORY, Balanced, candidate, plant

PREDICTION: dict[str, Any] = {
    "failure_probability": {"24h": 0.5, "48h": 0.71, "7d": 0.9},
    "remaining_useful_life": {"p10": 8.0, "p50": 31.0, "p90": 960.0, "unit": "h", "beyond": 960.0},
    "model": {"version": "v1", "num_failures_trained_on": 41},
    "degraded": [{"code": "sensor_missing", "text": "no value of flow within the window"}],
    "reasons": [
        {"sensor": "vibration", "contribution": 0.6, "text": "vibration 7.1 mm/s, usual 2.4"},
        {"sensor": "flow", "contribution": -0.1, "text": "flow 80.0 m^3/h, usual 80.4"},
    ],
}  # fmt: skip
SERVED: list[dict[str, Any]] = [
    {
        "name": "harbor", "champion": "v1", "latency_ms": {"p50": 4.8, "p99": 9.0},
        "questions": [{"machine": "P-1", "about": "about to fail", "outcome": "failed 24 h later",
                       "prediction": PREDICTION}],
    }
]  # fmt: skip


def _prepare(home: Home, plants: list[PlantResult], story: dict[str, Any] | None = None) -> None:
    reports = home.path / "reports"
    write_atomically(reports / "evaluation.json", json.dumps({"plants": [p.model_dump(mode="json") for p in plants]}))
    for one in plants:
        write_atomically(reports / "evaluation" / f"{one.name}.story.json", json.dumps(story or {}))


def _page(home: Home, served: list[dict[str, Any]] | None = None) -> str:
    run(home, progress=Silent(), served=served)
    return (home.path / "reports" / "report.html").read_text("utf-8")


def test_the_page_asks_for_nothing_else(home: Home) -> None:
    _prepare(home, [plant()], STORY)
    page = _page(home, SERVED)
    assert "http" not in page
    assert not re.search(r"(src|@import|<link|<script|url\((?!#))", page)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))


def test_the_page_of_all_figures_is_named_where_it_lies_beside(home: Home) -> None:
    _prepare(home, [plant()], STORY)
    assert "evaluation.html" not in _page(home)
    write_atomically(home.path / "reports" / "evaluation.html", "<html></html>")
    assert '<a href="evaluation.html">' in _page(home)


def test_the_page_is_sound_html_with_described_figures(home: Home) -> None:
    _prepare(home, [plant()], STORY)
    page = _page(home)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert page.count("<figure") == 3
    assert page.count("<figure role=\"group\" aria-label=\"") == 3
    assert '<meta name="viewport"' in page
    assert '<html lang="en">' in page


def test_the_headline_says_it_in_words(home: Home) -> None:
    _prepare(home, [plant()], STORY)
    page = _page(home)
    # 6 machine-months, 2 false alarms: one every 3 months of a machine.
    assert (
        "On later time that no model had seen, 1 of 3 failures were caught, half of them at least 40 h ahead, "
        "with one false alarm per machine every 3 months." in page
    )
    assert "Of the 2 missed, 1 came without any warning in the sensors" in page
    assert "Not enough failures for a verdict: harbor (n = 3)." in page


def test_the_page_says_what_was_not_judged_and_what_an_endless_alarm_catches(home: Home) -> None:
    one = plant()
    one.groups[0].candidates.append(candidate("kaplan_meier", 3))
    _prepare(home, [one], STORY)
    page = _page(home)
    assert "Failures of the log that are not counted: 2" in page
    assert "Scored every 1 h." in page
    assert '<tr class="reference"><td>always on alarm (Kaplan-Meier risk for all)' in page


def test_served_predictions_come_with_their_reasons(home: Home) -> None:
    _prepare(home, [plant()])
    page = _page(home, SERVED)
    for text in ("71 %", "harbor, P-1: about to fail", "What happened: failed 24 h later.",
                 "31 h of useful life left (80 %: 8 to more than 960).",
                 "vibration 7.1 mm/s, usual 2.4", "+60.0 %", "-10.0 %", "flow 80.0 m\u00b3/h", "4.8 ms",
                 "Degraded: no value of flow"):  # fmt: skip
        assert text in page


def test_served_predictions_are_kept_for_the_next_time(home: Home) -> None:
    _prepare(home, [plant()])
    assert _page(home, SERVED) == _page(home)


def test_what_comes_from_data_is_escaped(home: Home) -> None:
    _prepare(home, [plant(mode="<script>alert(1)</script>")], STORY | {"mode": "<script>alert(1)</script>"})
    assert "<script" not in _page(home)


def test_a_plant_without_failures_or_story_has_a_page_too(home: Home) -> None:
    empty = plant().model_copy(update={"failures": [], "alarms": [], "num_unlogged": None})
    _prepare(home, [empty])
    page = _page(home)
    assert "No machine failed on later time; 2 false alarms." in page
    assert page.count("<figure") == 2


def test_the_page_can_be_made_again_and_is_the_same(home: Home) -> None:
    _prepare(home, [plant()], STORY)
    assert _page(home) == _page(home)


def test_the_report_says_where_it_is(home: Home) -> None:
    _prepare(home, [plant()], STORY)
    report = run(home, progress=Silent())
    assert isinstance(report, PageReport)
    assert report.plants == ["harbor"]
    assert report.size_bytes == (home.path / "reports" / "report.html").stat().st_size
    assert report.size_bytes < 200_000


def test_nothing_evaluated_says_what_to_run(home: Home) -> None:
    with pytest.raises(NotFoundError, match=r"Nothing to report: .*Run `millwright evaluate` first"):
        run(home, progress=Silent())


@pytest.mark.parametrize("text", ["{", "{}", '{"plants": [{"name": "harbor"}]}'])
def test_damaged_figures_are_refused_by_name(home: Home, text: str) -> None:
    write_atomically(home.path / "reports" / "evaluation.json", text)
    with pytest.raises(InputError, match=r"Unreadable figures: .*evaluation\.json"):
        run(home, progress=Silent())


def test_the_summary_joins_plants() -> None:
    found = summary([plant("harbor"), plant("ridge")], [])
    assert (found.caught, found.num_failures, found.sudden_missed, found.false_alarms) == (2, 6, 2, 4)
    assert found.lead == 40.0
    assert found.latency_ms is None

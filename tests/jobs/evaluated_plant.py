"""An evaluated plant made by hand, for tests of the pages, and what checks that a page is sound HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from jobs.evaluation.results import (
    AlarmResult,
    Bin,
    CandidateResult,
    FailureResult,
    Figure,
    GroupResult,
    PlantResult,
)

VOID = {"meta", "br", "img", "input", "hr", "link"}


def candidate(kind: str, caught: int, **changes: Any) -> CandidateResult:
    one = Figure(value=0.5, low=0.4, high=0.6)
    known: dict[str, Any] = {
        "kind": kind, "num_failures": 3, "caught": caught, "recall": one, "false_alarms": 2, "precision": one,
        "false_alarms_per_machine_month": one, "late_alarms": 0, "open_alarms": 0,
        "lead_median": Figure(value=40.0, low=20.0, high=60.0), "lead_p10": Figure(value=10.0),
        "caught_at_equal_false_alarms": caught, "auc": one, "average_precision": one, "brier": one,
        "brier_skill": one, "calibration_error": 0.01, "life_error": Figure(), "concordance": one,
        "reliability": [Bin(predicted=0.1, observed=0.12, count=90, num_failures=4)], "coverage_80": one,
        "width_80": None,
    }  # fmt: skip
    return CandidateResult(**(known | changes))


def plant(name: str = "harbor", mode: str = "bearing") -> PlantResult:
    champion = candidate("network", 1, champion=True, version="v1")
    candidates = [champion, candidate("trees", 1), candidate("oracle", 2)]
    return PlantResult(
        name=name, champion="network", version="v1", life_unit="h", alarm_horizon="48h", min_lead=6, max_lead=168,
        scored_every=1, first="2025-05-01T00:00:00Z", last="2025-06-10T00:00:00Z", enough=False, num_failures_known=3,
        verdict="not enough failures (n = 3): caught 1 of 3 failures, no verdict", num_unlogged=1, num_not_judged=2,
        groups=[GroupResult(name="all", num_machines=4, num_failures=3, machine_months=6.0, candidates=candidates)],
        failures=[
            FailureResult(machine="P-1", failed_at="2025-05-20T00:00:00Z", caught=True, lead=40.0, unseen=False,
                          mode=mode, sudden=False),
            FailureResult(machine="P-2", failed_at="2025-05-22T00:00:00Z", caught=False, lead=None, unseen=True,
                          mode="short", sudden=True),
            FailureResult(machine="P-3", failed_at="2025-06-02T00:00:00Z", caught=False, lead=None, unseen=False,
                          mode="seal", sudden=False),
        ],
        alarms=[AlarmResult(machine="P-4", start="2025-05-10T00:00:00Z", end="2025-05-11T00:00:00Z", outcome="false",
                            unlogged=True)],
    )  # fmt: skip


STORY: dict[str, Any] = {
    "machine": "P-1", "failed_at": "2025-05-20T00:00:00Z", "caught": True, "lead": 40.0, "mode": "bearing_wear",
    "life_unit": "h", "threshold": 0.2, "horizon": "48h", "usual_risk": 0.02, "before": [48.0, 24.0, 0.0],
    "risk": [0.02, 0.3, 0.9], "reasons": [],
    "sensors": [{"name": "vibration", "unit": "mm/s", "usual": 2.4, "values": [2.4, None, 7.1]}],
}  # fmt: skip

class Balanced(HTMLParser):
    """Checks that every element that opens is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

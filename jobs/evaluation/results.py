"""What ``evaluate`` prints and writes: figures with intervals, candidate by candidate, failure by failure.

The one idea: a number that has no meaning (nothing to count, no interval) is null, never zero.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, Field

from models.evaluation import CandidateFigures
from models.lifetimes import Band
from models.metrics import Estimate
from models.thresholds import Swept

LABEL: dict[str, str] = {
    "network": "network", "trees": "gradient-boosted trees", "no_sensor": "no sensor (age and error log)",
    "as_new": "the fleet's network, which never saw this plant", "always_healthy": "always healthy",
    "kaplan_meier": "always on alarm (Kaplan-Meier risk for all)",
    "oracle": "oracle (knows the truth)",
}  # fmt: skip

BASELINE: dict[str, str] = {
    "network": "network", "trees": "gradient-boosted baseline", "no_sensor": "no-sensor baseline",
}  # fmt: skip


class Figure(BaseModel):
    """A figure with its 95 % bootstrap interval by machine."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        interval = "" if self.low is None else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f}{interval}"


class Bin(BaseModel):
    predicted: float
    observed: float
    count: int
    num_failures: int
    low: float | None = None
    high: float | None = None


class BandResult(BaseModel):
    """Ticks whose life lies in (``low``, ``high``], null being without end; see ``models.lifetimes.Band``."""

    low: float
    high: float | None
    coverage: Figure
    width: float | None
    beyond: float | None
    settled: float | None
    num_ticks: int
    num_failures: int


class CurvePoint(BaseModel):
    """What alarms at another threshold would have come to, on the test part."""

    threshold: float
    recall: float
    precision: float | None
    false_per_month: float


class Comparison(BaseModel):
    """The champion's figure minus another candidate's, on the same draws of machines: above zero, it is better.

    ``log_likelihood`` is that of a tick, null where the other has no curve.
    """

    against: str
    average_precision: Figure = Figure()
    brier_skill: Figure = Figure()
    log_likelihood: Figure = Figure()


class CandidateResult(BaseModel):
    """One candidate on one group of machines; times in life units.

    ``caught_at_equal_false_alarms`` lets its threshold be retuned on the test part: for comparison only, as does
    ``recall_at_half_precision``, by the machine-hour. ``life_error``, ``rmse`` and ``asymmetric_score`` count ticks
    whose failure came within ``life_limit`` (``num_failures_near`` failures). ``bands_*``, ``curve`` and ``leads``
    are there for all machines together only.
    """

    kind: str
    version: str | None = None
    champion: bool = False
    threshold: float | None = None
    num_failures: int
    caught: int
    recall: Figure
    false_alarms: int
    false_alarms_per_machine_month: Figure
    precision: Figure
    late_alarms: int
    open_alarms: int
    lead_median: Figure
    lead_p10: Figure
    caught_at_equal_false_alarms: int | None = None
    auc: Figure
    average_precision: Figure
    brier: Figure
    brier_skill: Figure
    calibration_error: float | None
    reliability: list[Bin]
    life_error: Figure
    concordance: Figure
    coverage_80: Figure
    width_80: float | None
    recall_at_half_precision: Figure = Figure()
    rmse: Figure = Figure()
    asymmetric_score: Figure = Figure()
    life_limit: float | None = None
    num_failures_near: int = 0
    log_likelihood: Figure = Figure()
    beyond_80: float | None = None
    settled_80: float | None = None
    bands_predicted: list[BandResult] = Field(default_factory=list)
    bands_true: list[BandResult] = Field(default_factory=list)
    curve: list[CurvePoint] = Field(default_factory=list)
    leads: list[float] = Field(default_factory=list)


class GroupResult(BaseModel):
    """``kind`` says what tells the group apart: all, machines, machine type, age, failure mode, true failure mode.

    ``note`` says where there are too few failures for a verdict.
    """

    name: str
    kind: str = "machines"
    num_machines: int
    num_failures: int
    machine_months: float
    note: str = ""
    candidates: list[CandidateResult]
    comparisons: list[Comparison] = Field(default_factory=list)

    def of(self, kind: str) -> CandidateResult | None:
        return next((c for c in self.candidates if c.kind == kind), None)

    @property
    def champion(self) -> CandidateResult:
        return next(c for c in self.candidates if c.champion)


class FailureResult(BaseModel):
    """One failure of the test part. ``sudden`` and ``mode`` come from the truth, null without it."""

    machine: str
    failed_at: str
    caught: bool
    lead: float | None
    unseen: bool
    mode: str | None = None
    sudden: bool | None = None


class AlarmResult(BaseModel):
    """One alarm of the champion. ``unlogged``: a real failure followed that nobody logged (from the truth)."""

    machine: str
    start: str
    end: str
    outcome: str
    unlogged: bool | None = None


class BoundResult(BaseModel):
    """A candidate's figures where each machine that was replaced on its condition counts as ``assumed``: as the log
    says (``logged``), as if it had ``failed`` at that moment, as if it would ``never`` have within the horizon."""

    kind: str
    champion: bool = False
    assumed: Literal["logged", "failed", "never"]
    num_failures: int
    caught: int
    recall: Figure
    auc: Figure
    brier_skill: Figure
    log_likelihood: Figure


class OnCondition(BaseModel):
    """Maintenance that the condition triggered in the test part, ``num`` of it, and what it could have hidden."""

    num: int
    bounds: list[BoundResult]

    def of(self, kind: str) -> tuple[BoundResult, BoundResult, BoundResult]:
        """A candidate's three, the log's first, then failed and never."""
        logged, failed, never = (b for b in self.bounds if b.kind == kind)
        return logged, failed, never


class PlantResult(BaseModel):
    """A plant's champion beside everything it must beat."""

    name: str
    champion: str
    version: str
    life_unit: str
    alarm_horizon: str
    min_lead: float
    max_lead: float
    scored_every: float
    first: str
    last: str
    num_failures_known: int
    enough: bool
    verdict: str
    groups: list[GroupResult]
    failures: list[FailureResult]
    alarms: list[AlarmResult]
    num_unlogged: int | None = None
    on_condition: OnCondition | None = None  # none where no maintenance of the test part was on condition
    num_not_judged: int = 0  # logged failures of the test part that no alarm could have announced in time

    @property
    def all(self) -> GroupResult:
        return self.groups[0]


def figure(estimate: Estimate) -> Figure:
    return Figure(value=number(estimate.value), low=number(estimate.low), high=number(estimate.high))


def number(value: float) -> float | None:
    """Six significant digits, or None for NaN and infinity."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def candidate_result(
    kind: str, found: CandidateFigures, *, version: str | None, champion: bool, threshold: float | None,
    equal: int | None,
) -> CandidateResult:  # fmt: skip
    alarms, risk, life = found.alarms, found.risk, found.life
    return CandidateResult(
        kind=kind, version=version, champion=champion, threshold=threshold,
        num_failures=alarms.num_failures, caught=alarms.num_caught, recall=figure(alarms.recall),
        false_alarms=alarms.num_false, false_alarms_per_machine_month=figure(alarms.false_per_month),
        precision=figure(alarms.precision), late_alarms=alarms.num_late, open_alarms=alarms.num_open,
        lead_median=figure(alarms.lead_median), lead_p10=figure(alarms.lead_p10), caught_at_equal_false_alarms=equal,
        auc=figure(risk.auc), average_precision=figure(risk.average_precision), brier=figure(risk.brier),
        recall_at_half_precision=figure(risk.recall_at_half), brier_skill=figure(risk.brier_skill),
        calibration_error=number(risk.calibration_error), log_likelihood=figure(found.log_likelihood),
        reliability=[Bin(predicted=b.predicted, observed=b.observed, count=b.count, num_failures=b.num_failures,
                         low=number(b.low), high=number(b.high)) for b in risk.bins],
        life_error=figure(life.median_error), rmse=figure(life.rmse), asymmetric_score=figure(life.asymmetric),
        life_limit=number(life.limit), num_failures_near=life.num_failures, concordance=figure(life.concordance),
        coverage_80=figure(life.coverage_80), width_80=number(life.width_80), beyond_80=number(life.beyond_80),
        settled_80=number(life.settled_80), bands_predicted=[_band(b) for b in life.by_predicted],
        bands_true=[_band(b) for b in life.by_true],
    )  # fmt: skip


def _band(band: Band) -> BandResult:
    return BandResult(
        low=band.low, high=number(band.high), coverage=figure(band.coverage), width=number(band.width),
        beyond=number(band.beyond), settled=number(band.settled), num_ticks=band.num_ticks,
        num_failures=band.num_failures,
    )  # fmt: skip


def comparison(kind: str, found: dict[str, Estimate]) -> Comparison:
    return Comparison(against=kind, **{name: figure(one) for name, one in found.items()})


def curve(swept: tuple[Swept, ...], months: float) -> list[CurvePoint]:
    """Alarms by threshold, lowest first; none where there was no failure to catch."""
    return [
        CurvePoint(
            threshold=one.threshold, recall=len(one.caught) / len(one.failures),
            precision=len(one.true) / (len(one.true) + len(one.false)) if len(one.true) + len(one.false) else None,
            false_per_month=len(one.false) / months,
        )
        for one in swept if len(one.failures)
    ]  # fmt: skip

"""The report's figures as sentences and cells; every number with its interval and what it was counted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from cluster.report import code_version
from jobs.evaluation.results import LABEL, CandidateResult, Figure, PlantResult
from models.episodes import HOURS_A_MONTH
from models.metrics import estimate, weighted_quantile

SEED = 0


class Question(BaseModel):
    """A machine at a moment of held-out time, what the service said, and what then happened."""

    machine: str
    about: str = ""
    outcome: str = ""
    prediction: dict[str, Any]


class ServedPlant(BaseModel):
    """A plant's questions over HTTP; ``latency_ms`` holds ``p50`` and ``p99`` of single requests."""

    name: str
    questions: list[Question]
    latency_ms: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """All plants together, for the head of the page."""

    num_failures: int
    caught: int
    caught_interval: str
    sudden_missed: int | None
    lead: float | None
    life_unit: str
    false_alarms: int
    false_rate: float | None
    every_days: float | None  # days of one machine between two false alarms
    latency_ms: float | None
    not_enough: tuple[str, ...]


def summary(plants: list[PlantResult], served: list[ServedPlant]) -> Summary:
    """What all champions did together on later time."""
    champions = [plant.all.champion for plant in plants]
    failures = [(plant.name, f) for plant in plants for f in plant.failures]
    months = sum(plant.all.machine_months for plant in plants)
    false = sum(c.false_alarms for c in champions)
    leads = [f.lead for _, f in failures if f.lead is not None]
    missed = [f for _, f in failures if not f.caught]
    latencies = [plant.latency_ms["p50"] for plant in served if "p50" in plant.latency_ms]
    return Summary(
        num_failures=len(failures), caught=len(leads), caught_interval=_interval_of(failures),
        sudden_missed=sum(bool(f.sudden) for f in missed) if any(f.sudden is not None for f in missed) else None,
        lead=weighted_quantile(leads, 0.5) if leads else None, life_unit=plants[0].life_unit if plants else "h",
        false_alarms=false, false_rate=false / months if months else None,
        every_days=months / false * HOURS_A_MONTH / 24 if false else None,
        latency_ms=float(np.median(latencies)) if latencies else None,
        not_enough=tuple(f"{p.name} (n = {p.num_failures_known})" for p in plants if not p.enough),
    )  # fmt: skip


def _interval_of(failures: list[tuple[str, Any]]) -> str:
    """Share caught with its bootstrap interval by machine."""
    machines = sorted({(plant, f.machine) for plant, f in failures})
    place = {machine: index for index, machine in enumerate(machines)}
    who = np.array([place[plant, f.machine] for plant, f in failures], np.int64)
    caught = np.array([f.caught for _, f in failures], np.float64)

    def share(weight: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        w = weight[who]
        return float((w * caught).sum() / w.sum()) if w.sum() > 0 else float("nan")

    found = estimate(share, len(machines), rng=np.random.default_rng(SEED)) if len(failures) else None
    return f"{found.low:.0%} to {found.high:.0%}" if found is not None and np.isfinite(found.low) else ""


def table_rows(plant: PlantResult) -> list[dict[str, Any]]:
    """One row a candidate, as text."""
    unit = plant.life_unit
    return [
        {
            "name": LABEL.get(c.kind, c.kind), "champion": c.champion,
            "reference": c.kind in ("always_healthy", "kaplan_meier", "oracle"),
            "cells": [
                _caught(c), "-" if c.caught_at_equal_false_alarms is None else str(c.caught_at_equal_false_alarms),
                cell(c.false_alarms_per_machine_month), cell(c.lead_median, digits=0, unit=unit), cell(c.auc),
                cell(c.brier_skill), cell(c.coverage_80, percent=True), cell(c.life_error, digits=0, unit=unit),
            ],
        }
        for c in plant.all.candidates
    ]  # fmt: skip


def parts(plant: PlantResult) -> list[str]:
    """Known and unseen machines apart."""
    return [
        f"{group.name}: caught {group.champion.caught} of {group.champion.num_failures}, "
        f"{cell_text(group.champion.false_alarms_per_machine_month)} false alarms per machine-month"
        for group in plant.groups[1:]
    ]


def on_condition(plant: PlantResult) -> str:
    """The champion's figures as logged and between both bounds, in a sentence; nothing where there is no doubt."""
    if plant.on_condition is None:
        return ""
    num, three = plant.on_condition.num, plant.on_condition.of(plant.all.champion.kind)
    figures = ", ".join(
        f"{name} {' / '.join(cell(getattr(b, key), digits=digits)[0] for b in three)}"
        for name, key, digits in (("AUC", "auc", 2), ("Brier skill", "brier_skill", 2),
                                  ("log-likelihood", "log_likelihood", 3))
    )  # fmt: skip
    caught = " / ".join(f"{b.caught} of {b.num_failures}" for b in three)
    return (
        f"{num} {'machine was' if num == 1 else 'machines were'} replaced on condition; as logged / had each failed "
        f"then / had none within {plant.alarm_horizon}: caught {caught}, {figures}"
    )


def cell(figure: Figure, *, digits: int = 2, unit: str = "", percent: bool = False) -> tuple[str, str]:
    """A figure and its interval."""
    if figure.value is None:
        return "-", ""

    def one(value: float) -> str:
        return f"{value:.0%}" if percent else f"{value:.{digits}f}"

    text = one(figure.value) + (f" {unit}" if unit else "")
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return text, ""
    return text, f"{one(figure.low)} to {one(figure.high)}"


def cell_text(figure: Figure) -> str:
    value, between = cell(figure)
    return f"{value} ({between})" if between else value


def _caught(candidate: CandidateResult) -> tuple[str, str]:
    _, between = cell(candidate.recall, percent=True)
    return f"{candidate.caught} of {candidate.num_failures}", between


def origin(plants: list[PlantResult]) -> str:
    """Where the figures come from, for a page's foot."""
    simulated = any(f.sudden is not None for plant in plants for f in plant.failures)
    text = "Plants are simulated, so these figures show that the way works, not what it saves in a real plant. "
    champions = ", ".join(f"{plant.name} {plant.version}" for plant in plants)
    return f"{text if simulated else ''}Models: {champions}. Millwright {code_version()}."

"""One plant judged: every candidate and reference on the same rows, all machines, known and unseen ones.

The one idea: references are candidates without a model. «Always healthy» raises no alarm; Kaplan-Meier gives
every machine the plant's usual risk, hence an alarm that never ends, and shows what catching all failures costs
who knows nothing; the oracle's threshold is chosen on the test part itself: a ceiling, not a competitor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.dataset import PlantData
from jobs.evaluation.groups import Group, Modes, groups_of
from jobs.evaluation.on_condition import bounds_of
from jobs.evaluation.results import (
    AlarmResult,
    FailureResult,
    GroupResult,
    PlantResult,
    candidate_result,
    comparison,
    curve,
)
from jobs.evaluation.rows import LaterRows, forecast, later_rows
from jobs.evaluation.story import story_of
from jobs.evaluation.truth import Truth
from jobs.evaluation.verdict import ENOUGH, too_few, verdict
from models.bundle import Bundle
from models.episodes import HOURS_A_MONTH, AlarmRule, Judgement
from models.evaluation import Answers, Forecast, Outcomes, answers, compare, figures
from models.predict import iso
from models.predictor import Predictor, risk
from models.spec import BundleSpec
from models.split import Split
from models.thresholds import Swept, alarm_threshold, caught_within, sweep

DRAWS, DRAWS_OF_PARTS = 200, 100
SEED = 0  # of the bootstrap
NEVER = 1.01  # a threshold that no probability reaches


@dataclass(frozen=True)
class Judged:
    """A plant's figures, every scored tick, the story of one failure for the report, and what each candidate's
    thresholds come to, in rows of ``ticks``."""

    result: PlantResult
    ticks: pa.Table
    story: dict[str, Any]
    swept: dict[str, tuple[Swept, ...]]


def judge_plant(
    data: PlantData, split: Split, bundles: dict[str, Bundle], truth: Truth | None, modes: Modes | None = None
) -> Judged:
    """Judge the first of ``bundles``, the champion, beside the others. Reads the test part.

    ``modes`` names the log's failures.
    """
    predictors = {kind: Predictor(bundle) for kind, bundle in bundles.items()}
    best = next(iter(predictors))
    spec = predictors[best].spec
    rows = later_rows(data, split)
    said = {kind: forecast(rows, predictor, data.channels) for kind, predictor in predictors.items()}
    said |= _references(rows, truth, spec)
    hazard, rule = spec.config.hazard, AlarmRule.of(spec.config.hazard)
    outcomes = Outcomes.of(rows.ticks, hazard.horizons[spec.alarm_horizon])
    ready = {kind: answers(rows.ticks, one, config=hazard, outcomes=outcomes) for kind, one in said.items()}
    swept = {kind: sweep(rows.ticks, one.risk, rule, own=one.threshold) for kind, one in said.items()}
    plant = _Plant(spec, {kind: bundle.spec.version for kind, bundle in bundles.items()}, ready, swept)
    groups = groups_of(data, rows, split, modes=modes or {}, truth=truth, longest=rule.max_lead)
    results = [_group(plant, group) for group in groups]
    judgement = ready[best].judgement
    result = _plant_result(data, rows, spec, groups=results, judgement=judgement, truth=truth)
    result.num_not_judged = _not_judged(data, rows, split, judgement)
    result.on_condition = bounds_of(
        rows, ready, results[0].candidates, horizon=hazard.horizons[spec.alarm_horizon],
        reference_risk=_reference(spec), seed=SEED, draws=DRAWS_OF_PARTS,
    )  # fmt: skip
    return Judged(result, _table(rows, said), story_of(data, rows, predictors[best], judgement, truth), swept)


@dataclass(frozen=True)
class _Plant:
    """Every candidate's answers, the champion's first, and what thresholds of each come to."""

    spec: BundleSpec
    versions: dict[str, str]
    ready: dict[str, Answers]
    swept: dict[str, tuple[Swept, ...]]


def _references(rows: LaterRows, truth: Truth | None, spec: BundleSpec) -> dict[str, Forecast]:
    """What no model can be worse than, and what none can be better than."""
    found = {"always_healthy": Forecast(np.zeros(len(rows.time_us)), NEVER)}
    if (usual := _usual(spec)) is not None:
        everyone = np.repeat(usual, len(rows.time_us), axis=0)
        known = risk(spec, everyone)
        found["kaplan_meier"] = Forecast(known, float(known[0]), everyone)
    column = f"p{spec.config.hazard.horizons[spec.alarm_horizon]:g}h"
    if truth is not None and column in truth.oracle.column_names:
        names = np.array(rows.machines, object)[rows.ticks.machine]
        knows = truth.risk(column, names, rows.time_us)
        found["oracle"] = Forecast(knows, alarm_threshold(rows.ticks, knows, AlarmRule.of(spec.config.hazard)))
    return found


def _group(plant: _Plant, group: Group) -> GroupResult:
    """Every candidate on the ticks of a group, and the champion minus each of the others."""
    whole, spec = group.kind == "all", plant.spec
    best = next(iter(plant.ready))
    reference = _reference(spec)
    found = {
        kind: figures(
            one, group.part, reference_risk=reference, rng=np.random.default_rng(SEED),
            draws=DRAWS if whole else DRAWS_OF_PARTS, bands=whole,
        )
        for kind, one in plant.ready.items()
    }  # fmt: skip
    ticks = plant.ready[best].ticks.within(group.part.keep)
    months, budget = len(ticks.now) * ticks.step / HOURS_A_MONTH, found[best].alarms.false_per_month.value
    results = []
    for kind, one in found.items():
        swept, alone = plant.swept[kind], kind == "always_healthy"
        equal = None
        if np.isfinite(budget):
            equal = caught_within(swept, months=months, false_per_month=budget, keep=group.part.keep)[0]
        result = candidate_result(
            kind, one, version=plant.versions.get(kind), champion=kind == best,
            threshold=None if alone else plant.ready[kind].forecast.threshold, equal=equal,
        )  # fmt: skip
        if whole:
            result.curve = [] if alone else curve(swept, months)
            result.leads = sorted(round(f.lead, 3) for f in one.judgement.failures if f.lead is not None)
        results.append(result)
    return GroupResult(
        name=group.part.name, kind=group.kind, num_machines=ticks.num_machines, num_failures=results[0].num_failures,
        machine_months=round(months, 2), note=too_few(results[0].num_failures), candidates=results,
        comparisons=[comparison(kind, compare(found[best], one)) for kind, one in found.items()
                     if kind != best and (kind in plant.versions or kind == "kaplan_meier")],
    )  # fmt: skip


def _usual(spec: BundleSpec) -> NDArray[np.float32] | None:
    """The training part's hazard over all machines together, [1, K+1]."""
    return np.array([spec.usual.hazard], np.float32) if spec.usual.hazard else None


def _reference(spec: BundleSpec) -> float:
    """The risk that Brier skill is measured against; without a curve of the plant's own, 0."""
    usual = _usual(spec)
    return float(risk(spec, usual)[0]) if usual is not None else 0.0


def _plant_result(
    data: PlantData, rows: LaterRows, spec: BundleSpec, *, groups: list[GroupResult], judgement: Judgement,
    truth: Truth | None,
) -> PlantResult:  # fmt: skip
    champion = groups[0].champion
    baselines = [c for c in groups[0].candidates if c.kind in ("network", "trees", "no_sensor") and not c.champion]
    rule = AlarmRule.of(spec.config.hazard)
    known = sum(data.failures().values())
    first, last = int(rows.time_us.min()), int(rows.time_us.max())
    hidden = [h for m in rows.machines for h in truth.hidden(m, first, last)] if truth is not None else None
    return PlantResult(
        name=data.plant, champion=spec.kind, version=spec.version, life_unit=data.clock.life_unit,
        alarm_horizon=spec.alarm_horizon, min_lead=rule.min_lead, max_lead=rule.max_lead,
        scored_every=rows.ticks.step, first=iso(first), last=iso(last), num_failures_known=known,
        enough=known >= ENOUGH, verdict=verdict(champion, baselines, num_known=known), groups=groups,
        failures=_failures(data, rows, judgement, truth),
        alarms=_alarms(data, rows, judgement, truth=truth, max_lead=rule.max_lead),
        num_unlogged=None if hidden is None else len(hidden),
    )  # fmt: skip


def _not_judged(data: PlantData, rows: LaterRows, split: Split, judgement: Judgement) -> int:
    """Logged failures of the test part that no alarm could have announced in time: too near to its start, to the
    end of observation, to another event, or without a reading before them."""
    low, high = split.bounds_us["test"]
    logged = sum(int(((log.failed_us > low) & (log.failed_us <= high)).sum())
                 for machine, log in data.logs.items() if machine in data.series)  # fmt: skip
    return logged - sum(low < rows.at_us(f.at, data) <= high for f in judgement.failures)


def _failures(data: PlantData, rows: LaterRows, judgement: Judgement, truth: Truth | None) -> list[FailureResult]:
    found = []
    for failure in sorted(judgement.failures, key=lambda f: f.at):
        machine, at_us = rows.machines[failure.machine], rows.at_us(failure.at, data)
        known = truth.of(machine, at_us) if truth is not None else None
        found.append(
            FailureResult(
                machine=machine, failed_at=iso(at_us), caught=failure.lead is not None, lead=failure.lead,
                unseen=bool(rows.unseen[failure.machine]), mode=known.mode if known else None,
                sudden=known.sudden if known else None,
            )
        )  # fmt: skip
    return found


def _alarms(
    data: PlantData, rows: LaterRows, judgement: Judgement, *, truth: Truth | None, max_lead: float
) -> list[AlarmResult]:
    horizon_us = round(max_lead / data.clock.life_per_step) * data.clock.step_us
    found = []
    for episode in judgement.episodes:
        machine = rows.machines[episode.machine]
        start, end = rows.at_us(episode.start, data), rows.at_us(episode.end, data)
        unlogged = None if truth is None else bool(truth.hidden(machine, start, start + horizon_us))
        found.append(
            AlarmResult(machine=machine, start=iso(start), end=iso(end), outcome=episode.outcome, unlogged=unlogged)
        )
    return found


def _table(rows: LaterRows, said: dict[str, Forecast]) -> pa.Table:
    """Every scored tick: machine, time, label and each candidate's risk, exact, so that thresholds hold for it."""
    columns: dict[str, Any] = {
        "machine": np.array(rows.machines, object)[rows.ticks.machine],
        "time": pa.array(rows.time_us, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "time_to_end": rows.ticks.time.astype(np.float32),
        "failed": rows.ticks.event,
        "unseen": rows.unseen[rows.ticks.machine],
    }
    return pa.table(columns | {f"risk_{kind}": one.risk for kind, one in said.items()})

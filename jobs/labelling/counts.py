"""Verdicts and lives added up: by reason, failure mode, component, machine, machine type, part and booking delay.

The one idea: every figure is a count over the same list of verdicts, so the figures add up to the events table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from cluster.logs import FAR, time_us
from jobs.dataset import PlantData
from jobs.evaluation.verdict import ENOUGH
from jobs.labelling.verdicts import PARTS, SERVICES, Account, Verdict
from jobs.labelling.words import NOT_USED, WHY, few, few_groups
from models.labels import MachineLog, booking_delay_us
from models.split import Split

HOUR_US = 3_600_000_000
VERDICTS = ("failure", "censored", "excluded", "context")
_NO_NAME = "not stated"


class Reason(BaseModel):
    """``count`` events of a ``kind`` with one ``verdict`` for one ``reason``; ``why`` is the reason in words."""

    kind: str
    verdict: str
    reason: str
    count: int
    why: str


class Group(BaseModel):
    """Failures of a mode, component or machine type: ``booked`` rows, of which ``labels`` are labels."""

    name: str
    booked: int
    labels: int
    enough: bool


class Machine(BaseModel):
    """``ended_by`` counts its lives by ``failure``, ``service`` and ``end`` (of observation)."""

    name: str
    machine_type: str
    unseen: bool  # kept apart for the test
    booked: int
    labels: int
    observed_days: float
    ended_by: dict[str, int]


class PartOfHistory(BaseModel):
    """``failures`` are the distinct ones that end a life in this part, as its labels have them."""

    name: str
    after: str
    until: str
    failures: int
    on_unseen_machines: int


class Delay(BaseModel):
    """Hours from an event's start to its booking; ``late`` is False where no booking has a time of its own."""

    kind: str
    events: int
    p50_h: float
    p95_h: float
    worst_h: float
    late: bool
    booked_before_start: int


class PlantLabels(BaseModel):
    """One plant. ``verdicts`` adds up to ``events``, and so do the counts of ``reasons``.

    ``lives`` counts observed lives by what ended them; ``censored_by`` those that maintenance cut short by
    its trigger, ``maintenance`` the same by what labels take it for; ``not_used`` the labels that no part learns from
    or is judged by, by why. ``blind`` are labels without a reading in their last ``blind_h`` hours: nobody can learn
    to foresee them. ``held_back_h`` of the newest past nothing is claimed. ``too_little`` says what cannot be learnt,
    in sentences.
    """

    name: str
    data_version: str = ""
    life_unit: str = "h"
    events: int = 0
    verdicts: dict[str, int] = {}
    reasons: list[Reason] = []
    lives: dict[str, int] = {}
    censored_by: dict[str, int] = {}
    maintenance: dict[str, int] = {}
    blind: int = 0
    blind_h: float = 0.0
    held_back_h: float = 0.0
    parts: list[PartOfHistory] = []
    not_used: dict[str, int] = {}
    modes: list[Group] = []
    components: list[Group] = []
    machine_types: list[Group] = []
    machines: list[Machine] = []
    delays: list[Delay] = []
    too_little: list[str] = []


def summary(data: PlantData, events: pa.Table, found: Account, split: Split | None, *, blind_h: float) -> PlantLabels:
    """The plant's report."""
    kinds, triggers = events["kind"].to_pylist(), events["trigger"].to_pylist()
    verdicts = Counter(v.verdict for v in found.verdicts)
    failures = [i for i, kind in enumerate(kinds) if kind == "failure"]
    used = Counter(v.use for v in found.verdicts if v.verdict == "failure")
    services = Counter(t or "unknown" for t, v in zip(triggers, found.verdicts, strict=True) if v.verdict == "censored")
    ended, maintained = (Counter(getattr(life, name) for life in found.lives) for name in ("ended_by", "service"))
    types = [data.machine_types.get(m) or _NO_NAME for m in events["machine"].to_pylist()]
    report = PlantLabels(
        name=data.plant, data_version=data.version, life_unit=data.clock.life_unit, events=events.num_rows,
        verdicts={name: verdicts[name] for name in VERDICTS}, reasons=_reasons(kinds, found.verdicts),
        lives={name: ended[name] for name in ("failure", "service", "end")}, censored_by=dict(services.most_common()),
        maintenance={kind: maintained[kind] for kind in SERVICES.values()},
        blind=sum(life.blind for life in found.lives if life.ended_by == "failure"), blind_h=blind_h,
        held_back_h=found.delay_us / HOUR_US, parts=_parts(found.verdicts, events, split) if split else [],
        not_used={reason: used[reason] for reason in NOT_USED if used[reason]},
        modes=_groups(events["failure_mode"].to_pylist(), failures, found.verdicts),
        components=_groups(events["component"].to_pylist(), failures, found.verdicts),
        machine_types=_groups(types, failures, found.verdicts),
        machines=_machines(data, events, found, split), delays=_delays(events),
    )  # fmt: skip
    return report.model_copy(update={"too_little": _too_little(report)})


def detail(events: pa.Table, found: Account) -> pa.Table:
    """Every event with its verdict, reason and use."""
    kept = events.select(["event_id", "machine", "kind", "component", "failure_mode", "code", "started_at", "ended_at",
                          "recorded_at"])  # fmt: skip
    for column in ("verdict", "reason", "use"):
        kept = kept.append_column(column, pa.array([getattr(v, column) for v in found.verdicts], pa.string()))
    return kept.append_column("why", pa.array([WHY[v.reason] for v in found.verdicts], pa.string()))


def _reasons(kinds: list[str], verdicts: list[Verdict]) -> list[Reason]:
    counts = Counter((v.verdict, kind, v.reason) for kind, v in zip(kinds, verdicts, strict=True))
    order = sorted(counts.items(), key=lambda item: (VERDICTS.index(item[0][0]), item[0][1], -item[1], item[0][2]))
    return [Reason(kind=k, verdict=v, reason=r, count=number, why=WHY[r]) for (v, k, r), number in order]


def _groups(names: Sequence[str | None], failures: list[int], verdicts: list[Verdict]) -> list[Group]:
    booked = Counter(names[i] or _NO_NAME for i in failures)
    labels = Counter(names[i] or _NO_NAME for i in failures if verdicts[i].verdict == "failure")
    return [Group(name=n, booked=b, labels=labels[n], enough=labels[n] >= ENOUGH) for n, b in booked.most_common()]


def _machines(data: PlantData, events: pa.Table, found: Account, split: Split | None) -> list[Machine]:
    rows = list(zip(events["machine"].to_pylist(), events["kind"].to_pylist(), found.verdicts, strict=True))
    booked = Counter(machine for machine, kind, _ in rows if kind == "failure")
    labels = Counter(machine for machine, _, verdict in rows if verdict.verdict == "failure")
    ended = Counter((life.machine, life.ended_by) for life in found.lives)
    ticks: Counter[str] = Counter()
    for life in found.lives:
        ticks[life.machine] += life.num_ticks
    names = sorted({*data.series, *data.machine_types, *(machine for machine in booked if machine)})
    return [
        Machine(
            name=name, machine_type=data.machine_types.get(name) or _NO_NAME,
            unseen=split is not None and name in split.unseen, booked=booked[name], labels=labels[name],
            observed_days=ticks[name] * data.clock.step_us / (24 * HOUR_US),
            ended_by={cause: ended[name, cause] for cause in ("failure", "service", "end")},
        )
        for name in names
    ]  # fmt: skip


def _parts(verdicts: list[Verdict], events: pa.Table, split: Split) -> list[PartOfHistory]:
    machines = events["machine"].to_pylist()
    used = Counter((v.use, m in split.unseen) for m, v in zip(machines, verdicts, strict=True) if v.use)
    return [
        PartOfHistory(
            name=part, after=iso(split.bounds_us[part][0]), until=iso(split.bounds_us[part][1]),
            failures=used[part, False] + used[part, True], on_unseen_machines=used[part, True],
        )
        for part in PARTS
    ]  # fmt: skip


def _delays(events: pa.Table) -> list[Delay]:
    found = []
    for kind in sorted(set(events["kind"].to_pylist())):
        own = events.filter(pc.equal(events["kind"], kind))
        start, booked = time_us(own["started_at"]), time_us(pc.coalesce(own["recorded_at"], own["started_at"]))
        told = (start < FAR) & (booked < FAR)
        log = [MachineLog(start[told], start[told], booked[told])]
        p50, p95, worst = (booking_delay_us(log, FAR, share=share) / HOUR_US for share in (0.5, 0.95, 1.0))
        found.append(
            Delay(
                kind=kind, events=own.num_rows, p50_h=p50, p95_h=p95, worst_h=worst,
                late=bool((booked[told] != start[told]).any()),
                booked_before_start=int(np.sum(booked[told] < start[told])),
            )
        )  # fmt: skip
    return found


def _too_little(report: PlantLabels) -> list[str]:
    booked, labels = sum(group.booked for group in report.modes), report.verdicts["failure"]
    if not report.events:
        return ["no event at all: nothing can be learnt about failures; ingest the plant's logs"]
    if not booked:
        return ["no failure is booked: nothing can be learnt about failures; ingest the log of failures"]
    said = [few("the plant", labels, ENOUGH)] if labels < ENOUGH else []
    if report.parts and report.parts[0].failures == 0:
        said.append("no failure in the training part: `train` and `tune` will leave the plant out")
    for what, groups in (("failure modes", report.modes), ("machine types", report.machine_types)):
        rare = {group.name: group.labels for group in groups if not group.enough}
        if rare and len(groups) > 1:
            said.append(few_groups(what, rare))
    if report.blind:
        said.append(
            f"{report.blind} of {labels} failures have no reading in the {report.blind_h:g} {report.life_unit} before:"
            " nobody can learn to foresee them"
        )  # fmt: skip
    return said


def iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="minutes")

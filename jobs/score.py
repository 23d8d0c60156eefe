"""Batch scoring: what the service would have said at each tick of the history, into the journal.

The one idea: the manifest's units are scored by Ray Data's workers with the service's own windows and model; each is
committed once, under its own name, soon after it is done. Killed anywhere, the next run skips what is committed;
the journal holds each prediction once, so a repeated or overlapping run changes nothing that is there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import ray
from rich.text import Text

from cluster import lineage
from cluster.added import causes_of, changes
from cluster.bundles import load
from cluster.commit import open_or_create
from cluster.home import Home
from cluster.logs import machine_events
from cluster.manifest import Unit
from cluster.places import reference
from cluster.predictions import SCHEMA, TABLE, Existing, JournalFiles
from cluster.registry import standing_champion
from cluster.report import Progress, Report
from cluster.storage import data_version, read_events, read_machines, reading_files
from cluster.turns import only_one
from jobs.dataset import named_plants
from jobs.evaluation.rows import arranged
from jobs.scoring.committing import commit_units, paced
from jobs.scoring.devices import places
from jobs.scoring.unit import Question, row_of, score_unit
from jobs.series.cache import unit_digests
from jobs.series.gather import dataset_of, parallelism, plan_units, unit_of
from jobs.series.stream import Shape
from models.bundle import Bundle
from models.errors import InputError
from models.predict import Cause, answer, degradations, missing_share, window_digest
from models.predictor import Predictor
from models.windows import Channel, Int, MachineEvents, Series, context_of, silence, windows_ending

CHUNK = 1024  # windows scored at a time: 1 to 5 MB
LOOK_BACK = 31 * 86_400_000_000  # us in which nearly every machine's newest reading lies; then four times as far


class ScoreReport(Report):
    plants: list[str] = []
    predictions_written: int = 0
    predictions_total: int = 0  # of the question asked, those that were there before included

    def render(self) -> Text:
        known = self.predictions_total - self.predictions_written
        return Text(f"{', '.join(self.plants)}: {self.predictions_written} predictions written, {known} known before.")


def run(home: Home, *, progress: Progress, plant: str | None = None, since: str | None = None) -> ScoreReport:
    """Score every tick since ``since`` (ISO 8601), or each machine's newest tick, with the plants' champions."""
    began = time.monotonic()
    since_us = None if since is None else parse_time_us(since)
    report = ScoreReport(plants=named_plants(home, plant or "all"))
    for name in report.plants:
        progress.step(f"Score {name}")
        written, total = _score_plant(home, name, since_us, progress)
        lineage.scored(home, name, standing_champion(home, name).path, rows=written)
        report.predictions_written += written
        report.predictions_total += total
    report.seconds = time.monotonic() - began
    return report


def parse_time_us(text: str) -> int:
    """ISO 8601 to microseconds UTC; without an offset it is UTC. Raises InputError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError("Not a time", expected="ISO 8601 such as 2025-06-01T00:00Z", found=repr(text)) from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


@dataclass(frozen=True)
class _Run:
    """A plant's question and what answers it, in the object store."""

    home: Home
    plant: str
    question: Question
    bundle: Bundle
    known: dict[str, MachineEvents]
    bundle_ref: Any
    known_ref: Any
    version: str  # of the history: one for all passes
    progress: Progress


def _score_plant(home: Home, plant: str, since_us: int | None, progress: Progress) -> tuple[int, int]:
    """New predictions, and all that the question has."""
    bundle = load(home, plant, standing_champion(home, plant).path)
    with only_one(home, plant, progress, work="score.lock"):
        run = _begin(home, plant, bundle, progress, newest=since_us is None)
        if since_us is not None:
            # The last tick that ends at or before `since`: windows that end later are asked about.
            written, total, _ = _pass(run, since=since_us // run.question.shape.clock.step_us, until=None)
            return written, total
        return _newest(run)


def _begin(home: Home, plant: str, bundle: Bundle, progress: Progress, *, newest: bool) -> _Run:
    version = data_version(home, plant)
    spec, machines = bundle.spec, read_machines(home, plant, as_of=version or None)
    sensors = tuple(channel.name for channel in spec.channels if channel.role == "sensor")
    shape = Shape(sensors, spec.config.clock, spec.config.window, context_of(spec.channels))
    question = Question(
        plant=plant, shape=shape, newest=newest,
        machine_types=dict(zip(machines["machine"].to_pylist(), machines["machine_type"].to_pylist(), strict=True)),
        causes=tuple(cause["code"] for cause in causes_of(changes(home, plant), sensors)),
        folder=reference(home.table(plant, TABLE)), predicted_us=int(datetime.now(UTC).timestamp() * 1_000_000),
    )  # fmt: skip
    known = machine_events(read_events(home, plant, as_of=version or None), machines)
    return _Run(home, plant, question, bundle, known, ray.put(bundle), ray.put(known), version, progress)


def _newest(run: _Run) -> tuple[int, int]:
    """Each machine's newest window: the last weeks first, further back for those that were silent then."""
    files, step_us = reading_files(run.home, run.plant), run.question.shape.clock.step_us
    first, until = min(f.first_us for f in files) // step_us - 1, -(-max(f.last_us for f in files) // step_us)
    written = total = 0
    found: frozenset[str] = frozenset()
    span = max(LOOK_BACK // step_us, 4 * silence(run.question.shape.window))
    while until > first:
        since = max(first, until - span)
        new, asked, machines = _pass(run, since=since, until=until, skip=found)
        written, total, found = written + new, total + asked, found | machines
        if found >= run.question.machine_types.keys():
            break
        until, span = since, 4 * span
    return written, total


def _pass(
    run: _Run, *, since: int | None, until: int | None, skip: frozenset[str] = frozenset()
) -> tuple[int, int, frozenset[str]]:
    """Score the units of a range of ticks; new answers, all answers, and the machines that had one."""
    home, plant, shape = run.home, run.plant, run.question.shape
    planned = plan_units(
        home, plant, shape, parallel=parallelism(), since=since, until=until, as_of=run.version,
        whole=run.question.newest,
    )  # fmt: skip
    journal = open_or_create(home.table(plant, TABLE), SCHEMA)
    names = [_name(digest, run, since, skip) for digest in unit_digests(planned, shape, run.known)]
    done = {name: journal.transaction_version(name) for name in names}
    written, total = 0, sum(version - 1 for version in done.values() if version)
    number, machines = 0, set[str](_machines_of(planned, done, names, run) if run.question.newest else ())
    waiting = [(unit, name) for unit, name in zip(planned, names, strict=True) if not done[name]]
    for rows in paced(_scored(run, waiting, since, skip)):
        written += commit_units(home, plant, [row for row in rows if row["total"]])
        for row in rows:
            total += row["total"]
            machines |= set(row["machines"])
        number += len(rows)
        run.progress.update(number, len(waiting), "units")
    return written, total, frozenset(machines)


def _machines_of(
    planned: Sequence[Unit], done: dict[str, int | None], names: list[str], run: _Run
) -> Iterator[str]:
    """Machines of units that an earlier run has answered; those that it found silent are looked for again."""
    from cluster.predictions import machines_in

    journal = JournalFiles(run.home, run.plant)
    for unit, name in zip(planned, names, strict=True):
        if done[name]:
            yield from machines_in(_existing(journal, unit, run), unit, run.bundle.spec.version)


def _name(digest: str, run: _Run, since: int | None, skip: frozenset[str]) -> str:
    """The same question about the same rows and logs has one name, whoever asks it; ``digest`` is the unit's."""
    question = run.question
    said = (question.causes, sorted(question.machine_types.items()))
    about = (run.bundle.spec.version, digest, since, question.newest, sorted(skip), said)
    return f"score-{hashlib.sha256(repr(about).encode()).hexdigest()[:24]}"


def _existing(journal: JournalFiles, unit: Unit, run: _Run) -> Existing:
    step_us, reach = run.question.shape.clock.step_us, run.question.shape.overlap
    first = -(2**62) if unit.since is None else (unit.since - reach) * step_us
    return journal.meeting(unit, first, 2**62 if unit.until is None else unit.until * step_us)


def _scored(
    run: _Run, waiting: Sequence[tuple[Unit, str]], since: int | None, skip: frozenset[str]
) -> Iterator[dict[str, Any]]:
    """Results as they come, in any order."""
    if not waiting:
        return
    journal = JournalFiles(run.home, run.plant)
    extra = [
        {"name": name, "existing": list((found := _existing(journal, unit, run)).files), "from_us": found.first_us,
         "to_us": found.last_us}
        for unit, name in waiting
    ]  # fmt: skip
    bundle, known, question = run.bundle_ref, run.known_ref, run.question

    def score(row: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
        found: Bundle = ray.get(bundle)
        scored = score_unit(
            unit_of(row), question, found, ray.get(known), stem=row["name"], since=since, skip=skip,
            journal=Existing(tuple(row["existing"]), row["from_us"], row["to_us"]), device=device,
        )  # fmt: skip
        return {"name": row["name"]} | row_of(scored)

    dataset = dataset_of([unit for unit, _ in waiting], extra)
    yield from places(dataset, score, network=run.bundle.spec.kind == "network").iter_rows()


def score_series(
    bundle: Bundle,
    plant: str,
    series: Series,
    channels: tuple[Channel, ...],
    *,
    since_us: int | None,
    causes: Sequence[Cause] = (),
) -> list[dict[str, Any]]:
    """Predictions for the ticks of a series that hold a reading: since ``since_us``, or the newest only.

    ``causes`` are why each of them is worth less than usual.
    """
    spec, predictor = bundle.spec, Predictor(bundle)
    step_us, found = spec.config.clock.step_us, []
    rows = rows_asked(series, channels, step_us=step_us, since_us=since_us)
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        windows = arranged(windows_ending(series.values, chunk, spec.config.window.length), channels, spec)
        scored = predictor.score(windows)
        for tick, window, hazard, modes in zip(series.ticks[chunk], windows, scored.hazard, scored.modes, strict=True):
            as_of_us = int(tick) * step_us
            found.append(
                answer(
                    spec, hazard, plant=plant, machine=series.machine, as_of_us=as_of_us, data_until_us=as_of_us,
                    digest=window_digest(window), modes_M=modes, missing=float(missing_share(spec, window[None])[0]),
                    degraded=[*degradations(spec, window), *causes],
                )
            )  # fmt: skip
    return found


def rows_asked(series: Series, channels: tuple[Channel, ...], *, step_us: int, since_us: int | None) -> Int:
    """Rows of a series that hold a reading: those whose tick ends after ``since_us``, or the newest only."""
    num_sensors = sum(channel.role == "sensor" for channel in channels)
    rows: Int = np.flatnonzero(~np.isnan(series.values[:, :num_sensors]).all(axis=1))
    rows = rows[rows >= series.lead]
    return rows[-1:] if since_us is None else rows[series.ticks[rows] * step_us > since_us]

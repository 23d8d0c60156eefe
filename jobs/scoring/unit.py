"""One unit of a history scored: streamed, answered, written beside the journal's other files, not yet named by it.

The one idea: what a unit writes means nothing until the driver commits it, once, under the unit's name; so a worker
may die anywhere and be asked again. Answers that the journal has from an earlier run are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.commit import WrittenFile, write_part
from cluster.manifest import Unit
from cluster.places import place_of
from cluster.predictions import SCHEMA, Existing, ids_in
from jobs.scoring.devices import Answers, answers_of
from jobs.scoring.rows import journal_rows, seen_rows
from jobs.series.stream import Shape, stream
from models.bundle import Bundle
from models.predict import lasting, untrained_type
from models.windows import MachineEvents, Series, windows_ending

CHUNK = 1024  # windows scored at a time: 1 to 10 MB
FILE_ROWS = 20_000  # 6 MB while they wait


@dataclass(frozen=True)
class Question:
    """What is asked of a plant's history, the same for every unit.

    With ``newest`` only each machine's last window is asked about. ``causes`` are codes that every answer carries;
    ``folder`` is the journal's.
    """

    plant: str
    shape: Shape
    newest: bool
    machine_types: Mapping[str, str]
    causes: tuple[str, ...]
    folder: str
    predicted_us: int


@dataclass(frozen=True)
class Scored:
    """A unit's answers: how many, how many of them are new, and the files that hold these."""

    total: int
    written: int
    files: tuple[WrittenFile, ...]
    machines: tuple[str, ...]


def score_unit(
    unit: Unit,
    question: Question,
    bundle: Bundle,
    known: Mapping[str, MachineEvents],
    *,
    stem: str,
    since: int | None,
    journal: Existing,
    skip: frozenset[str] = frozenset(),
    device: str = "cpu",
) -> Scored:
    """Score the windows of a unit that end after tick ``since``; machines in ``skip`` are left out.

    ``journal`` is what may hold answers of the same windows.
    """
    score = answers_of(bundle, device=device, newest=question.newest)
    held: list[pa.Table] = []
    files: list[WrittenFile] = []
    total, written, machines = 0, 0, set[str]()
    before = ids_in(journal, unit, bundle.spec.version)
    found = (s for s in stream(unit, question.shape, known) if s.machine not in skip)
    for series in _newest(found, len(question.shape.sensors)) if question.newest else found:
        for rows in _answers(series, question, bundle, score, since):
            total += rows.num_rows
            machines.add(series.machine)
            fresh = rows if before is None else rows.filter(pc.invert(pc.is_in(rows["prediction_id"], before)))
            written += fresh.num_rows
            held.append(fresh)
            if sum(table.num_rows for table in held) >= FILE_ROWS:
                files.append(_write(held, question, stem))
                held = []
    if any(table.num_rows for table in held):
        files.append(_write(held, question, stem))
    return Scored(total, written, tuple(files), tuple(sorted(machines)))


def _newest(found: Iterator[Series], num_sensors: int) -> Iterator[Series]:
    """The last window of each machine, as a series of its own."""
    last: dict[str, Series] = {}
    for series in found:
        rows = seen_rows(series.values, series.lead, num_sensors)
        if len(rows):
            begin = int(rows[-1]) - series.lead
            values = series.values[begin : int(rows[-1]) + 1].copy()
            last[series.machine] = Series(series.machine, series.first_tick + begin, series.lead, values)
    yield from last.values()


def _answers(
    series: Series, question: Question, bundle: Bundle, score: Answers, since: int | None
) -> Iterator[pa.Table]:
    spec, clock = bundle.spec, question.shape.clock
    rows = seen_rows(series.values, series.lead, len(question.shape.sensors))
    rows = rows[-1:] if question.newest else rows
    if since is not None:
        rows = rows[series.first_tick + rows > since]
    kind = question.machine_types.get(series.machine)
    always = [cause["code"] for cause in untrained_type(spec, kind) + lasting(spec)] + list(question.causes)
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        windows = windows_ending(series.values, chunk, spec.config.window.length)
        yield journal_rows(
            spec, score(series.values, chunk), windows, plant=question.plant, machine=series.machine,
            as_of_us=(series.first_tick + chunk).astype(np.int64) * clock.step_us, always=always,
            predicted_us=question.predicted_us,
        )  # fmt: skip


def _write(tables: Sequence[pa.Table], question: Question, stem: str) -> WrittenFile:
    return write_part(place_of(question.folder), pa.concat_tables([SCHEMA.empty_table(), *tables]), stem=stem)


def row_of(scored: Scored) -> dict[str, Any]:
    """For Ray Data."""
    files = [file.as_dict() for file in scored.files]
    return {"total": scored.total, "written": scored.written, "files": files, "machines": list(scored.machines)}

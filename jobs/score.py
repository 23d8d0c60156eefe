"""Batch scoring: what the service would have said at each tick of the history, into the journal.

The one idea: workers score machines with the same Predictor and the same windows as the service;
the journal holds each prediction once, so a repeated or killed run changes nothing that is there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import ray
from rich.text import Text

from cluster import lineage
from cluster.added import causes_of, changes, full_source
from cluster.bundles import load
from cluster.home import Home
from cluster.logs import machine_events
from cluster.predictions import SCHEMA, append_predictions, as_table, known_ids
from cluster.registry import standing_champion
from cluster.report import Progress, Report
from cluster.storage import data_version, read_events, read_machines, sensors
from jobs.dataset import named_plants, plant_channels, series_dataset, series_from_table
from jobs.evaluation.rows import arranged
from models.bundle import Bundle
from models.errors import InputError
from models.predict import Cause, Predictor, answer, degradations, lasting, untrained_type, window_digest
from models.windows import Channel, Int, Series, windows_ending

CHUNK = 1024  # windows scored at a time: 1 to 5 MB


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
        written, total = _score_plant(home, name, since_us)
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


def _score_plant(home: Home, plant: str, since_us: int | None) -> tuple[int, int]:
    bundle = load(home, plant, standing_champion(home, plant).path)
    shared = ray.put(bundle)
    known = ray.put(known_ids(home, plant))
    channels = plant_channels(full_source(home, plant), sensors(home, plant))
    now_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    trained = [channel.name for channel in bundle.spec.channels if channel.role == "sensor"]
    always = lasting(bundle.spec) + causes_of(changes(home, plant), trained)
    machines = read_machines(home, plant)
    types = dict(zip(machines["machine"].to_pylist(), machines["machine_type"].to_pylist(), strict=True))

    def score(row: dict[str, Any]) -> dict[str, Any]:
        found: Bundle = ray.get(shared)
        values = np.frombuffer(row["values"], np.float32).reshape(row["num_ticks"], -1)
        series = Series(str(row["machine"]), int(row["first_tick"]), int(row["lead"]), values)
        causes = untrained_type(found.spec, types.get(series.machine)) + always
        predictions = score_series(found, plant, series, channels, since_us=since_us, causes=causes)
        new = [p for p in predictions if p["prediction_id"] not in ray.get(known)]
        table = as_table(((plant, p, now_us) for p in new), source="score")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return {"rows": sink.getvalue().to_pybytes(), "total": len(predictions)}

    scored = series_dataset(home, plant, config=bundle.spec.config).map(score).take_all()
    total = sum(row["total"] for row in scored)
    rows = pa.concat_tables([SCHEMA.empty_table(), *(pa.ipc.open_stream(row["rows"]).read_all() for row in scored)])
    if rows.num_rows:
        # Named by what it holds: the same rows are appended once, however often the run is repeated.
        ids = "".join(sorted(rows["prediction_id"].to_pylist()))
        identity = hashlib.sha256(f"{data_version(home, plant)}/{ids}".encode()).hexdigest()[:24]
        append_predictions(home, plant, rows, app_id=f"score-{identity}", version=1)
    return rows.num_rows, total


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
    num_sensors = sum(channel.role == "sensor" for channel in channels)
    rows: Int = np.flatnonzero(~np.isnan(series.values[:, :num_sensors]).all(axis=1))
    rows = rows[rows >= series.lead]
    step_us = spec.config.clock.step_us
    rows = rows[-1:] if since_us is None else rows[series.ticks[rows] * step_us > since_us]
    found = []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        windows = arranged(windows_ending(series.values, chunk, spec.config.window.length), channels, spec)
        for tick, window, hazard in zip(series.ticks[chunk], windows, predictor.hazard(windows), strict=True):
            as_of_us = int(tick) * step_us
            found.append(
                answer(
                    spec, hazard, plant=plant, machine=series.machine, as_of_us=as_of_us, data_until_us=as_of_us,
                    digest=window_digest(window), degraded=[*degradations(spec, window), *causes],
                )
            )  # fmt: skip
    return found


def score_frame(home: Home, plant: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The newest prediction of each machine in a frame of ``machine``, ``time`` and sensors in canonical units."""
    bundle = load(home, plant, standing_champion(home, plant).path)
    names = [c.name for c in bundle.spec.channels if c.role == "sensor"]
    absent = [name for name in ("machine", "time") if name not in frame.columns]
    if absent:
        raise InputError("A column is missing", expected="machine, time and sensors", found=", ".join(frame.columns))
    ordered = frame.sort_values(["machine", "time"])
    columns = {n: pa.array(ordered[n] if n in ordered else [None] * len(ordered), pa.float32()) for n in names}
    times = pd.to_datetime(ordered["time"], utc=True).astype("datetime64[us, UTC]")
    table = pa.table({"machine": ordered["machine"].astype(str).to_numpy(), "time": pa.array(times), **columns})
    known = machine_events(read_events(home, plant), read_machines(home, plant))
    config = bundle.spec.config
    found = [
        score_series(bundle, plant, s, bundle.spec.channels, since_us=None)
        for s in series_from_table(table, known, clock=config.clock, config=config)
    ]
    return pd.DataFrame([p for predictions in found for p in predictions])

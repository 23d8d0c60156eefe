"""A notebook's frame of readings answered and explained: the service's windows, model and reasons, as pandas.

The one idea: nothing is computed here. Windows are cut as in training, ``models.predict.answer`` and
``models.explain.explain`` say what the service would say of them, and this turns that into rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from cluster.added import causes_of, changes
from cluster.bundles import load
from cluster.home import Home
from cluster.logs import machine_events
from cluster.registry import standing_champion
from cluster.storage import TIME, read_events, read_machines
from jobs.dataset import series_from_table
from jobs.evaluation.rows import arranged
from jobs.frames import moment_us
from jobs.score import rows_asked, score_series
from models.bundle import Bundle
from models.errors import InputError
from models.explain import explain
from models.predict import Cause, lasting, untrained_type
from models.predictor import Predictor
from models.windows import Series, context_of, windows_ending

REASON_COLUMNS = ("machine", "as_of", "sensor", "contribution", "value", "usual", "unit", "text", "risk", "usual_risk")


@dataclass(frozen=True)
class _Asked:
    """A plant's champion and the frame's series, one a machine."""

    plant: str
    bundle: Bundle
    series: tuple[Series, ...]
    types: Mapping[str, str | None]
    always: tuple[Cause, ...]

    def causes(self, machine: str) -> list[Cause]:
        """What every answer about the machine carries, in the service's order."""
        unknown = Cause(code="unknown_machine", text="not in the plant's list of machines")
        own = [] if machine in self.types else [unknown]
        return [*own, *untrained_type(self.bundle.spec, self.types.get(machine)), *self.always]


def score_frame(home: Home, plant: str, frame: pd.DataFrame, since: str | datetime | None = None) -> pd.DataFrame:
    """Predictions, a row each: of each machine's newest tick, or of every tick that ends after ``since``."""
    asked, since_us = _asked(home, plant, frame), moment_us(since)
    channels = asked.bundle.spec.channels
    found = [
        _flat(prediction)
        for series in asked.series
        for prediction in score_series(
            asked.bundle, plant, series, channels, since_us=since_us, causes=asked.causes(series.machine)
        )
    ]
    return _timed(pd.DataFrame(found, columns=None if found else ["plant", "machine", "as_of", "data_until"]))


def reasons_frame(home: Home, plant: str, frame: pd.DataFrame, since: str | datetime | None = None) -> pd.DataFrame:
    """Reasons of the same ticks, a row a channel, the largest part of each tick first."""
    asked, since_us = _asked(home, plant, frame), moment_us(since)
    found = [row for series in asked.series for row in _explained(asked.bundle, series, since_us)]
    return _timed(pd.DataFrame(found, columns=list(REASON_COLUMNS)))


def _explained(bundle: Bundle, series: Series, since_us: int | None) -> Iterator[dict[str, Any]]:
    spec, predictor = bundle.spec, Predictor(bundle)
    step_us = spec.config.clock.step_us
    for row in rows_asked(series, spec.channels, step_us=step_us, since_us=since_us):
        one = row.reshape(1)
        (window,) = arranged(windows_ending(series.values, one, spec.config.window.length), spec.channels, spec)
        told = explain(predictor, window)
        as_of = pd.Timestamp(int(series.ticks[row]) * step_us, unit="us", tz="UTC")
        for reason in told.reasons:
            total = {"risk": told.risk, "usual_risk": told.usual_risk}
            yield {"machine": series.machine, "as_of": as_of, **reason, **total}


def _asked(home: Home, plant: str, frame: pd.DataFrame) -> _Asked:
    bundle = load(home, plant, standing_champion(home, plant).path)
    spec, machines = bundle.spec, read_machines(home, plant)
    sensors = [channel.name for channel in spec.channels if channel.role == "sensor"]
    known = machine_events(read_events(home, plant), machines)
    series = series_from_table(
        _table(frame, sensors), known, clock=spec.config.clock, config=spec.config, channels=context_of(spec.channels)
    )
    types = dict(zip(machines["machine"].to_pylist(), machines["machine_type"].to_pylist(), strict=True))
    always = (*lasting(spec), *causes_of(changes(home, plant), sensors))
    return _Asked(plant, bundle, tuple(series), types, always)


def _table(frame: pd.DataFrame, sensors: list[str]) -> pa.Table:
    """The frame as history has it, sorted by machine and time. Raises InputError for what is no such frame."""
    do = 'Start from `home.readings(plant, machines="...").to_pandas()`'
    if not isinstance(frame, pd.DataFrame):
        raise InputError("Not a pandas frame", expected="a DataFrame", found=type(frame).__name__, do=do)
    absent = [name for name in ("machine", "time") if name not in frame.columns]
    if absent or (sensors and not set(sensors) & set(frame.columns)):
        some = ", ".join(map(str, frame.columns)) or "none"
        raise InputError(
            "A column is missing", expected=f"machine, time and sensors ({', '.join(sensors)})", found=some, do=do
        )  # fmt: skip
    if frame[["machine", "time"]].isna().any(axis=None):
        raise InputError("A row says no machine or no time", expected="both in every row", found="an empty one", do=do)
    try:
        times = pd.to_datetime(frame["time"], utc=True).astype("datetime64[us, UTC]")
    except (ValueError, TypeError) as error:
        raise InputError("Not a time", expected="times in the column 'time'", found=str(error), do=do) from error
    ordered = frame.assign(machine=frame["machine"].astype(str), time=times).sort_values(["machine", "time"])
    if (twice := ordered.duplicated(["machine", "time"])).any():
        first = ordered[twice].iloc[0]
        raise InputError(
            "A time comes twice", expected="one row a machine and time", found=f"{first['machine']} at {first['time']}",
            do="Drop duplicates first",
        )  # fmt: skip
    micros = ordered["time"].astype("int64").to_numpy()
    columns = {"machine": pa.array(ordered["machine"], pa.string()), "time": pa.array(micros).cast(TIME)}
    for name in sensors:
        columns[name] = _values(ordered, name)
    return pa.table(columns)


def _values(frame: pd.DataFrame, name: str) -> pa.Array:
    if name not in frame:
        return pa.nulls(len(frame), pa.float32())
    try:
        return pa.array(pd.to_numeric(frame[name]).to_numpy("float32", na_value=float("nan")), pa.float32())
    except (ValueError, TypeError) as error:
        raise InputError("Not a number", expected=f"numbers in column {name!r}", found=str(error)) from error


def _flat(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """The served answer with a column a leaf; ``degraded`` as its codes."""
    found: dict[str, Any] = {}
    for name, value in prediction.items():
        if name == "degraded":
            found[name] = ", ".join(cause["code"] for cause in value)
        elif isinstance(value, Mapping):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            found[name] = value
    return found


def _timed(frame: pd.DataFrame) -> pd.DataFrame:
    times = {name: pd.to_datetime(frame[name], utc=True) for name in ("as_of", "data_until") if name in frame}
    return frame.assign(**times)

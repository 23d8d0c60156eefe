"""A plant as frames, for notebooks: parts of its readings, what models see of them, what a study ended with.

The one idea: the same tables and the same gridding as training, with names on the columns. What may be large is a Ray
dataset, what was asked for by machine or time an Arrow table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cluster.added import full_source
from cluster.home import Home
from cluster.logs import context_channels, machine_events
from cluster.registry import bundle_folder, champion
from cluster.storage import TIME, AsOf, read_events, read_machines, read_readings, sensors, to_us
from jobs.candidates import CANDIDATES
from jobs.dataset import plant_channels, series_from_table, training_end_us
from jobs.series.gather import dataset_of, parallelism, plan_units, unit_of
from jobs.series.stream import Shape, stream
from models.errors import InputError, NotFoundError
from models.windows import Channel, MachineEvents, Series


def moment_us(moment: str | datetime | None) -> int | None:
    """ISO 8601 text, a date, or a datetime (pandas' too) in microseconds UTC. Raises InputError."""
    if moment is None:
        return None
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        return to_us(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError("Not a time", expected="ISO 8601 such as 2025-06-01T00:00Z", found=repr(moment)) from error


def readings_part(
    home: Home, plant: str, *, machines: str | Sequence[str] | None, since: str | datetime | None,
    until: str | datetime | None, as_of: AsOf = None,
) -> pa.Table:  # fmt: skip
    """Readings of some machines (all where None) from ``since`` to ``until``, both included, by machine and time.

    Raises NotFoundError for a machine that the plant does not have.
    """
    names = None if machines is None else _known(home, plant, machines)
    return read_readings(
        home, plant, machines=names, since_us=moment_us(since), until_us=moment_us(until), as_of=as_of
    )


def grid_dataset(home: Home, plant: str) -> Any:
    """A Ray dataset: ``machine``, ``time`` and a float32 column a channel, a row a tick."""
    import ray

    shape, channels, known = _shape(home, plant)
    shared = ray.put(known)

    def cut(batch: pa.Table) -> Iterator[pa.Table]:
        (row,) = batch.to_pylist()
        for series in stream(unit_of(row), shape, ray.get(shared)):
            yield _as_rows(series, channels, shape.clock.step_us)

    planned = plan_units(home, plant, shape, parallel=parallelism())
    return dataset_of(planned).map_batches(cut, batch_size=1, batch_format="pyarrow")


def grid_table(home: Home, plant: str, machines: str | Sequence[str]) -> pa.Table:
    """``grid_dataset`` of some machines, read here."""
    names = _known(home, plant, machines)
    shape, channels, known = _shape(home, plant)
    table = read_readings(home, plant, machines=names, sensors=shape.sensors)
    config = home.settings.model
    series = series_from_table(table, known, clock=shape.clock, config=config, channels=shape.context)
    fields = [("machine", pa.string()), ("time", TIME), *((c.name, pa.float32()) for c in channels)]
    empty = pa.schema(fields).empty_table()
    return pa.concat_tables([empty, *(_as_rows(s, channels, shape.clock.step_us) for s in series)])


def candidates_frame(home: Home, plant: str) -> pd.DataFrame:
    """The network and the baselines of the plant's last study, best first. Raises NotFoundError where there is none."""
    listed = bundle_folder(home, plant, "x").parent / CANDIDATES
    best = champion(home, plant)
    if best is None or not listed.is_file():
        raise NotFoundError(
            "No study of this plant", expected="one that has ended", found="none", where=f"plant {plant}",
            do=f'Run `home.launch("tune", plants="{plant}")`',
        )  # fmt: skip
    found = list(json.loads(listed.read_text("utf-8")).values())
    found.sort(key=lambda c: -c["log_likelihood"] if math.isfinite(c["log_likelihood"]) else math.inf)
    keys = ("kind", "version", "log_likelihood", "seconds")
    return pd.DataFrame([{k: c[k] for k in keys} | {"champion": c["version"] == best.version} for c in found])


def _shape(home: Home, plant: str) -> tuple[Shape, tuple[Channel, ...], dict[str, MachineEvents]]:
    """As ``load_plant`` grids the plant for training."""
    source, present = full_source(home, plant), sensors(home, plant)
    known = machine_events(read_events(home, plant), read_machines(home, plant))
    context = context_channels(known, until_us=training_end_us(home, plant))
    shape = Shape(tuple(present), source.clock, home.settings.model.window, context)
    return shape, plant_channels(source, present, context), known


def _as_rows(series: Series, channels: Sequence[Channel], step_us: int) -> pa.Table:
    """The ticks that a series owns, without the lead that only its windows look back on."""
    values = series.values[series.lead :]
    times = (series.ticks[series.lead :] * step_us).astype(np.int64)
    columns = {channel.name: pa.array(values[:, i], pa.float32()) for i, channel in enumerate(channels)}
    return pa.table({"machine": pa.repeat(series.machine, len(values)), "time": pa.array(times).cast(TIME)} | columns)


def _known(home: Home, plant: str, machines: str | Sequence[str]) -> list[str]:
    names = [machines] if isinstance(machines, str) else list(machines)
    there = set(read_machines(home, plant)["machine"].to_pylist())
    if absent := sorted(set(names) - there):
        some = ", ".join(sorted(there)[:5])
        raise NotFoundError(
            "Unknown machine", expected=f"one of the plant's {len(there)} machines ({some}, ...)",
            found=repr(absent[0]), where=f"plant {plant}", do='Run `home.launch("labels")`, which lists them',
        )  # fmt: skip
    return names

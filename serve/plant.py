"""What the service must know of a plant besides its model: names, units, machines and their logs.

The one idea: it is read from the same source description and the same tables as training, and read
again when the tables have a new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.added import Change, changes, full_source
from cluster.home import Home
from cluster.logs import by_machine, machine_events
from cluster.received import Rows, State
from cluster.storage import data_version, read_events, read_machines, read_readings, reading_files, to_us
from cluster.visibility import shown_at
from models.config import Clock
from models.errors import InputError, NotFoundError
from models.quality import Scale, scale_of
from models.source import SensorColumn, SourceDescription
from models.windows import MachineEvents


@dataclass(frozen=True)
class Plant:
    """A plant as the service sees it; replaced as a whole when its tables change."""

    name: str
    clock: Clock
    columns: Mapping[str, SensorColumn]  # raw name or canonical name -> sensor
    events: Mapping[str, MachineEvents]
    types: Mapping[str, str | None]  # machine -> machine type, where one is known
    version: str  # of the data
    changes: tuple[Change, ...] = ()  # sensors that came after the plant was connected
    read_at: tuple[int | None, int] = (None, 0)  # ``mark`` as it was before the plant was read

    def scale(self, name: str, unit: str | None = None) -> Scale | None:
        """How a raw or canonical name is read, in ``unit``; None where no stream has it.

        Raises InputError where the unit is unknown or measures something else.
        """
        column = self.columns.get(name)
        if column is None or unit is None:
            return self._scales.get(name)
        try:
            return scale_of(column, unit)
        except InputError as error:
            raise InputError(
                error.what, expected=error.expected, found=error.found, where=f"units.{name}",
                do="Correct `units` in the request",
            ) from error  # fmt: skip

    @cached_property
    def _scales(self) -> dict[str, Scale]:
        return {name: scale_of(column) for name, column in self.columns.items()}

    def events_of(self, machine: str) -> MachineEvents:
        return self.events.get(machine, MachineEvents())


def mark(home: Home, name: str) -> tuple[int | None, int]:
    """What tells in two looks at files whether a plant may have changed: what is visible of it, and its description."""
    return shown_at(home, name), home.of(name).source.stat().st_mtime_ns


def is_current(home: Home, plant: Plant) -> bool:
    """Whether the plant is as it was read; tables are opened only where files alone cannot say."""
    now = mark(home, plant.name)
    if now != plant.read_at:
        return False
    return now[0] is not None or data_version(home, plant.name) == plant.version


def load_plant(home: Home, name: str) -> Plant:
    """Read the plant's description and logs. Raises InputError."""
    read_at = mark(home, name)
    source: SourceDescription = full_source(home, name)
    events, machines = read_events(home, name), read_machines(home, name)
    types = dict(zip(machines["machine"].to_pylist(), machines["machine_type"].to_pylist(), strict=True))
    return Plant(
        name, source.clock, source.by_raw_name(), machine_events(events, machines), types, data_version(home, name),
        changes(home, name), read_at,
    )  # fmt: skip


def seed_state(home: Home, plant: Plant, state: State, *, span_us: int) -> int:
    """Give the state the tail of history that windows need, once a version of the data, or again for longer windows.

    Returns the rows copied.
    """
    version, _, reach = (state.fact("seeded") or "").partition(" ")
    if not plant.version or (version == plant.version and span_us <= int(reach or 0)):
        return 0
    try:
        last_us = max(file.last_us for file in reading_files(home, plant.name))
    except NotFoundError:
        return 0  # no history yet: windows start with what is sent
    # Two spans hold the whole last window of whatever was heard of within one; the silent are asked for one by one.
    recent = read_readings(home, plant.name, since_us=last_us - 2 * span_us)
    copied, heard = 0, set()
    for machine, own in by_machine(recent):
        if to_us(pc.max(own["time"]).as_py()) > last_us - span_us:
            heard.add(machine)
            copied += _seed_machine(own, state, span_us)
    for machine in sorted(set(plant.types) - heard):
        own = read_readings(home, plant.name, machines=[machine])
        copied += _seed_machine(own, state, span_us) if own.num_rows else 0
    longest = max(span_us, int(reach or 0)) if version == plant.version else span_us
    state.prune(longest)
    state.set_fact("seeded", f"{plant.version} {longest}")
    return copied


def _seed_machine(table: pa.Table, state: State, span_us: int) -> int:
    """Copy the last ``span_us`` of one machine's rows."""
    times = table["time"].cast(pa.int64()).to_numpy()
    keep = times > times.max() - span_us
    sensors = tuple(name for name in table.column_names if name not in ("machine", "time"))
    columns = [table[name].to_numpy(zero_copy_only=False)[keep] for name in sensors]
    values = np.stack(columns, axis=1) if columns else np.empty((int(keep.sum()), 0), np.float32)
    state.seed(Rows(table["machine"].filter(pa.array(keep)).to_pylist(), times[keep], sensors, values))
    return int(keep.sum())

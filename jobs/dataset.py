"""History as series, labels and parts: what training, evaluation and notebooks read.

The one idea: machines are the unit of work. Ray Data shards them over workers, each reads its rows
with pushdown and grids them; windows are cut where they are used and never stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cluster.added import full_source
from cluster.config import SplitSettings
from cluster.home import Home
from cluster.logs import FAR, machine_events, machine_logs
from cluster.places import opened
from cluster.storage import AsOf, data_version, read_events, read_machines, read_readings, reading_files, sensors
from models.config import Clock, ModelConfig
from models.errors import InputError
from models.labels import Labels, MachineLog, booking_delay_us, label_ticks
from models.source import SourceDescription
from models.split import Part, Split, split_by_machine, split_by_time
from models.units import CANONICAL_UNIT
from models.windows import Channel, Float, Int, MachineEvents, Series, channels_of, series_of, windows_ending

if TYPE_CHECKING:
    from models.features import Sequence

MACHINES_A_UNIT = 16


@dataclass(frozen=True)
class PlantData:
    """A plant's gridded history with its logs; ``series`` by machine."""

    plant: str
    clock: Clock
    channels: tuple[Channel, ...]
    series: dict[str, Series]
    events: dict[str, MachineEvents]
    logs: dict[str, MachineLog]
    machine_types: dict[str, str]
    version: str
    doubts: dict[str, str]

    @cached_property
    def first_us(self) -> int:
        return min((s.first_tick + s.lead) * self.clock.step_us for s in self.series.values())

    @cached_property
    def last_us(self) -> int:
        return max(int(s.ticks[-1]) * self.clock.step_us for s in self.series.values())

    def failures(self) -> dict[str, int]:
        """Logged failures a machine."""
        return {machine: len(self.logs.get(machine, MachineLog()).failed_us) for machine in self.series}

    def split_in_time(self, settings: SplitSettings, config: ModelConfig) -> Split:
        gap_us = round(max(config.hazard.horizons.values()) / self.clock.life_per_step) * self.clock.step_us
        # Unseen machines are drawn by what the log held when training ends: later failures must not choose.
        train_end = self.first_us + int((self.last_us - self.first_us) * settings.train_until)
        known = {m: len(self.logs.get(m, MachineLog()).known_at(train_end).failed_us) for m in self.series}
        return split_by_time(
            known, self.first_us, self.last_us, train_until=settings.train_until,
            validate_until=settings.validate_until, unseen_share=settings.unseen_machines, gap_us=gap_us,
            seed=settings.seed,
        )  # fmt: skip

    def split_in_machines(self, settings: SplitSettings, test: frozenset[str]) -> Split:
        return split_by_machine(self.failures(), test, validate_share=settings.unseen_machines, seed=settings.seed)

    def labels(self, machine: str, as_of_us: int, delay_us: int) -> Labels:
        """Labels of every tick of a machine's series, as the log stood at ``as_of_us``."""
        until, log = self.observed_until_us(machine, as_of_us, delay_us), self.logs.get(machine, MachineLog())
        return label_ticks(self.series[machine].ticks, log, self.clock, as_of_us=as_of_us, observed_until_us=until)

    def observed_until_us(self, machine: str, as_of_us: int, delay_us: int) -> int:
        """Until when a machine's outcome counts as known: its last reading, less the bookings still to come."""
        last = int(self.series[machine].ticks[-1]) * self.clock.step_us
        return min(last, as_of_us - delay_us if as_of_us < FAR else last - delay_us)

    def part(self, part: Part, split: Split) -> Iterator[PartOfMachine]:
        """Each machine's ticks of a part, with their labels; machines without any are left out.

        Train and validate see the log as of the part's end. Test sees all of it: it judges, it does not choose.
        """
        as_of = FAR if part == "test" else split.bounds_us[part][1]
        delay = booking_delay_us(list(self.logs.values()), as_of)
        for machine, series in self.series.items():
            owned = split.owns(part, machine, series.ticks * self.clock.step_us)
            owned[: series.lead] = False
            seen = ~np.isnan(series.values[:, : len(self.channels) - _num_context(self.channels)]).all(axis=1)
            if (owned & seen).any():
                labels = self.labels(machine, as_of, delay)
                yield PartOfMachine(machine, series, np.flatnonzero(owned & seen), labels, machine in split.unseen)

    def sequences(self, part: Part, split: Split, window: int) -> list[Sequence]:
        """The part as training sequences, each with ``window - 1`` ticks of context on its left."""
        from models.features import Sequence

        found = []
        for piece in self.part(part, split):
            start, stop = int(piece.rows[0]) - (window - 1), int(piece.rows[-1]) + 1
            usable = np.zeros(stop - start, bool)
            usable[piece.rows - start] = piece.labels.usable[piece.rows]
            found.append(
                Sequence(
                    piece.machine, piece.series.values[start:stop], piece.labels.time[start:stop],
                    piece.labels.event[start:stop], usable,
                )
            )  # fmt: skip
        return found


@dataclass(frozen=True)
class PartOfMachine:
    """The rows of a machine's series that a part owns and that hold a reading; labels for the whole series."""

    machine: str
    series: Series
    rows: Int
    labels: Labels
    unseen: bool

    def windows(self, length: int, rows: Int | None = None) -> Float:
        """[N, W, C], one window for each row."""
        return windows_ending(self.series.values, self.rows if rows is None else rows, length)


def _num_context(channels: tuple[Channel, ...]) -> int:
    return sum(channel.role == "context" for channel in channels)


def plant_channels(source: SourceDescription, present: list[str]) -> tuple[Channel, ...]:
    """Channels of a plant's windows: the sensors that history holds, then context."""
    described = source.sensors()
    kinds = {name: described[name].kind if name in described else "number" for name in present}
    return channels_of([(name, kind, CANONICAL_UNIT[kind]) for name, kind in kinds.items()])


def load_plant(home: Home, plant: str, *, config: ModelConfig | None = None) -> PlantData:
    """Read and grid a plant's whole history with Ray Data. Raises InputError where nothing was ingested."""
    source, config = full_source(home, plant), config or home.settings.model
    present = sensors(home, plant)
    if not present:
        raise InputError(
            "No history", expected="ingested readings", found="none", where=f"plant {plant}",
            do=f"Run `millwright ingest --plant {plant}`",
        )  # fmt: skip
    events, machines = read_events(home, plant), read_machines(home, plant)
    known = machine_events(events, machines)
    series: dict[str, Series] = {}
    for batch in series_dataset(home, plant, config=config).iter_batches(batch_format="pyarrow", batch_size=None):
        for row in batch.to_pylist():
            values = np.frombuffer(row["values"], np.float32).reshape(row["num_ticks"], -1)
            series[row["machine"]] = Series(row["machine"], row["first_tick"], row["lead"], values)
    logs = {machine: _at_once(log) for machine, log in machine_logs(events).items()}
    return PlantData(
        plant, source.clock, plant_channels(source, present), dict(sorted(series.items())), known, logs,
        dict(zip(*(machines[c].to_pylist() for c in ("machine", "machine_type")), strict=True)),
        data_version(home, plant), dict(source.doubts),
    )  # fmt: skip


def _at_once(log: MachineLog) -> MachineLog:
    """Components that fail at one moment are one failure of their machine, repaired when the last of them is."""
    failed, first = np.unique(log.failed_us, return_index=True)
    if len(failed) == len(log.failed_us):
        return log
    repaired, known = np.maximum.reduceat(log.repaired_us, first), np.minimum.reduceat(log.failed_known_us, first)
    return replace(log, failed_us=failed, repaired_us=repaired, failed_known_us=known)


def series_dataset(home: Home, plant: str, *, config: ModelConfig | None = None) -> Any:
    """A Ray dataset, one row a machine: name, ``first_tick``, ``lead``, ``num_ticks``, ``values`` (float32 bytes)."""
    import ray.data

    config = config or home.settings.model
    present = sensors(home, plant)
    known = machine_events(read_events(home, plant), read_machines(home, plant))
    names = _machines(home, plant)
    units = [
        {"machines": names[i : i + MACHINES_A_UNIT]} for i in range(0, len(names), MACHINES_A_UNIT)
    ]  # fmt: skip
    clock = home.source(plant).clock

    def cut(unit: dict[str, Any]) -> list[dict[str, Any]]:
        table = read_readings(home, plant, machines=list(unit["machines"]), sensors=present)
        return [
            {
                "machine": s.machine, "first_tick": s.first_tick, "lead": s.lead, "num_ticks": len(s.values),
                "values": s.values.tobytes(),
            }
            for s in series_from_table(table, known, clock=clock, config=config)
        ]  # fmt: skip

    return ray.data.from_items(units, override_num_blocks=max(1, len(units))).flat_map(cut)


def readings_dataset(home: Home, plant: str, as_of: AsOf = None) -> Any:
    """A Ray dataset over the plant's raw readings."""
    import ray.data

    files, paths = opened([file.path for file in reading_files(home, plant, as_of=as_of)])
    return ray.data.read_parquet(paths, filesystem=files)


def series_from_table(
    table: pa.Table, known: dict[str, MachineEvents], *, clock: Clock, config: ModelConfig
) -> Iterator[Series]:
    """Series of a table of ``machine``, ``time`` and sensors, sorted by machine and time."""
    if table.num_rows == 0:
        return
    names = table["machine"].to_numpy(zero_copy_only=False)
    times = table["time"].cast(pa.int64()).to_numpy()
    columns = [table[c].cast(pa.float32()).to_numpy(zero_copy_only=False) for c in table.column_names[2:]]
    values = np.stack(columns, axis=1)
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    for start, stop in zip(starts, np.r_[starts[1:], len(names)], strict=True):
        machine = str(names[start])
        yield series_of(
            machine, times[start:stop], values[start:stop], known.get(machine, MachineEvents()),
            clock=clock, window=config.window,
        )  # fmt: skip


def named_plants(home: Home, plants: str) -> list[str]:
    """The connected plants that a comma-separated list names. Raises InputError for one that is not."""
    known = home.plants()
    names = known if plants == "all" else [name.strip() for name in plants.split(",") if name.strip()]
    for name in names:
        home.source(name)
    if not names:
        raise InputError(
            "No plant", expected="at least one connected plant", found="none", where=home.path,
            do="Run `millwright connect PATH --plant NAME`",
        )  # fmt: skip
    return names


def _machines(home: Home, plant: str) -> list[str]:
    return sorted(set(read_machines(home, plant)["machine"].to_pylist()))

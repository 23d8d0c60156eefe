"""History as series, labels and parts: what training, evaluation and notebooks read.

The one idea: a history is series on disk (``jobs.series``), mapped where they are used. A part of it is cut out of
them machine by machine for whoever judges, and unit by unit, with labels beside the values, for whoever trains;
windows are cut where they are used and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.added import full_source
from cluster.config import SplitSettings
from cluster.home import Home
from cluster.logs import FAR, context_channels, machine_events, machine_logs, mode_names
from cluster.places import opened
from cluster.storage import AsOf, data_version, read_events, read_machines, reading_files, sensors
from jobs.series.cache import StoredUnit, series_at
from jobs.series.gather import StoredSeries, gather
from jobs.series.sequences import StoredSequence, StoredSequences, store_labels
from jobs.series.stream import Shape
from models.config import Clock, ModelConfig
from models.errors import InputError
from models.features import Sequence
from models.labels import Labels, MachineLog, at_once, booking_delay_us, label_ticks
from models.source import SourceDescription
from models.split import Part, Split, split_by_machine, split_by_time
from models.units import CANONICAL_UNIT
from models.windows import (
    CONTEXT,
    Channel,
    Float,
    Int,
    MachineEvents,
    Series,
    channels_of,
    context_of,
    series_of,
    windows_ending,
)

Spread = Callable[[Callable[[dict[str, Any]], dict[str, Any]], list[dict[str, Any]]], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class PlantData:
    """A plant's gridded history with its logs; ``series`` by machine, mapped from disk where it was loaded."""

    plant: str
    clock: Clock
    channels: tuple[Channel, ...]
    series: Mapping[str, Series]
    events: dict[str, MachineEvents]
    logs: dict[str, MachineLog]
    machine_types: dict[str, str]
    version: str
    doubts: dict[str, str]
    failure_modes: tuple[str, ...] = ()  # as the log names them; labels hold their numbers

    @cached_property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Each machine's first and last tick with a reading."""
        if isinstance(self.series, StoredSeries):
            return self.series.spans
        return {machine: (s.first_tick + s.lead, s.last_tick) for machine, s in self.series.items()}

    @cached_property
    def first_us(self) -> int:
        return min(first for first, _ in self.spans.values()) * self.clock.step_us

    @cached_property
    def last_us(self) -> int:
        return max(last for _, last in self.spans.values()) * self.clock.step_us

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

    def labels(self, series: Series, as_of_us: int, delay_us: int) -> Labels:
        """Labels of every tick of a machine's series, as the log stood at ``as_of_us``."""
        until = self.observed_until_us(series.machine, as_of_us, delay_us)
        log = self.logs.get(series.machine, MachineLog())
        return label_ticks(series.ticks, log, self.clock, as_of_us=as_of_us, observed_until_us=until)

    def observed_until_us(self, machine: str, as_of_us: int, delay_us: int) -> int:
        """Until when a machine's outcome counts as known: its last reading, less the bookings still to come."""
        last = self.spans[machine][1] * self.clock.step_us
        return min(last, as_of_us - delay_us if as_of_us < FAR else last - delay_us)

    def part(self, part: Part, split: Split) -> Iterator[PartOfMachine]:
        """Each machine's ticks of a part, with their labels; machines without any are left out.

        Train and validate see the log as of the part's end. Test sees all of it: it judges, it does not choose.
        """
        seen = self.known_to(part, split)
        found = (self.part_of(series, part, split, seen) for series in self.series.values())
        return (piece for piece in found if piece is not None)

    def known_to(self, part: Part, split: Split) -> tuple[int, int]:
        """As of when a part sees the log, and how late bookings had come by then, both in microseconds."""
        as_of = FAR if part == "test" else split.bounds_us[part][1]
        return as_of, booking_delay_us(list(self.logs.values()), as_of)

    def part_of(self, series: Series, part: Part, split: Split, seen: tuple[int, int]) -> PartOfMachine | None:
        """The ticks of a series, whole or a chunk of it, that belong to a part; None where there are none."""
        owned = split.owns(part, series.machine, series.ticks * self.clock.step_us)
        owned[: series.lead] = False
        if not owned.any():
            return None
        owned &= ~np.isnan(series.values[:, : len(self.channels) - len(context_of(self.channels))]).all(axis=1)
        if not owned.any():
            return None
        labels = self.labels(series, *seen)
        return PartOfMachine(series.machine, series, np.flatnonzero(owned), labels, series.machine in split.unseen)

    def sequences(self, part: Part, split: Split, *, spread: Spread = map) -> StoredSequences:
        """The part as training sequences on disk, labelled by ``spread``'s tasks, a unit each."""
        assert isinstance(self.series, StoredSeries), "only a history on disk is trained on"
        units, seen = self.series.units, self.known_to(part, split)

        def label(item: dict[str, Any]) -> dict[str, Any]:
            unit = units[item["unit"]]
            return {"unit": item["unit"], "places": self._label(unit, part, split, seen)}

        done = list(spread(label, [{"unit": number} for number in range(len(units))]))
        places = [place for row in sorted(done, key=lambda row: row["unit"]) for place in row["places"]]
        return StoredSequences(tuple(sorted(places, key=lambda place: (place.machine, place.first_tick))))

    def _label(self, unit: StoredUnit, part: Part, split: Split, seen: tuple[int, int]) -> list[StoredSequence]:
        found, values = [], unit.values()
        for chunk in unit.chunks:
            piece = self.part_of(series_at(values, chunk), part, split, seen)
            if piece is not None:
                start, history = piece.sequence()
                found.append((chunk.row + start, history))
        return store_labels(unit, found)


@dataclass(frozen=True)
class PartOfMachine:
    """The rows of a machine's series that a part owns and that hold a reading; labels for the whole series."""

    machine: str
    series: Series
    rows: Int
    labels: Labels
    unseen: bool

    def sequence(self) -> tuple[int, Sequence]:
        """The rows as a training sequence, with a window's context on its left, and the row it begins at."""
        start, stop = int(self.rows[0]) - self.series.lead, int(self.rows[-1]) + 1
        usable = np.zeros(stop - start, bool)
        usable[self.rows - start] = self.labels.usable[self.rows]
        return start, Sequence(
            self.machine, self.series.values[start:stop], self.labels.time[start:stop], self.labels.event[start:stop],
            usable, self.series.first_tick + start, self.labels.mode[start:stop], self.labels.ended_by[start:stop],
        )  # fmt: skip

    def windows(self, length: int, rows: Int | None = None) -> Float:
        """[N, W, C], one window for each row."""
        return windows_ending(self.series.values, self.rows if rows is None else rows, length)


def plant_channels(
    source: SourceDescription, present: list[str], context: tuple[Channel, ...] = CONTEXT
) -> tuple[Channel, ...]:
    """Channels of a plant's windows: the sensors that history holds, then context."""
    described = source.sensors()
    kinds = {name: described[name].kind if name in described else "number" for name in present}
    return channels_of([(name, kind, CANONICAL_UNIT[kind]) for name, kind in kinds.items()], context)


def load_plant(
    home: Home, plant: str, *, config: ModelConfig | None = None, context: tuple[Channel, ...] = (),
    by_machine: bool = False,
) -> PlantData:  # fmt: skip
    """Read and grid a plant's whole history with Ray Data. Raises InputError where nothing was ingested.

    ``context`` are the context channels that a model asks for; without any, they are chosen by what the log held when
    the training part ends, or from all of it where test machines and not test time are kept apart (``by_machine``).
    """
    source, config = full_source(home, plant), config or home.settings.model
    if not sensors(home, plant):
        raise InputError(
            "No history", expected="ingested readings", found="none", where=f"plant {plant}",
            do=f"Run `millwright ingest --plant {plant}`",
        )  # fmt: skip
    version = data_version(home, plant)  # one state of all tables, whatever is ingested while they are read
    present = sensors(home, plant, version)
    events, machines = read_events(home, plant, as_of=version), read_machines(home, plant, as_of=version)
    known = machine_events(events, machines)
    if not context:
        context = context_channels(known, until_us=FAR if by_machine else training_end_us(home, plant, version))
    shape = Shape(tuple(present), source.clock, config.window, context)
    series = StoredSeries.of(gather(home, plant, shape, known, as_of=version), known, source.clock, shape.context)
    logs = {machine: at_once(log) for machine, log in machine_logs(events).items()}
    return PlantData(
        plant, source.clock, plant_channels(source, present, shape.context), series, known, logs,
        dict(zip(*(machines[c].to_pylist() for c in ("machine", "machine_type")), strict=True)),
        version, dict(source.doubts), mode_names(events),
    )  # fmt: skip


def training_end_us(home: Home, plant: str, as_of: AsOf = None) -> int:
    """When the training part of a split in time ends, by what the files say of their times: at most a tick early."""
    files = reading_files(home, plant, as_of=as_of)
    first = min(file.first_us for file in files)
    return first + int((max(file.last_us for file in files) - first) * home.settings.split.train_until)


def readings_dataset(home: Home, plant: str, as_of: AsOf = None) -> Any:
    """A Ray dataset over the plant's raw readings."""
    import ray.data

    files, paths = opened([file.path for file in reading_files(home, plant, as_of=as_of)])
    return ray.data.read_parquet(paths, filesystem=files)


def series_from_table(
    table: pa.Table, known: dict[str, MachineEvents], *, clock: Clock, config: ModelConfig,
    channels: tuple[Channel, ...] = CONTEXT,
) -> Iterator[Series]:  # fmt: skip
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
            clock=clock, window=config.window, channels=channels,
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

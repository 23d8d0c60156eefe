"""A plant's history gathered as series on disk: planned by the driver, written by Ray's workers.

The one idea: Ray Data shards the manifest, never the rows. A worker streams its unit into the cache and answers with
where it lies; what is there already is not read again, so epochs, trials and verbs share one reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

from cluster.home import Home
from cluster.manifest import Unit, placed, statistics_of, units
from cluster.storage import AsOf, machine_types, read_machines, visible_table
from jobs.series.cache import Chunk, StoredUnit, num_channels_of, prune, series_at, store, stored, unit_digests
from jobs.series.stream import Shape, joined, open_file, stream
from models.config import Clock
from models.errors import MillwrightError
from models.windows import CONTEXT, Channel, Float, MachineEvents, Series

GIB = 1 << 30


def plan_units(
    home: Home, plant: str, shape: Shape, *, parallel: int, since: int | None = None, until: int | None = None,
    as_of: AsOf = None, whole: bool = False,
) -> list[Unit]:  # fmt: skip
    """The plant's manifest over the readings of ticks in ``(since, until]``, one machine type after the other.

    ``whole``: each machine in one unit, however long it is.
    """
    machines = read_machines(home, plant, as_of=as_of)
    kinds, names = machines["machine_type"].to_pylist(), machines["machine"].to_pylist()
    found: list[Unit] = []
    for kind in machine_types(home, plant, as_of):
        table = visible_table(home, plant, f"readings/{kind}", as_of)
        if table is None:
            continue
        folder = home.table(plant, f"readings/{kind}")
        own = sorted({name for name, of in zip(names, kinds, strict=True) if of == kind} or set(names))
        found += units(
            placed(statistics_of(table), folder), own, machine_type=kind, num_sensors=len(shape.sensors),
            step_us=shape.clock.step_us, overlap=shape.overlap, parallel=parallel, since=since, until=until,
            whole=whole, footer=lambda path: open_file(path).metadata,
        )  # fmt: skip
    return found


def dataset_of(planned: Sequence[Unit], extra: Sequence[Mapping[str, Any]] | None = None) -> Any:
    """The manifest as a Ray dataset, a block a unit."""
    import ray.data

    rows = rows_of(planned, extra)
    return ray.data.from_items(rows, override_num_blocks=max(1, len(rows)))


def rows_of(planned: Sequence[Unit], extra: Sequence[Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The manifest's rows, each with its number and what ``extra`` adds to it."""
    more: Iterable[Mapping[str, Any]] = extra or repeat({}, len(planned))
    return [{"number": n} | vars(unit) | dict(own) for n, (unit, own) in enumerate(zip(planned, more, strict=True))]


def unit_of(row: Mapping[str, Any]) -> Unit:
    """What `dataset_of` made a row of."""
    kept = {name: row[name] for name in Unit.__dataclass_fields__}
    return Unit(**(kept | {"files": tuple(str(path) for path in kept["files"])}))


def gather(
    home: Home, plant: str, shape: Shape, known: Mapping[str, MachineEvents], *, as_of: AsOf = None
) -> list[StoredUnit]:
    """Every unit of the plant's history as a file of the cache; what is missing is read by Ray's workers.

    Raises MillwrightError where this process does not see what they have written.
    """
    import ray

    planned = plan_units(home, plant, shape, parallel=parallelism(), as_of=as_of)
    folder = home.of(plant).cache
    digests = unit_digests(planned, shape, known)
    missing = [n for n, digest in enumerate(digests) if stored(folder, digest) is None]
    if missing:
        shared, place = ray.put(dict(known)), str(folder)

        def write(row: dict[str, Any]) -> dict[str, Any]:
            series = stream(unit_of(row), shape, ray.get(shared))
            store(Path(place), row["digest"], series, num_channels=num_channels_of(shape))
            return {"number": row["number"]}

        rows = dataset_of([planned[n] for n in missing], [{"digest": digests[n]} for n in missing])
        rows.map(write).take_all()
    found = [unit for digest in digests if (unit := stored(folder, digest)) is not None]
    if len(found) < len(digests):
        raise MillwrightError(
            "Units of the history are missing from the cache", expected=f"{len(digests)} that workers have written",
            found=len(found), where=folder, do="Use a home that every node sees, then run it again",
        )  # fmt: skip
    prune(folder, most_bytes=round(home.settings.history.cache_gb * GIB))
    return found


def parallelism() -> int:
    """Units that keep every core busy to the end: some are slower than others."""
    import ray

    return 4 * max(1, int(ray.cluster_resources().get("CPU", 1)))


@dataclass(frozen=True)
class StoredSeries(Mapping[str, Series]):
    """A plant's series by machine, mapped when they are asked for; one that spans units is laid end to end then."""

    units: tuple[StoredUnit, ...]
    events: Mapping[str, MachineEvents]
    clock: Clock
    context: tuple[Channel, ...] = CONTEXT

    @classmethod
    def of(
        cls, units: Iterable[StoredUnit], events: Mapping[str, MachineEvents], clock: Clock,
        context: tuple[Channel, ...] = CONTEXT,
    ) -> StoredSeries:  # fmt: skip
        return cls(tuple(units), events, clock, context)

    @cached_property
    def places(self) -> dict[str, list[tuple[int, Chunk]]]:
        """Each machine's chunks, with the number of their unit, in the order of time."""
        found: dict[str, list[tuple[int, Chunk]]] = {}
        for number, unit in enumerate(self.units):
            for chunk in unit.chunks:
                found.setdefault(chunk.machine, []).append((number, chunk))
        for own in found.values():
            own.sort(key=lambda entry: entry[1].first_own)
        return dict(sorted(found.items()))

    @cached_property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Each machine's first and last tick with a reading."""
        return {m: (own[0][1].first_own, max(chunk.last_tick for _, chunk in own)) for m, own in self.places.items()}

    def __getitem__(self, machine: str) -> Series:
        maps: dict[int, Float] = {}
        parts = []
        for number, chunk in self.places[machine]:
            if number not in maps:
                maps[number] = self.units[number].values()
            parts.append(series_at(maps[number], chunk))
        return joined(parts, self.events.get(machine, MachineEvents()), self.clock, self.context)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __reduce__(self) -> tuple[type[StoredSeries], tuple[Any, ...]]:
        return StoredSeries, (self.units, self.events, self.clock, self.context)

"""Reading history: the Delta tables of a plant, pruned by their own statistics.

The one idea: a batch is visible when *every* table has it. ``ingest`` then names each table's version
in ``visible.json``, and every reader opens exactly these versions, so that nobody trains on a half
of a batch. A table that is not named there (the journal, or a lake from elsewhere) is read at its newest.
Every read may be ``as_of`` an earlier batch, time or data version (see ``cluster/visibility.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.commit import WrittenFile, append_once, folder_of, open_table
from cluster.durability import delta
from cluster.home import Home
from cluster.places import Place, gone, read_parquet, reference, references, tables_below
from cluster.visibility import AsOf, show_versions, visible_versions
from models.errors import MillwrightError, NotFoundError

__all__ = [
    "BOOKKEEPING", "EVENTS", "MACHINES", "QUARANTINE", "TIME", "AsOf", "ReadingFile", "append_once", "data_version",
    "files_of", "is_ingested", "machine_types", "read_events", "read_machines", "read_quarantine", "read_readings",
    "read_whole", "reading_files", "readings_schema", "sensors", "show_versions", "to_us", "visible_table",
    "visible_versions", "written_files",
]  # fmt: skip

TIME = pa.timestamp("us", "UTC")
BOOKKEEPING = ("machine", "time", "month", "ingested_at", "source_id")  # columns of readings that are no sensor
EVENTS = pa.schema(
    [
        ("event_id", pa.string()), ("machine", pa.string()), ("component", pa.string()), ("failure_mode", pa.string()),
        ("kind", pa.string()), ("code", pa.string()), ("started_at", TIME), ("ended_at", TIME), ("recorded_at", TIME),
        ("trigger", pa.string()), ("effect", pa.string()), ("finding", pa.string()), ("downtime_h", pa.float64()),
        ("cost", pa.float64()), ("external_id", pa.string()), ("source_id", pa.string()),
    ]
)  # fmt: skip
MACHINES = pa.schema(
    [
        ("machine", pa.string()), ("machine_type", pa.string()), ("functional_location", pa.string()),
        ("equipment", pa.string()), ("criticality", pa.string()), ("valid_from", TIME), ("valid_to", TIME),
        ("inferred", pa.bool_()), ("source_id", pa.string()),  # inferred: `valid_from` is known from readings only
    ]
)  # fmt: skip
QUARANTINE = pa.schema(
    [
        ("raw", pa.string()), ("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()),
        ("detail", pa.string()), ("time", TIME), ("stream", pa.string()), ("source_id", pa.string()),
    ]
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EVER = 2**62
_LAST_NAME = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class ReadingFile:
    """A data file of a readings table and what its statistics say is in it; ``path`` is absolute, or a reference."""

    path: str
    machine_type: str
    num_rows: int
    size_bytes: int
    first_machine: str
    last_machine: str
    first_us: int
    last_us: int


def readings_schema(sensors: Iterable[str]) -> pa.Schema:
    """Columns of a readings table, the partition column last."""
    fields = [("machine", pa.string()), ("time", TIME), *((name, pa.float32()) for name in sensors)]
    return pa.schema([*fields, ("ingested_at", TIME), ("source_id", pa.string()), ("month", pa.string())])


def machine_types(home: Home, plant: str, as_of: AsOf = None) -> list[str]:
    """Machine types that have a readings table, sorted."""
    visible = visible_versions(home, plant, as_of)
    if visible is not None:
        return sorted(name.removeprefix("readings/") for name in visible if name.startswith("readings/"))
    return tables_below(home.table(plant, "readings"))


def is_ingested(name: str) -> bool:
    """Whether `ingest` writes that table."""
    return name.startswith("readings/") or name in ("events", "machines", "quarantine")


def visible_table(home: Home, plant: str, name: str, as_of: AsOf = None) -> DeltaTable | None:
    """The table at the version that readers see, or None where there is none.

    Raises NotFoundError where the version that is asked for exists no more.
    """
    versions = visible_versions(home, plant, as_of)
    path = home.table(plant, name)
    if versions is None or not is_ingested(name):
        return open_table(path)
    # A table that an unfinished batch has just made is not visible yet.
    if name not in versions:
        return None
    try:
        return delta(path, versions[name])
    except DeltaError as error:
        if as_of is None:
            raise MillwrightError(
                "History is gone, or older than it was", expected=f"{name} at version {versions[name]}",
                found="no such version", where=path,
                do="Mount the store again or put it back from a backup, then run the command again",
            ) from error  # fmt: skip
        raise _gone(name, versions[name], path) from error


def data_version(home: Home, plant: str, as_of: AsOf = None) -> str:
    """Names what a reader sees, so that it can be read again: ``readings/pump@3,events@2,machines@1``."""
    names = [*(f"readings/{kind}" for kind in machine_types(home, plant, as_of)), "events", "machines"]
    tables = {name: visible_table(home, plant, name, as_of) for name in names}
    return ",".join(f"{name}@{table.version()}" for name, table in tables.items() if table is not None)


def sensors(home: Home, plant: str, as_of: AsOf = None) -> list[str]:
    """Sensor columns over the plant's readings tables, sorted."""
    found: set[str] = set()
    for kind in machine_types(home, plant, as_of):
        table = visible_table(home, plant, f"readings/{kind}", as_of)
        found |= {f.name for f in table.schema().fields} if table else set()
    return sorted(found - set(BOOKKEEPING))


def read_events(home: Home, plant: str, *, as_of: AsOf = None) -> pa.Table:
    """Every event, sorted by ``started_at``, machine and id; an empty table where there is none."""
    return _whole(home, plant, "events", EVENTS, ("started_at", "machine", "event_id"), as_of=as_of)


def read_machines(home: Home, plant: str, *, as_of: AsOf = None) -> pa.Table:
    """Every installation of every machine, sorted by machine and ``valid_from``."""
    return _whole(home, plant, "machines", MACHINES, ("machine", "valid_from"), as_of=as_of)


def read_quarantine(home: Home, plant: str, *, as_of: AsOf = None) -> pa.Table:
    """What was refused, sorted by batch, file and line."""
    return _whole(home, plant, "quarantine", QUARANTINE, ("source_id", "file", "line"), as_of=as_of)


def reading_files(home: Home, plant: str, *, as_of: AsOf = None) -> list[ReadingFile]:
    """Data files of every readings table, sorted by machine type, first machine and first time.

    Raises NotFoundError where the plant has no readings, or where retention has removed these files.
    """
    found: list[ReadingFile] = []
    for kind in machine_types(home, plant, as_of):
        name = f"readings/{kind}"
        table = visible_table(home, plant, name, as_of)
        files = files_of(table, kind, home.table(plant, name)) if table else []
        if table and as_of is not None and gone([file.path for file in files]):
            raise _gone(name, table.version(), home.table(plant, name))
        found += files
    if not found:
        raise NotFoundError(
            "No readings yet", expected="at least one ingested file", found="none", where=f"plant {plant}",
            do=f"Run `millwright ingest --plant {plant}`" if as_of is None else "Ask for a later time or version",
        )  # fmt: skip
    return sorted(found, key=lambda f: (f.machine_type, f.first_machine, f.first_us, f.path))


def read_readings(
    home: Home,
    plant: str,
    *,
    machines: Sequence[str] | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
    sensors: Sequence[str] | None = None,
    as_of: AsOf = None,
) -> pa.Table:
    """``machine``, ``time`` and sensors (float32, null where there is no value), sorted by machine and time.

    Both ends of the time range are inclusive. Only files and row groups that can hold such rows are read.
    Without ``sensors`` every sensor of the plant; one that the plant does not have is a column of nulls.
    """
    names = list(sensors) if sensors is not None else _all_sensors(home, plant, as_of)
    schema = pa.schema([("machine", pa.string()), ("time", TIME), *((name, pa.float32()) for name in names)])
    paths = [
        file.path
        for file in reading_files(home, plant, as_of=as_of)
        if (machines is None or any(file.first_machine <= m <= file.last_machine for m in machines))
        and (since_us is None or file.last_us >= since_us)
        and (until_us is None or file.first_us <= until_us)
    ]
    condition = ds.scalar(True)
    if machines is not None:
        condition &= ds.field("machine").isin(pa.array(sorted(set(machines)), pa.string()))
    if since_us is not None:
        condition &= ds.field("time") >= pa.scalar(since_us, TIME)
    if until_us is not None:
        condition &= ds.field("time") <= pa.scalar(until_us, TIME)
    if not paths:
        return schema.empty_table()
    found = read_parquet(paths, schema, filter=condition)
    return found.take(pc.sort_indices(found, sort_keys=[("machine", "ascending"), ("time", "ascending")]))


def files_of(table: DeltaTable, machine_type: str, folder: Place) -> list[ReadingFile]:
    """The files of one readings table. A file without statistics may hold anything."""
    found = pa.table(table.get_add_actions(flatten=True))
    names = found.column_names
    first, last = (
        _shared(pc.fill_null(found[name].cast(pa.string()), missing)) if name in names else repeat(missing)
        for name, missing in (("min.machine", ""), ("max.machine", _LAST_NAME))
    )
    since, until = (
        pc.fill_null(found[name].cast(TIME).cast(pa.int64()), missing).to_pylist() if name in names else repeat(missing)
        for name, missing in (("min.time", -_EVER), ("max.time", _EVER))
    )
    paths = references(folder, (unquote(path) for path in found["path"].to_pylist()))
    rows = pc.fill_null(found["num_records"], 0).to_pylist()
    sizes = found["size_bytes"].to_pylist()
    return list(map(ReadingFile, paths, repeat(machine_type), rows, sizes, first, last, since, until))


def written_files(table: DeltaTable) -> list[WrittenFile]:
    """The files of any table as a transaction would remove them; those of one partition share its dictionary."""
    found = pa.table(table.get_add_actions(flatten=True))
    names = table.metadata().partition_columns
    cells = [_shared(found[f"partition.{name}"].cast(pa.string())) for name in names]
    values = list(zip(*cells, strict=True)) if names else [()] * found.num_rows
    partitions = {value: dict(zip(names, value, strict=True)) for value in set(values)}
    paths, sizes = found["path"].to_pylist(), found["size_bytes"].to_pylist()
    rows = pc.fill_null(found["num_records"], 0).to_pylist()
    return [
        WrittenFile(path, size, num, partitions[value], "")
        for path, size, num, value in zip(paths, sizes, rows, values, strict=True)
    ]


def _shared(column: pa.ChunkedArray) -> list[str | None]:
    """Text that repeats, each different one held once."""
    encoded = column.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    return [None if code is None else words[code] for code in encoded.indices.to_pylist()]


def read_whole(table: DeltaTable, schema: pa.Schema) -> pa.Table:
    """Every row of a small table in the columns of ``schema``."""
    folder = folder_of(table)
    paths = [reference(folder / unquote(file.path)) for file in written_files(table)]
    return read_parquet(paths, schema) if paths else schema.empty_table()


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def _all_sensors(home: Home, plant: str, as_of: AsOf) -> list[str]:
    return sensors(home, plant, as_of)


def _whole(home: Home, plant: str, name: str, schema: pa.Schema, order: Sequence[str], *, as_of: AsOf) -> pa.Table:
    table = visible_table(home, plant, name, as_of)
    try:
        found = read_whole(table, schema) if table is not None else schema.empty_table()
    except FileNotFoundError as error:
        if as_of is None or table is None:
            raise
        raise _gone(name, table.version(), home.table(plant, name)) from error
    return found.sort_by([(column, "ascending") for column in order])


def _gone(name: str, version: int, path: Place) -> NotFoundError:
    return NotFoundError(
        f"Version {version} of {name} can no longer be read", expected="its files and its log",
        found="they were removed by retention", where=path, do="Ask for a later version (`millwright history`)",
    )  # fmt: skip

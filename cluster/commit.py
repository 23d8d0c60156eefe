"""Writing Delta tables: files first, then one transaction a table that happens once.

The one idea: Parquet files in a table's folder mean nothing until a transaction names them. So tasks
write files wherever and however often they like, and the driver's single commit, marked with its
application id and version, is the only moment at which anything changes. Delta itself does not
de-duplicate application transactions: `commit_once` looks before it commits, and a second writer with
the same id between the look and the commit makes Delta refuse the commit.

What `commit_once` has returned from survives power loss (`cluster.durability`): the files are on disk
before the commit, the commit itself before it returns.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from cluster.durability import HOOKS, Table, delta, drop_torn, mend, plainly, settle
from cluster.files import flush
from cluster.places import Place, Remote
from cluster.stores import reaching
from models.errors import MillwrightError

STATISTICS = ("machine", "time", "started_at", "valid_from", "as_of")  # columns whose minimum and maximum are kept
ROW_GROUP = 65_536  # smaller is no slower to read, and a unit of a tenth of a file reads a tenth
PARQUET: Mapping[str, Any] = {"compression": "zstd", "compression_level": 1}  # chosen by measurement
RETRIES = 10


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file that lies in a table's folder; ``path`` is relative to it."""

    path: str
    size: int
    rows: int
    partition: dict[str, str | None]
    statistics: str

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def open_table(path: Place) -> DeltaTable | None:
    """The table at its newest version, or None where there is none.

    Raises OSError where the disk gives way, MillwrightError where the table's log cannot be read.
    """
    if isinstance(path, Path) and not (path / "_delta_log").is_dir():
        return None
    with plainly(path):
        try:
            return delta(path)
        except TableNotFoundError:
            return None
        except DeltaError:
            if not drop_torn(path):
                raise
        return delta(path) if isinstance(path, Path) and any((path / "_delta_log").glob("*.json")) else None


def open_or_create(path: Place, schema: pa.Schema, *, partition_by: Sequence[str] = ()) -> DeltaTable:
    """The table with at least the columns of ``schema``; both steps may be repeated and raced."""
    mend(path)
    table = open_table(path)
    with plainly(path):
        if table is None:
            table = _created(path, schema, partition_by)
        for _ in range(RETRIES):
            table = delta(path)
            known = {field.name for field in table.schema().fields}
            missing = [f for f in Schema.from_arrow(schema).fields if f.name not in known]
            if not missing:
                return table
            fields = [Field(f.name, f.type, nullable=True) for f in missing]
            before = table.version()
            try:
                table.alter.add_columns(fields, post_commithook_properties=HOOKS)
            except CommitFailedError:
                continue
            settle(path, after=before)
    raise MillwrightError("Could not add columns", expected="no other writer", where=path, do="Run it again")


def _created(path: Place, schema: pa.Schema, partition_by: Sequence[str]) -> DeltaTable:
    new = [] if isinstance(path, Remote) else [folder for folder in (path, *path.parents) if not folder.exists()]
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)
    kept = ",".join(name for name in STATISTICS if name in schema.names)
    table = DeltaTable.create(
        str(path), Schema.from_arrow(schema), mode="ignore", partition_by=list(partition_by),
        configuration={"delta.dataSkippingStatsColumns": kept} if kept else None, post_commithook_properties=HOOKS,
        storage_options=path.options if isinstance(path, Remote) else None,
    )  # fmt: skip
    if isinstance(path, Remote):
        return table
    settle(path, after=-1)
    flush(folder.parent for folder in (path / "_delta_log", *new))
    return table


def is_committed(path: Place, app_id: str, version: int = 1) -> bool:
    """Whether the table already holds that application transaction."""
    table = open_table(path)
    return table is not None and (table.transaction_version(app_id) or 0) >= version


def write_part(folder: Place, table: pa.Table, *, stem: str, partition: Mapping[str, str] | None = None) -> WrittenFile:
    """Write ``table`` as one zstd Parquet file below ``folder``, on disk before this returns.

    The name is new at every call: an earlier attempt's file is never overwritten, only never named.
    """
    partition = dict(partition or {})
    values: dict[str, str | None] = {**partition}
    sub = "/".join(f"{key}={value}" for key, value in partition.items())
    path = f"{sub}/{stem}-{uuid.uuid4().hex[:12]}.parquet" if sub else f"{stem}-{uuid.uuid4().hex[:12]}.parquet"
    target = folder / path
    kept = [name for name in STATISTICS if name in table.column_names]
    if isinstance(target, Remote):
        with reaching(target), target.filesystem.open_output_stream(target.inner) as stream:
            _write(table, stream, partition, kept)
            size = stream.tell()
        return WrittenFile(path, size, table.num_rows, values, _statistics(table, kept))
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        _write(table, file, partition, kept)
        file.flush()
        os.fsync(file.fileno())
    return WrittenFile(path, target.stat().st_size, table.num_rows, values, _statistics(table, kept))


def _write(table: pa.Table, file: Any, partition: Mapping[str, str], kept: Sequence[str]) -> None:
    pq.write_table(
        table.drop_columns([c for c in partition if c in table.column_names]), file, **PARQUET,
        row_group_size=ROW_GROUP, write_statistics=kept or False,
        use_dictionary=[f.name for f in table.schema if pa.types.is_string(f.type)] or False,
    )  # fmt: skip


def commit_once(
    table: DeltaTable,
    add: Sequence[WrittenFile],
    *,
    app_id: str,
    version: int = 1,
    remove: Sequence[WrittenFile] = (),
    serial: tuple[str, int] | None = None,
    also: Mapping[str, int] | None = None,
    metadata: Mapping[str, str] | None = None,
    data_change: bool = True,
) -> bool:
    """Add and remove files in one transaction, unless ``app_id`` did so before (then False).

    ``table`` is the version that ``add`` was computed from. Raises CommitFailedError where another
    writer has removed one of those files since, or has committed under the same ``app_id`` or the same
    name in ``serial``: writers that share a serial name can never both build on one version. ``also`` are further
    application transactions that ``add`` belongs to, with their versions.
    """
    path = folder_of(table)
    if is_committed(path, app_id, version):
        return False
    now = int(datetime.now(UTC).timestamp() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(f.path, f.size, f.partition, now, data_change, f.statistics) for f in add
    ]
    actions += [RemoveAction(f.path, data_change, now, f.size, f.partition) for f in remove]
    transactions = [Transaction(*entry) for entry in ((app_id, version), *((serial,) if serial else ()))]
    transactions += [Transaction(*entry) for entry in (also or {}).items()]
    before = table.version()
    if isinstance(path, Path):
        flush({path, *((path / unquote(f.path)).parent for f in add)} if add else ())
    with plainly(path):
        table.create_write_transaction(
            actions, "append", table.schema(), table.metadata().partition_columns,
            commit_properties=CommitProperties(app_transactions=transactions, custom_metadata=dict(metadata or {})),
            post_commithook_properties=HOOKS,
        )  # fmt: skip
        settle(path, after=before)
    return True


def append_once(table_path: Place, table: pa.Table, *, app_id: str, version: int) -> bool:
    """Append ``table`` exactly once, whoever repeats or races it; False where it was there already.

    Versions of an ``app_id`` only grow. Creates the table, and adds its new columns first.
    """
    schema = table.schema
    for _ in range(RETRIES):
        newest = open_or_create(table_path, schema)
        if (newest.transaction_version(app_id) or 0) >= version:
            return False
        # In the table's own types and order, with nulls for what this batch does not have.
        whole = _conform(table, pa.schema(newest.schema().to_arrow()))
        written = write_part(table_path, whole, stem="append")
        try:
            return commit_once(newest, [written], app_id=app_id, version=version)
        except CommitFailedError:
            (table_path / written.path).unlink(missing_ok=True)
    raise MillwrightError("Could not append", expected="a table that others leave alone", where=table_path)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in schema
    ]
    return pa.table(columns, schema=schema)


def _statistics(table: pa.Table, kept: Sequence[str]) -> str:
    low: dict[str, str] = {}
    high: dict[str, str] = {}
    nulls = {name: table[name].null_count for name in kept}
    for name in kept:
        extremes = pc.min_max(table[name]).as_py()
        if extremes["min"] is not None:
            low[name], high[name] = _text(extremes["min"]), _text(extremes["max"])
    return json.dumps({"numRecords": table.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls})


def _text(value: Any) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z" if isinstance(value, datetime) else str(value)


def commit_info(path: Place, version: int) -> dict[str, Any]:
    """What a version's commit says of itself; nothing where its entry of the log is gone.

    ``DeltaTable.history`` numbers its entries wrongly where another writer has gone on since the table was opened.
    """
    entry = path / "_delta_log" / f"{version:020}.json"
    lines = entry.read_text("utf-8").splitlines() if entry.is_file() else []
    return next((found["commitInfo"] for found in map(json.loads, lines) if "commitInfo" in found), {})


def folder_of(table: DeltaTable) -> Place:
    """Where a table lies; a local one's address writes blanks and the like as %20."""
    if isinstance(table, Table):
        return table.place
    return Path(unquote(table.table_uri.removeprefix("file://")))

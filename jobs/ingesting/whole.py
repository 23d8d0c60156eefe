"""Which version of each table belongs to a whole history: for readers the last one, for a batch the one to build on.

The one idea: a batch commits the quarantine table last, so a batch that is there is everywhere. What is
committed beyond the last such batch is a part of one, and stays hidden until it is whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable

from cluster.commit import commit_info, open_or_create, open_table
from cluster.durability import delta
from cluster.home import Home
from cluster.places import tables_below
from cluster.storage import visible_versions
from models.errors import MillwrightError


def complete_tables(home: Home, plant: str) -> dict[str, DeltaTable]:
    """Every table with the newest batch that every table has, and without any later one's part."""
    quarantine = open_table(home.table(plant, "quarantine"))  # the last that a batch commits
    visible = visible_versions(home, plant) or {}
    names = ["events", "machines", "quarantine"]
    names += [f"readings/{kind}" for kind in tables_below(home.table(plant, "readings"))]
    found: dict[str, DeltaTable] = {}
    for name in names:
        table = open_table(home.table(plant, name))
        if table is None:
            continue
        shown, version = visible.get(name, 0), table.version()
        for number in range(version, shown, -1):
            batch = commit_info(home.table(plant, name), number).get("millwright.batch")
            if batch and quarantine and quarantine.transaction_version(batch):
                break
            version = number - 1 if batch else version
        if version > 0:  # else it has only been made
            found[name] = table if version == table.version() else delta(home.table(plant, name), version)
    return found


def table_to_build_on(
    home: Home, plant: str, name: str, schema: pa.Schema, *, partition_by: Sequence[str] = ()
) -> DeltaTable:
    """The table to build on. Raises MillwrightError where it is not the one that readers have seen."""
    path, shown = home.table(plant, name), (visible_versions(home, plant) or {}).get(name)
    if shown is not None:
        table = open_table(path)
        if table is None or table.version() < shown:
            raise MillwrightError(
                "History is gone, or older than it was", expected=f"{name} at version {shown} or later",
                found="no table" if table is None else f"version {table.version()}", where=path,
                do="Mount the store again or put it back from a backup, then run `millwright ingest` again",
            )  # fmt: skip
    return open_or_create(path, schema, partition_by=partition_by)

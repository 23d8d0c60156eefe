"""The journal as tests look at it: whole."""

from __future__ import annotations

from cluster.commit import open_table
from cluster.home import Home
from cluster.predictions import TABLE


def journal_ids(home: Home, plant: str) -> list[str]:
    """The id of every row, sorted: one that comes twice is there twice."""
    table = open_table(home.table(plant, TABLE))
    if table is None:
        return []
    return sorted(table.to_pyarrow_dataset().to_table(columns=["prediction_id"])["prediction_id"].to_pylist())

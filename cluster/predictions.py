"""The journal's table: every prediction once, whether the service or a batch made it.

The one idea: a prediction is known by its id, which follows from model, window and time; asking the
same question again adds no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa

from cluster.home import Home

TABLE = "predictions"
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()), ("plant", pa.string()), ("machine", pa.string()), ("as_of", _TIME),
        ("data_until", _TIME), ("model_name", pa.string()), ("model_version", pa.string()),
        ("failure_probability", pa.string()), ("remaining_useful_life", pa.string()), ("degraded", pa.string()),
        ("predicted_at", _TIME), ("source", pa.string()),
    ]
)  # fmt: skip


def as_table(items: Iterable[tuple[str, Mapping[str, Any], int]], *, source: str) -> pa.Table:
    """Rows of (plant, prediction as served, microseconds UTC when it was made)."""
    rows = [
        {
            "prediction_id": p["prediction_id"], "plant": plant, "machine": p["machine"],
            "as_of": datetime.fromisoformat(p["as_of"]), "data_until": datetime.fromisoformat(p["data_until"]),
            "model_name": p["model"]["name"], "model_version": p["model"]["version"],
            "failure_probability": orjson.dumps(p["failure_probability"]).decode(),
            "remaining_useful_life": orjson.dumps(p["remaining_useful_life"]).decode(),
            "degraded": orjson.dumps([cause["code"] for cause in p["degraded"]]).decode(),
            "predicted_at": predicted_us, "source": source,
        }
        for plant, p, predicted_us in items
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def append_predictions(home: Home, plant: str, rows: pa.Table, *, app_id: str, version: int) -> bool:
    """Append to the plant's journal, exactly once an ``app_id`` and version."""
    from cluster.commit import append_once  # Delta is loaded by the first write, not by the first request

    return append_once(home.table(plant, TABLE), rows, app_id=app_id, version=version)


def known_ids(home: Home, plant: str) -> set[str]:
    """Ids of the predictions that the journal holds."""
    from cluster.commit import open_table

    table = open_table(home.table(plant, TABLE))
    if table is None:
        return set()
    ids = table.to_pyarrow_dataset().to_table(columns=["prediction_id"])["prediction_id"]
    return set(ids.to_pylist())

"""The journal's table: every prediction once, whether the service or a batch made it.

The one idea: a prediction is known by its id, which follows from model, window and time; asking the
same question again adds no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from cluster.home import Home
from cluster.manifest import Unit
from cluster.places import read_parquet, references
from cluster.storage import to_us

TABLE = "predictions"
_TIME = pa.timestamp("us", "UTC")
# An id holds ``data_until``, which is ``as_of`` in a batch: ``as_of`` in the table is one of a prediction's own times
# (but for the rounding of statistics). A day around it made each write of a plant at 1 Hz read a day's ids.
_AROUND = timedelta(seconds=1)
SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()), ("plant", pa.string()), ("machine", pa.string()), ("as_of", _TIME),
        ("data_until", _TIME), ("model_name", pa.string()), ("model_version", pa.string()),
        ("failure_probability", pa.string()), ("remaining_useful_life", pa.string()), ("degraded", pa.string()),
        ("predicted_at", _TIME), ("source", pa.string()),
        ("failure_modes", pa.string()),
    ]
)  # fmt: skip


def as_table(items: Iterable[tuple[str, Mapping[str, Any], int]], *, source: str) -> pa.Table:
    """Rows of (plant, prediction as served, microseconds UTC when it was made); its own ``source`` goes before ours."""
    rows = [
        {
            "prediction_id": p["prediction_id"], "plant": plant, "machine": p["machine"],
            "as_of": datetime.fromisoformat(p["as_of"]), "data_until": datetime.fromisoformat(p["data_until"]),
            "model_name": p["model"]["name"], "model_version": p["model"]["version"],
            "failure_probability": orjson.dumps(p["failure_probability"]).decode(),
            "remaining_useful_life": orjson.dumps(p["remaining_useful_life"]).decode(),
            "degraded": orjson.dumps([cause["code"] for cause in p["degraded"]]).decode(),
            "predicted_at": predicted_us, "source": p.get("source", source),
            "failure_modes": orjson.dumps(p["failure_modes"]).decode(),
        }
        for plant, p, predicted_us in items
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def append_predictions(home: Home, plant: str, rows: pa.Table, *, app_id: str, version: int) -> bool:
    """Append to the plant's journal, exactly once an ``app_id`` and version."""
    from cluster.commit import append_once  # Delta is loaded by the first write, not by the first request

    return append_once(home.table(plant, TABLE), rows, app_id=app_id, version=version)


@dataclass(frozen=True)
class Existing:
    """Files of the journal that may hold answers with ``as_of`` between two times (us, inclusive)."""

    files: tuple[str, ...] = ()
    first_us: int = 0
    last_us: int = 0


class JournalFiles:
    """The journal as it stands: which of its files may hold a unit's answers, by their statistics."""

    def __init__(self, home: Home, plant: str) -> None:
        from cluster.commit import open_table

        self._folder, table = home.table(plant, TABLE), open_table(home.table(plant, TABLE))
        self._files = pa.table(table.get_add_actions(flatten=True)) if table is not None else None
        self._machines: tuple[str | None, str | None] = (None, None)
        self._own = self._files

    def meeting(self, unit: Unit, first_us: int, last_us: int) -> Existing:
        """The files for a unit's machines; one without statistics may hold any. Fast where units come by machine."""
        if self._files is None or self._own is None:
            return Existing((), first_us, last_us)
        if self._machines != (unit.low, unit.high):
            self._machines = (unit.low, unit.high)
            self._own = _may_hold(self._files, "machine", unit.low, unit.high, open_end=True)
        own = _may_hold(self._own, "as_of", pa.scalar(first_us, _TIME), pa.scalar(last_us, _TIME))
        paths = (unquote(path) for path in own["path"].to_pylist())
        return Existing(tuple(references(self._folder, paths)), first_us, last_us)


def _may_hold(files: pa.Table, column: str, low: Any, high: Any, *, open_end: bool = False) -> pa.Table:
    """The files whose statistics of a column meet ``[low, high]``, or ``[low, high)``; None is no bound."""
    for name, bound, holds in (
        (f"max.{column}", low, pc.greater_equal), (f"min.{column}", high, pc.less if open_end else pc.less_equal)
    ):  # fmt: skip
        if bound is not None and name in files.column_names:
            found = files[name] if isinstance(bound, str) else files[name].cast(_TIME)
            files = files.filter(pc.fill_null(holds(found, bound), True))
    return files


def ids_in(journal: Existing, unit: Unit, model_version: str) -> pa.ChunkedArray | None:
    """Ids of a model's answers for the unit's machines and times; None where there can be none."""
    return _column("prediction_id", journal, unit, model_version) if journal.files else None


def machines_in(journal: Existing, unit: Unit, model_version: str) -> set[str]:
    """The unit's machines that a model has answered for."""
    found = _column("machine", journal, unit, model_version) if journal.files else None
    return set() if found is None else set(found.unique().to_pylist())


def _column(name: str, journal: Existing, unit: Unit, model_version: str) -> pa.ChunkedArray:
    import pyarrow.dataset as ds  # not with the service's start

    keep = ds.field("model_version") == model_version
    keep &= ds.field("as_of") >= pa.scalar(journal.first_us, _TIME)
    keep &= ds.field("as_of") <= pa.scalar(journal.last_us, _TIME)
    if unit.low is not None:
        keep &= ds.field("machine") >= unit.low
    if unit.high is not None:
        keep &= ds.field("machine") < unit.high
    found = read_parquet(journal.files, SCHEMA, columns=[name], filter=keep, use_threads=False)
    return found[name]


def ids_among(home: Home, plant: str, predictions: Sequence[Mapping[str, Any]]) -> set[str]:
    """Those of the predictions' ids that the journal holds; only files of their times are read."""
    import pyarrow.dataset as ds

    moments = [datetime.fromisoformat(p[name]) for p in predictions for name in ("as_of", "data_until")]
    if not moments:
        return set()
    everything = Unit("", None, None, None, None, (), 0)
    first, last = to_us(min(moments) - _AROUND), to_us(max(moments) + _AROUND)
    files = JournalFiles(home, plant).meeting(everything, first, last).files
    if not files:
        return set()
    among = ds.field("prediction_id").isin([p["prediction_id"] for p in predictions])
    found = read_parquet(files, SCHEMA, columns=["prediction_id"], filter=among, use_threads=False)
    return set(found["prediction_id"].to_pylist())

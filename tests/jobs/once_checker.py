"""Is it exactly once? Read from the files that Delta names, past every reader of ours.

The one idea: one reading of the visible state that can be compared, cell by cell, with a clean run's and with
the model's; and one law for every version of every table, visible or not.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from cluster.home import Home
from tests.jobs.once_model import History
from tests.jobs.once_plants import PLANT, T0

State = dict[str, list[Any]]
KEYS = {"events": ("event_id",), "machines": ("machine", "valid_from"), "readings": ("machine", "time")}
NO_ROWS: State = {"readings": [], "events": [], "machines": [], "quarantine": []}


def state(home: Home, plant: str = PLANT) -> State:
    """Every visible row, every cell, without the time of ingestion; also which batch each row is of."""
    path = home.plans / plant / "visible.json"
    found: State = {name: [] for name in NO_ROWS}
    for name, version in (orjson.loads(path.read_bytes()) if path.exists() else {}).items():
        kind, _, machine_type = name.partition("/")
        for row in _rows(home.table(plant, name), version):
            cells = {k: v for k, v in row.items() if v is not None and k != "ingested_at"}
            if kind == "quarantine":
                del cells["time"]
            found[kind].append((machine_type, tuple(sorted((k, _plain(v)) for k, v in cells.items()))))
    return {kind: sorted(rows, key=str) for kind, rows in found.items()}


def check_every_version(home: Home) -> int:
    """The laws of the raw tables at each version; how many versions there were."""
    versions = 0
    for log in home.lake.glob("*/**/_delta_log"):
        kind = log.parent.relative_to(home.lake).parts[1]
        if not list(log.glob("*.json")):
            continue
        for version in range(DeltaTable(str(log.parent)).version() + 1):
            rows, versions = _rows(log.parent, version), versions + 1
            if kind in KEYS:
                keys = [tuple(row[name] for name in KEYS[kind]) for row in rows]
                assert len(keys) == len(set(keys)), f"twice in {log.parent} at version {version}"
    return versions


def check_model(home: Home, model: History) -> None:
    """The visible rows are the model's, each cell of them."""
    rows: dict[str, list[Any]] = {name: [] for name in NO_ROWS}
    for kind, entries in state(home).items():
        rows[kind] = [(of, dict(cells)) for of, cells in entries]
    readings = {(r["machine"], _hour(r["time"])): (of, _sensors(r)) for of, r in rows["readings"]}
    assert len(readings) == len(rows["readings"])
    expected = {
        key: (model.types[key[0]], {name: round(value, 3) for name, value in cells.items()})
        for key, cells in model.readings.items()
    }
    assert readings == expected
    events = {(r["machine"], r["external_id"]): r for _, r in rows["events"]}
    assert len(events) == len(rows["events"])
    assert {
        key: {"start": _hour(r["started_at"])} | {n: r[c] for n, c in _EVENT.items() if c in r}
        for key, r in events.items()
    } == model.events
    machines: dict[str, list[tuple[int, str | None]]] = {}
    for _, r in rows["machines"]:
        assert r["machine_type"] == model.types[r["machine"]]
        machines.setdefault(r["machine"], []).append((_hour(r["valid_from"]), r.get("equipment")))
    assert {machine: sorted(found) for machine, found in machines.items()} == model.machines()
    wrong = [(r["file"], r.get("line"), r["reason"]) for _, r in rows["quarantine"]]
    assert sorted(wrong, key=str) == sorted(model.quarantine, key=str)


_EVENT = {"cost": "cost", "mode": "failure_mode"}
_files: dict[tuple[str, int], list[dict[str, Any]]] = {}  # Parquet files never change


def _rows(folder: Path, version: int) -> list[dict[str, Any]]:
    """The rows of exactly the files that this version names, each file checked by itself."""
    found: list[dict[str, Any]] = []
    for action in pa.table(DeltaTable(str(folder), version=version).get_add_actions(flatten=True)).to_pylist():
        path = folder / unquote(action["path"])
        assert path.stat().st_size == action["size_bytes"], f"{path} is not the file that was committed"
        key = (str(path), path.stat().st_ino)
        if key not in _files:
            _files[key] = pq.ParquetFile(path).read().to_pylist()
        rows = _files[key]
        assert len(rows) == action["num_records"]
        if "partition.month" in action:
            order = [(row["machine"], row["time"]) for row in rows]
            assert order == sorted(order), f"{path} is not sorted"
            assert {f"{row['time']:%Y-%m}" for row in rows} == {action["partition.month"]}
            assert (order[0][0], order[-1][0]) == (action["min.machine"], action["max.machine"])
            times = sorted(row["time"] for row in rows)
            assert (times[0], times[-1]) == (_utc(action["min.time"]), _utc(action["max.time"]))
        found += rows
    return found


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _plain(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _hour(moment: datetime) -> int:
    return round((moment - T0) / timedelta(hours=1))


def _sensors(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in ("machine", "time", "source_id")}

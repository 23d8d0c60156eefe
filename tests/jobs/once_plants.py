"""Hostile plants: a few runs of deliveries that try everything which has ever made a row come twice or go missing.

The one idea: a file is plain data (its rows), written as text for ingest and read as rows by the model, so that
neither learns from the other what the file means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from cluster.home import Home
from cluster.sources import write_source
from models.source import Checks, MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

PLANT = "plant"
T0 = datetime(2025, 1, 31, 22, tzinfo=UTC)  # two hours before a month ends
HOURS = (*range(-6, 7), 700, 701)  # over two months' borders
MACHINES = ("M1", "M2", "M3", "N1")
TYPES = ("Big Pump", "fan", "")
WIDE, LONG, FLOW, EQUIPMENT, FAILURES = "wide", "long", "flow", "equipment", "failures"
FOLDERS = {WIDE: "readings/wide", LONG: "readings/long", FLOW: "readings/flow", EQUIPMENT: "lists", FAILURES: "logs"}
SUFFIX = {LONG: "jsonl"}
NO_TIME = "yesterday"

Rows = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class RawFile:
    """``columns`` in the file's order; a row lacks the columns it has no value for. ``ts`` and ``start`` are hours."""

    kind: str
    columns: tuple[str, ...]
    rows: Rows


Delivery = dict[str, RawFile | None]  # path below the root -> what lies there now; None: it has gone


def at(hours: float | str) -> str:
    return hours if isinstance(hours, str) else (T0 + timedelta(hours=hours)).isoformat()


def connect(home: Home, root: Path) -> None:
    """The source description of every hostile plant. Quality checks that hold a batch are not the matter here."""
    temp = SensorColumn(sensor="temp", kind="temperature", unit="degF")
    p = SensorColumn(sensor="p", kind="pressure", unit="bar")
    base = Stream(
        name=WIDE, role="readings", files="readings/wide/*.csv", time=TimeFormat(column="ts"),
        machine=MachineFrom(column="m"), sensors={"temp_degF": temp, "p_bar": p},
    )  # fmt: skip
    long = {
        "name": LONG, "files": "readings/long/*.jsonl", "format": "jsonl", "layout": "long", "tag_column": "tag",
        "value_column": "value", "sensors": {"temp_degF": temp, "p_bar": p, "n": SensorColumn(sensor="n")},
    }  # fmt: skip
    flow = {"name": FLOW, "files": "readings/flow/*.csv", "sensors": {"value": SensorColumn(sensor="flow")}}
    equipment = Stream(
        name=EQUIPMENT, role="machines", files="lists/*.csv", time=TimeFormat(column="start"),
        machine=MachineFrom(column="m"), fields={"machine_type": "type", "equipment": "eq", "valid_from": "start"},
    )  # fmt: skip
    failures = Stream(
        name=FAILURES, role="failures", files="logs/*.csv", time=TimeFormat(column="start"),
        machine=MachineFrom(column="m"),
        fields={"started_at": "start", "external_id": "wo", "cost": "cost", "failure_mode": "mode"},
    )  # fmt: skip
    streams = (base, base.model_copy(update=long), base.model_copy(update=flow), equipment, failures)
    checks = Checks(unit_jump="off", stuck="off", gap="off", clock_step="off", dst_fold="off", future="off")
    root.mkdir(parents=True, exist_ok=True)
    description = SourceDescription(plant=PLANT, root=str(root), streams=streams, checks=checks)
    write_source(home.sources / f"{PLANT}.toml", description)


def put(root: Path, delivery: Mapping[str, RawFile | None]) -> None:
    """Write, overwrite and delete as the delivery says."""
    for name, file in delivery.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text("".join(line + "\n" for line in _lines(file)), "utf-8")


def _lines(file: RawFile) -> list[str]:
    rows = [{k: at(v) if k in ("ts", "start") else v for k, v in row.items()} for row in file.rows]
    if file.kind == LONG:
        return [json.dumps(row) for row in rows]
    return [",".join(file.columns), *(",".join(str(row.get(c, "")) for c in file.columns) for row in rows)]


def hostile(rng: Random, *, runs: int = 3, rows: int = 8) -> list[Delivery]:
    """Deliveries of several runs. The first file of the wide stream has its usual columns only."""
    first = RawFile(WIDE, ("m", "ts", "temp_degF", "p_bar"), ({"m": "M1", "ts": 0, "temp_degF": 212, "p_bar": 1},))
    present: dict[str, RawFile] = {f"{FOLDERS[WIDE]}/0.csv": first}
    found: list[Delivery] = [dict(present)]
    for run in range(runs):
        delivery: Delivery = found[0] if run == 0 else {}
        for _ in range(rng.randint(1, 4)):
            name, file = _action(rng, present, f"{run}{rng.randint(0, 9)}", rows)
            delivery[name] = file
            if file is None:
                del present[name]
            else:
                present[name] = file
        if run:
            found.append(delivery)
    return found


def _action(rng: Random, present: dict[str, RawFile], number: str, rows: int) -> tuple[str, RawFile | None]:
    """A path and what happens to it."""
    others = sorted(name for name in present if not name.endswith("/0.csv"))
    what = rng.choice(("new", "new", "new", "grown", "corrected", "shrunk", "again", "gone")) if others else "new"
    if what == "new":
        kind = rng.choice((WIDE, WIDE, LONG, FLOW, EQUIPMENT, FAILURES))
        return f"{FOLDERS[kind]}/{number}.{SUFFIX.get(kind, 'csv')}", _file(rng, kind, rows)
    name = rng.choice(others)
    file = present[name]
    if what == "gone":
        return name, None
    if what == "again":  # the same bytes under another name
        return f"{name.rpartition('/')[0]}/{number}again.{SUFFIX.get(file.kind, 'csv')}", file
    if what == "shrunk":
        return name, replace(file, rows=file.rows[: len(file.rows) // 2])
    other = _file(rng, file.kind, rows)
    if what == "grown":
        return name, replace(other, rows=(*file.rows, *other.rows), columns=(*other.columns, *_more(file, other)))
    return name, other


def _more(file: RawFile, than: RawFile) -> tuple[str, ...]:
    return tuple(column for column in file.columns if column not in than.columns)


def _file(rng: Random, kind: str, rows: int) -> RawFile:
    if kind == EQUIPMENT:
        listed = [
            {"m": rng.choice(MACHINES), "type": rng.choice(TYPES), "eq": f"E{rng.randint(0, 3)}", "start": start}
            for start in rng.sample((-300, -200, -100), rng.randint(1, 3))
        ]
        return RawFile(kind, ("m", "type", "eq", "start"), tuple(listed))
    if kind == FAILURES:
        columns = ("m", "start", "wo", *rng.choice((("cost",), ("cost", "mode"), ("mode",))))
        return RawFile(kind, columns, tuple(_failure(rng, columns) for _ in range(rng.randint(1, 4))))
    columns = {
        WIDE: rng.choice((("temp_degF", "p_bar"), ("p_bar",), ("p_bar", "oil_temp_degF", "temp_degF"))),
        LONG: ("tag", "value"), FLOW: ("value",),
    }[kind]  # fmt: skip
    found = [_reading(rng, kind, columns) for _ in range(rng.randint(1, rows))]
    if "oil_temp_degF" in columns:  # a new column is a sensor where its first values are numbers
        found.insert(0, {"m": "M1", "ts": 1, "oil_temp_degF": 50})
    return RawFile(kind, ("m", "ts", *columns), tuple(found))


def _failure(rng: Random, columns: tuple[str, ...]) -> dict[str, Any]:
    start = rng.choice((*range(4), NO_TIME))
    row = {"m": rng.choice(MACHINES), "start": start, "wo": f"W{rng.randint(0, 3)}"}
    cells = {"cost": rng.randint(1, 9), "mode": rng.choice(("wear", "leak"))}
    return row | {name: cells[name] for name in columns if name in cells and rng.random() < 0.7}


def _reading(rng: Random, kind: str, columns: tuple[str, ...]) -> dict[str, Any]:
    row: dict[str, Any] = {"m": rng.choice((*MACHINES, *MACHINES, *MACHINES, "")), "ts": rng.choice(HOURS)}
    if rng.random() < 0.05:
        row["ts"] = NO_TIME
    if kind == LONG:
        return row | {"tag": rng.choice(("temp_degF", "p_bar", "n")), "value": rng.choice((None, 32, 50, 68))}
    for column in columns:
        if rng.random() < 0.8:
            row[column] = rng.choice((32, 50, 68, 86, 104))
    if "temp_degF" in columns and "p_bar" in row and rng.random() < 0.1:
        row["temp_degF"] = "abc"  # costs the cell, since the row has a good one
    return row

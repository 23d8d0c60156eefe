"""What history must be, in plain dictionaries: the law of identity written a second time, by hand.

The one idea: files in the order of their paths, rows in the order of the file, each cell assigned as a
dictionary is; the last value stays, and no value never replaces one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.jobs.once_plants import EQUIPMENT, FAILURES, LONG, NO_TIME, WIDE, RawFile

SENSOR = {"temp_degF": "temp", "p_bar": "p", "oil_temp_degF": "oil_temp", "value": "flow", "n": "n"}
FAHRENHEIT = {"temp_degF", "oil_temp_degF"}


@dataclass
class History:
    """State after the runs so far. Hours count from the plants' T0."""

    readings: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)  # of every machine of the machines table
    installed: dict[tuple[str, int], str] = field(default_factory=dict)  # machine, since -> equipment
    first: dict[str, int] = field(default_factory=dict)
    events: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    quarantine: list[tuple[str, int | None, str]] = field(default_factory=list)
    last: dict[str, RawFile] = field(default_factory=dict)
    rows: int = 0  # of the last run
    quarantined: int = 0

    def run(self, present: Mapping[str, RawFile]) -> None:
        """One ingest of what lies there now."""
        self.rows = self.quarantined = 0
        new = {path: file for path, file in sorted(present.items()) if self.last.get(path) != file}
        types = dict(self.types)
        for file in new.values():
            for row in file.rows if file.kind == EQUIPMENT else ():
                if row["type"]:
                    types.setdefault(row["m"], row["type"].lower().replace(" ", "_"))
        machines: set[str] = set()
        for path, file in new.items():
            self.last[path] = file
            self.rows += len(file.rows)
            if file.kind == LONG and not file.rows:  # the others have their line of names
                self.quarantine.append((path, None, "empty"))
            for number, row in enumerate(file.rows, 1 if file.kind == LONG else 2):
                if reason := _wrong(file, row):
                    self.quarantine.append((path, number, reason))
                    self.quarantined += reason != "bad_number"
                    if reason != "bad_number":
                        continue
                machines |= self._row(file, row)
        for machine in machines:
            self.types.setdefault(machine, types.get(machine, "machine"))

    def _row(self, file: RawFile, row: Mapping[str, Any]) -> set[str]:
        """The machine, if its row makes it known."""
        machine = row["m"]
        if file.kind == EQUIPMENT:
            self.installed[machine, row["start"]] = row["eq"]
        elif file.kind == FAILURES:
            event = self.events.setdefault((machine, row["wo"]), {})
            event |= {name: row[name] for name in ("start", "cost", "mode") if name in row}
            return set()
        else:
            held = self.readings.setdefault((machine, row["ts"]), {})
            held |= _cells(file, row)
            self.first[machine] = min(row["ts"], self.first.get(machine, row["ts"]))
        return {machine}

    def machines(self) -> dict[str, list[tuple[int, str | None]]]:
        """Machine -> installations, since when and which equipment; an inferred one is a step before its readings."""
        found: dict[str, list[tuple[int, str | None]]] = {}
        for (machine, start), equipment in sorted(self.installed.items()):
            found.setdefault(machine, []).append((start, equipment))
        inferred: dict[str, list[tuple[int, str | None]]] = {m: [(hour - 1, None)] for m, hour in self.first.items()}
        return inferred | found


def _wrong(file: RawFile, row: Mapping[str, Any]) -> str | None:
    if not row["m"]:
        return "no_machine"
    if NO_TIME in (row.get("ts"), row.get("start")):
        return "bad_time"
    if file.kind == LONG and row["value"] is None:
        return "no_value"
    return "bad_number" if file.kind == WIDE and row.get("temp_degF") == "abc" else None


def _cells(file: RawFile, row: Mapping[str, Any]) -> dict[str, float]:
    given = {row["tag"]: row["value"]} if file.kind == LONG else {c: row[c] for c in SENSOR if c in row}
    return {
        SENSOR[column]: (value - 32) * 5 / 9 if column in FAHRENHEIT else float(value)
        for column, value in given.items()
        if value != "abc"
    }

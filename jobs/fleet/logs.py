"""The four logs beside the readings, each plant's in its own words.

The one idea: one list of records for all plants; a plant's ``_Style`` says how it spells headers, times and numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobs.fleet.bookings import Bookings
from jobs.fleet.operation import Calendar
from jobs.fleet.plants import Plant


@dataclass(frozen=True)
class _Style:
    failures: str  # header lines
    maintenance: str
    errors: str
    equipment: str
    delimiter: str = ","
    decimal: str = "."
    comment: str = ""
    time: str = "%Y-%m-%d %H:%M:%S"
    with_offset: bool = False


_STYLE = {
    "harbor": _Style(
        failures="Maschine;Bauteil;Schadensart;Beginn;Ende;Gebucht_am;Ausfall_h;Kosten;Auftrag",
        maintenance="Maschine;Bauteil;Beginn;Ende;Gebucht_am;Anlass;Wirkung;Befund;Ausfall_h;Kosten;Auftrag",
        errors="Maschine;Zeit;Gebucht_am;Code",
        equipment="Maschine;Typ;Platz;Equipment;Kritikalitaet;Gueltig_ab",
        delimiter=";", decimal=",", comment="# timezone: Europe/Berlin\n", time="%d.%m.%Y %H:%M:%S",
    ),
    "ridge": _Style(
        failures="asset_id,component,mode,start,end,booked_at,downtime_h,cost_usd,wo",
        maintenance="asset_id,component,start,end,booked_at,trigger,effect,finding,downtime_h,cost_usd,wo",
        errors="asset_id,time,booked_at,code",
        equipment="asset_id,machine_type,functional_location,equipment,criticality,valid_from",
        time="%Y-%m-%dT%H:%M:%S", with_offset=True,
    ),
    "summit": _Style(
        failures="machine_id,component,failure_mode,started_utc,ended_utc,recorded_utc,downtime_h,cost,work_order",
        maintenance=(
            "machine_id,component,started_utc,ended_utc,recorded_utc,trigger,effect,finding,downtime_h,cost,work_order"
        ),
        errors="machine_id,time_utc,recorded_utc,code",
        equipment="machine_id,machine_type,functional_location,equipment,criticality,valid_from_utc",
    ),
}  # fmt: skip


def write_logs(plant: Plant, calendar: Calendar, bookings: Bookings, names: list[str], folder: Path) -> list[Path]:
    """Write failures, maintenance, errors and equipment below ``folder``."""
    style = _STYLE[plant.name]
    spell = _Spelling(style, calendar)
    time, number, hours = spell.time, spell.number, spell.hours
    failures = [
        (names[f.machine], row.component, row.mode, time(f.started_s), time(f.ended_s), time(row.recorded_s),
         hours(f.started_s, f.ended_s), number(row.cost), row.order)
        for row in bookings.failures for f in (row.failure,)
    ]  # fmt: skip
    maintenance = [
        (names[v.machine], v.component, time(v.started_s), time(v.ended_s), time(row.recorded_s), v.trigger, v.effect,
         row.finding, hours(v.started_s, v.ended_s), number(row.cost), row.order)
        for row in bookings.visits for v in (row.visit,)
    ]  # fmt: skip
    errors = [(names[e.machine], time(e.time_s), time(e.recorded_s), e.code) for e in bookings.errors]
    equipment = [
        (names[a.machine], plant.machine_type, a.location, a.equipment, a.criticality, time(a.valid_from_s))
        for a in bookings.assets
    ]
    return [
        _write(folder / "failures.csv", style, style.failures, failures),
        _write(folder / "maintenance.csv", style, style.maintenance, maintenance),
        _write(folder / "errors.csv", style, style.errors, errors),
        _write(folder / "equipment.csv", style, style.equipment, equipment),
    ]


@dataclass(frozen=True)
class _Spelling:
    style: _Style
    calendar: Calendar

    def time(self, time_s: int) -> str:
        offset_s = self.calendar.offset_at(time_s)
        text = datetime.fromtimestamp(time_s + offset_s, UTC).strftime(self.style.time)
        if not self.style.with_offset:
            return text
        return f"{text}{'-' if offset_s < 0 else '+'}{abs(offset_s) // 3600:02d}:{abs(offset_s) % 3600 // 60:02d}"

    def number(self, value: float) -> str:
        return f"{value:.2f}".replace(".", self.style.decimal)

    def hours(self, started_s: int, ended_s: int) -> str:
        return self.number((ended_s - started_s) / 3600)


def _write(path: Path, style: _Style, header: str, rows: Iterable[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{style.comment}{header}\n")
        csv.writer(file, delimiter=style.delimiter, lineterminator="\n").writerows(rows)
    return path

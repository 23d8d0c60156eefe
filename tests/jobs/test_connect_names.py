"""Sensors, kinds, units, times and zones out of raw names and texts."""

from __future__ import annotations

import pytest

from jobs.infer.machines import in_tag
from jobs.infer.names import folded, sensor_of, unique
from jobs.infer.time import guess, zone_in, zone_of_column
from jobs.infer.values import canonical


@pytest.mark.parametrize(
    ("raw", "sensor", "kind", "unit"),
    [
        ("Lagertemperatur_degC", "lagertemperatur", "temperature", "degC"),
        ("PT-101 [bar]", "pt_101", "pressure", "bar"),
        ("Durchfluss_m3/h", "durchfluss", "flow", "m3/h"),
        ("vibration_in/s", "vibration", "vibration", "in/s"),
        ("vibration_mm_s", "vibration", "vibration", "mm_s"),
        ("torque_Nm", "torque", "torque", "Nm"),
        ("Motorstrom_A", "motorstrom", "current", "A"),
        ("Öl-Temperatur in °C", "oel_temperatur", "temperature", "°C"),
        ("belt_speed_m/s", "belt_speed", "velocity", "m/s"),
        ("tank_level_pct", "tank_level", "level", "pct"),
        ("oilTemp_C", "oil_temp", "temperature", "C"),
        ("RPM", "rpm", "speed", "rpm"),
        # An instrument's letters (ISA-5.1), with a unit and with none.
        ("TI_204.PV [degC]", "ti_204", "temperature", "degC"),
        ("LT-3 [%]", "lt_3", "level", "%"),
        ("10-SIC-7 [1/min]", "10_sic_7", "speed", "1/min"),
        # A suffix that is a word: the lowest pressure, the inlet, a phase, the beginning.
        ("pressure_min", "pressure_min", "number", "1"),
        ("temp_in", "temp_in", "number", "1"),
        ("phase_c", "phase_c", "number", "1"),
        ("start", "start", "number", "1"),
        # A unit without a kind, a difference (whose offset would be wrong), no unit at all.
        ("Viscosity [cSt]", "viscosity", "number", "1"),
        ("delta_T_degF", "delta_t", "number", "1"),
        ("volt", "volt", "number", "1"),
        ("machine", "machine_value", "number", "1"),
    ],
)
def test_a_raw_name_gives_sensor_kind_and_unit(raw: str, sensor: str, kind: str, unit: str) -> None:
    found = sensor_of(raw)
    assert (found.column.sensor, found.column.kind, found.column.unit) == (sensor, kind, unit)
    assert found.unknown_unit == (kind == "number")


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("PT-101", "pressure"), ("TI_204.PV", "temperature"), ("10-FIC-7", "flow"), ("pt_101", "pressure"),
        ("PDT-101", "pressure"), ("YT-5", "vibration"), ("AI_01", "number"), ("PAH-101", "number"),
        ("CV_101", "number"), ("TEST-01", "number"), ("STEP_1", "number"), ("PRS-01", "number"), ("s11", "number"),
    ],
)  # fmt: skip
def test_the_letters_of_an_instrument_tell_its_kind_and_leave_its_unit_in_doubt(tag: str, kind: str) -> None:
    found = sensor_of(tag)
    assert (found.column.kind, found.unknown_unit) == (kind, True)
    assert (found.column.low, found.column.high) == (None, None)  # a limit without a unit would lose good values


def test_a_unit_that_the_file_tells_elsewhere_decides() -> None:
    assert sensor_of("T1", told="[°F]").column.unit == "°F"


def test_columns_that_would_become_one_sensor_keep_their_whole_name() -> None:
    names = ("temp_degC", "temp_degF", "temp degC", "flow_l/h")
    found = unique({name: sensor_of(name) for name in names})
    sensors = [entry.column.sensor for entry in found.values()]
    assert sensors == ["temp_degc", "temp_degf", "temp_degc_2", "flow"]


def test_folding_keeps_words_apart() -> None:
    assert [folded(t) for t in ("machineID", "Gebucht am", "Schwingung [mm/s]", "Größe")] == [
        "machine_id", "gebucht_am", "schwingung_mm_s", "groesse",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("2025-01-31", "iso"),
        ("2025-01-31T13:00:00.123456-07:00", "iso"),
        ("2025-01-31 13:00Z", "iso"),
        ("31.01.2025 13:00:00", "%d.%m.%Y %H:%M:%S"),
        ("01.02.25 13:00", "%d.%m.%y %H:%M"),
        ("01/31/2025 1:05 PM", "%m/%d/%Y %I:%M %p"),
        ("31/01/2025, 13:00", "%d/%m/%Y, %H:%M"),
        ("2025/01/31 13:00", "%Y/%m/%d %H:%M"),
        ("31-Jan-25 13:00:00.5", "%d-%b-%y %H:%M:%S.%f"),
        ("20250131T130000", "%Y%m%dT%H%M%S"),
        ("2025-01-31 13:00:00 +0100", "%Y-%m-%d %H:%M:%S %z"),
    ],
)
def test_a_time_gives_its_pattern(text: str, pattern: str) -> None:
    found = guess([text])
    assert found is not None
    assert (found.format, found.settled) == (pattern, True)


@pytest.mark.parametrize("text", ["12.5", "13:00", "1.5.2", "2025", "P-01", "10.0.0.1", "2025-1-1-1"])
def test_other_texts_are_no_time(text: str) -> None:
    assert guess([text]) is None


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("# timezone: Europe/Berlin", "Europe/Berlin"),
        ("% Zeitzone = Asia/Kolkata", "Asia/Kolkata"),
        ("# all times in America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("tz=UTC", "UTC"),
        ("# time zone: UTC+1", "Etc/GMT-1"),
        ("# timezone: local", None),
        ("# exported from zone 4", None),
    ],
)
def test_a_comment_names_a_zone(text: str, zone: str | None) -> None:
    assert zone_in(text) == zone


def test_a_columns_name_names_a_zone() -> None:
    assert [zone_of_column(n) for n in ("started_utc", "Zeit [UTC]", "time (Europe/Berlin)", "time")] == [
        "UTC", "UTC", "Europe/Berlin", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "machines"),
    [
        ({"CMP-01.temp", "CMP-01.flow", "CMP-02.temp", "CMP-02.flow"}, {"CMP-01", "CMP-02"}),
        ({"A.P1.temp", "A.P1.flow", "A.P2.temp", "A.P2.flow"}, {"A.P1", "A.P2"}),
        ({"P1:oil.temp", "P1:oil.flow", "P2:oil.temp", "P2:oil.flow"}, {"P1", "P2"}),
        ({"P1_temp", "P1_flow", "P2_temp", "P2_flow"}, {"P1", "P2"}),
    ],
)
def test_machines_share_their_sensors_where_a_tag_is_cut_right(tags: set[str], machines: set[str]) -> None:
    found = in_tag(tags, ())
    assert found is not None
    assert found.machines == machines


def test_machines_that_logs_name_settle_where_a_tag_is_cut() -> None:
    found = in_tag({"A.P1.temp", "A.P1.flow", "A.P2.temp", "A.P2.flow"}, {"P1", "P2"})
    assert found is not None
    assert found.machines == {"P1", "P2"}


def test_tags_that_name_no_machine_are_left_whole() -> None:
    assert in_tag({"oil_temp", "motor_current", "speed"}, ()) is None


def test_texts_become_canonical_or_are_reported() -> None:
    assert canonical("trigger", ["PM", "Zustand", "Gelegenheit", "???"]) == (
        {"PM": "calendar", "Zustand": "condition", "Gelegenheit": "opportunistic"}, ["???"],
    )  # fmt: skip
    assert canonical("effect", ["Austausch", "cleaned", "Sichtprüfung", "x"]) == (
        {"Austausch": "replaced", "cleaned": "repaired", "Sichtprüfung": "inspected"}, ["x"],
    )  # fmt: skip

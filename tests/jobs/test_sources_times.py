"""Times of every spelling, as microseconds UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.sources.passes import Passes
from jobs.sources.times import Order, check_zone, to_us
from models.errors import InputError
from models.source import TimeFormat

GERMAN = "%d.%m.%Y %H:%M:%S"


def read(values: object, series: list[int] | None = None, **options: object) -> list[str | None]:
    form = TimeFormat(column="t", **options)  # type: ignore[arg-type]
    array = values if isinstance(values, pa.Array) else pa.array(values)
    order = None if series is None else Order(lambda: np.array(series), Passes())
    found = to_us(pa.chunked_array([array]), form, order=order).to_pylist()
    return [None if us is None else datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S") for us in found]


def test_iso_with_and_without_offset_in_one_column() -> None:
    texts = [
        "2025-01-01T00:00:00-07:00", "2025-01-01T00:00:00Z", "2025-01-01 00:00", "2025-01-01",
        "2025-01-01T00:00:00.123456789+0100", "2025-01-01 00:00:00,5", "2025-13-01", "soon", "", None,
    ]  # fmt: skip
    assert read(texts, zone="America/Denver") == [
        "2025-01-01 07:00:00", "2025-01-01 00:00:00", "2025-01-01 07:00:00", "2025-01-01 07:00:00",
        "2024-12-31 23:00:00", "2025-01-01 07:00:00", None, None, None, None,
    ]  # fmt: skip


def test_a_pattern_takes_unpadded_numbers_but_no_day_that_does_not_exist() -> None:
    texts = [
        "31.01.2025 13:00:00",
        "1.2.2025 1:00:00",
        "31.02.2025 00:00:00",
        "01.01.2025 25:00:00",
        " 02.01.2025 00:00:00 ",
    ]
    assert read(texts, format=GERMAN) == [
        "2025-01-31 13:00:00", "2025-02-01 01:00:00", None, None, "2025-01-02 00:00:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "form", "expected"),
    [
        ([1735689600], {"format": "epoch_s"}, "2025-01-01 00:00:00"),
        (["1735689600000"], {"format": "epoch_ms"}, "2025-01-01 00:00:00"),
        ([1735689600000000], {"format": "epoch_us"}, "2025-01-01 00:00:00"),
        ([1735689600000000999], {"format": "epoch_ns"}, "2025-01-01 00:00:00"),
        ([3], {"format": "counter", "step_s": 3600.0}, "1970-01-01 03:00:00"),
        (["2025-01-01 10:11:12.5"], {"format": "%Y-%m-%d %H:%M:%S.%f"}, "2025-01-01 10:11:12"),
        (["2025-01-01 10:11 +0100"], {"format": "%Y-%m-%d %H:%M %z"}, "2025-01-01 09:11:00"),
    ],
)
def test_numbers_and_other_patterns(values: list[object], form: dict[str, object], expected: str) -> None:
    assert read(values, **form) == [expected]


def test_typed_timestamps_keep_their_zone_or_get_the_stream_s() -> None:
    moment = datetime(2025, 7, 1, 12)
    assert read(pa.array([moment], pa.timestamp("ms")), zone="Europe/Berlin") == ["2025-07-01 10:00:00"]
    assert read(pa.array([moment], pa.timestamp("ns", "UTC")), zone="Europe/Berlin") == ["2025-07-01 12:00:00"]


def test_the_doubled_hour_of_autumn_is_told_apart_by_the_order_of_a_series() -> None:
    local = ["26.10.2025 01:00:00", "26.10.2025 02:00:00", "26.10.2025 02:00:00", "26.10.2025 03:00:00"]
    utc = ["2025-10-25 23:00:00", "2025-10-26 00:00:00", "2025-10-26 01:00:00", "2025-10-26 02:00:00"]
    assert read(local, format=GERMAN, zone="Europe/Berlin") == utc
    two = [text for text in local for _ in range(2)]
    assert read(two, [0, 1] * 4, format=GERMAN, zone="Europe/Berlin") == [text for text in utc for _ in range(2)]


def test_a_file_with_the_newest_row_first_shows_winter_time_first() -> None:
    local = [f"2025-10-26 {hour}:{minute}" for hour in ("01", "02", "02", "03") for minute in ("00", "30")]
    utc = [f"2025-10-{day}:{minute}:00" for day in ("25 23", "26 00", "26 01", "26 02") for minute in ("00", "30")]
    assert read(local, zone="Europe/Berlin") == utc
    assert read(local[::-1], zone="Europe/Berlin") == utc[::-1]


def test_a_row_that_is_written_twice_does_not_end_summer_time() -> None:
    local = [f"2025-10-26 {time}" for time in ("01:40", "02:00", "02:00", "02:20", "02:40", "02:00", "02:00", "02:20")]
    times = ["25 23:40", "26 00:00", "26 00:00", "26 00:20", "26 00:40", "26 01:00", "26 01:00", "26 01:20"]
    assert read(local, zone="Europe/Berlin") == [f"2025-10-{time}:00" for time in times]


def test_half_an_hour_is_shown_twice_on_lord_howe() -> None:
    local = [f"2025-04-06 {time}" for time in ("01:15", "01:45", "01:45", "02:15")]
    assert read(local, zone="Australia/Lord_Howe") == [
        f"2025-04-05 {time}:00" for time in ("14:15", "14:45", "15:15", "15:45")
    ]


def test_the_hour_that_spring_skips_is_no_time() -> None:
    assert read(["30.03.2025 02:30:00", "30.03.2025 03:00:00"], format=GERMAN, zone="Europe/Berlin") == [
        None, "2025-03-30 01:00:00",
    ]  # fmt: skip


def test_times_that_no_plant_has_seen_are_no_times() -> None:
    assert read([10**18, -(10**12)], format="epoch_s") == [None, None]


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown time zone"):
        check_zone("Europe/Atlantis")


@settings(max_examples=100, deadline=None)
@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)))
def test_what_python_prints_in_iso_is_read_exactly(moment: datetime) -> None:
    us = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    found = to_us(
        pa.chunked_array([pa.array([moment.isoformat(), moment.isoformat() + "+00:00"])]), TimeFormat(column="t")
    )
    assert [abs(value / 1e6 - us) < 1e-6 for value in found.to_pylist()] == [True, True]

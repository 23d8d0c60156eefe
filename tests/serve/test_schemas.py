from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from models.config import Clock
from models.errors import InputError
from models.source import SensorColumn
from serve.plant import Plant
from serve.schemas import MAX_CELLS, MAX_MACHINES, MAX_ROWS, Delivery, TooLargeError, parse_readings
from serve.windows import matrix, parse_windows

LATEST_US = 2_000_000_000_000_000
COLUMNS = {
    "temp": SensorColumn(sensor="temp", kind="temperature", unit="degC"),
    "T_F": SensorColumn(sensor="temp", kind="temperature", unit="degF"),
    "vib": SensorColumn(sensor="vib", kind="vibration", unit="mm/s", low=0.0, high=100.0),
}


def plant(life_unit: str = "h") -> Plant:
    clock = Clock.model_validate({"step_s": 3600.0, "life_unit": life_unit})
    return Plant("p", clock, COLUMNS, {}, {}, "")


def parse(body: Any, *, machine: str | None = "m", of: Plant | None = None) -> Delivery:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_readings(data, of or plant(), machine=machine, latest_us=LATEST_US)


def test_rows_and_columns_are_the_same_table() -> None:
    by_row = parse({"readings": [{"time": 10, "temp": 1.5, "vib": 2}, {"time": 20, "temp": None, "vib": 3}]})
    by_column = parse({"columns": {"time": [10, 20], "temp": [1.5, None], "vib": [2, 3]}})
    assert by_row.rows.sensors == by_column.rows.sensors == ("temp", "vib")
    assert by_row.rows.time_us.tolist() == by_column.rows.time_us.tolist() == [10_000_000, 20_000_000]
    assert by_row.rows.values.tobytes() == by_column.rows.values.tobytes()
    assert by_row.rows.values.dtype == np.float32


def test_a_raw_name_is_read_in_its_own_unit_and_units_override() -> None:
    rows = {"readings": [{"time": 10, "T_F": 212.0}]}
    assert parse(rows).rows.values[0, 0] == pytest.approx(100.0)
    assert parse(rows | {"units": {"T_F": "kelvin"}}).rows.values[0, 0] == pytest.approx(212.0 - 273.15)


def test_every_way_to_write_a_time_is_the_same_moment() -> None:
    texts = ["2025-06-15T14:00:00Z", "2025-06-15T16:00:00+02:00", "2025-06-15 14:00:00+00:00"]
    written = [*texts, 1_749_996_000, 1_749_996_000.0]
    found = {int(parse({"readings": [{"time": t, "vib": 1}]}).rows.time_us[0]) for t in written}
    assert found == {1_749_996_000_000_000}


def test_microseconds_survive() -> None:
    found = parse({"readings": [{"time": "2025-06-15T14:00:00.123456Z", "vib": 1}]})
    assert found.rows.time_us[0] % 1_000_000 == 123_456


def test_where_a_plant_counts_cycles_time_is_the_cycle() -> None:
    counts = plant("cycle")
    assert parse({"readings": [{"time": 7, "vib": 1}]}, of=counts).rows.time_us[0] == 7 * 3600 * 1_000_000
    with pytest.raises(InputError, match="Wrong time: expected a cycle number, found '2025-06-15T14:00:00Z'"):
        parse({"readings": [{"time": "2025-06-15T14:00:00Z", "vib": 1}]}, of=counts)


def test_a_name_that_no_stream_has_is_named_and_the_rest_is_taken() -> None:
    found = parse({"readings": [{"time": 10, "vib": 1, "colour": 3, "smell": None}]})
    assert found.unknown == ("colour", "smell")
    assert found.rows.sensors == ("vib",)


def test_a_value_that_no_sensor_can_read_is_no_value() -> None:
    body = b'{"readings": [{"time": 10, "vib": 1e39, "temp": -300}, {"time": 20, "vib": 101, "temp": 20}]}'
    found = parse(body)
    assert found.dropped == 3
    np.testing.assert_array_equal(found.rows.values, np.array([[np.nan, np.nan], [np.nan, 20]], np.float32))


def test_each_row_names_its_machine_where_the_path_does_not() -> None:
    rows = [{"time": 10, "machine": "b", "vib": 1}, {"time": 10, "machine": "a", "vib": 2}]
    found = parse({"readings": rows}, machine=None)
    assert found.rows.machines == ["b", "a"]
    assert found.machines == ["b", "a"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Not JSON"),
        (b"[1]", "Wrong body: expected a JSON object, found a list of 1"),
        (b'{"readings": [{"time": 1, "vib": NaN}]}', "Not JSON"),
        (b"[" * 1_000_000, "Not JSON"),
        (b'{"a":' * 1_000_000, "Not JSON"),
        ({}, "Wrong body: expected either `readings`"),
        ({"readings": [], "columns": {}}, "Wrong body: expected either `readings`"),
        ({"rows": []}, "Unknown field: expected only columns, readings, units, found rows"),
        ({"readings": []}, "Wrong readings: expected a list of at least one object, found a list of 0"),
        ({"readings": [1]}, "Wrong readings"),
        ({"readings": {"time": 1}}, "Wrong readings.*found an object of 1"),
        ({"columns": {"time": [1], "vib": [1, 2]}}, r"Wrong columns.*found lengths \[1, 2\]"),
        ({"columns": {}}, "Wrong columns"),
        ({"readings": [{"vib": 1}]}, r"Wrong time: .*found nothing \(in readings\[0\].time\)"),
        ({"readings": [{"time": "2025-06-15T14:00:00", "vib": 1}]}, "Wrong time: expected ISO 8601 with an offset"),
        ({"readings": [{"time": 1_749_996_000_000, "vib": 1}]}, "Wrong time"),
        ({"readings": [{"time": -1, "vib": 1}]}, "Time out of range"),
        ({"readings": [{"time": 2_000_000_001, "vib": 1}]}, "Time out of range: expected a time from 1970 to now"),
        ({"readings": [{"time": True, "vib": 1}]}, "Wrong time"),
        ({"readings": [{"time": 1, "vib": "3"}]}, r"Not a number: .*found '3' \(in readings\[0\].vib\)"),
        ({"readings": [{"time": 1, "vib": True}]}, "Not a number"),
        ({"readings": [{"time": 1, "colour": 2}]}, "No known sensor: expected one of T_F, temp, vib, found colour"),
        ({"readings": [{"time": 1}]}, "No known sensor.*found no values"),
        ({"readings": [{"time": 1, "vib": 1}], "units": {"vib": "degF"}}, r"Unit does not fit.*\(in units.vib\)"),
        ({"readings": [{"time": 1, "vib": 1}], "units": {"vib": "furlong"}}, "Unit does not fit|Unknown unit"),
        ({"readings": [{"time": 1, "vib": 1}], "units": ["mm/s"]}, "Wrong units"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(body: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(body)


@pytest.mark.parametrize("machine", ["", "a" * 129, "a\nb", 3, None])
def test_a_machine_is_1_to_128_printable_characters(machine: Any) -> None:
    with pytest.raises(InputError, match=r"Wrong machine.*readings\[0\].machine"):
        parse({"readings": [{"time": 1, "machine": machine, "vib": 1}]}, machine=None)


def test_more_rows_than_a_request_may_hold_are_refused() -> None:
    with pytest.raises(TooLargeError, match="Too many readings: expected at most 50000 a request, found 50001"):
        parse({"columns": {"time": [1] * (MAX_ROWS + 1), "vib": [1] * (MAX_ROWS + 1)}})


def windows(body: Any) -> Any:
    return parse_windows(json.dumps(body).encode(), plant(), channels=["a", "b"], length=2, max_windows=3)


def test_a_window_is_read_in_the_order_of_its_channels() -> None:
    found = windows({"windows": [{"values": [[1, 2], [None, 4]], "machine": "m", "as_of": 10}], "channels": ["b", "a"]})
    np.testing.assert_array_equal(found.values, np.array([[[2, 1], [4, np.nan]]], np.float32))
    assert (found.machines, found.as_of_us, found.missing) == (["m"], [10_000_000], ())


def test_a_channel_that_is_not_sent_is_missing_everywhere() -> None:
    found = windows({"windows": [{"values": [[1], [2]]}], "channels": ["b"]})
    assert np.isnan(found.values[0, :, 0]).all()
    assert found.missing == ("a",)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"windows": []}, "No windows"),
        ({"windows": [{"values": [[1, 2]]}]}, r"Wrong values: expected numbers \[2, 2\], found \[1, 2\]"),
        ({"windows": [{"values": [[1, 2], [3]]}]}, "Wrong values"),
        ({"windows": [{"values": [["1", "2"], ["3", "4"]]}]}, "Wrong values"),
        ({"windows": [{"values": [["1", None], [3, 4]]}]}, "Wrong values"),
        ({"windows": [{"values": [[True, False], [True, True]]}]}, "Wrong values"),
        ({"windows": [{}]}, "Wrong values"),
        ({"windows": [3]}, "Wrong window"),
        ({"windows": [{"values": [[1, 2], [3, 4]], "value": 1}]}, r"Unknown field.*windows\[0\]"),
        ({"windows": [{"values": [[1, 2], [3, 4]]}], "channels": ["a", "c"]}, "Unknown channel: .*found c"),
        ({"windows": [{"values": [[1, 2], [3, 4]]}], "channels": ["a", "a"]}, "Wrong channels"),
        ({"windows": [{"values": [[1, 2], [3, 4]]}] * 4}, "Too many windows: expected at most 3, found 4"),
    ],
)
def test_a_wrong_window_is_named(body: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        windows(body)


def test_infinity_counts_as_no_value() -> None:
    found = matrix([[math.inf, 1e300], [-math.inf, 2]], (2, 2), "x")
    np.testing.assert_array_equal(found, np.array([[np.nan, np.nan], [np.nan, 2]], np.float32))


def test_one_long_text_among_numbers_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"Wrong values.*found 'xxx"):
            matrix(["x" * 100_000, *[0.0] * 999], (1000,), "values")  # numpy alone would take 400 MB
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_names_and_machines_that_are_repeated_in_answers_have_bounds() -> None:
    row = {"time": 10, "temp": 1.0} | {f"{i}{'n' * 5000}": 1.0 for i in range(50)}
    found = parse({"readings": [row]})
    assert len(found.unknown) == 20
    assert max(map(len, found.unknown)) == 80
    many = [{"time": 10, "temp": 1.0, "machine": f"m{i}"} for i in range(MAX_MACHINES + 1)]
    assert len(parse({"readings": many[1:]}, machine=None).machines) == MAX_MACHINES
    with pytest.raises(TooLargeError, match="Too many machines: expected at most 5000 a request, found 5001"):
        parse({"readings": many}, machine=None)


def test_columns_have_a_bound_on_their_cells() -> None:
    num = 10_000
    columns = {f"c{i}": [0] * num for i in range(MAX_CELLS // num)}
    with pytest.raises(TooLargeError, match="Too many values: expected at most 4000000"):
        parse({"columns": columns | {"time": [0] * num}})


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "9000-01-01T00:00:01Z"])
def test_a_time_whose_tick_has_no_date_is_refused(at: str) -> None:
    body = json.dumps({"windows": [{"values": [[1, 2], [3, 4]], "as_of": at}]}).encode()
    with pytest.raises(InputError, match=r"Time out of range.*windows\[0\]"):
        parse_windows(body, plant(), channels=["a", "b"], length=2, max_windows=1)

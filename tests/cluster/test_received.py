from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.received import Latest, Rows, State
from models.errors import InputError

NAN = np.nan


def rows(machine: str, times: list[int], sensors: tuple[str, ...], values: list[list[float]]) -> Rows:
    return Rows([machine] * len(times), np.array(times, np.int64), sensors, np.array(values, np.float32))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "plant.sqlite")


def test_rows_come_back_sorted_and_in_the_order_of_sensors_asked_for(state: State) -> None:
    state.append(rows("m", [30, 10, 20], ("b", "a"), [[3, 0.3], [1, 0.1], [2, 0.2]]))
    times, values = state.read("m", ["a", "b"], span_us=100)
    assert times.tolist() == [10, 20, 30]
    assert np.array_equal(values, np.array([[0.1, 1], [0.2, 2], [0.3, 3]], np.float32))


def test_a_later_delivery_wins_cell_by_cell_and_an_empty_cell_erases_nothing(state: State) -> None:
    state.append(rows("m", [10], ("a", "b"), [[1, 2]]))
    state.append(rows("m", [10, 10], ("a", "b"), [[NAN, 5], [7, NAN]]))
    assert state.read("m", ["a", "b"], span_us=100)[1].tolist() == [[7, 5]]


def test_a_sensor_that_came_later_is_nan_in_older_rows(state: State) -> None:
    state.append(rows("m", [10], ("a",), [[1]]))
    state.append(rows("m", [20], ("b",), [[2]]))
    _, values = state.read("m", ["b", "a", "never"], span_us=100)
    np.testing.assert_array_equal(values, np.array([[NAN, 1, NAN], [2, NAN, NAN]], np.float32))


def test_the_span_is_open_on_the_left_and_closed_on_the_right(state: State) -> None:
    state.append(rows("m", [10, 20, 30, 40], ("a",), [[1], [2], [3], [4]]))
    assert state.read("m", ["a"], span_us=20)[0].tolist() == [30, 40]
    assert state.read("m", ["a"], span_us=20, until_us=30)[0].tolist() == [20, 30]
    assert state.read("m", ["a"], span_us=20, until_us=35)[0].tolist() == [20, 30]


def test_an_unknown_machine_has_nothing(state: State) -> None:
    times, values = state.read("nobody", ["a"], span_us=100)
    assert times.shape == (0,)
    assert values.shape == (0, 1)
    assert state.newest_us("nobody") is None


def test_history_never_replaces_what_was_delivered(state: State) -> None:
    state.append(rows("m", [10], ("a", "b"), [[1, NAN]]))
    state.seed(rows("m", [10, 5], ("a", "b"), [[9, 9], [8, 8]]))
    assert state.read("m", ["a", "b"], span_us=100)[1].tolist() == [[8, 8], [1, 9]]
    assert state.num_pending() == 1


def test_pruning_removes_old_history_and_no_pending_row(state: State) -> None:
    state.seed(rows("m", [10, 20, 90], ("a",), [[1], [2], [3]]))
    state.append(rows("m", [15], ("a",), [[4]]))
    assert state.prune(50) == 2
    assert state.read("m", ["a"], span_us=1000)[0].tolist() == [15, 90]
    assert state.machines() == [Latest("m", 90, 2)]


def test_a_row_that_was_seeded_and_then_delivered_is_pending(state: State) -> None:
    state.seed(rows("m", [10, 90], ("a",), [[1], [2]]))
    state.append(rows("m", [10], ("a",), [[3]]))
    assert state.prune(50) == 0
    assert state.num_pending() == 1


def test_a_failed_write_changes_nothing(state: State) -> None:
    state.append(rows("m", [10], ("a",), [[1]]))
    with pytest.raises(ValueError, match="shape"):
        state.append(rows("m", [20], ("b", "c"), [[1, 2, 3]]))
    assert state.read("m", ["a", "b"], span_us=100)[0].tolist() == [10]
    state.append(rows("m", [20], ("b",), [[2]]))
    assert state.read("m", ["b"], span_us=5)[1].tolist() == [[2]]


def _write_and_die(path: Path) -> None:
    State(path).append(rows("m", [10], ("a",), [[1]]))
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_acknowledged_reading_survives_the_death_of_the_process(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(tmp_path / "s.sqlite",))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert State(tmp_path / "s.sqlite").read("m", ["a"], span_us=100)[1].tolist() == [[1]]


def test_two_processes_agree_on_the_cells_of_new_sensors(tmp_path: Path) -> None:
    one, other = State(tmp_path / "s.sqlite"), State(tmp_path / "s.sqlite")
    one.append(rows("m", [10], ("a",), [[1]]))
    other.append(rows("m", [10], ("b",), [[2]]))
    one.append(rows("m", [10], ("c",), [[3]]))
    for state in (one, other):
        assert state.read("m", ["c", "b", "a"], span_us=100)[1].tolist() == [[3, 2, 1]]


def test_what_is_no_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"no database at all, though long enough" * 40)
    with pytest.raises(InputError, match="Unreadable state of a plant: expected SQLite, version 2"):
        State(tmp_path / "s.sqlite")


def test_a_store_of_the_version_before_is_taken_over_with_its_readings(tmp_path: Path) -> None:
    state = State(tmp_path / "s.sqlite")
    state.append(rows("m", [10], ("a",), [[1]]))
    state.close()
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as before:
        before.executescript("DROP TABLE numbers; PRAGMA user_version=1")
    again = State(tmp_path / "s.sqlite")
    assert again.read("m", ["a"], span_us=100)[1].tolist() == [[1]]
    assert again.number("m") == 0
    written = again.append(rows("m", [20], ("a",), [[2]]))
    assert (again.number("m"), written.before) == (written.number, {"m": 0})


def test_what_is_written_of_a_machine_has_a_number_of_its_own_whoever_writes(tmp_path: Path) -> None:
    one, other = State(tmp_path / "s.sqlite"), State(tmp_path / "s.sqlite")
    first = one.append(rows("m", [10], ("a",), [[1]]))
    assert first.before == {"m": 0}
    other.seed(rows("m", [5], ("a",), [[1]]))
    between = one.number("m")
    assert between > first.number
    assert one.append(rows("m", [11], ("a",), [[1]])).before == {"m": between}
    assert one.number("n") == 0


cells = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
deliveries = st.lists(st.tuples(st.integers(0, 5), st.lists(cells, min_size=2, max_size=2)), max_size=25)


@given(deliveries)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_deliveries_merge_as_a_dictionary_would(
    tmp_path_factory: pytest.TempPathFactory, deliveries: list[tuple[int, list[float | None]]]
) -> None:
    state = State(tmp_path_factory.mktemp("state") / "s.sqlite")
    expected: dict[int, list[float]] = {}
    for time, values in deliveries:
        state.append(rows("m", [time], ("a", "b"), [[NAN if v is None else v for v in values]]))
        old = expected.get(time, [NAN, NAN])
        expected[time] = [o if v is None else v for o, v in zip(old, values, strict=True)]
    times, found = state.read("m", ["a", "b"], span_us=100)
    state.close()
    assert times.tolist() == sorted(expected)
    wanted = np.array([expected[t] for t in sorted(expected)], np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(found, wanted)

"""Windows: worked by hand, and equal byte for byte however the rows arrive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import Clock, WindowConfig
from models.errors import InputError
from models.online import window_at
from models.windows import (
    Channel,
    MachineEvents,
    carry_forward,
    channels_of,
    context,
    grid,
    series_of,
    span_us,
    tick_of,
    window_ending,
    windows_ending,
)

HOUR = 3_600_000_000
CLOCK = Clock()
NAN = np.nan


def column(*values):
    return np.array(values, np.float32)[:, None]


def test_a_reading_on_the_boundary_closes_its_tick_and_one_after_opens_the_next():
    assert tick_of(np.array([HOUR - 1, HOUR, HOUR + 1]), CLOCK).tolist() == [1, 1, 2]


def test_a_time_before_the_epoch_has_its_tick_too():
    assert tick_of(np.array([-1, -HOUR, -HOUR - 1]), CLOCK).tolist() == [0, -1, -1]


def test_grid_is_the_mean_of_each_ticks_readings_and_nan_where_there_is_none():
    times = np.array([HOUR // 2, HOUR, 3 * HOUR])
    first, values = grid(times, np.array([[1, NAN], [3, 5], [7, NAN]], np.float32), CLOCK)
    assert first == 1
    np.testing.assert_array_equal(values, np.array([[2, 5], [NAN, NAN], [7, NAN]], np.float32))


def test_grid_of_nothing_is_empty():
    assert grid(np.empty(0, np.int64), np.empty((0, 2), np.float32), CLOCK)[1].shape == (0, 2)


def test_a_clock_gone_wild_is_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"too much time.*at most 50000000 ticks.*Correct the times"):
        grid(np.array([0, 2**62]), column(1, 2), Clock(step_s=1))


def test_a_value_is_carried_over_at_most_the_limit_and_never_backwards():
    found = column(NAN, 1, NAN, NAN, NAN, 2)
    carry_forward(found, 2)
    np.testing.assert_array_equal(found, column(NAN, 1, 1, 1, NAN, 2))


def test_an_event_is_seen_only_after_it_was_recorded():
    events = MachineEvents(0, np.array([2 * HOUR]), np.array([4 * HOUR]), np.array([3 * HOUR]))
    found = context(np.arange(0, 6), events, CLOCK)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 2, 3]  # the repair at 2 h counts from 4 h on, and then as 2 h old
    assert found[:, 1].tolist() == [0, 0, 0, 1, 1, 1]


def test_errors_are_forgotten_after_24_hours():
    events = MachineEvents(0, errors_known_us=np.array([HOUR, 2 * HOUR]))
    assert context(np.array([2, 24, 25, 26]), events, CLOCK)[:, 1].tolist() == [2, 2, 1, 0]


def test_before_the_installation_and_for_an_unknown_machine_the_age_is_unknown():
    assert np.isnan(context(np.array([1]), MachineEvents(2 * HOUR), CLOCK)[0, 0])
    assert np.isnan(context(np.array([1]), MachineEvents(), CLOCK)[0, 0])


def test_a_cycle_clock_counts_age_in_cycles():
    clock = Clock(step_s=1, life_unit="cycle")
    assert context(np.array([7]), MachineEvents(2_000_000), clock)[0, 0] == 5


def test_a_component_and_an_error_code_have_a_clock_and_a_count_of_their_own():
    events = MachineEvents(
        0, np.array([2 * HOUR, 5 * HOUR]), np.array([2 * HOUR, 6 * HOUR]), np.array([HOUR, 3 * HOUR]),
        parts={"pump": (np.array([5 * HOUR, 0]), np.array([6 * HOUR, 0]))}, codes={"e1": np.array([3 * HOUR])},
    )  # fmt: skip
    names = ("since_service.pump", "since_service.fan", "errors_24h.e1", "errors_24h.e2", "since_service")
    found = context(np.arange(4, 8), events, CLOCK, [Channel(name, "time", "life", "context") for name in names])
    assert found[:, 0].tolist() == [4, 5, 1, 2]  # the pump's renewal at 5 h is known from 6 h on
    assert found[:, 1].tolist() == [4, 5, 6, 7]  # a component without an event is as old as the machine
    assert found[:, 2].tolist() == [1, 1, 1, 1]
    assert found[:, 3].tolist() == [0, 0, 0, 0]
    assert found[:, 4].tolist() == [2, 3, 1, 2]


def test_a_context_channel_that_nothing_computes_is_refused():
    with pytest.raises(InputError, match=r"Unknown context channel: expected since_service or errors_24h.*'weather'"):
        context(np.array([1]), MachineEvents(), CLOCK, [Channel("weather", "number", "1", "context")])


def test_windows_are_cut_at_their_ends():
    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    found = windows_ending(values, np.array([1, 4]), 2)
    np.testing.assert_array_equal(found, [[[0, 1], [2, 3]], [[6, 7], [8, 9]]])
    assert windows_ending(values, np.empty(0, np.int64), 2).shape == (0, 2, 2)


def test_a_window_outside_the_series_is_an_error():
    series = series_of("m", np.array([HOUR]), column(1), MachineEvents(), clock=CLOCK, window=WindowConfig(length=4))
    assert window_ending(series, 1, 4).shape == (4, 3)
    with pytest.raises(IndexError, match="no window of 4 ticks ends at tick 2"):
        window_ending(series, 2, 4)


def test_channels_are_in_the_order_of_names_whatever_the_order_given():
    given_order = [("speed", "speed", "rpm"), ("bearing", "temperature", "degC")]
    assert [c.name for c in channels_of(given_order)] == ["bearing", "speed", "since_service", "errors_24h"]
    assert channels_of(given_order) == channels_of(given_order[::-1])


def test_a_window_asked_for_later_ends_with_empty_ticks_after_what_is_carried() -> None:
    window = WindowConfig(length=4, carry=1)
    times, values = np.array([HOUR]), column(7)
    found = window_at(times, values, MachineEvents(), tick=3, clock=CLOCK, window=window)
    np.testing.assert_array_equal(found[:, 0], [NAN, 7, 7, NAN])
    far = window_at(times, values, MachineEvents(), tick=50, clock=CLOCK, window=window)
    assert np.isnan(far[:, 0]).all() and far.shape == (4, 3)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=st.integers(4, 12), carry=st.integers(0, 4))
def test_online_windows_equal_offline_windows_byte_for_byte(data, length, carry):
    """Offline sees the whole history; online only the last ``length + carry`` ticks of rows."""
    minutes = data.draw(st.lists(st.integers(0, 60 * 60), min_size=1, max_size=80, unique=True).map(sorted))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(50, 1e3, (len(minutes), 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = NAN
    times = np.array(minutes, np.int64) * 60_000_000
    events = MachineEvents(
        int(times[0]) - HOUR, np.array([20 * HOUR]), np.array([25 * HOUR]), np.array([10 * HOUR, 30 * HOUR])
    )
    window = WindowConfig(length=length, carry=carry)
    offline = series_of("m", times, values, events, clock=CLOCK, window=window)
    for stop in range(1, len(times) + 1):
        if stop < len(times) and tick_of(times[stop : stop + 1], CLOCK) == tick_of(times[stop - 1 : stop], CLOCK):
            continue  # offline knows all of the tick's readings; the same rows are received only at its last
        tick = int(tick_of(times[stop - 1 : stop], CLOCK)[0])
        since = np.searchsorted(times, tick * HOUR - span_us(CLOCK, window), side="right")  # what a store keeps
        rows = slice(since, stop)
        online = window_at(times[rows], values[rows], events, tick=tick, clock=CLOCK, window=window)
        assert online.tobytes() == window_ending(offline, tick, length).tobytes()
        assert online.shape == (length, 5) and online.dtype == np.float32

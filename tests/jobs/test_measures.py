"""What a tile measures, worked by hand, and the laws that hold however a tile is cut."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.ingesting.measures import MEASURES, measure
from jobs.ingesting.reductions import constant_runs

HOUR = 3_600_000_000
JUNE = int(np.datetime64("2025-06-01", "us").astype(np.int64))
NAN = float("nan")


def tile(columns, *, hours=None, codes=None, machines=("P-1",), fresh=None, month="2025-06", **more):
    n = len(next(iter(columns.values())))
    time = JUNE + HOUR * np.asarray(range(n) if hours is None else hours, np.int64)
    codes = np.zeros(n, np.int64) if codes is None else np.asarray(codes, np.int64)
    arrays = {name: np.asarray(values, np.float32) for name, values in columns.items()}
    fresh = np.ones(n, bool) if fresh is None else np.asarray(fresh)
    return measure(list(machines), codes, time, arrays, fresh, month, **more)


def rows(table, kind, sensor=None):
    table = table.filter(pc.equal(table["kind"], kind))
    return [row for row in table.to_pylist() if sensor in (None, row["sensor"])]


def test_a_level_by_hand():
    (level,) = rows(tile({"t": [1, 2, NAN, 3, 4, 5]}), "level")
    assert (level["n"], level["rows"], level["low"], level["high"], level["mean"]) == (5, 6, 1, 5, 3)
    assert (level["from_us"], level["until_us"]) == (JUNE, JUNE + 5 * HOUR)
    assert (level["num"][0], level["p10"][0], level["p50"][0], level["p90"][0]) == pytest.approx((5, 1.4, 3, 4.6))
    assert level["num"][1:] == [0] * 9
    assert level["p50"][1:] == [None] * 9
    assert level["equal"] == 0


def test_slices_are_three_days_and_the_tenth_ends_the_month():
    (level,) = rows(tile({"t": [1, 2, 3, 4]}, hours=[71, 72, 27 * 24, 30 * 24 - 1]), "level")
    assert level["num"] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (level["p50"][0], level["p50"][1], level["p50"][9]) == (1, 2, 3.5)


def test_machines_are_measured_apart_and_a_sensor_without_a_value_not_at_all():
    found = tile({"t": [1, 2, 9], "x": [NAN, NAN, 5]}, hours=[0, 1, 0], codes=[0, 0, 2], machines=("A", "B", "C"))
    assert [(r["machine"], r["sensor"], r["n"]) for r in rows(found, "level")] == [
        ("A", "t", 2), ("C", "t", 1), ("C", "x", 1),
    ]  # fmt: skip
    assert [(r["machine"], r["n"], r["period_us"]) for r in rows(found, "time")] == [("A", 2, HOUR), ("C", 1, 0)]


def test_only_rows_of_the_batch_are_measured_and_none_is_an_empty_table():
    (level,) = rows(tile({"t": [1, 2, 30]}, fresh=[True, True, False]), "level")
    assert (level["n"], level["high"]) == (2, 2)
    empty = tile({"t": [1.0]}, fresh=[False])
    assert empty.num_rows == 0
    assert empty.schema == MEASURES


def test_a_constant_run_is_told_with_what_others_did():
    stuck = [*range(10), *[7] * 30, *range(10)]
    found = tile({"t": stuck, "x": list(range(50)), "y": [1.0] * 50})
    (run,) = rows(found, "run", "t")
    assert (run["n"], run["mean"], run["from_us"], run["until_us"]) == (30, 7, JUNE + 10 * HOUR, JUNE + 39 * HOUR)
    assert run["others"] == 0.5
    (level,) = rows(found, "level", "t")
    assert (level["run_n"], level["run_us"]) == (30, 29 * HOUR)
    assert level["equal"] == pytest.approx(29 / 49)


def test_a_missing_value_does_not_end_a_run_and_a_machine_does():
    (run,) = rows(tile({"t": [*range(10), *[7.0] * 20, NAN, *[7.0] * 9, 1]}), "run")
    assert (run["n"], run["until_us"]) == (29, JUNE + 39 * HOUR)
    two = tile({"t": [5.0] * 20}, hours=[*range(10), *range(10)], codes=[0] * 10 + [1] * 10, machines=("A", "B"))
    assert [r["run_n"] for r in rows(two, "level")] == [10, 10]


def test_a_run_as_long_as_the_description_allows_is_told():
    values = {"t": [1, 2, 3, *[4.0] * 8, 5, 6]}
    assert not rows(tile(values), "run")
    assert len(rows(tile(values, stuck_h={"t": 6}), "run")) == 1
    assert not rows(tile(values, stuck_h={"t": 8}), "run")


def test_gaps_are_over_ten_periods_between_rows_of_a_machine():
    found = tile({"t": range(8)}, hours=[0, 1, 2, 3, 13, 14, 25, 26])
    (gap,) = rows(found, "gap")
    assert (gap["from_us"], gap["until_us"]) == (JUNE + 14 * HOUR, JUNE + 25 * HOUR)


def test_late_rows_leave_no_gap_where_history_has_rows():
    hours = [*range(30), *range(30, 60)]
    late = np.isin(hours, [0, 1, 58, 59])
    assert not rows(tile({"t": range(60)}, hours=hours, fresh=late), "gap")
    assert len(rows(tile({"t": range(4)}, hours=[0, 1, 58, 59]), "gap")) == 1


def test_a_gap_between_rows_of_earlier_batches_is_not_told_again():
    hours = [*range(10), *range(40, 50)]
    assert not rows(tile({"t": range(20)}, hours=hours, fresh=np.arange(20) == 19), "gap")
    assert len(rows(tile({"t": range(20)}, hours=hours, fresh=np.arange(20) == 10), "gap")) == 1


def test_readings_that_skip_the_hour_of_spring_are_counted_by_zone():
    march = int(np.datetime64("2025-03-30", "us").astype(np.int64))
    hours = np.array([h for h in range(24) if h != 2])
    time = march + HOUR * hours
    found = measure(["A"], np.zeros(23, np.int64), time, {"t": np.ones(23, np.float32)}, np.ones(23, bool), "2025-03")
    counts = {(r["sensor"], r["from_us"]): (r["n"], r["rows"]) for r in rows(found, "spring")}
    assert counts["Europe/Berlin", march + 2 * HOUR] == (1, 1)
    assert counts["Europe/London", march + 1 * HOUR] == (0, 0)  # 02:00 is missing after it
    assert counts["America/New_York", march - 21 * 24 * HOUR + 2 * HOUR] == (0, 0)


def brute_runs(values, starts):
    found, begin = [], 0
    for at in range(1, len(values) + 1):
        if at == len(values) or at in starts or values[at] != values[at - 1]:
            found += [(begin, at - begin)] if at - begin >= 4 else []
            begin = at
    return found


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.sets(st.integers(1, 59)))
def test_constant_runs_are_those_that_a_loop_finds(values, cuts):
    starts = np.array([0, *sorted(c for c in cuts if c < len(values))])
    first, length = constant_runs(np.array(values, np.float32), starts)
    assert list(zip(first.tolist(), length.tolist(), strict=True)) == brute_runs(values, set(starts.tolist()))


def test_runs_below_four_values_and_single_values_are_none():
    assert [len(a) for a in constant_runs(np.array([3.0], np.float32), np.array([0]))] == [0, 0]
    assert [len(a) for a in constant_runs(np.array([1, 1, 1, 2, 2, 2], np.float32), np.array([0]))] == [0, 0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_measures_of_machines_apart_are_those_of_the_whole(data):
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=4))
    value = st.one_of(st.just(NAN), st.integers(0, 3).map(float))
    columns = {name: data.draw(st.lists(value, min_size=sum(sizes), max_size=sum(sizes))) for name in ("a", "b")}
    codes = np.repeat(np.arange(len(sizes)), sizes)
    hours = np.concatenate([np.sort(data.draw(st.permutations(range(60)))[:n]) for n in sizes])
    names = [f"M{n}" for n in range(len(sizes))]
    whole = tile(columns, hours=hours, codes=codes, machines=names)
    cut = data.draw(st.integers(1, len(sizes) - 1))
    parts = []
    for half in (codes < cut, codes >= cut):
        own = {name: np.asarray(values)[half] for name, values in columns.items()}
        parts.append(tile(own, hours=hours[half], codes=codes[half], machines=names))

    def ordered(table):
        found = [r for r in table.to_pylist() if r["kind"] != "spring"]
        return sorted(found, key=lambda r: (r["kind"], r["machine"], r["sensor"] or "", r["from_us"]))

    assert str(ordered(pa.concat_tables(parts))) == str(ordered(whole))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=70), st.data())
def test_counts_and_bounds_of_two_halves_join_to_those_of_the_whole(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    (whole,) = rows(tile({"t": values}), "level")
    (one,), (two,) = (
        rows(tile({"t": v}, hours=h), "level")
        for v, h in ((values[:cut], range(cut)), (values[cut:], range(cut, len(values))))
    )
    assert whole["n"] == one["n"] + two["n"]
    assert (whole["low"], whole["high"]) == (min(one["low"], two["low"]), max(one["high"], two["high"]))
    assert whole["num"] == [a + b for a, b in zip(one["num"], two["num"], strict=True)]
    assert (whole["from_us"], whole["until_us"]) == (one["from_us"], two["until_us"])

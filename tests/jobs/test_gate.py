"""Each check fires on the fault it is for, says so in a sentence, and is silent on clean data."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from cluster.home import open_home
from jobs.ingesting import gate, plan
from jobs.ingesting.measures import MEASURES, measure
from jobs.ingesting.pieces import PIECES, clock_steps, wrong_cells
from jobs.sources.raw import Reason, Wrong
from models.source import Checks, SensorColumn, SourceDescription, Stream, TimeFormat

HOUR = 3_600_000_000
MACHINES = ["P-1", "P-2", "P-3", "P-4"]
KINDS = {"temp": ("temperature", "degC"), "flow": ("flow", "m^3/h"), "amp": ("current", "A")}
NAN = np.float32("nan")


def day(text):
    return int(np.datetime64(text, "us").astype(np.int64))


def description(checks=None, **own):
    columns = {
        f"{name}_raw": SensorColumn(sensor=name, kind=kind, unit=unit, **own.get(name, {}))
        for name, (kind, unit) in KINDS.items()
    }
    stream = Stream(name="r", role="readings", files="*.csv", sensors=columns, time=TimeFormat(column="t"))
    return SourceDescription(plant="north", root="/data", streams=(stream,), checks=Checks(**(checks or {})))


def batch(source=None, sequence=1):
    return plan.Plan(
        plant="north", sequence=sequence, batch=f"{sequence:06d}-abcabcabcabc",
        created_at=datetime(2025, 7, 1, tzinfo=UTC), code_version="1", source_digest="",
        source=source or description(), files=(),
    )  # fmt: skip


def readings(first="2025-05-01", days=61, seed=0, machines=MACHINES):
    """Hourly readings of pumps with load by day and night: machine -> time and columns."""
    rng, time = np.random.default_rng(seed), day(first) + HOUR * np.arange(24 * days)
    found = {}
    for number, name in enumerate(machines):
        load = 0.7 + 0.25 * np.sin(np.arange(len(time)) / 24 * 2 * np.pi) + 0.05 * rng.standard_normal(len(time))
        columns = {"temp": 30 + number + 12 * load, "flow": 120 * load, "amp": 20 + 10 * load}
        noisy = {n: (v + 0.5 * rng.standard_normal(len(time))).astype(np.float32) for n, v in columns.items()}
        found[name] = (time.copy(), noisy)
    return found


def measured(found, **more):
    tables = []
    names = sorted(found)
    months = np.unique(np.concatenate([t.astype("datetime64[us]").astype("datetime64[M]") for t, _ in found.values()]))
    for month in months:
        codes, times, columns = [], [], {name: [] for name in KINDS}
        for code, name in enumerate(names):
            time, own = found[name]
            inside = time.astype("datetime64[us]").astype("datetime64[M]") == month
            codes.append(np.full(inside.sum(), code))
            times.append(time[inside])
            for sensor, values in own.items():
                columns[sensor].append(values[inside])
        code, time = np.concatenate(codes), np.concatenate(times)
        arrays = {n: np.concatenate(v) for n, v in columns.items() if v}
        tables.append(measure(names, code, time, arrays, np.ones(len(time), bool), str(month), **more))
    return pa.concat_tables(tables)


def judged(found, source=None, before=None, pieces=None, rows=10_000, **more):
    pieces = PIECES.empty_table() if pieces is None else pieces
    return gate.judge(batch(source), measured(found, **more), pieces, before, rows=rows)


def of(findings, check):
    return [finding for finding in findings if finding.check == check]


def to_fahrenheit(found, since, until="2099-01-01", machines=MACHINES):
    for name in machines:
        time, columns = found[name]
        inside = (time >= day(since)) & (time < day(until))
        columns["temp"][inside] = columns["temp"][inside] * 1.8 + 32
    return found


@pytest.mark.parametrize("seed", range(6))
def test_clean_readings_have_no_findings(seed):
    assert judged(readings(seed=seed)) == []
    before = measured(readings("2025-03-01", 61, seed=seed))
    assert judged(readings(seed=seed + 100), before=before) == []


def test_nothing_to_judge_is_nothing_found():
    assert gate.judge(batch(), MEASURES.empty_table(), PIECES.empty_table(), None, rows=0) == []


def test_a_unit_that_changes_between_batches_stops_the_batch_and_is_named():
    before = measured(readings("2025-03-01", 61))
    findings = judged(to_fahrenheit(readings(seed=1), "2025-05-01"), before=before)
    jumps = of(findings, "unit_jump")
    assert [(f.machine, f.sensor, f.severity) for f in jumps] == [(m, "temp", "stop") for m in MACHINES]
    assert "P-1 temp:" in jumps[0].message
    assert jumps[0].message.endswith("degC now: as if degC had become degF")
    assert jumps[0].from_us == day("2025-05-01")
    assert jumps[0].until_us == day("2025-07-01") - HOUR
    assert gate.is_held(findings)


def test_a_unit_that_changes_within_a_batch_is_found_from_the_slice_that_holds_both():
    """31 May is in the last slice of the month, from the 28th on."""
    (jump, *others) = of(judged(to_fahrenheit(readings(), "2025-05-29T12:00")), "unit_jump")
    assert len(others) == 3
    assert jump.from_us == day("2025-05-28")


def test_one_machine_alone_is_found_where_it_lasts_and_the_rest_is_left_in_peace():
    found = of(judged(to_fahrenheit(readings(), "2025-06-01", machines=["P-3"])), "unit_jump")
    assert [f.machine for f in found] == ["P-3"]


def test_a_file_in_another_unit_is_found_and_ends_where_it_ends():
    found = of(judged(to_fahrenheit(readings(), "2025-06-04", "2025-06-10")), "unit_jump")
    assert {(f.from_us, f.until_us) for f in found} == {(day("2025-06-04"), day("2025-06-10") - 1)}


@pytest.mark.parametrize("factor", [1.5, 2.0, 10.0])
def test_a_machine_that_runs_at_another_load_has_not_changed_its_units(factor):
    found = readings()
    for name in MACHINES:
        time, columns = found[name]
        late = time >= day("2025-06-01")
        columns["flow"][late] *= factor
        columns["amp"][late] = columns["amp"][late] * 3.1 + 7
        columns["temp"][late] += 25
    assert not of(judged(found), "unit_jump")


def test_wear_that_grows_to_ten_times_is_no_change_of_unit():
    found = readings()
    time, columns = found["P-2"]
    columns["amp"] *= np.exp(np.linspace(0, np.log(10), len(time))).astype(np.float32)
    assert not of(judged(found), "unit_jump")


def test_a_sensor_stuck_while_others_move_is_told_and_can_be_emptied():
    found = readings()
    found["P-1"][1]["temp"][300:350] = 41.5
    (stuck,) = of(judged(found), "stuck")
    assert stuck.severity == "note"
    assert stuck.message == "P-1 temp: 41.5 without a change for 49 h, while other sensors of the machine moved"
    assert (stuck.from_us, stuck.until_us) == (day("2025-05-01") + 300 * HOUR, day("2025-05-01") + 349 * HOUR)
    findings = judged(found, description({"stuck": "quarantine"}))
    (mask,) = gate.masks(findings)
    assert (mask.machine, mask.sensor, mask.reason, mask.until_us) == ("P-1", "temp", "stuck", stuck.until_us)
    assert not gate.is_held(findings)


def test_a_run_over_the_end_of_a_month_is_one():
    found = readings()
    found["P-1"][1]["temp"][31 * 24 - 20 : 31 * 24 + 20] = 41.5
    (stuck,) = of(judged(found), "stuck")
    assert stuck.until_us - stuck.from_us == 39 * HOUR


def test_a_machine_that_stands_still_is_not_stuck():
    found = readings()
    for values in found["P-1"][1].values():
        values[300:400] = 5.0
    assert not of(judged(found), "stuck")


def test_a_state_that_stays_is_not_stuck_unless_the_description_says_so():
    found = readings()
    for name in MACHINES:
        found[name][1]["flow"][:] = np.repeat([0.0, 3.0], 24 * 61 // 2)
    assert not of(judged(found), "stuck")
    own = description(flow={"stuck_h": 100})
    assert {f.sensor for f in of(judged(found, own, stuck_h={"flow": 100}), "stuck")} == {"flow"}


def without(found, name, first, last):
    time, columns = found[name]
    keep = (time < day(first)) | (time >= day(last))
    found[name] = time[keep], {n: v[keep] for n, v in columns.items()}
    return found


def test_the_longest_silence_of_a_machine_is_told_within_and_between_months():
    found = without(without(readings(), "P-1", "2025-05-10", "2025-05-12"), "P-1", "2025-05-30", "2025-06-03")
    (gap,) = of(judged(found), "gap")
    assert gap.message == "P-1: no readings for 4.04 days, 97 of its periods, and 1 more such gaps"
    assert (gap.from_us, gap.until_us) == (day("2025-05-30") - HOUR, day("2025-06-03"))


def test_silence_since_the_batch_before_is_a_gap_and_late_rows_are_none():
    before = measured(readings("2025-04-01", 25))
    (gap, *_) = of(judged(readings(), before=before), "gap")
    assert (gap.machine, gap.until_us - gap.from_us) == ("P-1", (5 * 24 + 1) * HOUR)
    late = {name: (t[[0, 1, -2, -1]], {n: v[[0, 1, -2, -1]] for n, v in c.items()})
            for name, (t, c) in readings("2025-05-01", 61).items()}  # fmt: skip
    assert not of(judged(late, before=measured(readings())), "gap")


def test_a_machine_that_stops_reporting_is_told():
    (gap,) = of(judged(without(readings(), "P-4", "2025-06-10", "2025-07-01")), "gap")
    assert gap.message.startswith("P-4: no readings since 2025-06-09 23:00")


def test_gaps_cannot_be_put_in_quarantine_and_can_stop():
    found = without(readings(), "P-1", "2025-05-10", "2025-05-12")
    assert [f.severity for f in judged(found, description({"gap": "quarantine"}))] == ["note"]
    assert gate.masks(judged(found, description({"gap": "quarantine"}))) == []
    assert gate.is_held(judged(found, description({"gap": "stop"})))
    assert judged(found, description({"gap": "off"})) == []


def steps(hours, values=None, zone="UTC", first="2025-06-01", codes=None):
    time = day(first) + np.round(HOUR * np.asarray(hours)).astype(np.int64)
    values = np.arange(len(time), dtype=np.float32) if values is None else np.asarray(values, np.float32)
    codes = np.zeros(len(time), np.int64) if codes is None else np.asarray(codes)
    return clock_steps(MACHINES, codes, time, {"temp": values}, zone=zone, long=False)


def test_a_clock_that_was_set_back_is_told():
    pieces = steps([0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7])
    assert pieces.select(["machine", "n", "from_us", "until_us"]).to_pylist() == [
        {"machine": "P-1", "n": 3, "from_us": day("2025-06-01T05"), "until_us": day("2025-06-01T03")}
    ]
    (step,) = of(judged(readings(), pieces=pieces), "clock_step")
    assert step.message == (
        "P-1: its clock was set back by 2 h at 2025-06-01 05:00, and 3 rows have times that were there before"
    )


@pytest.mark.parametrize(
    ("hours", "values"),
    [
        ([0, 1, 2, 3, 4, 5], None),
        ([0, 1, 2, 3, 1, 2, 3, 4], [0, 1, 2, 3, 1, 2, 3, 4]),  # an export that repeats the end of the one before
        ([0, 1, 2, 8, 9, 10, 3, 4, 5, 6, 7], None),  # late rows that end the file
        ([0, 1, 2, 8, 9, 10, 3, 4, 5, 6, 7, 11, 12], None),  # late rows within it: they fill a gap
        ([0, 1, 1, 2, 3], None),  # a row twice
        ([5, 4, 3, 2, 1, 0], None),  # newest first
    ],
)
def test_late_rows_repeats_and_other_orders_are_no_clock(hours, values):
    assert steps(hours, values).num_rows == 0


def test_machines_that_are_mixed_in_a_file_have_clocks_of_their_own():
    assert steps([0, 5, 1, 6, 2, 7], codes=[0, 1, 0, 1, 0, 1]).num_rows == 0


def test_utc_that_repeats_and_skips_hours_as_berlin_does_is_local_time():
    autumn = steps([0, 1, 2, 2.5, 2, 2.5, 3, 4], first="2025-10-26")
    alone = readings("2025-10-01", 31, machines=["P-1"])
    (fold,) = of(judged(alone, pieces=autumn), "dst_fold")
    assert "repeat the hour at 02:00 on 2025-10-26" in fold.message
    assert "Europe/Berlin" in fold.message
    spring = readings("2025-03-01", 31)
    for name in MACHINES:
        spring = without(spring, name, "2025-03-30T02", "2025-03-30T03")
    (fold,) = judged(spring)
    assert (fold.check, fold.severity, fold.machine) == ("dst_fold", "note", None)
    assert "skip the hour at 02:00 on 2025-03-30 (4 of 4 machines)" in fold.message


def test_one_machine_of_four_that_lacks_the_hour_is_no_local_clock():
    assert judged(without(readings("2025-03-01", 31), "P-1", "2025-03-30T02", "2025-03-30T03")) == []


def test_a_doubled_hour_that_was_read_once_is_told_for_a_named_zone():
    once = steps([0, 0.5, 2, 2.5], zone="Europe/Berlin", first="2025-10-26")  # UTC: 00:00 is 02:00 summer time
    (fold,) = of(judged(readings(), pieces=once), "dst_fold")
    assert "2025-10-26 01:00 UTC" in fold.message
    assert "one pass only: 2 rows" in fold.message
    both = steps([0, 0.5, 1, 1.5], zone="Europe/Berlin", first="2025-10-26")
    assert not judged(readings(), pieces=both)


def test_impossible_and_future_values_are_counted_by_sensor():
    wrong = [Wrong(Reason.RANGE, detail="temp_raw = 9999", scope="cell")] * 8
    wrong += [Wrong(Reason.FUTURE, detail="t = 2031-01-01")] * 2 + [Wrong(Reason.NUMBER, detail="temp_raw = x")]
    pieces = wrong_cells(wrong, description().streams[0])
    found = judged(readings(), pieces=pieces, rows=5000)
    assert {(f.check, f.severity, f.sensor, f.message) for f in found} == {
        ("impossible", "quarantine", "temp",
         "temp: 8 of 5,864 (0.14 %) values that it cannot read; they are in quarantine"),
        ("future", "quarantine", None, "2 of 5,000 (0.04 %) readings from the future (a clock that is ahead, or day "
         "and month swapped); they are in quarantine"),
    }  # fmt: skip


def test_a_few_impossible_values_never_stop_a_batch_and_many_do():
    def severity(number):
        wrong = [Wrong(Reason.RANGE, detail="temp_raw = 9999", scope="cell")] * number
        pieces = wrong_cells(wrong, description().streams[0])
        return [f.severity for f in judged(readings(), description({"impossible": "stop"}), pieces=pieces)]

    assert (severity(8), severity(800)) == (["quarantine"], ["stop"])


def test_a_sensor_may_have_severities_of_its_own():
    found = to_fahrenheit(readings(), "2025-06-01")
    own = description(temp={"checks": {"unit_jump": "quarantine"}})
    findings = judged(found, own)
    assert {f.severity for f in findings} == {"quarantine"}
    assert len(gate.masks(findings)) == 4
    assert judged(found, description(temp={"checks": {"unit_jump": "off"}})) == []


def test_the_worst_comes_first_and_the_refusal_says_what_to_do():
    found = without(to_fahrenheit(readings(), "2025-06-01"), "P-1", "2025-05-10", "2025-05-12")
    findings = judged(found)
    assert [f.severity for f in findings] == ["stop"] * 4 + ["note"]
    error = gate.hold_error(batch(), findings)
    assert error.exit_code == 3
    assert "--accept 000001-abcabcabcabc" in str(error)
    assert "and 1 more" in str(error)


def test_what_is_kept_is_read_back_and_held_batches_are_no_measure(tmp_path):
    home = open_home(tmp_path / "home", create=True, environment={})
    assert gate.before(home, "north", 1) is None
    for sequence, held in ((1, False), (2, True), (3, False)):
        own = batch(sequence=sequence)
        plan.save(home, own)
        findings = judged(to_fahrenheit(readings(), "2025-06-01"))
        gate.save(home, own, measured(readings(days=31)), findings, counts={"rows_ingested": 5}, held=held)
    kept = gate.qualities(home, "north")
    assert [(q.sequence, q.held, len(q.findings)) for q in kept] == [(1, False, 4), (2, True, 4), (3, False, 4)]
    before = gate.before(home, "north", 4)
    assert before is not None
    assert before.num_rows == 2 * measured(readings(days=31)).num_rows
    assert [plan.batch for plan in plan.plans(home, "north")] == [q.batch for q in kept]
    written = json.loads(gate.quality_path(home, "north", kept[0].batch).read_text())
    assert {"check", "severity", "machine", "sensor", "from", "until", "message"} <= set(written["findings"][0])
    plan.plan_path(home, "north", kept[0].batch).unlink()
    assert [q.sequence for q in gate.qualities(home, "north")] == [2, 3]

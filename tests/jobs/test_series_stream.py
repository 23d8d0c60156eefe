"""Units streamed out of Parquet files are the whole history, cut anywhere: each window once, the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.commit import commit_once, open_or_create, open_table, write_part
from cluster.manifest import FileStatistics, Unit, statistics_of, units
from cluster.storage import TIME, readings_schema
from jobs.series.stream import Shape, joined, open_file, stream
from models.config import Clock, WindowConfig
from models.errors import InputError
from models.windows import CONTEXT, Channel, MachineEvents, Series, series_of, silence, window_ending

HOUR = 3_600_000_000
SENSORS = ("a", "b")
Rows = dict[str, tuple[np.ndarray, np.ndarray]]


def shape_of(*, length: int = 8, carry: int = 2) -> Shape:
    return Shape(SENSORS, Clock(), WindowConfig(length=length, carry=carry))


def history(rng: np.random.Generator, *, machines: int, hours: int, silent: float = 0.02) -> Rows:
    """Irregular readings with missing cells, several a tick, and silences of every length."""
    found: Rows = {}
    for number in range(machines):
        times = np.sort(rng.choice(hours * 60, size=int(rng.integers(1, hours * 2)), replace=False)) * (HOUR // 60)
        jumps = np.cumsum(np.where(rng.random(len(times)) < silent, rng.integers(1, 40, len(times)), 0)) * HOUR
        values = rng.normal(size=(len(times), 2)).astype(np.float32)
        values[rng.random(values.shape) < 0.2] = np.nan
        found[f"M-{number:02d}"] = (times + jumps + HOUR * 400_000, values)
    return found


def table_of(rows: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> pa.Table:
    rows = list(rows)
    names = [name for name, times, _ in rows for _ in times]
    times = np.concatenate([times for _, times, _ in rows])
    values = np.concatenate([values for _, _, values in rows])
    columns = {s: pa.array(values[:, i], pa.float32(), from_pandas=True) for i, s in enumerate(SENSORS)}
    return pa.table({"machine": names, "time": pa.array(times).cast(TIME), **columns})


def write(folder: Path, rows: Rows, rng: np.random.Generator, *, row_group: int) -> list[str]:
    """Months as ingest writes them: files by ranges of machines and of time, sorted by machine and time within."""
    paths: list[str] = []
    names = sorted(rows)
    bounds = sorted({0, len(names), *rng.integers(0, len(names) + 1, 2).tolist()})
    for low, high in pairwise(bounds):
        own = names[low:high]
        first, last = min(rows[m][0][0] for m in own), max(rows[m][0][-1] for m in own)
        cuts = [first, *sorted(rng.integers(first, last + 1, 2).tolist()), last + 1]
        for since, until in pairwise(cuts):
            picked = [(m, (rows[m][0] >= since) & (rows[m][0] < until)) for m in own]
            some = [(m, rows[m][0][keep], rows[m][1][keep]) for m, keep in picked if keep.any()]
            if some:
                path = folder / f"{len(paths):03d}.parquet"
                pq.write_table(table_of(some), path, row_group_size=row_group)
                paths.append(str(path))
    return paths


def seen(series: Series) -> list[int]:
    known = ~np.isnan(series.values[:, :2]).all(axis=1)
    known[: series.lead] = False
    return series.ticks[known].tolist()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(4, 12), carry=st.integers(0, 4), cells=st.integers(1, 400))
def test_each_window_comes_once_with_the_same_bytes_however_units_and_files_are_cut(
    tmp_path: Path, seed: int, length: int, carry: int, cells: int
) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path / f"{seed}-{length}-{carry}-{cells}"
    folder.mkdir(exist_ok=True)
    rows, shape = history(rng, machines=4, hours=150), shape_of(length=length, carry=carry)
    paths = tuple(write(folder, rows, rng, row_group=int(rng.integers(5, 60))))
    own = Channel("since_service.seal", "time", "life", "context")
    named = (own, Channel("errors_24h.e7", "number", "1", "context"))
    shape = replace(shape, context=(*CONTEXT, *named))
    known = {
        m: MachineEvents(
            int(t[0]) - HOUR, errors_known_us=np.sort(t[:5]), parts={"seal": (t[2:4], t[2:4])}, codes={"e7": t[1:3]}
        )
        for m, (t, _) in rows.items()
    }  # fmt: skip
    whole = {
        m: series_of(m, t, v, known[m], clock=shape.clock, window=shape.window, channels=shape.context)
        for m, (t, v) in rows.items()
    }  # fmt: skip
    ticks = [400_000, 400_900]
    cuts = [None, *sorted(set(rng.integers(*ticks, 3).tolist())), None]
    names = [None, "M-01", "M-03", None]
    found: dict[str, list[Series]] = {m: [] for m in rows}
    for low, high in pairwise(names):
        for since, until in pairwise(cuts):
            unit = Unit("pump", low, high, since, until, paths, 0)
            for series in stream(unit, shape, known, most_cells=cells):
                assert unit.holds(series.machine) and series.lead == length - 1
                found[series.machine].append(series)
    for machine, expected in whole.items():
        parts = found[machine]
        assert sorted(tick for part in parts for tick in seen(part)) == seen(expected)  # none lost, none twice
        for part in parts:
            for tick in seen(part):
                assert window_ending(part, tick, length).tobytes() == window_ending(expected, tick, length).tobytes()
        parts = sorted(parts, key=lambda s: s.first_tick + s.lead)
        end_to_end = joined(parts, known[machine], shape.clock, shape.context)
        assert end_to_end.first_tick == expected.first_tick and end_to_end.last_tick == expected.last_tick
        np.testing.assert_array_equal(end_to_end.values[:, 2:], expected.values[:, 2:])
        assert seen(end_to_end) == seen(expected)


def test_a_tick_that_only_carries_belongs_to_the_unit_of_the_next_reading(tmp_path: Path) -> None:
    shape, times = shape_of(length=4, carry=2), np.array([10, 13]) * HOUR
    pq.write_table(table_of([("m", times, np.ones((2, 2), np.float32))]), tmp_path / "x.parquet")
    files = (str(tmp_path / "x.parquet"),)
    first, second = (
        [tick for s in stream(Unit("t", None, None, since, until, files, 2), shape, {}) for tick in seen(s)]
        for since, until in ((None, 11), (11, None))
    )
    assert (first, second) == ([10], [11, 12, 13])


def test_nothing_is_carried_into_a_silence_longer_than_a_window(tmp_path: Path) -> None:
    shape = shape_of(length=4, carry=2)
    assert silence(shape.window) == 6
    for gap, expected in ((6, [0, 1, 2, 6]), (7, [0, 7])):
        times = np.array([100, 100 + gap]) * HOUR
        found = series_of("m", times, np.ones((2, 2), np.float32), MachineEvents(), clock=Clock(), window=shape.window)
        assert [tick - 100 for tick in seen(found)] == expected


def test_a_silence_of_years_costs_no_rows(tmp_path: Path) -> None:
    times = np.array([1, 2, 500_000, 500_001]) * HOUR
    pq.write_table(table_of([("m", times, np.ones((4, 2), np.float32))]), tmp_path / "x.parquet")
    parts = list(stream(Unit("t", None, None, None, None, (str(tmp_path / "x.parquet"),), 4), shape_of(), {}))
    assert [len(part.values) for part in parts] == [9, 9] and [seen(p) for p in parts] == [[1, 2], [500_000, 500_001]]


def test_a_sensor_that_came_later_is_empty_in_older_files(tmp_path: Path) -> None:
    old = table_of([("m", np.array([1]) * HOUR, np.ones((1, 2), np.float32))]).drop_columns(["b"])
    pq.write_table(old, tmp_path / "old.parquet")
    pq.write_table(table_of([("m", np.array([2]) * HOUR, np.full((1, 2), 5, np.float32))]), tmp_path / "new.parquet")
    files = tuple(str(tmp_path / name) for name in ("old.parquet", "new.parquet"))
    (found,) = stream(Unit("t", None, None, None, None, files, 2), shape_of(carry=0), {})
    np.testing.assert_array_equal(found.values[found.lead :, :2], [[1, np.nan], [5, 5]])


def test_memory_does_not_grow_with_the_length_of_a_unit(tmp_path: Path) -> None:
    import tracemalloc

    shape, paths = shape_of(length=8), []
    for month in range(40):
        times = (np.arange(720) + 720 * month + 400_000) * HOUR
        written = write_part(
            tmp_path, table_of([(f"M-{m}", times, np.ones((720, 2), np.float32)) for m in range(5)]), stem=f"{month}"
        )
        paths.append(str(tmp_path / written.path))

    def peak(files: list[str]) -> tuple[int, int]:
        tracemalloc.start()
        rows = sum(
            len(s.values) - s.lead
            for s in stream(Unit("t", None, None, None, None, tuple(files), 0), shape, {}, most_cells=20_000)
        )
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return rows, most

    short, long = peak(paths[:10]), peak(paths)
    assert (short[0], long[0]) == (5 * 7200, 5 * 28800)
    assert long[1] < 1.3 * short[1]


def test_units_of_a_real_table_cover_every_machine_and_time_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table = open_or_create(tmp_path / "t", readings_schema(SENSORS), partition_by=["month"])

    files = []
    for month in range(1, 7):
        start = np.datetime64(f"2025-0{month}-01", "us").astype(np.int64)
        times = start + np.arange(1, 700) * HOUR
        rows = table_of([(f"M-{m:02d}", times, rng.normal(size=(699, 2)).astype(np.float32)) for m in range(20)])
        files.append(write_part(tmp_path / "t", rows, stem="p", partition={"month": f"2025-0{month}"}))
    commit_once(table, files, app_id="x")

    opened = open_table(tmp_path / "t")
    assert opened is not None
    found = list(
        units(
            statistics_of(opened), [f"M-{m:02d}" for m in range(20)], machine_type="pump", num_sensors=2,
            step_us=HOUR, overlap=20, parallel=4, unit_bytes=24 * 20_000,
            footer=lambda path: open_file(str(tmp_path / "t" / path)).metadata,
        )
    )  # fmt: skip
    assert len(found) >= 4
    rows = [unit.num_rows for unit in found]
    assert sum(rows) == pytest.approx(6 * 20 * 699, rel=0.02)
    for machine in ("M-00", "M-07", "M-19", "unknown"):
        own = sorted((u for u in found if u.holds(machine)), key=lambda u: -1 if u.since is None else u.since)
        assert own[0].since is None and own[-1].until is None
        assert all(a.until == b.since for a, b in pairwise(own))


def statistics(machines: list[tuple[str, str]], times: list[tuple[int, int]], rows: list[int]) -> FileStatistics:
    return FileStatistics(
        pa.array([f"{n}.parquet" for n in range(len(rows))]), np.array(rows), pa.array([m for m, _ in machines]),
        pa.array([m for _, m in machines]), np.array([t for t, _ in times]), np.array([t for _, t in times]),
    )  # fmt: skip


def plan(found: FileStatistics, names: list[str], **options: int | None) -> list[Unit]:
    settings = {"parallel": 4, "unit_bytes": 24 * 1000, "overlap": 10, **options}
    return list(units(found, names, machine_type="t", num_sensors=2, step_us=HOUR, **settings))  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pairs=st.sampled_from([1, 7, 1_000_000]))
def test_a_unit_names_exactly_the_files_that_may_hold_its_rows_or_its_overlap(seed: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    num_files, names = int(rng.integers(1, 60)), [f"M-{number:02d}" for number in range(rng.integers(1, 12))]
    low = rng.integers(0, len(names), num_files)
    high = np.minimum(low + rng.integers(0, 4, num_files), len(names) - 1)
    first = (400_000 + rng.integers(0, 3_000, num_files)) * HOUR + rng.integers(0, HOUR, num_files)
    last = first + rng.integers(0, 500, num_files) * HOUR
    unknown = rng.random(num_files) < 0.05
    first[unknown], last[unknown] = -(2**62), 2**62
    ends = [pa.array([names[n] for n in found]) for found in (low, high)]
    paths = pa.array([f"{number:02d}" for number in range(num_files)])
    found = FileStatistics(paths, rng.integers(1, 3_000, num_files), *ends, first, last)
    overlap = int(rng.integers(0, 300))
    since, until = (int(rng.choice([0, tick])) or None for tick in (401_000, 402_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.rectangles.MOST_PAIRS", pairs)
        patch.setattr("cluster.manifest.LEAST_BYTES", 1)
        planned = plan(found, names, overlap=overlap, since=since, until=until)
    for unit in planned:
        start = 0 if unit.low is None else names.index(unit.low)
        stop = len(names) if unit.high is None else names.index(unit.high)
        reach = -(2**62) if unit.since is None else (unit.since - overlap) * HOUR
        end = 2**62 if unit.until is None else unit.until * HOUR
        meets = (low < stop) & (high >= start) & (last > reach) & (first <= end)
        assert unit.files == tuple(paths.filter(pa.array(meets)).to_pylist())
    for machine in names:
        own = [unit for unit in planned if unit.holds(machine)]
        assert all(a.until == b.since for a, b in pairwise(own))
        if own:
            assert own[0].since == since and own[-1].until == until
        for unit in own:
            assert unit.since is None or unit.until is None or unit.since < unit.until


def test_units_double_where_there_would_be_too_many_for_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.manifest.LEAST_BYTES", 1)
    months = statistics([("m", "m")] * 48, [(k * 100 * HOUR + 1, (k + 1) * 100 * HOUR) for k in range(48)], [1000] * 48)
    assert len(plan(months, ["m"])) == 48
    monkeypatch.setattr("cluster.manifest.MOST_UNITS", 48)
    assert len(plan(months, ["m"])) == 48
    monkeypatch.setattr("cluster.manifest.MOST_UNITS", 47)
    assert len(plan(months, ["m"])) == 24
    monkeypatch.setattr("cluster.manifest.MOST_UNITS", 11)
    found = plan(months, ["m"])
    assert len(found) == 6 and sum(unit.num_rows for unit in found) == 48_000


def test_a_manifest_of_many_files_looks_at_each_in_its_own_group_alone() -> None:
    """Twice the machines, twice the time: what compares each file with each group takes four times as long."""

    def seconds(machines: int) -> float:
        names = [f"M-{number:06d}" for number in range(machines)]
        start, hours = np.tile(np.arange(24) * 730 * HOUR, machines), 730 * HOUR
        own = pa.array(np.repeat(names, 24))
        paths = pa.array([f"{number}" for number in range(24 * machines)])
        found = FileStatistics(paths, np.full(24 * machines, 2_000_000), own, own, start + 1, start + hours)
        began = time.process_time()
        planned = list(units(found, names, machine_type="t", num_sensors=24, step_us=HOUR, overlap=10, parallel=1))
        assert sum(unit.num_rows for unit in planned) == 24 * machines * 2_000_000
        return time.process_time() - began

    seconds(100)
    small, large = (min(seconds(machines) for _ in range(3)) for machines in (500, 4000))
    assert large < 20 * small  # eight times the files; each with each would be 64 times


def test_one_machine_with_more_than_a_unit_is_cut_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.manifest.LEAST_BYTES", 1)
    found = plan(
        statistics([("m", "m")] * 4, [(k * 100 * HOUR + 1, (k + 1) * 100 * HOUR) for k in range(4)], [1000] * 4), ["m"]
    )
    assert [(u.since, u.until) for u in found] == [(None, 100), (100, 200), (200, 300), (300, None)]
    assert [len(u.files) for u in found] == [1, 2, 2, 2]  # the one before, for what windows look back on
    assert [u.num_rows for u in found] == [1000] * 4


def test_a_range_of_time_is_planned_from_the_files_that_can_hold_it() -> None:
    spread = statistics([("a", "b")] * 3, [(k * 100 * HOUR + 1, (k + 1) * 100 * HOUR) for k in range(3)], [1000] * 3)
    (unit,) = plan(spread, ["a", "b"], since=150, until=199)
    assert (unit.since, unit.until, unit.files) == (150, 199, ("1.parquet",))
    assert plan(spread, ["a", "b"], since=300) == []


def test_a_file_without_statistics_may_hold_anything() -> None:
    found = FileStatistics(
        pa.array(["x"]), np.array([5]), pa.nulls(1, pa.string()), pa.nulls(1, pa.string()), np.array([-(2**62)]),
        np.array([2**62]),
    )  # fmt: skip
    (unit,) = plan(found, ["a", "b"])
    assert unit.files == ("x",) and unit.holds("a") and unit.holds("zzz")


def test_an_empty_table_has_no_unit() -> None:
    none = FileStatistics(pa.array([], pa.string()), np.array([], int), pa.array([], pa.string()),
                          pa.array([], pa.string()), np.array([], int), np.array([], int))  # fmt: skip
    assert plan(none, ["a"]) == []


def test_a_range_that_begins_with_a_file_reads_the_one_before_for_its_first_windows() -> None:
    spread = statistics([("a", "b")] * 2, [(1, 100 * HOUR), (100 * HOUR + 1, 200 * HOUR)], [1000] * 2)
    (unit,) = plan(spread, ["a", "b"], since=100)
    assert unit.files == ("0.parquet", "1.parquet") and unit.num_rows == pytest.approx(1000, rel=0.01)


def test_a_reading_at_the_very_end_of_a_range_has_a_unit() -> None:
    (unit,) = plan(statistics([("a", "b")], [(100 * HOUR, 200 * HOUR)], [1000]), ["a", "b"], since=0, until=100)
    assert unit.files == ("0.parquet",) and unit.until == 100


def test_whole_machines_are_never_cut_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.manifest.LEAST_BYTES", 1)
    spread = statistics([("m", "m")] * 4, [(k * 100 * HOUR + 1, (k + 1) * 100 * HOUR) for k in range(4)], [1000] * 4)
    (unit,) = plan(spread, ["m"], whole=True)
    assert (unit.since, unit.until, len(unit.files)) == (None, None, 4)


@pytest.mark.parametrize("kind", ["us", "ns", "ms"])
def test_times_of_another_resolution_are_the_same_times(tmp_path: Path, kind: str) -> None:
    table = table_of([("m", np.array([1, 2, 3]) * HOUR, np.ones((3, 2), np.float32))])
    column = table["time"].cast(pa.timestamp(kind, "UTC"))
    pq.write_table(table.set_column(1, "time", column), tmp_path / "x.parquet")
    (found,) = stream(Unit("t", None, None, None, None, (str(tmp_path / "x.parquet"),), 3), shape_of(), {})
    assert seen(found) == [1, 2, 3]


def test_series_that_are_centuries_apart_are_refused_where_they_would_be_joined() -> None:
    far = [Series("m", at, 7, np.zeros((9, 4), np.float32)) for at in (0, 60_000_000)]
    with pytest.raises(InputError, match=r"Readings span too much time.*machine m"):
        joined(far, MachineEvents(), Clock())

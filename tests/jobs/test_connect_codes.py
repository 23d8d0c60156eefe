"""Codes for «no value»: found where far from all else, believed of the logger's other sensors, never of counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.connect import run
from jobs.fleet.writers import ABSURD
from jobs.infer.codes import limited
from jobs.infer.names import Named
from models.source import SensorColumn, Stream
from tests.jobs.test_connect import hours

RNG = np.random.default_rng(0)


def sensor(kind: str, unit: str, **limits: float) -> Named:
    return Named(SensorColumn(sensor=kind, kind=kind, unit=unit, **limits), "high", "told")


def around(level: float, spread: float, *codes: float) -> np.ndarray:
    return np.concatenate([RNG.normal(level, spread, 300), codes])


def test_a_code_limits_its_sensor_and_the_others_of_the_logger() -> None:
    named = {"n": sensor("speed", "rpm"), "q": sensor("flow", "l/min"), "x": sensor("number", "1")}
    numbers = {"n": around(1500, 50, -9999, -9999, 99999), "q": around(40, 2, 99999), "x": around(3, 1)}
    found, told = limited(named, numbers)
    assert (found["n"].column.low, found["n"].column.high) == (-9989, 99899)
    assert found["q"].column.low == pytest.approx(-9989 * 0.06, rel=1e-5), "in the canonical unit, m3/h"
    assert (found["x"].column.low, found["x"].column.high) == (None, None), "it may count, and shows none itself"
    assert told == ["codes for no value in the sample: -9999 (2 times), 99999 (2 times); limits keep them out"]


@pytest.mark.parametrize(
    ("kind", "unit", "numbers"),
    [
        ("number", "1", np.arange(9000.0, 10_500.0)),
        ("temperature", "degC", np.concatenate([np.linspace(900, 1100, 300), [999, 999, 999]])),
        ("speed", "rpm", around(1500, 50, 99999)),
        ("torque", "N*m", np.concatenate([np.linspace(-9000, 9000, 300), [-9999, -9999, 9999]])),
        ("speed", "rpm", np.concatenate([np.full(300, 99999.0), [1500, 1501]])),
        ("power", "kW", around(9950, 40, 9999, 9999)),
        ("current", "A", around(10, 2, -1234.5, -1234.5)),
    ],
    ids=["a counter", "a furnace", "one alone", "both ways", "hardly anything else", "within reach", "no code"],
)  # fmt: skip
def test_what_a_sensor_may_read_is_no_code(kind: str, unit: str, numbers: np.ndarray) -> None:
    named = {"s": sensor(kind, unit)}
    assert limited(named, {"s": numbers}) == (named, [])


def test_a_wide_range_that_is_never_negative_has_a_code_below_it() -> None:
    named = {"n": sensor("speed", "rpm")}
    found, told = limited(named, {"n": np.concatenate([np.linspace(1000, 13_000, 300), [-9999, -9999]])})
    assert found["n"].column.low == -9989 and told


def test_who_writes_a_code_is_taken_to_write_the_commonest_too() -> None:
    found, _ = limited({"n": sensor("current", "A")}, {"n": around(90, 9, 99999, 99999)})
    assert (found["n"].column.low, found["n"].column.high) == (-9989, 99899)


def test_limits_that_are_stricter_stay_and_states_have_none() -> None:
    state = Named(SensorColumn(sensor="s", states={"ON": 1.0}), "medium", "a state")
    named = {"t": sensor("temperature", "degC", low=-273.15, high=3000.0), "s": state}
    numbers = {"t": around(60, 5, 32767, 32767, 32767), "s": around(0, 1, 32767)}
    found, _ = limited(named, numbers)
    assert found == named


@pytest.mark.parametrize("layout", ["wide", "decimal comma", "long", "parquet"])
def test_connect_drafts_the_limits_in_every_layout(home: Home, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    times = hours("%Y-%m-%dT%H:%M:%SZ", 200)
    speeds = [float(v) for v in np.round(1500 + 40 * np.sin(np.arange(200.0)), 1)]
    flows = [float(v) for v in np.round(30 + 2 * np.cos(np.arange(200.0)), 2)]
    speeds[20], speeds[150], flows[77] = ABSURD[0], ABSURD[1], ABSURD[0]
    speeds[90], flows[30] = ABSURD[0], ABSURD[1]
    rows = list(zip(times, speeds, flows, strict=True))
    if layout == "parquet":
        columns = {"machine": ["P-01"] * 200, "time": times, "speed_rpm": speeds, "flow_m3_h": flows}
        pq.write_table(pa.table(columns), folder / "readings.parquet")
    elif layout == "long":
        lines = [f"{t},P-01,speed_rpm,{n}\n{t},P-01,flow_m3_h,{q}" for t, n, q in rows]
        (folder / "readings.csv").write_text("\n".join(["time,machine,tag,value", *lines]) + "\n")
    elif layout == "decimal comma":
        lines = [f"{t};P-01;{n};{q}".replace(".", ",") for t, n, q in rows]
        (folder / "readings.csv").write_text("\n".join(["time;machine;speed_rpm;flow_m3_h", *lines]) + "\n")
    else:
        lines = [f"{t},P-01,{n},{q}" for t, n, q in rows]
        (folder / "readings.csv").write_text("\n".join(["time,machine,speed_rpm,flow_m3_h", *lines]) + "\n")
    answered = open_home(home.path, environment={})
    run(answered, path=folder, plant="alpha", progress=Silent())
    streams: list[Stream] = [s for s in answered.source("alpha").streams if s.role == "readings"]
    limits = {s.sensor: (s.low, s.high) for s in streams[0].sensors.values()}
    assert limits == {"speed": (-9989.0, 99899.0), "flow": (-9989.0, 99899.0)}
    assert "codes for no value" in (answered.sources / "alpha.toml").read_text("utf-8")

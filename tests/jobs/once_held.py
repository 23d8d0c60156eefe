"""Plants whose next delivery a check holds, or empties of the cells it doubts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from cluster.home import Home
from cluster.sources import write_source
from models.source import Checks, MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat
from tests.jobs.once_plants import PLANT

T0 = datetime(2025, 3, 1, tzinfo=UTC)


def describe(home: Home, raw: Path, checks: Checks, *, plant: str = PLANT) -> None:
    temp = SensorColumn(sensor="temp", kind="temperature", unit="degC")
    sensors = {"temp_degC": temp, "load": SensorColumn(sensor="load")}
    stream = Stream(
        name="pumps", role="readings", files="*.csv", time=TimeFormat(column="t"), machine=MachineFrom(column="m"),
        machine_type="pump", sensors=sensors, period_s=3600,
    )  # fmt: skip
    write_source(
        home.sources / f"{plant}.toml",
        SourceDescription(plant=plant, root=str(raw), streams=(stream,), checks=checks),
    )


def deliver(raw: Path, name: str, *, first_day: int, days: int, fahrenheit: bool = False) -> None:
    """Hourly readings of six pumps around 40 degC."""
    rng = np.random.default_rng(first_day)
    lines = ["m,t,temp_degC,load"]
    for hour in range(first_day * 24, (first_day + days) * 24):
        for machine in range(6):
            value = 40 + machine + rng.normal(0, 1.5)
            value = value * 1.8 + 32 if fahrenheit else value
            lines.append(f"P{machine},{(T0 + timedelta(hours=hour)).isoformat()},{value:.2f},{rng.normal(50, 5):.1f}")
    (raw / name).write_text("\n".join(lines) + "\n")

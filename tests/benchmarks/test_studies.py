"""500 plants' studies in one process, trainings replaced by recorded curves; prints a table, `make bench` runs it.

What is measured is the driver: its memory, its time for a trial's epoch, how many of those are MLflow's. A tenth of the
plants is run too, so that what grows shows. MILLWRIGHT_BENCH_PLANTS names other numbers, such as `50,500,2000`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.benchmarks.children import child

pytestmark = pytest.mark.slow
PLANTS = tuple(int(number) for number in os.environ.get("MILLWRIGHT_BENCH_PLANTS", "50,500").split(","))
MOST_GROWTH = 1.5  # of an epoch's time, with ten times the plants
MOST_MIB = 100.0  # that the studies of 500 plants add


@pytest.mark.parametrize("way", ["alone", "tune"])
def test_the_drivers_part_of_many_studies_stays_small(way: str, tmp_path: Path) -> None:
    each = []
    for plants in PLANTS:
        found, _ = child("studies_dry.py", tmp_path / f"{plants}", plants, way)
        each.append(1000 * found["seconds"] / found["epochs"])
        per_s = [found["mlflow_calls"] / found[name] for name in ("seconds", "mlflow_s")]
        where = "through Tune on 2 cores" if way == "tune" else "without Ray"
        print(
            f"\n{plants} plants {where}: {found['trials']} trials, {found['epochs']} epochs in "
            f"{found['seconds']:.1f} s, {each[-1]:.1f} ms each; {found['mlflow_s']:.1f} s of it MLflow's "
            f"{found['mlflow_calls']} writes, {per_s[0]:.0f}/s of at most {per_s[1]:.0f}/s; begun in "
            f"{found['prepare_s']:.1f} s; peak {found['peak_mib']:.0f} MiB, {found['before_mib']:.0f} before the first "
            f"trial; journals {found['journals_kb']:.0f} kB",
            flush=True,
        )  # fmt: skip
        if way == "alone":
            assert found["peak_mib"] - found["before_mib"] < MOST_MIB
    assert each[-1] <= MOST_GROWTH * each[0]

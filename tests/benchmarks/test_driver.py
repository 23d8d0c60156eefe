"""What the driver does with a table of 1, 10 and 100 TB, run over a log of that size; prints a table.

Only the log is made: the driver never opens a data file. Every step is a process of its own. `make bench` runs it;
MILLWRIGHT_BENCH_TERABYTES names other sizes, such as `1,10`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.home import open_home
from tests.benchmarks.driver_log import FILE_BYTES, FILES, KIND, MONTHS, PLANT
from tests.benchmarks.driver_steps import STEPS

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
TERABYTES = tuple(float(size) for size in os.environ.get("MILLWRIGHT_BENCH_TERABYTES", "1,10,100").split(","))
MOST_S, MOST_MIB = 60.0, 4096.0  # at 100 TB, for any step, on a slow machine


def child(script: str, *arguments: object) -> str:
    return subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True,
        cwd=HERE.parents[1], env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
    ).stdout  # fmt: skip


@pytest.mark.parametrize("terabytes", TERABYTES)
def test_the_drivers_part_stays_small(terabytes: float, tmp_path: Path) -> None:
    machines = round(terabytes * 1e12 / (MONTHS * FILES * FILE_BYTES))
    child("driver_log.py", tmp_path / "home", machines)
    log = open_home(tmp_path / "home", environment={}).table(PLANT, f"readings/{KIND}") / "_delta_log"
    sizes = {kind: sum(path.stat().st_size for path in log.glob(f"*.{kind}")) for kind in ("json", "parquet")}
    files = machines * MONTHS * FILES
    print(f"\n{terabytes:g} TB: {machines:,} machines, {files:,} files of {FILE_BYTES / 1e6:.0f} MB; log "
          f"{sizes['json'] / 1e6:,.0f} MB of JSON, {sizes['parquet'] / 1e6:,.0f} MB of checkpoint")  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for step in STEPS:
        found[step] = json.loads(child("driver_steps.py", tmp_path / "home", step).splitlines()[-1])
        seconds, peak, count = (found[step][name] for name in ("seconds", "peak_mib", "count"))
        print(f"  {step:>26}: {seconds:7.2f} s, {peak:6,.0f} MiB at most, {count:,}", flush=True)
    assert found["files for ingest"]["count"] == files
    for step, entry in found.items():
        assert entry["seconds"] < MOST_S and entry["peak_mib"] < MOST_MIB, step

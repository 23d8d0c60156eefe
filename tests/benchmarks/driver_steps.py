"""One step of what the driver does with a table, in a process of its own; prints seconds, peak memory and a count.

    python -m tests.benchmarks.driver_steps HOME STEP
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.commit import WrittenFile, commit_once, open_table
from cluster.durability import settle
from cluster.home import Home, open_home
from cluster.manifest import statistics_of, units
from cluster.storage import files_of, read_machines, reading_files, visible_table, written_files
from jobs.ingesting.tables import show
from jobs.ingesting.whole import complete_tables
from jobs.series.cache import unit_digests
from jobs.series.gather import plan_units, rows_of
from jobs.series.stream import Shape
from models.config import Clock, WindowConfig
from tests.benchmarks.driver_log import FILE_BYTES, FILE_ROWS, KIND, PLANT, SENSORS, machine

SHAPE = Shape(SENSORS, Clock(), WindowConfig())
PARALLEL = 4_000  # units that keep 1,000 cores busy
Step = Callable[[Home], Callable[[], Any]]


def _table(home: Home) -> Any:
    return visible_table(home, PLANT, f"readings/{KIND}")


def _statistics(home: Home) -> Callable[[], Any]:
    table = _table(home)
    return lambda: statistics_of(table).num_rows


def _files(home: Home) -> Callable[[], Any]:
    table = _table(home)
    return lambda: files_of(table, KIND, home.table(PLANT, f"readings/{KIND}"))


def _written(home: Home) -> Callable[[], Any]:
    table = _table(home)
    return lambda: written_files(table)


def _units(home: Home) -> Callable[[], Any]:
    found = statistics_of(_table(home))
    names = read_machines(home, PLANT)["machine"].to_pylist()
    return lambda: list(
        units(
            found, names, machine_type=KIND, num_sensors=len(SENSORS), step_us=SHAPE.clock.step_us,
            overlap=SHAPE.overlap, parallel=PARALLEL,
        )
    )  # fmt: skip


def _plan(home: Home) -> Callable[[], Any]:
    return lambda: plan_units(home, PLANT, SHAPE, parallel=PARALLEL)


def _digests(home: Home) -> Callable[[], Any]:
    planned = _plan(home)()
    return lambda: unit_digests(planned, SHAPE, {})


def _rows(home: Home) -> Callable[[], Any]:
    planned = _plan(home)()
    return lambda: rows_of(planned, [{"digest": "0" * 32}] * len(planned))


def _commit(home: Home) -> Callable[[], Any]:
    path, number = home.table(PLANT, f"readings/{KIND}"), time.time_ns()
    table = open_table(path)
    assert table is not None
    (path / "month=2025-12").mkdir(exist_ok=True)
    at = json.dumps({"machine": machine(0), "time": "2025-12-31T23:59:59.000000Z"})
    stats = f'{{"numRecords":{FILE_ROWS},"minValues":{at},"maxValues":{at}}}'
    added = [
        WrittenFile(f"month=2025-12/part-{number}-{n}.parquet", FILE_BYTES, FILE_ROWS, {"month": "2025-12"}, stats)
        for n in range(100)
    ]
    return lambda: [commit_once(table, added, app_id=f"{number}")]


def _checkpoint(home: Home) -> Callable[[], Any]:
    path = home.table(PLANT, f"readings/{KIND}")
    table = open_table(path)
    assert table is not None
    return lambda: [table.create_checkpoint(), settle(path, after=table.version())]


STEPS: dict[str, Step] = {
    "open the table": lambda home: lambda: [_table(home)],
    "statistics of its files": _statistics,
    "cut units": _units,
    "plan_units, all of it": _plan,
    "name the units' caches": _digests,
    "rows for Ray": _rows,
    "files for ingest": _files,
    "files for a transaction": _written,
    "reading_files, all of it": lambda home: lambda: reading_files(home, PLANT),
    "commit 100 files": _commit,
    "checkpoint": _checkpoint,
    "complete_tables": lambda home: lambda: complete_tables(home, PLANT),
    "show": lambda home: lambda: [show(home, PLANT)],
}


def peak_mib() -> float:
    """The most memory this program has held, not its parent before it."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    home = open_home(sys.argv[1], environment={})
    run = STEPS[sys.argv[2]](home)
    began = time.perf_counter()
    found = run()
    print(json.dumps({"seconds": time.perf_counter() - began, "peak_mib": peak_mib(), "count": len(found)}))


if __name__ == "__main__":
    main()

"""`ingest` of connected plants, one after the other in one Ray session; prints seconds and rows of each as JSON.

    python ingest_ours.py HOME CPUS
"""

from __future__ import annotations

import json
import os
import sys
import time

from cluster.home import open_home
from cluster.report import Silent
from cluster.session import ray_session
from cluster.storage import reading_files


def main() -> None:
    path, cpus = sys.argv[1:]
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: int(cpus)]))
    home = open_home(path, assignments=[f"ray.num_cpus={cpus}", "lineage.enabled=false"])
    found = {}
    with ray_session(home):
        import ray

        from jobs import ingest

        ray.get([ray.remote(_warm).remote() for _ in range(int(cpus))])
        for plant in home.plants():
            began = time.perf_counter()
            report = ingest.run(home, plant=plant, progress=Silent())
            seconds = time.perf_counter() - began
            rows = sum(file.num_rows for file in reading_files(home, plant))
            found[plant] = {"seconds": seconds, "rows": rows, "source_rows": report.rows_ingested}
    print(json.dumps(found))


def _warm() -> None:
    """A worker has what it needs, as a peer's library is imported, before time is taken."""
    import jobs.ingesting.parse
    import jobs.ingesting.rewrite  # noqa: F401
    from models.units import conversion

    conversion("degF", "temperature")
    time.sleep(2)  # so that each task has a worker of its own


if __name__ == "__main__":
    main()

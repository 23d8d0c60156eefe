"""One step over a plant's history in a process of its own: home, what ("grid" or "score"), since. Prints JSON."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from cluster.home import open_home
from cluster.report import Silent
from cluster.session import ray_session

PLANT = "harbor"


def main() -> None:
    home, what, since = open_home(Path(sys.argv[1]), environment={}), sys.argv[2], sys.argv[3]
    with ray_session(home):
        from jobs import score
        from jobs.dataset import load_plant

        if what == "grid":
            shutil.rmtree(home.of(PLANT).cache, ignore_errors=True)
            began = time.perf_counter()
            data = load_plant(home, PLANT)
            done = sum(last - first + 1 for first, last in data.spans.values())
        else:
            shutil.rmtree(home.table(PLANT, "predictions"), ignore_errors=True)
            began = time.perf_counter()
            done = score.run(home, progress=Silent(), plant=PLANT, since=since).predictions_written
        print(json.dumps({"seconds": time.perf_counter() - began, "done": done}))


if __name__ == "__main__":
    main()

"""Tune a home on a node that is lost in the middle, with another to go on: ``python -m tests.jobs.lost_node HOME``."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from cluster.home import open_home
from cluster.report import Silent
from jobs import tune
from jobs.tuning.studies import PlantStudies

LOOPBACK = {"node_ip_address": "127.0.0.1", "object_store_memory": 200 * 2**20}


def main(path: str, *assignments: str) -> None:
    home = open_home(Path(path), environment={}, assignments=assignments)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **LOOPBACK})
    try:
        node = cluster.add_node(num_cpus=2, **LOOPBACK)
        ray.init(address=cluster.address, log_to_driver=False)
        wanted, lost, reports = threading.Event(), threading.Event(), list[tune.TuneReport]()
        heard = PlantStudies.heard

        def losing(self: PlantStudies, trial_id: str, result: dict[str, Any]) -> bool:
            stop = heard(self, trial_id, result)
            if int(result["epoch"]) == 2 and not stop:
                wanted.set()
                lost.wait()
            return stop

        PlantStudies.heard = losing  # type: ignore[method-assign]
        work = threading.Thread(target=lambda: reports.append(tune.run(home, progress=Silent())), daemon=True)
        work.start()
        assert wanted.wait(120), "nothing trained"
        cluster.add_node(num_cpus=2, **LOOPBACK)  # a node wants the main thread, for its signals
        cluster.remove_node(node, allow_graceful=False)
        lost.set()
        work.join()
        print(reports[0].model_dump_json())
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Several nodes on loopback, with a token: ``python -m tests.jobs.nodes NODES FOLDER`` until its input ends."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from ray._private.utils import write_ray_address
from ray.cluster_utils import Cluster as Nodes

from cluster.running import end_tree, free_port
from tests.cluster.test_submit import ROOT, Cluster, clean

AGENT, STORE = "dashboard_agent_listen_port", 200 * 2**20


@contextmanager
def several(number: int) -> Iterator[Cluster]:
    """That cluster, with a node of one core each, and its job server's address."""
    with tempfile.TemporaryDirectory(prefix="mw-nodes-", dir="/tmp") as name:
        token = Path(name) / "token"
        token.write_text("a-token-of-at-least-some-length-0123456789")
        token.chmod(0o600)
        environment = clean(
            RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.nodes", str(number), name], cwd=ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), "the nodes did not start"
            yield Cluster(address, token)
        finally:
            process.communicate(timeout=60)
            if psutil.pid_exists(process.pid):
                end_tree(psutil.Process(process.pid), timeout_s=20)
            orphans = [p for p in psutil.process_iter(["cmdline"]) if any(name in c for c in p.info["cmdline"] or [])]
            for orphan in orphans:
                orphan.kill()
        assert orphans == []


def main(number: str, folder: str) -> None:
    port = free_port()
    own = {"node_ip_address": "127.0.0.1", "object_store_memory": STORE, "num_cpus": 1}
    agents = [free_port() for _ in range(int(number))]
    page = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    # In one folder the second node would clear away what the first unpacked for jobs.
    folders = [f"{folder}/ray{place}" for place in range(int(number))]
    nodes = Nodes(initialize_head=True, head_node_args=page | own | {"temp_dir": folders[0], AGENT: agents[0]})
    try:
        for agent, own_folder in zip(agents[1:], folders[1:], strict=True):
            nodes.add_node(**own, **{AGENT: agent, "temp_dir": own_folder})
        for own_folder in folders:  # where a job finds its cluster, if others run on this machine
            write_ray_address(nodes.address, own_folder)
        _wait_for(agents)
        print(f"http://127.0.0.1:{port}", flush=True)
        sys.stdin.read()
    finally:
        nodes.shutdown()


def _wait_for(ports: list[int]) -> None:
    """Jobs go through a node's agent, which comes up after the node."""
    deadline = time.monotonic() + 60
    while ports and time.monotonic() < deadline:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", ports[0])) == 0:
                ports = ports[1:]
            else:
                time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The service as it runs: Ray and its replicas; asked over a socket, ended in order and by force."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import tritonclient.http as triton
import tritonclient.utils as triton_errors

from cluster.home import Home
from cluster.received import State
from cluster.running import free_port, port_is_free, records, stop

START_S, END_S = 120.0, 40.0
HOUR_S = 3600


def until(done: Callable[[], Any], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.2)
    return False


def ask(port: int, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


@contextmanager
def serving(home: Home, port: int, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "cluster.cli", "serve", "--home", str(home.path), "--port", str(port)]
    command += [part for setting in settings for part in ("--set", setting)]
    log = (home.path / "serve.out").open("wb")
    child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=Path(__file__).parents[2])
    try:
        ready = until(lambda: child.poll() is not None or ask(port, "GET", "/v2/health/ready")[0] == 200, START_S)
        assert ready, (home.path / "serve.out").read_text()
        assert child.poll() is None, (home.path / "serve.out").read_text()
        yield child
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(10)
        for entry in records(home):
            stop(home, entry.name)
        log.close()


def tree(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]


def listeners(processes: list[psutil.Process], port: int) -> set[str]:
    """The addresses at which any of them listens on the port."""
    found = [c for p in processes if p.is_running() for c in p.net_connections("inet")]
    return {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN and c.laddr.port == port}


def gone(processes: list[psutil.Process]) -> bool:
    """Ended, or a zombie whose parent has not looked yet: a container's first process may never look."""

    def ended(process: psutil.Process) -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(map(ended, processes))


@pytest.mark.ray
def test_it_serves_and_nothing_outlives_it(plant_home: Home, new_key: Callable[..., str]) -> None:
    port, key = free_port(), new_key("read", "write")
    last = int(time.time()) // HOUR_S * HOUR_S
    body = {"readings": [{"time": last - i * HOUR_S, "oil_degF": 140.0 + i, "vib": 1.0} for i in range(12)]}
    with serving(plant_home, port) as child:
        started = tree(child)
        assert listeners(started, port) == {"127.0.0.1"}
        status, found = ask(port, "POST", "/v1/plants/mill/machines/m1/readings?reasons=true", body, key)
        assert status == 200, found
        assert len(json.loads(found)["reasons"]) == 4
        assert ask(port, "POST", "/v1/plants/mill/machines/m1/readings", body)[0] == 401
        assert ask(port, "GET", "/")[0] == 200
        a_stock_triton_client_is_answered(port, key)
        child.send_signal(signal.SIGTERM)
        assert child.wait(END_S) == 0
        assert until(lambda: gone(started), 10)
        assert port_is_free("127.0.0.1", port)
        assert records(plant_home) == []
    assert json.loads(found)["prediction_id"] in journal(plant_home)


def a_stock_triton_client_is_answered(port: int, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with closing(triton.InferenceServerClient(f"127.0.0.1:{port}")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata()["name"] == "millwright"
        assert client.is_model_ready("mill", headers=headers)
        assert client.get_model_repository_index(headers=headers)[0]["name"] == "mill"
        about = client.get_model_metadata("mill", "v1", headers)
        config = client.get_model_config("mill", headers=headers)
        assert (about["inputs"][0]["shape"], config["input"][0]["dims"]) == ([-1, 8, 4], [8, 4])
        given = triton.InferInput("values", [2, 8, 4], "FP32")
        values, found = np.random.default_rng(3).normal(1, 1, (2, 8, 4)).astype(np.float32), []
        for binary in (True, False):
            given.set_data_from_numpy(values, binary_data=binary)
            wanted = [triton.InferRequestedOutput("hazard", binary_data=binary)]
            for outputs in (wanted, None):
                own = dict(headers)  # the client writes into what it is given
                found.append(client.infer("mill", [given], outputs=outputs, headers=own).as_numpy("hazard"))
        assert found[0].shape == (2, 5)
        assert all(np.array_equal(found[0], other) for other in found)
        with pytest.raises(triton_errors.InferenceServerException, match="Unknown plant"):
            client.infer("nowhere", [given], headers=headers)


def journal(home: Home) -> list[str]:
    from tests.journal import journal_ids

    return journal_ids(home, "mill")


@pytest.mark.ray
@pytest.mark.slow
def test_killed_without_warning_it_leaves_no_port_and_loses_no_reading(
    plant_home: Home, new_key: Callable[..., str]
) -> None:
    port, key = free_port(), new_key("read", "write")
    body = {"readings": [{"time": 1_749_996_000, "vib": 1.25}]}
    with serving(plant_home, port) as child:
        replicas = [p for p in tree(child) if "ServeReplica" in p.name()]
        assert ask(port, "POST", "/v1/plants/mill/machines/m1/readings", body, key)[0] == 200
        child.kill()
        assert until(lambda: port_is_free("127.0.0.1", port), 30)
        assert until(lambda: gone(replicas), 30)
    assert State(plant_home.state / "plants" / "mill.sqlite").read("m1", ["vibration"], span_us=1)[1].tolist() == [
        [1.25]
    ]
    began = time.monotonic()
    with serving(plant_home, port):
        assert time.monotonic() - began < 60
        assert ask(port, "GET", "/v1/plants/mill/machines/m1", None, key)[0] == 200


@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_a_share_of_one_is_refused(plant_home: Home) -> None:
    command = [sys.executable, "-m", "cluster.cli", "serve", "--home", str(plant_home.path), "--port", str(free_port())]
    found = subprocess.run(
        [*command, "--set", "serve.gpus=0.25"], check=False, capture_output=True, text=True, timeout=START_S,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert found.returncode == 2
    assert "Not enough GPUs: expected 0.25 a replica, 1 of them, found 0 (in serve.gpus)" in found.stderr

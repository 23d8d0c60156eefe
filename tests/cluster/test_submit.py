"""Jobs on a real Ray cluster with token authentication, started for this file on ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cluster.home import Home, open_home
from cluster.running import end_tree, free_port
from cluster.submit import EXCLUDES, _LastObject, excludes
from models.errors import InputError

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    address: str
    token: Path


def clean(**more: str) -> dict[str, str]:
    """Our environment without what another Ray of this test run has put there."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MILLWRIGHT"))}
    return kept | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""} | more


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    scratch = Path(tempfile.mkdtemp(prefix="mw-submit-", dir="/tmp"))
    token, address = scratch / "token", f"http://127.0.0.1:{(port := free_port())}"
    token.write_text("a-token-of-at-least-some-length-0123456789")
    token.chmod(0o600)
    options = {
        "port": free_port(), "dashboard-port": port, "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(), "dashboard-host": "127.0.0.1", "include-dashboard": "true",
        "num-cpus": 2, "object-store-memory": 100_000_000, "temp-dir": scratch / "ray",
    }  # fmt: skip
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    process = subprocess.Popen(
        [*command, *(f"--{key}={value}" for key, value in options.items())],
        env=clean(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"),
        stdout=(scratch / "log").open("wb"), stderr=subprocess.STDOUT, cwd=scratch,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in (scratch / "log").read_text():
            assert process.poll() is None, (scratch / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield Cluster(address, token)
    finally:
        end_tree(psutil.Process(process.pid), timeout_s=20)
        left = [p for p in psutil.process_iter(["cmdline"]) if any(str(scratch) in c for c in p.info["cmdline"] or [])]
        for orphan in left:
            orphan.kill()
        shutil.rmtree(scratch, ignore_errors=True)
        assert left == []


def submit(head: Cluster, home: Home, *arguments: str, token: bool = True, **more: str) -> list[str]:
    return [
        sys.executable, "-m", "cluster.cli", "submit", "--address", head.address, "--home", str(home.path),
        *(["--set", f"ray.token_path={head.token}"] if token else []), *arguments,
    ]  # fmt: skip


def done(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=clean(**environment), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.ray
def test_a_verb_runs_on_the_cluster_with_this_machines_settings(head: Cluster, home: Home) -> None:
    found = done(submit(head, home, "config", "--set", "tune.trials=3", "--json"), MILLWRIGHT__SERVE__PORT="9123")
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert (report["status"], report["job_exit_code"]) == ("SUCCEEDED", 0)
    origins = {row["key"]: (row["value"], row["origin"]) for row in report["report"]["settings"]}
    assert origins["tune.trials"] == (3, "--set")
    assert origins["serve.port"] == (9123, "the environment")


@pytest.mark.ray
def test_a_job_uses_the_clusters_ray_and_its_exit_code_and_log_come_back(head: Cluster, home: Home) -> None:
    found = done(submit(head, home, "tune"))
    assert found.returncode == 2, found.stderr
    assert "Starting Ray" in found.stderr
    assert "No plant: expected at least one connected plant" in found.stderr
    assert "packaging.py" not in found.stderr, "Ray's own words about the upload"
    assert "failed with exit code 2" in found.stdout


@pytest.mark.ray
def test_without_the_token_the_cluster_refuses(head: Cluster, home: Home) -> None:
    found = done(submit(head, home, "config", token=False))
    assert found.returncode == 2
    assert "millwright: The Ray cluster refuses this client: expected its token" in found.stderr


@pytest.mark.ray
def test_an_interrupted_submission_stops_its_job(head: Cluster, home: Home) -> None:
    process = subprocess.Popen(
        submit(head, home, "ingest"), cwd=ROOT, env=clean(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "Follow job" not in (line := process.stderr.readline()):
        assert line, "ended too early"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping job" in err
    [job] = [job for job in jobs_of(head) if job["submission_id"].startswith("millwright-ingest-")]
    assert job["status"] == "STOPPED"


def jobs_of(head: Cluster) -> list[dict[str, str]]:
    request = urllib.request.Request(f"{head.address}/api/jobs/")
    request.add_header("Authorization", f"Bearer {head.token.read_text()}")
    found: list[dict[str, str]] = json.load(urllib.request.urlopen(request, timeout=10))
    return found


def test_nothing_listening_is_one_clear_sentence(home: Home) -> None:
    with socket.socket() as held:  # bound, never listening: nobody else can take the port meanwhile
        held.bind(("127.0.0.1", 0))
        nobody = Cluster(f"http://127.0.0.1:{held.getsockname()[1]}", Path("none"))
        found = done(submit(nobody, home, "config", token=False))
    assert found.returncode == 1
    assert "millwright: No Ray cluster answers: expected Ray's Jobs API" in found.stderr
    assert nobody.address in found.stderr


@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6379"])
def test_an_address_of_something_else_is_refused(
    home: Home, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(key, raising=False)
    with pytest.raises(InputError, match=r"No address of Ray's Jobs API: expected http://HOST:8265"):
        home.launch("submit", command="config", address=address)


def test_a_home_after_the_verb_and_a_submitted_submission_are_refused(home: Home) -> None:
    with pytest.raises(InputError, match="cannot be submitted"):
        home.launch("submit", command="submit", address="http://127.0.0.1:1")
    with pytest.raises(InputError, match="Unknown verb"):
        home.launch("submit", command="dance", address="http://127.0.0.1:1")


def test_a_profiles_address_is_used(tmp_path: Path) -> None:
    home = open_home(
        tmp_path / "h", create=True, environment={}, assignments=[f"ray.address=http://127.0.0.1:{free_port()}"]
    )
    found = done([sys.executable, "-m", "cluster.cli", "submit", "--home", str(home.path), "--set",
                  f"ray.address={home.settings.ray.address}", "config"])  # fmt: skip
    assert "No Ray cluster answers" in found.stderr


def test_the_last_object_of_a_log_is_found_across_pieces() -> None:
    said: list[str] = []
    last = _LastObject(said.append)
    for piece in ("starting\n{not json\n", '{"a": 1}\n{"seco', 'nds": 2}\n', "{unfinished"):
        last(piece)
    assert last.found == {"seconds": 2}
    assert "".join(said).startswith("starting")


def test_a_home_inside_the_checkout_is_not_uploaded() -> None:
    assert excludes(Path("/checkout"), Path("/checkout/data/home")) == [*EXCLUDES, "/data/home"]
    assert excludes(Path("/checkout"), Path("/shared/home")) == list(EXCLUDES)

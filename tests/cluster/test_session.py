"""A Ray session that nobody else can reach, that leaves nothing behind, and whose workers know our code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cluster.home import Home, open_home
from cluster.running import reap, records
from cluster.session import changed_environment, environment, ray_session, token_environment
from models.errors import MillwrightError

ROOT = Path(__file__).parents[2]
SESSION = """
import os, sys, time
import psutil
from cluster.home import open_home
from cluster.session import ray_session
home = open_home(sys.argv[1])
with ray_session(home):
    import ray

    @ray.remote
    def worker():
        import models.windows
        return models.windows.__file__, os.environ["RAY_DATA_PARQUET_FOOTER_NUM_ACTORS"], psutil.Process().pid

    with ray_session(home):
        file, actors, pid = ray.get(worker.remote())
    assert ray.is_initialized(), "the inner session must not end the outer one"
    listening = {
        c.laddr.ip
        for p in [psutil.Process(), *psutil.Process().children(recursive=True)]
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    print(file, actors, ",".join(sorted(listening)), flush=True)
    time.sleep(60)
"""


def start(home: Home) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", SESSION, str(home.path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=kept,
    )  # fmt: skip


def scratch_of(home: Home) -> str:
    [entry] = records(home)
    assert entry.scratch is not None
    return entry.scratch


def with_in_command_line(text: str) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        found += [" ".join(process.info["cmdline"])] if any(text in c for c in process.info["cmdline"] or []) else []
    return found


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_session_is_on_loopback_knows_our_code_and_leaves_nothing(home: Home, number: signal.Signals) -> None:
    """Ended by itself or killed outright: the next session's ``reap`` finds nothing more, or ends the rest."""
    process = start(home)
    assert process.stdout is not None
    file, actors, listening = process.stdout.readline().split()
    assert (file, actors) == (str(ROOT / "models" / "windows.py"), "1")
    assert {ip.removeprefix("::ffff:") for ip in listening.split(",")} == {"127.0.0.1"}
    scratch = scratch_of(home)
    assert Path(scratch).stat().st_mode & 0o777 == 0o700, "Ray opens its own folder to everyone"
    process.send_signal(number)
    process.communicate(timeout=60)
    if number == signal.SIGKILL:
        reap(home)
    deadline = time.monotonic() + 20
    while with_in_command_line(scratch) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert with_in_command_line(scratch) == []
    assert not Path(scratch).exists()
    assert records(home) == []


@pytest.mark.ray
def test_the_fixtures_ray_serves_a_jobs_own_session(ray_cluster: None, home: Home) -> None:
    import ray

    with ray_session(home):
        assert ray.cluster_resources()["CPU"] == 2
        assert records(home) == [], "nothing was started for it"


def test_the_address_of_the_jobs_api_is_refused(home: Home) -> None:
    command = [sys.executable, "-m", "cluster.cli", "tune", "--home", str(home.path)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"RAY_ADDRESS": "http://127.0.0.1:8265"}
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=kept, check=False)
    assert found.returncode == 2
    assert "That is the address of Ray's Jobs API" in found.stderr
    assert "millwright submit VERB" in found.stderr



def test_what_the_user_has_set_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "4")
    assert "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS" not in environment(home, None, serve=False)


def test_a_local_session_has_a_token_and_one_of_the_settings_wins(home: Home, tmp_path: Path) -> None:
    made = environment(home, tmp_path, serve=False)
    path = Path(made["RAY_AUTH_TOKEN_PATH"])
    assert made["RAY_AUTH_MODE"] == "token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) == 64
    named = open_home(home.path, environment={}, assignments=["ray.token_path=/secret/token"])
    assert token_environment(named)["RAY_AUTH_TOKEN_PATH"] == "/secret/token"
    assert environment(named, tmp_path, serve=False)["RAY_AUTH_TOKEN_PATH"] == "/secret/token"


def test_the_environment_is_as_before_even_after_an_error() -> None:
    before = dict(os.environ)

    def fail() -> None:
        with changed_environment({"A_NEW_ONE": "1", "PATH": "x"}):
            assert os.environ["A_NEW_ONE"] == "1"
            raise MillwrightError("stop")

    with pytest.raises(MillwrightError, match="stop"):
        fail()
    assert dict(os.environ) == before

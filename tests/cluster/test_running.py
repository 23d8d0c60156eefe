"""Records, liveness that no reused pid can fake, and ending whole trees and what they left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.home import Home
from cluster.report import Silent
from cluster.running import SCRATCH_VARIABLE, alive, free_port, port_is_free, reap, record, records, run_stop, stop

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]]).wait()"


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_recorded_process_is_alive_until_it_ends(home: Home) -> None:
    with started(SLEEP) as process:
        record(home, "work", pid=process.pid, ports={"http": 8123})
        found = alive(home, "work")
        assert found is not None
        assert (found.pid, found.ports) == (process.pid, {"http": 8123})
    assert alive(home, "work") is None


def test_a_reused_pid_is_not_the_recorded_process(home: Home) -> None:
    with started(SLEEP) as process:
        entry = record(home, "work", pid=process.pid)
        older = entry.model_copy(update={"created": entry.created - 10})
        (home.run / "work.json").write_text(older.model_dump_json())
        assert alive(home, "work") is None
        assert not stop(home, "work")
        assert process.poll() is None, "another's process must never be ended"


def test_an_unreadable_record_is_no_record(home: Home) -> None:
    home.run.mkdir()
    (home.run / "work.json").write_text('{"name": "wo')
    assert alive(home, "work") is None
    assert records(home) == []


def test_stop_ends_what_does_not_listen(home: Home) -> None:
    with started(STUBBORN) as process:
        assert process.stdout is not None
        process.stdout.readline()
        record(home, "work", pid=process.pid)
        assert stop(home, "work", timeout_s=0.3)
        assert process.wait(timeout=5) is not None  # psutil has taken its exit status
    assert not stop(home, "work")


def test_stop_ends_the_children_too(home: Home) -> None:
    with started(PARENT, SLEEP, "child") as process:
        deadline = time.monotonic() + 10
        while not (children := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.02)
        record(home, "work", pid=process.pid)
        assert stop(home, "work")
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_reap_ends_what_a_killed_session_left_behind(home: Home, tmp_path: Path) -> None:
    scratch = tmp_path / "millwright-scratch"
    scratch.mkdir()
    with started(SLEEP) as session, started(SLEEP, f"-f={scratch}/haproxy.cfg") as orphan, started(SLEEP) as other:
        record(home, "ray-1", pid=session.pid, scratch=scratch)
        assert reap(home) == [], "a living session is left alone"
        session.kill()
        session.wait()
        assert reap(home) == [f"{Path(psutil.Process(other.pid).cmdline()[0]).name} (pid {orphan.pid})"]
        assert orphan.wait(timeout=5) is not None
        assert other.poll() is None
    assert not scratch.exists()
    assert records(home) == []


def test_stop_verb_says_what_it_ended(home: Home) -> None:
    with started(SLEEP) as process:
        record(home, "serve", pid=process.pid)
        report = run_stop(home, progress=Silent())
    assert report.stopped == ["serve"]
    assert run_stop(home, progress=Silent()).render() == "Nothing was running."


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
        assert free_port() != port
    assert port_is_free("127.0.0.1", port)


def test_recording_a_process_that_is_gone_fails(home: Home) -> None:
    with pytest.raises(psutil.NoSuchProcess):
        record(home, "work", pid=_dead_pid())


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert process.pid != os.getpid()
    return process.pid


@pytest.mark.parametrize("name", ["", "shared"])
def test_a_damaged_record_costs_nobody_elses_files(home: Home, tmp_path: Path, name: str) -> None:
    kept = tmp_path / name / "kept"
    kept.mkdir(parents=True)
    with started(SLEEP) as session:
        record(home, "ray-1", pid=session.pid, scratch=kept.parent)
        session.kill()
        session.wait()
        assert reap(home) == []
    assert kept.exists()
    assert records(home) == []


def test_reap_finds_what_has_replaced_its_command_line(home: Home, tmp_path: Path) -> None:
    scratch = tmp_path / "millwright-scratch"
    scratch.mkdir()
    environment = dict(os.environ) | {SCRATCH_VARIABLE: str(scratch)}
    with (
        started(SLEEP) as session,
        subprocess.Popen([sys.executable, "-c", SLEEP], env=environment) as agent,
        subprocess.Popen([sys.executable, "-c", SLEEP], env=environment | {SCRATCH_VARIABLE: f"{scratch}2"}) as other,
    ):
        record(home, "ray-1", pid=session.pid, scratch=scratch)
        session.kill()
        session.wait()
        assert len(reap(home)) == 1
        assert agent.wait(timeout=5) is not None
        assert other.poll() is None
        other.kill()

"""Each check says what it found, and only where it fails what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cluster import doctor
from cluster.doctor import Check, DoctorReport
from cluster.home import Home, open_home
from cluster.report import Silent


def check(home: Home, name: str) -> Check:
    report = doctor.run(home, progress=Silent())
    return next(c for c in report.checks if c.name == name)


def test_every_check_answers_and_only_problems_say_what_to_do(home: Home) -> None:
    report = doctor.run(home, progress=Silent())
    assert len(report.checks) == len(doctor.CHECKS)
    assert all(c.found and (c.do is None) == c.ok for c in report.checks)
    assert report.fit == all(c.ok for c in report.checks)
    assert report.exit_code == (0 if report.fit else 1)


def test_the_storage_check_leaves_nothing_in_the_home(home: Home) -> None:
    before = sorted(home.path.iterdir())
    assert check(home, "storage").ok
    assert sorted(home.path.iterdir()) == before


def test_a_home_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    home = open_home(tmp_path / "h", create=True, environment={})
    absent = Home(tmp_path / "not" / "yet", home.settings, {})
    assert check(absent, "storage").ok
    assert not absent.path.exists()


def test_a_port_in_use_is_a_problem(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        home = open_home(tmp_path / "h", create=True, environment={}, assignments=[f"serve.port={port}"])
        found = check(home, "port")
    assert not found.ok
    assert found.found == f"127.0.0.1:{port} is in use"
    assert found.do is not None
    assert "serve.port" in found.do


def test_beyond_loopback_a_key_is_wanted(tmp_path: Path) -> None:
    home = open_home(tmp_path / "h", create=True, environment={}, assignments=["serve.host=0.0.0.0"])
    found = check(home, "access")
    assert not found.ok
    assert found.do == "Add a key with `millwright keys add NAME`"


@pytest.mark.parametrize(("mode", "ok"), [(0o600, True), (0o644, False)])
def test_a_token_that_others_can_read_is_a_problem(tmp_path: Path, mode: int, ok: bool) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(mode)
    home = open_home(tmp_path / "h", create=True, environment={}, assignments=[f"ray.token_path={token}"])
    assert check(home, "access").ok is ok


def test_what_a_dead_session_left_is_named(home: Home) -> None:
    home.run.mkdir()
    (home.run / "serve.json").write_text('{"name": "serve", "pid": 999999999, "created": 1.0}')
    found = check(home, "left behind")
    assert (found.ok, found.found, found.do) == (False, "serve", "Run `millwright stop`")


def test_the_report_shows_problems_with_their_remedy() -> None:
    from rich.console import Console

    report = DoctorReport(
        fit=False,
        checks=[Check(name="cores", ok=False, found="1", do="Give it 2"), Check(name="disk", ok=True, found="9")],
    )
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(report.render())
    assert captured.get().splitlines()[:3] == ["problem  cores: 1", "         Give it 2", "ok       disk: 9"]

"""Standard output, exit codes and errors of the command line, at its real edge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import cli
from cluster.home import Home
from cluster.invocation import explain
from cluster.report import Progress, Report
from cluster.running import record
from cluster.verbs import VERBS, Verb
from models.errors import GateError

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key in [k for k in os.environ if k.startswith("MILLWRIGHT")]:
        monkeypatch.delenv(key)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def noisy(home: Home, *, progress: Progress) -> Report:
    print("to sys.stdout")
    os.write(1, b"to descriptor 1\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return Report(seconds=1.5)


def gate(home: Home, *, progress: Progress) -> Report:
    raise GateError("Too few failures", expected="20", found="7", do="Collect more")


def broken(home: Home, *, progress: Progress) -> Report:
    raise ZeroDivisionError("secret arithmetic")


Install = Callable[[str], None]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Install:
    """`stop` runs the function above that its environment names: a real command, a job of ours."""

    def install(name: str) -> None:
        monkeypatch.setitem(sys.modules, "jobs_of_this_test", sys.modules[__name__])
        monkeypatch.setitem(VERBS, "stop", Verb(f"jobs_of_this_test:{name}", ""))

    return install


def test_help_names_every_verb(capsys: Captured) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb}" in text for verb in VERBS)


def test_no_arguments_is_help(capsys: Captured) -> None:
    assert run() == 0
    assert capsys.readouterr().out.startswith("Usage: millwright")


def test_version(capsys: Captured) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("millwright ")


def test_json_is_one_object_on_stdout_and_nothing_else(home: Home, job: Install, capfd: Captured) -> None:
    job("noisy")
    assert run("stop", "--home", str(home.path), "--json") == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"seconds": 1.5, "version": json.loads(out)["version"]}
    assert all(text in err for text in ("to sys.stdout", "to descriptor 1", "from a child"))


def test_standard_output_is_as_before_afterwards(home: Home, job: Install, capfd: Captured) -> None:
    job("noisy")
    run("stop", "--home", str(home.path))
    capfd.readouterr()
    print("after")
    os.write(1, b"wards\n")
    sys.stdout.flush()
    assert sorted(capfd.readouterr().out.split()) == ["after", "wards"]


def test_a_gate_is_code_3_and_one_sentence(home: Home, job: Install, capfd: Captured) -> None:
    job("gate")
    assert run("stop", "--home", str(home.path)) == 3
    out, err = capfd.readouterr()
    assert (out, err) == ("", "millwright: Too few failures: expected 20, found 7. Collect more.\n")


def test_an_error_is_an_object_too_with_json(home: Home, job: Install, capfd: Captured) -> None:
    job("gate")
    assert run("stop", "--home", str(home.path), "--json") == 3
    found = json.loads(capfd.readouterr().out)
    assert found["error"] == "Too few failures: expected 20, found 7. Collect more."
    assert found["exit_code"] == 3


def test_the_unexpected_is_code_1_and_leaves_its_traceback_in_the_home(
    home: Home, job: Install, capfd: Captured
) -> None:
    job("broken")
    assert run("stop", "--home", str(home.path)) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    [path] = home.logs.iterdir()
    assert str(path) in err
    assert "ZeroDivisionError: secret arithmetic" in path.read_text()


class WrappedError(Exception):
    """As Ray wraps what a task raised: its own text is a coloured traceback."""

    cause = ValueError("the reason\nmore")


def test_the_unexpected_within_a_task_is_named_by_its_reason(home: Home) -> None:
    text, code = explain(WrappedError("\x1b[36mray::f()"), home)
    assert text.startswith("ValueError: the reason (unexpected; the traceback is in ")
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dance"], "No such command 'dance'"),
        (["status", "--loud"], "No such option: --loud"),
        (["connect"], "Missing"),
        (["tune", "--trials", "0"], "--trials"),
        (["serve", "--port", "70000"], "--port"),
        (["keys", "steal"], "steal"),
        (["status", "--home", "nowhere"], "No home here"),
        (["config", "--set", "serve.port"], "Wrong --set"),
        (["config", "--profile", "moon"], "No such profile"),
    ],
)
def test_wrong_input_is_code_2_and_one_line(arguments: list[str], sentence: str, capfd: Captured) -> None:
    assert run(*arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("millwright: ")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert json.loads(_with_json(arguments, capfd))["exit_code"] == 2


def _with_json(arguments: list[str], capfd: Captured) -> str:
    assert run(*arguments, "--json") == 2
    return capfd.readouterr().out


def test_a_folder_that_is_no_home_is_left_alone(tmp_path: Path, capfd: Captured) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    assert run("connect", str(tmp_path), "--plant", "a", "--home", str(folder)) == 2
    assert "Not a Millwright home" in capfd.readouterr().err
    assert [p.name for p in folder.iterdir()] == ["a.jpg"]


def test_config_says_where_each_value_came_from(home: Home, capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLWRIGHT__TUNE__TRIALS", "7")
    assert run("config", "--home", str(home.path), "--set", "serve.port=9001", "--json") == 0
    rows = {row["key"]: row for row in json.loads(capfd.readouterr().out)["settings"]}
    assert rows["serve.port"] == {"key": "serve.port", "value": 9001, "origin": "--set"}
    assert rows["tune.trials"]["origin"] == "the environment"
    assert rows["tune.seed"]["origin"] == "default"


def test_config_needs_no_home_and_makes_none(tmp_path: Path, capfd: Captured) -> None:
    assert run("config") == 0
    assert "serve.port" in capfd.readouterr().out
    assert not (tmp_path / "millwright-home").exists()


def test_status_of_an_empty_home(home: Home, capfd: Captured) -> None:
    assert run("status", "--home", str(home.path), "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["plants"], found["running"]) == ([], [])
    assert {"seconds", "version"} <= set(found)


def test_status_names_a_process_once(home: Home, capfd: Captured) -> None:
    for name, ports in (("ray-7", {}), ("serve", {"http": 8000})):
        record(home, name, pid=os.getpid(), ports=ports)
    assert run("status", "--home", str(home.path)) == 0
    out = capfd.readouterr().out
    assert f"serve runs (pid {os.getpid()}, http 8000)" in out
    assert "ray-7" not in out


@pytest.mark.parametrize("arguments", [["tune", "--plants", "nowhere"], ["score", "--plant", "nowhere"]])
def test_an_unknown_plant_is_refused_before_ray_starts(home: Home, arguments: list[str], capfd: Captured) -> None:
    assert run(*arguments, "--home", str(home.path)) == 2
    err = capfd.readouterr().err
    assert "Unknown plant" in err
    assert "Starting Ray" not in err


def test_help_shows_every_verb_in_full_on_80_columns(capfd: Captured) -> None:
    assert run("--help") == 0
    out = capfd.readouterr().out
    assert not any(line.endswith("...") for line in out.splitlines()[1:])
    assert max(map(len, out.splitlines())) <= 80


def test_json_after_a_submitted_verb_means_the_submission_too(home: Home, capfd: Captured) -> None:
    assert run("submit", "--home", str(home.path), "--address", "nowhere", "status", "--json") == 2
    assert json.loads(capfd.readouterr().out)["exit_code"] == 2


WAITING = """
import sys, time
from cluster import cli
from cluster.report import Report
from cluster.verbs import VERBS, Verb
def run(home, *, progress):
    try:
        print("ready", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        (home.path / "cleaned").write_text("yes")
VERBS["stop"] = Verb("__main__:run", "")
cli.main(["stop", "--home", sys.argv[1]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_after_its_clean_up_with_code_130(home: Home, number: signal.Signals) -> None:
    command, pipe = [sys.executable, "-c", WAITING, str(home.path)], subprocess.PIPE
    process = subprocess.Popen(command, stderr=pipe, stdout=pipe, text=True, cwd=ROOT)
    assert process.stderr is not None
    while "ready" not in process.stderr.readline():
        assert process.poll() is None
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    assert (home.path / "cleaned").read_text() == "yes"
    assert out == ""
    assert "millwright: stopped" in err

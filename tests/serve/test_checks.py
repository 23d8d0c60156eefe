from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.home import Home, open_home
from cluster.keys import open_keys
from cluster.report import Silent
from cluster.running import SCRATCH_VARIABLE, free_port, record
from models.errors import InputError
from serve.app import run
from serve.checks import alone, check_address, is_loopback, servable_plants


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def at(home: Home, *assignments: str) -> Home:
    return open_home(home.path, environment={}, assignments=[f"serve.port={free_port()}", *assignments])


def test_a_home_without_a_champion_cannot_be_served(home: Home) -> None:
    with pytest.raises(InputError, match="Nothing to serve: expected a plant with a champion, found no plant") as error:
        run(home, progress=Silent())
    assert error.value.exit_code == 2


def test_plants_without_a_model_are_named_and_left_out(plant_home: Home) -> None:
    notes = Notes()
    assert servable_plants(plant_home, notes) == [{"name": "mill", "champion": "v1"}]
    assert notes.said == ["Plant quarry has no model yet: `millwright tune --plants quarry`"]


def test_a_broken_bundle_is_named_and_the_others_are_served(plant_home: Home, champion_of: Callable[..., Path]) -> None:
    (champion_of(plant_home, "quarry") / "model.onnx").write_bytes(b"")
    notes = Notes()
    assert [p["name"] for p in servable_plants(plant_home, notes)] == ["mill"]
    assert "Plant quarry is left out: A bundle's file has another size" in notes.said[0]


def test_where_every_bundle_is_broken_the_error_says_which_file(plant_home: Home) -> None:
    (plant_home.registry / "bundles" / "mill" / "v1" / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"A bundle's file has another size.*model.onnx"):
        servable_plants(plant_home, Silent())


def test_a_port_in_use_is_said_before_ray_starts(plant_home: Home) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=f"The port is in use: .* on 127.0.0.1, found {port}") as error:
            run(plant_home, progress=Silent(), port=port)
    assert error.value.exit_code == 2


def test_a_home_is_served_once(plant_home: Home) -> None:
    record(plant_home, "serve", pid=os.getpid(), ports={"http": 1234})
    with pytest.raises(InputError, match=f"found process {os.getpid()}, port 1234. Run `millwright stop` first"):
        check_address(at(plant_home))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "plant.example"])
def test_beyond_loopback_a_key_and_a_token_are_needed(plant_home: Home, tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="Refused to listen beyond this machine without a key"):
        check_address(at(plant_home, f"serve.host={host}"))
    with closing(open_keys(plant_home)) as keys:
        keys.add("mes", plants=["*"], roles=["read"], now=datetime.now(UTC))
    with pytest.raises(InputError, match="Refused to listen beyond this machine without a token for Ray"):
        check_address(at(plant_home, f"serve.host={host}"))


def test_with_a_key_and_a_token_every_interface_may_be_used(plant_home: Home, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with closing(open_keys(plant_home)) as keys:
        keys.add("mes", plants=["*"], roles=["read"], now=datetime.now(UTC))
    check_address(at(plant_home, "serve.host=0.0.0.0", f"ray.token_path={tmp_path / 'token'}"))


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.5", False), ("plant.example", False), ("", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def test_of_two_that_start_at_once_one_serves(plant_home: Home) -> None:
    def second() -> None:
        with alone(plant_home):
            pytest.fail("both serve")

    with alone(plant_home), pytest.raises(InputError, match="served already: found a service that starts or ends"):
        second()
    with alone(plant_home):
        pass


def test_what_a_killed_service_left_on_its_port_is_ended_first(plant_home: Home, tmp_path: Path) -> None:
    scratch, port = tmp_path / "millwright-scratch", free_port()
    listen = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print(1, flush=True); time.sleep(9)"
    )
    environment = dict(os.environ) | {SCRATCH_VARIABLE: str(scratch)}
    with (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(9)"]) as session,
        subprocess.Popen([sys.executable, "-c", listen], env=environment, stdout=subprocess.PIPE) as orphan,
    ):
        assert orphan.stdout is not None
        orphan.stdout.readline()
        record(plant_home, "ray-1", pid=session.pid, scratch=scratch)
        session.kill()
        session.wait()
        check_address(at(plant_home, f"serve.port={port}"))
        assert orphan.wait(timeout=5) is not None

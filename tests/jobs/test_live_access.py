"""A stream's user and password are its own plant's, from the environment or a closed file, both or neither."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.home import open_home
from jobs.following.access import tls, user_and_password
from models.errors import InputError
from tests.jobs.live_broker import Broker, Follow, connected, eventually, line, mosquitto_path

PREFIX = ("plants.p.credentials=P_",)


def test_they_are_looked_up_under_the_plants_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(tmp_path / "home", "p", line(1))
    home = open_home(tmp_path / "home", assignments=PREFIX)
    assert user_and_password(home, "p", line(1)) == (None, None)
    monkeypatch.setenv("P_LINE_USER", "reader")
    with pytest.raises(InputError, match="expected P_LINE_USER and P_LINE_PASSWORD, found no P_LINE_PASSWORD"):
        user_and_password(home, "p", line(1))
    monkeypatch.setenv("P_LINE_PASSWORD", "secret")
    monkeypatch.setenv("LINE_USER", "another's")
    assert user_and_password(home, "p", line(1)) == ("reader", "secret")


def test_a_file_of_the_plant_holds_them_too(tmp_path: Path) -> None:
    connected(tmp_path / "home", "p", line(1))
    secrets = tmp_path / "home" / "secrets" / "p.env"
    secrets.parent.mkdir()
    secrets.write_text("LINE_USER=reader\nLINE_PASSWORD=secret\n")
    secrets.chmod(0o600)
    home = open_home(tmp_path / "home", assignments=("plants.p.credentials=secrets/p.env",))
    assert user_and_password(home, "p", line(1)) == ("reader", "secret")


def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert tls(line(1)) is None
    with pytest.raises(InputError, match="Unusable certificate of an authority"):
        tls(line(1, tls=True, ca_file=str(tmp_path / "nowhere.pem")))


def test_a_broker_that_asks_for_a_password_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mosquitto_path()
    make = shutil.which("mosquitto_passwd")
    if make is None:
        pytest.skip("no mosquitto_passwd on this machine")
    broker = Broker(tmp_path / "broker").start()
    broker.stop()
    passwords, configuration = tmp_path / "passwords", tmp_path / "broker" / "mosquitto.conf"
    subprocess.run([make, "-b", "-c", str(passwords), "reader", "secret"], check=True, capture_output=True)
    text = configuration.read_text().replace("allow_anonymous true", f"password_file {passwords}")
    log = (tmp_path / "broker" / "log").open("ab")
    configuration.write_text(text)
    broker.process = subprocess.Popen([mosquitto_path(), "-c", str(configuration)], stdout=log, stderr=log)
    log.close()
    eventually(broker.answers)
    home = connected(tmp_path / "home", "p", line(broker.port))
    refused = Follow(home).start("--seconds", "2")
    assert refused.process is not None
    assert "does not answer" in refused.process.communicate(timeout=60)[1]
    monkeypatch.setenv("P_LINE_USER", "reader")
    monkeypatch.setenv("P_LINE_PASSWORD", "secret")
    follow = Follow(home).start("--set", PREFIX[0])
    eventually(lambda: b"u'reader'" in (tmp_path / "broker" / "log").read_bytes())
    report = follow.end()
    broker.stop()
    assert report["plants"][0]["notes"] == []

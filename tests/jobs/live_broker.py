"""A real mosquitto on a free port of 127.0.0.1, and `millwright follow` as a process, for tests of live streams."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from cluster.home import Home, open_home
from cluster.sources import write_source
from models.live import LiveMachine, LiveStream, LiveTime
from models.source import SensorColumn, SourceDescription

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 3, 1, tzinfo=UTC)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def eventually(is_so: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def mosquitto_path() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")
    return found


@dataclass
class Broker:
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        self.folder.mkdir(exist_ok=True)
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\nmax_queued_messages 0\n"
            f"persistence_location {self.folder}/\nuser {os.environ.get('USER') or 'root'}\n"
        )
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([mosquitto_path(), "-c", str(configuration)], stdout=log, stderr=log)
        log.close()
        eventually(self.answers, timeout_s=10)
        return self

    def answers(self) -> bool:
        with socket.socket() as found:
            return found.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """As an operator stops it: what it has not handed on is on its disk."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


@dataclass
class Publisher:
    """Publishes with QoS 1 and keeps what the broker has not taken yet, over whatever happens to the broker."""

    port: int
    client: mqtt.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"line-{os.urandom(4).hex()}",
                                  clean_session=False)  # fmt: skip
        self.client.max_queued_messages_set(0)
        self.client.reconnect_delay_set(0.2, 1)
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()

    def publish(self, topic: str, payload: object, *, qos: int = 1) -> mqtt.MQTTMessageInfo:
        body = payload if isinstance(payload, bytes) else json.dumps(payload)
        return self.client.publish(topic, body, qos=qos)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@dataclass
class Follow:
    """The verb as a process."""

    home: Home
    process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> Follow:
        command = [sys.executable, "-m", "cluster.cli", "follow", "--home", str(self.home.path), "--json", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()
        self.process = None

    def end(self) -> dict[str, Any]:
        """SIGTERM, and the report."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        code, self.process = self.process.returncode, None
        assert code == 0, out + err
        found: dict[str, Any] = json.loads(out)
        return found


def line(port: int, name: str = "line", **more: Any) -> LiveStream:
    own = {"topics": (f"{name}/+/data",), "machine": LiveMachine(pattern=r"^\w+/(?P<machine>M[^/]+)/")}
    return LiveStream(**({"name": name, "port": port, "time": LiveTime(field="ts")} | own | more))


def connected(path: Path, plant: str, *live: LiveStream) -> Home:
    """A home with a plant that has nothing but live streams: one sensor in Fahrenheit."""
    home = open_home(path, create=True)
    sensors = {"temp_degF": SensorColumn(sensor="temp", kind="temperature", unit="degF")}
    write_source(
        home.of(plant).source, SourceDescription(plant=plant, root=str(path), live=live, live_sensors=sensors)
    )
    return home


def at(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat()

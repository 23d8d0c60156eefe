"""A small deployment: one plant with a real ONNX model of six parameters, and a client that speaks ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cluster.files import write_atomically
from cluster.home import Home
from cluster.keys import open_keys
from cluster.sources import write_source
from models.bundle import save_bundle
from models.calibration import Calibration
from models.config import Clock, HazardConfig, ModelConfig, WindowConfig
from models.source import CsvFormat, SensorColumn, SourceDescription, Stream, TimeFormat
from models.spec import BundleSpec, Lineage, Usual
from models.windows import CONTEXT, Channel, channels_of
from serve.api import create_app
from serve.listener import bound
from serve.server import Server
from serve.service import Service, open_service

LENGTH, EDGES = 8, (12.0, 24.0, 48.0, 168.0)
NOW_US = 1_750_000_000_000_000  # 2025-06-15
HOUR_US = 3_600_000_000


def channels(context: tuple[Channel, ...] = CONTEXT) -> tuple[Channel, ...]:
    return channels_of([("oil_temp", "temperature", "degC"), ("vibration", "vibration", "mm/s")], context)


def network(weights: tuple[float, ...]) -> bytes:
    """hazard = sigmoid(mean over steps of w . values - 4 - bin / 10), NaN counts as 0."""
    num, bins = len(weights), len(EDGES) + 1
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("w", TensorProto.FLOAT, [num, 1], weights),
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("bias", TensorProto.FLOAT, [1, bins], [-4.0 - k / 10 for k in range(bins)]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["values"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "values"], ["clean"]),
        helper.make_node("MatMul", ["clean", "w"], ["weighed"]),
        helper.make_node("ReduceMean", ["weighed", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["hazard"]),
    ]
    values = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["B", LENGTH, num])
    hazard = helper.make_tensor_value_info("hazard", TensorProto.FLOAT, ["B", bins])
    graph = helper.make_graph(nodes, "tiny", [values], [hazard], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    found: bytes = model.SerializeToString()
    onnx.checker.check_model(model)
    return found


def describe(plant: str) -> SourceDescription:
    sensors = {
        "oil_degF": SensorColumn(sensor="oil_temp", kind="temperature", unit="degF"),
        "vib": SensorColumn(sensor="vibration", kind="vibration", unit="mm/s"),
    }
    stream = Stream(
        name="readings", role="readings", files="*.csv", csv=CsvFormat(), time=TimeFormat(column="t"), sensors=sensors
    )
    return SourceDescription(plant=plant, root="raw", clock=Clock(step_s=3600.0), streams=(stream,))


def make_champion(
    home: Home, plant: str, version: str = "v1", vibration_weight: float = 0.5,
    context: tuple[Channel, ...] = CONTEXT,
) -> Path:  # fmt: skip
    """A bundle on disk, and the pointer that makes it the plant's champion."""
    folder, more = home.registry / "bundles" / plant / version, [0.0] * (len(context) - len(CONTEXT))
    config = ModelConfig(
        clock=Clock(step_s=3600.0), window=WindowConfig(length=LENGTH, carry=2),
        hazard=HazardConfig(horizons={"24h": 24.0, "48h": 48.0, "7d": 168.0}, edges=EDGES),
    )  # fmt: skip
    spec = BundleSpec(
        plant=plant, kind="network", name=f"{plant}-tiny", version=version, config=config, channels=channels(context),
        calibration=Calibration(), usual=Usual(window=(60.0, 1.0, 100.0, 0.0, *more)), num_failures_trained_on=33,
        ranges={"vibration": (0.0, 9.0)}, lineage=Lineage(data_version="", code_version="0"),
    )  # fmt: skip
    save_bundle(folder, spec, weights=b"", onnx=network((0.01, vibration_weight, 0.0, 0.0, *more)))
    point_to(home, plant, version)
    return folder


def point_to(home: Home, plant: str, version: str) -> None:
    where = {"kind": "network", "version": version, "path": f"registry/bundles/{plant}/{version}"}
    write_atomically(home.registry / "champions" / f"{plant}.json", json.dumps(where))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Caller:
    """Calls an ASGI application; ``key`` is sent as a bearer."""

    app: Any
    key: str | None = None
    service: Service | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, method: str, path: str, body: Any = None, *, raw: bytes | list[bytes] | None = None, **headers: str
    ) -> Answer:
        sent = {"host": "test"} | ({"authorization": f"Bearer {self.key}"} if self.key else {}) | self.headers
        if body is not None or raw is not None:
            sent["content-type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        parts = raw if isinstance(raw, list) else [raw if raw is not None else json.dumps(body).encode()]
        return asyncio.run(self._call(method, path, parts if body is not None or raw is not None else [b""], sent))

    async def _call(self, method: str, path: str, parts: list[bytes], headers: dict[str, str]) -> Answer:
        plain, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": plain,
            "raw_path": plain.encode(), "query_string": query.encode(), "root_path": "", "scheme": "http",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()], "server": ("test", 80),
            "client": ("127.0.0.1", 1),
        }  # fmt: skip
        waiting = [{"type": "http.request", "body": p, "more_body": i + 1 < len(parts)} for i, p in enumerate(parts)]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        found = {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


@contextmanager
def listening_server(app: Any, *, grace_s: float = 1.0) -> Iterator[tuple[Server, int]]:
    """The application behind a real socket; the server and its port."""
    sock = bound("127.0.0.1", 0)
    sock.setblocking(False)
    sock.listen()
    server = Server(app, sock)
    server.start()
    try:
        yield server, sock.getsockname()[1]
    finally:
        server.stop(grace_s)


@pytest.fixture
def plant_home(home: Home) -> Home:
    """Two plants, `mill` with a champion and `quarry` without."""
    for plant in ("mill", "quarry"):
        write_source(home.sources / f"{plant}.toml", describe(plant))
    make_champion(home, "mill")
    return home


@pytest.fixture
def champion_of() -> Callable[..., Path]:
    return make_champion


@pytest.fixture
def new_key(plant_home: Home) -> Callable[..., str]:
    """A key for plants and roles."""

    def make(*roles: str, plants: tuple[str, ...] = ("*",)) -> str:
        with closing(open_keys(plant_home)) as keys:
            return keys.add("test", plants=plants, roles=roles or ("read", "write"), now=datetime.now(UTC))[1]

    return make


@pytest.fixture
def service(plant_home: Home) -> Iterator[Service]:
    made = open_service(plant_home, now_us=lambda: NOW_US)
    yield made
    made.close()


@pytest.fixture
def call(service: Service, new_key: Callable[..., str]) -> Caller:
    """Calls the application with a key that may read and write every plant."""
    return Caller(create_app(service), new_key("read", "write"), service)


@pytest.fixture
def rows() -> Callable[..., list[dict[str, Any]]]:
    """Hourly rows of both sensors, in canonical units, the last at ``NOW_US``."""

    def make(num: int, *, until_us: int = NOW_US, seed: int = 0) -> list[dict[str, Any]]:
        rng = np.random.default_rng(seed)
        times = [until_us - (num - 1 - i) * HOUR_US for i in range(num)]
        values = np.stack([rng.normal(60, 3, num), rng.gamma(2, 1, num)]).astype(np.float32)
        columns = zip(times, *values.tolist(), strict=True)
        return [{"time": t / 1e6, "oil_temp": o, "vibration": v} for t, o, v in columns]

    return make

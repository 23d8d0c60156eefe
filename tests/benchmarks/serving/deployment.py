"""A home to be served: plants whose default network reads 64 x 24, its weights as they were drawn, and keys.

The one idea: what is measured is the service, so the network is not trained; it costs what a trained one costs.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.files import write_atomically
from cluster.home import Home, open_home
from cluster.keys import open_keys
from cluster.sources import write_source
from models.bundle import save_bundle
from models.calibration import Calibration
from models.config import Clock, ModelConfig, WindowConfig
from models.export import export_onnx, export_reasons
from models.networks import build
from models.scaling import Scaling
from models.source import SensorColumn, SourceDescription, Stream, TimeFormat
from models.spec import BundleSpec, Lineage, Usual
from models.windows import channels_of

LENGTH, NUM_SENSORS = 64, 22  # 24 channels with age and time since maintenance
STEP_S = 60.0
SENSORS = [f"s{i:02d}" for i in range(NUM_SENSORS)]


@dataclass(frozen=True)
class Deployment:
    home: Home
    key: str
    model: Path  # model.onnx of the first plant


def deploy(folder: Path, *, plants: int = 1, assignments: list[str] | None = None) -> Deployment:
    """``plants`` named p000, p001 ..., each with a bundle of its own."""
    home = open_home(folder / "home", create=True, environment={}, assignments=assignments or [])
    torch.manual_seed(0)
    channels = channels_of([(name, "number", "1") for name in SENSORS])
    config = ModelConfig(clock=Clock(step_s=STEP_S), window=WindowConfig(length=LENGTH))
    network = build(config, Scaling((0.0,) * 24, (1.0,) * 24), [c.kind for c in channels]).eval()
    onnx = export_onnx(network, Calibration(), LENGTH, 24)
    reasons = export_reasons(network, Calibration(), LENGTH, (0.0,) * 24)
    for number in range(plants):
        name = f"p{number:03d}"
        columns = {sensor: SensorColumn(sensor=sensor, kind="number", unit="1") for sensor in SENSORS}
        stream = Stream(name="files", role="readings", files="*.csv", time=TimeFormat(column="t"), sensors=columns)
        source = SourceDescription(plant=name, root=str(folder), clock=Clock(step_s=STEP_S), streams=(stream,))
        write_source(home.of(name).source, source)
        spec = BundleSpec(
            plant=name, kind="network", name=name, version="v1", config=config, channels=channels,
            calibration=Calibration(), usual=Usual(window=(0.0,) * 24), num_failures_trained_on=20,
            lineage=Lineage(data_version="", code_version=""),
        )  # fmt: skip
        bundle = home.registry / "bundles" / name / "v1"
        save_bundle(bundle, spec, weights=b"", onnx=onnx, reasons=reasons)
        where = {"kind": "network", "version": "v1", "path": f"registry/bundles/{name}/v1"}
        write_atomically(home.registry / "champions" / f"{name}.json", json.dumps(where))
    with closing(open_keys(home)) as keys:
        _, key = keys.add("load", plants=("*",), roles=("read", "write"), now=datetime.now(UTC))
    return Deployment(home, key, home.registry / "bundles" / "p000" / "v1" / "model.onnx")


def window(seed: int = 0) -> list[list[float]]:
    """A window as a client writes it: readings of a few digits."""
    values = np.random.default_rng(seed).normal(0, 1, (LENGTH, NUM_SENSORS + 2))
    found: list[list[float]] = values.round(4).tolist()
    return found


def score_body(seed: int = 0) -> dict[str, Any]:
    return {"windows": [{"machine": f"m{seed}", "values": window(seed)}]}

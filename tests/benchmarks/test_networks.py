"""What networks cost: a prediction and its reasons, and a training step beside a plain loop; `make bench` runs it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import Bundle
from models.calibration import Calibration
from models.config import ModelConfig, NetworkConfig
from models.explain import explain
from models.export import export_onnx, export_reasons
from models.features import Sequence
from models.fit import NetworkFit
from models.loss import negative_log_likelihood
from models.networks import NetworkModel, build
from models.pieces import Batch, cut, stack
from models.predictor import Predictor
from models.scaling import Scaling
from models.spec import BundleSpec, Lineage, Usual
from models.windows import channels_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
ROUNDS, NUM_SENSORS = 300, 22
CHANNELS = channels_of([(f"s{i:02d}", "number", "1") for i in range(NUM_SENSORS)])  # 24 with context


def milliseconds(function: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[rounds // 10 :])


@pytest.mark.parametrize("name", ["channels", "tcn", "gru"])
def test_a_window_of_the_default_network_takes_under_a_millisecond(name: str) -> None:
    settings = {"channels": {}, "tcn": {"kernel": 3, "layers": 5}, "gru": {"kernel": 8, "layers": 2}}[name]
    config = ModelConfig(network=NetworkConfig(name=name, **settings))
    num = len(CHANNELS)
    network = build(config, Scaling((0.0,) * num, (1.0,) * num), [c.kind for c in CHANNELS]).eval()
    spec = BundleSpec(
        plant="p", kind="network", name="p", version="1", config=config, channels=CHANNELS, calibration=Calibration(),
        usual=Usual(window=(0.0,) * num), lineage=Lineage(data_version="", code_version=""),
    )  # fmt: skip
    onnx = export_onnx(network, Calibration(), config.window.length, num)
    told = export_reasons(network, Calibration(), config.window.length, spec.usual.window)
    predictor = Predictor(Bundle(Path("nowhere"), spec, onnx, b"", "", told))
    window = np.random.default_rng(0).normal(0, 1, (config.window.length, num)).astype(np.float32)
    plain, why = milliseconds(lambda: predictor.risk(window[None])), milliseconds(lambda: explain(predictor, window))
    difference = np.abs(predictor.hazard(window[None]) - 1 / (1 + np.exp(-NetworkModel(network).logits(window[None]))))
    print(
        f"\n{name}, 64 x {num}, {sum(p.numel() for p in network.parameters()):,} parameters: a prediction "
        f"{plain:.2f} ms, its reasons {why:.2f} ms, ratio {why / plain:.1f}; "
        f"ONNX and torch differ by {difference.max():.0e}"
    )
    assert difference.max() < 1e-5
    if name == "channels":
        assert plain < 1
        if why > 3 * plain:
            pytest.xfail("the aim of three plain predictions is missed")


def machine(seed: int, steps: int = 400) -> Sequence:
    rng = np.random.default_rng(seed)
    left = np.arange(steps, 0, -1).astype(np.float32)
    values = rng.normal(0, 1, (steps, len(CHANNELS))).astype(np.float32)
    return Sequence(f"m{seed}", values, left, np.ones(steps, bool), np.ones(steps, bool))


def test_training_keeps_up_with_a_plain_loop_over_the_same_batches_in_memory() -> None:
    config = ModelConfig()
    train = [machine(i) for i in range(24)]
    ratios = []
    for _ in range(3):
        fit = NetworkFit(train, train[:1], config, CHANNELS)
        pieces = cut(train, config.network.crop, rng=np.random.default_rng(0))
        size = config.network.batch_size
        groups = [pieces[i : i + size] for i in range(0, len(pieces), size)]
        context, cap = fit.network.receptive_field - 1, config.hazard.edges[-1]
        batches = [stack(group, context, config.hazard.edges, cap) for group in groups]
        plain = _seconds(lambda: _plain(fit, batches))  # noqa: B023 each round has its own
        began = time.perf_counter()
        fit.network.train()
        for group in groups:
            fit._step(fit.stacked(group))
        ratios.append(plain / (time.perf_counter() - began))
    steps = len(groups) / plain
    print(f"\ntraining: {steps:.1f} steps/s of a plain loop, ratio {statistics.median(ratios):.2f} (bar 0.9)")
    assert statistics.median(ratios) >= 0.9


def _plain(fit: NetworkFit, batches: list[Batch]) -> None:
    """What anyone would write: zero, forward, loss, backward, step, on batches that are ready."""
    network = build(fit.config, fit.scaling, [c.kind for c in CHANNELS]).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for batch in batches:
        optimizer.zero_grad()
        logits = network.valid(batch.values)
        loss = (negative_log_likelihood(logits, batch.exposed, batch.failed) * batch.usable).sum() / batch.usable.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _seconds(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began

"""What turns a series into hazards, and where: a network passes over it once, trees answer window by window.

The one idea: a network sees a window and nothing else, so one pass over a series answers every window in it, at a
thirtieth of the cost; it differs from the service's ONNX graph by float32 rounding (a test holds both together). A
single window, each machine's newest, goes through the service's own Predictor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cluster.own_networks import take_up
from models.bundle import Bundle
from models.modes import shares_of
from models.predictor import Predictor, Scored
from models.windows import Float, Int, windows_ending

Score = Callable[..., dict[str, Any]]
Answers = Callable[[Float, Int], Scored]  # a series [T, C] and N of its rows -> their hazards and shares of modes


def places(dataset: Any, score: Score, *, network: bool) -> Any:
    """The dataset scored: by a task on each CPU, or by an actor on each GPU where the model is a network."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    if not network or not gpus:
        return dataset.map(score)

    class OnGpu:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return score(row, device="cuda")

    return dataset.map(OnGpu, compute=ray.data.ActorPoolStrategy(size=gpus), num_gpus=1)


def answers_of(bundle: Bundle, *, device: str, newest: bool) -> Answers:
    """How a bundle answers the rows of a series; ``newest``: one row of each."""
    if bundle.spec.kind == "network" and not (newest and device == "cpu"):
        return by_series(bundle, device)
    predictor, length = Predictor(bundle), bundle.spec.config.window.length
    return lambda values, rows: predictor.score(windows_ending(values, rows, length))


def by_series(bundle: Bundle, device: str) -> Answers:
    """One pass of the network over a series. Its weights are the bundle's, verified with it."""
    import torch

    from models.networks.stored import placed

    if device == "cpu":
        torch.set_num_threads(1)  # Ray gives a task one core
    spec = bundle.spec
    if ":" in spec.config.network.name:  # allowed where the bundle was loaded; this may be another process
        take_up(spec.config.network.name)
    model = placed(bundle, device)

    def score(values: Float, rows: Int) -> Scored:
        logits, of_modes = model.answers_at(values, rows)
        hazard = np.asarray(spec.calibration.hazard(logits), np.float32)
        return Scored(hazard, shares_of(of_modes, spec.usual.modes, spec.mode_trust))

    return score

"""Where windows are scored: ONNX Runtime in a task on each core, or torch in an actor on each GPU.

The one idea: a unit is scored by the same code wherever it is; only what turns windows into hazards differs, and a
test holds both to the same answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.windows import Float

Score = Callable[..., dict[str, Any]]


def places(dataset: Any, score: Score, *, network: bool) -> Any:
    """The dataset scored: by tasks on CPUs, or by one actor a GPU where the model is a network and there are GPUs."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    if not network or not gpus:
        return dataset.map(score)

    class OnGpu:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return score(row, device="cuda")

    return dataset.map(OnGpu, compute=ray.data.ActorPoolStrategy(size=gpus), num_gpus=1)


def hazards_on(bundle: Bundle, device: str) -> Callable[[Float], Float] | None:
    """Windows [B, W, C] -> calibrated hazards [B, K1] by torch on a device; None where the bundle's own Predictor does.

    The weights are those of the bundle's ``weights.safetensors``, checked with it.
    """
    if device == "cpu":
        return None
    return torch_hazards(bundle, device)


def torch_hazards(bundle: Bundle, device: str) -> Callable[[Float], Float]:
    from models.networks import NetworkModel, build, load_weights
    from models.scaling import Scaling

    spec = bundle.spec
    used = [i for i, channel in enumerate(spec.channels) if channel.name not in spec.config.network.ignore]
    scaling = Scaling(tuple(spec.scaling.center), tuple(spec.scaling.scale))
    network = build(spec.config, scaling, len(spec.channels), used=used)
    assert bundle.weights is not None, "a network has weights"
    load_weights(network, bundle.weights)
    model = NetworkModel(network.to(device), batch_size=4096)

    def score(windows: Float) -> Float:
        found: Float = spec.calibration.hazard(model.logits(np.ascontiguousarray(windows)))
        return found

    return score

"""A network out of its bundle: the weights decide, and what does not fit them is refused before it costs anything.

The one idea: the configuration beside some weights may ask for a network of any size, so it is built without memory
(torch's meta device) and takes the weights' own; what the weights do not hold is never allocated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.bundle import Bundle
from models.config import ModelConfig
from models.errors import InputError
from models.networks import HazardNetwork, NetworkModel, build
from models.scaling import Scaling

_DO = "Restore the bundle from a copy, or train it again with `millwright tune`"


def restored(
    config: ModelConfig, scaling: Scaling, kinds: Sequence[str], weights: bytes, *, num_modes: int = 0,
    where: Path | None = None,
) -> HazardNetwork:  # fmt: skip
    """The network of these weights (``models.networks.weights_of``), over channels of these kinds.

    Raises InputError where the weights are no such network's.
    """
    tensors = _tensors(weights, where)
    used = _used(tensors, len(kinds), where)
    relations = np.zeros((len(kinds), len(kinds)), np.float32) if "relations" in tensors else None
    with torch.device("meta"):
        network = build(config, scaling, kinds, used=used, num_modes=num_modes, relations=relations)
    expected = {name: (list(t.shape), t.dtype) for name, t in network.state_dict().items()}
    found = {name: (list(t.shape), t.dtype) for name, t in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise _wrong(f"{name} {_spoken(expected.get(name))}", _spoken(found.get(name)), where)
    keys = () if scaling.regimes is None else scaling.regimes.keys
    if keys and tensors["keys"].tolist() != list(keys):
        raise _wrong(f"keys {list(keys)}", tensors["keys"].tolist(), where)
    network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
    return network


def placed(bundle: Bundle, device: str) -> NetworkModel:
    """A verified bundle's network on a device of torch. Raises InputError where its weights are no such network's."""
    spec = bundle.spec
    assert bundle.weights is not None, "a network has weights"
    network = restored(
        spec.config, spec.scaling.scaling, [channel.kind for channel in spec.channels], bundle.weights,
        num_modes=len(spec.failure_modes), where=bundle.folder / "weights.safetensors",
    )  # fmt: skip
    return NetworkModel(network.to(device))


def _tensors(weights: bytes, where: Path | None) -> Mapping[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(weights)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _wrong("tensors in the safetensors format", str(error)[:120], where) from error
    if "head.weight" not in tensors:
        return tensors
    own = {"used", "center", "scale"}  # bundles from before networks had members and regimes
    named = {name if name in own else f"members.0.{name}": tensor for name, tensor in tensors.items()}
    return named | {name: named[name][None] for name in ("center", "scale") if name in named}


def _used(tensors: Mapping[str, Tensor], num_channels: int, where: Path | None) -> list[int]:
    """The channels that the network of these weights reads."""
    found = tensors.get("used")
    if found is None or found.dtype != torch.int64 or found.ndim != 1 or not 0 < len(found) <= num_channels:
        raise _wrong(f"used, at most {num_channels} channels", None if found is None else list(found.shape), where)
    used: list[int] = found.tolist()
    if len(set(used)) != len(used) or not set(used) <= set(range(num_channels)):
        raise _wrong(f"used, different ones of {num_channels} channels", used[:20], where)
    return used


def _spoken(of: tuple[list[int], torch.dtype] | None) -> str:
    return "none" if of is None else f"{str(of[1]).removeprefix('torch.')} {of[0]}"


def _wrong(expected: str, found: object, where: Path | None) -> InputError:
    return InputError("Weights of another network", expected=expected, found=found, where=where, do=_DO)

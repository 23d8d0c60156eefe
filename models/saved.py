"""The state of a training on disk: named tensors and plain facts in one safetensors file, nothing to unpickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from torch import Tensor
from torch.optim import Optimizer


def packed(parts: Mapping[str, Mapping[str, Tensor]], optimizer: Optimizer, about: Mapping[str, Any]) -> bytes:
    """Tensors by part and name, the optimizer's moments, and ``about`` as JSON in the header."""
    tensors = {f"{part}/{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    saved: bytes = safetensors.torch.save(plain, metadata={"about": json.dumps(about)})
    return saved


def about(state: bytes) -> dict[str, Any]:
    """The JSON in a state's header, by the safetensors format."""
    length = int.from_bytes(state[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(state[8 : 8 + length])["__metadata__"]["about"])
    return found


def unpacked(state: bytes, optimizer: Optimizer) -> dict[str, dict[str, Tensor]]:
    """The tensors by part and name; the moments are put into ``optimizer``."""
    parts: dict[str, dict[str, Tensor]] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in safetensors.torch.load(state).items():
        part, rest = name.split("/", 1)
        if part == "optimizer":
            index, moment = rest.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
        else:
            parts.setdefault(part, {})[rest] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return parts

"""Bodies that are somebody's own code, by the import path that names them, ``my_package.my_module:MyBody``.

The one idea: importing is running code, and that is not for a model to do. Whoever may (``cluster.own_networks``)
imports a class and takes it up here; a network that names another one is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models.config import ModelConfig
from models.errors import InputError
from models.networks.layout import Layout

_TAKEN_UP: dict[str, type[nn.Module]] = {}  # of this process


def is_own(name: str) -> bool:
    """Whether a network's name is an import path."""
    return ":" in name


def is_taken_up(path: str) -> bool:
    return path in _TAKEN_UP


def take_up(path: str, body: Any) -> None:
    """Let networks of this process name ``body`` by its path. Raises InputError for what is no torch module."""
    if not (isinstance(body, type) and issubclass(body, nn.Module)):
        raise InputError(
            "No such network", expected="module:Class of an importable torch module", found=type(body).__name__,
            where=f"network.name = {path!r}", do="Name a subclass of torch.nn.Module",
        )  # fmt: skip
    _TAKEN_UP[path] = body


def checked_body(path: str, config: ModelConfig, layout: Layout) -> Any:
    """An instance that keeps a body's contract: ``receptive_field`` R, and [B, I, T + R - 1] -> [B, H, T].

    Raises InputError where it does not.
    """
    if path not in _TAKEN_UP:
        raise InputError(
            "A network of code that was not taken up", expected=f"one of {sorted(_TAKEN_UP)}" if _TAKEN_UP
            else "a network of Millwright", found=repr(path), do="List it in registry.allowed_networks",
        )  # fmt: skip
    body = _TAKEN_UP[path](config, layout)
    field = getattr(body, "receptive_field", None)
    if not isinstance(field, int) or isinstance(field, bool) or field < 1:
        raise InputError(
            "An own network does not say how far it looks back", expected="`receptive_field`, a number of steps",
            found=repr(field), where=path, do="Set self.receptive_field in its __init__",
        )  # fmt: skip
    with torch.inference_mode():
        shape = tuple(body.eval()(torch.zeros(1, layout.num_inputs, field + 2)).shape)
    body.train()
    if shape != (1, config.network.hidden, 3):
        raise InputError(
            "An own network gives another shape", expected=f"(1, {config.network.hidden}, 3) for 3 steps",
            found=shape, where=path, do="Give network.hidden rows, one column a step past the receptive field",
        )  # fmt: skip
    return body

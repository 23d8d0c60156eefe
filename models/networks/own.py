"""A body that is somebody's own code, named by an import path such as ``my_package.my_module:MyBody``.

The one idea: importing is running code, so a path comes from the deployment's own configuration and nowhere else. A
bundle that names one is refused where it is loaded (``models.bundle.load_bundle``) unless the operator lists that path.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import torch
from torch import nn

from models.config import ModelConfig
from models.errors import InputError
from models.networks.layout import Layout

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z")
_EXPECTED = "module:Class of an importable torch module"


def is_own(name: str) -> bool:
    """Whether a network's name is an import path."""
    return ":" in name


def own_body(path: str) -> Any:
    """What the path names, imported. Raises InputError where there is no such class."""
    if not _PATH.match(path):
        raise _wrong(path, repr(path), "Write it as `my_package.my_module:MyBody`")
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise _wrong(path, str(error), "Install the package, or put its folder on PYTHONPATH") from error
    except AttributeError as error:
        raise _wrong(path, f"no {name} in {module}", "Correct the class's name") from error
    except Exception as error:  # the module's own body failed
        raise _wrong(path, f"{type(error).__name__}: {error}", "Correct that module") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise _wrong(path, type(found).__name__, "Name a subclass of torch.nn.Module")
    return found


def checked_body(path: str, config: ModelConfig, layout: Layout) -> Any:
    """An instance that keeps a body's contract: ``receptive_field`` R, and [B, I, T + R - 1] -> [B, H, T].

    Raises InputError where it does not.
    """
    body = own_body(path)(config, layout)
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


def _wrong(path: str, found: str, do: str) -> InputError:
    return InputError("No such network", expected=_EXPECTED, found=found, where=f"network.name = {path!r}", do=do)

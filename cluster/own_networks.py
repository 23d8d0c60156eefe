"""Networks that are somebody's own code: imported here, where the deployment lists them, and nowhere else.

The one idea: importing is running code, so a path comes from the deployment's own ``registry.allowed_networks``. What
names another one, a bundle (``models.bundle.load_bundle``), a search space or a study on disk, is refused first.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection

from models import bundle
from models.config import NETWORKS
from models.errors import InputError

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z")


def require(name: str, allowed: Collection[str], *, where: str = "network.name") -> None:
    """A network is one of Millwright's, or listed in ``allowed`` and from now on known to this process.

    Raises InputError where it is neither, or no torch module can be imported by its path.
    """
    if ":" in name:
        bundle.require_allowed(name, allowed, where=where)
        take_up(name)
    elif name not in NETWORKS:
        raise InputError(
            "Unknown network", expected=f"one of {', '.join(NETWORKS)}", found=repr(name), where=where,
            do="Name a network of your own by its import path, `my_package.my_module:MyBody`",
        )  # fmt: skip


def take_up(path: str) -> None:
    """Import what an allowed path names, once a process."""
    from models.networks import own  # torch: three seconds that most runs need not wait here

    if own.is_taken_up(path):
        return
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
    own.take_up(path, found)


def _wrong(path: str, found: str, do: str) -> InputError:
    return InputError(
        "No such network", expected="module:Class of an importable torch module", found=found,
        where=f"network.name = {path!r}", do=do,
    )  # fmt: skip

"""A model on trial beside a plant's champion: in the shadow, or answering for a share of the machines.

The one idea: which machines it answers for follows from their names alone, so every replica agrees, an answer today and
tomorrow comes from the same model, and a larger share only adds machines.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from cluster.files import write_atomically
from cluster.home import Home
from cluster.places import Place
from cluster.registry import bundle_folder
from models.errors import InputError


@dataclass(frozen=True)
class Challenger:
    """``share`` of the plant's machines that it answers for; 0: it scores all of them and answers none."""

    kind: str
    version: str
    path: Place
    share: float

    def answers(self, plant: str, machine: str) -> bool:
        """Whether the machine is among those that it answers for."""
        if not machine or self.share <= 0:
            return False
        digest = hashlib.sha256(f"{plant}\n{machine}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8]) < self.share * 2**64


def challenger(home: Home, plant: str) -> Challenger | None:
    """The plant's model on trial, or None. Raises InputError where its pointer is damaged."""
    path = home.registry / "challengers" / f"{plant}.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        version, share = str(found["version"]), float(found["share"])
        if not 0 <= share <= 1:
            raise ValueError(f"share {share}")
        return Challenger(str(found["kind"]), version, bundle_folder(home, plant, version), share)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError, RecursionError, InputError) as error:
        raise InputError(
            "Damaged pointer to the challenger", expected="JSON with kind, version and share", found=str(error),
            where=path, do=f"Run `millwright challenge --plant {plant}` again, with --version or --end",
        ) from error  # fmt: skip


def put(home: Home, plant: str, *, kind: str, version: str, share: float) -> None:
    """Every replica has it a few seconds later."""
    path = home.registry / "challengers" / f"{plant}.json"
    write_atomically(path, json.dumps({"kind": kind, "version": version, "share": share}, indent=1))


def end(home: Home, plant: str) -> bool:
    """End the trial; whether there was one."""
    path = home.registry / "challengers" / f"{plant}.json"
    there = path.is_file()
    path.unlink(missing_ok=True)
    return there

"""Who asks, and may they: keys in ``Authorization: Bearer`` or ``X-API-Key``.

The one idea: for a key that is not for a plant, the plant does not exist. Without a right key every
route answers the same 401, whatever was wrong.
"""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request

from cluster.keys import Key, KeyStore
from models.errors import AccessError, NotFoundError
from serve.metrics import Metrics

Role = Literal["read", "write", "admin"]


class RoleError(AccessError):
    """A key without that right."""

    status = 403


def identify(request: Request, keys: KeyStore, metrics: Metrics) -> Key:
    """The open key of the request. Raises AccessError, always the same."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    text = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    key = keys.verify(text)
    if key is None:
        metrics.count("refused", reason="key")
        raise AccessError(
            "No valid key", expected="`Authorization: Bearer KEY` or `X-API-Key: KEY`",
            do="Make one with `millwright keys add`",
        )  # fmt: skip
    return key


def authorise(key: Key, plant: str, role: Role, metrics: Metrics) -> None:
    """Raises NotFoundError for another's plant, as for one that is not there; RoleError without the right."""
    if not key.sees(plant):
        metrics.count("refused", reason="plant")
        raise unknown_plant(plant)
    if not key.may(role):
        metrics.count("refused", reason="role")
        raise RoleError(f"The key may not {role}", expected=f"role {role}", found=", ".join(key.roles))


def unknown_plant(plant: str) -> NotFoundError:
    return NotFoundError("Unknown plant", found=repr(plant), do="Check the name and the key's plants")

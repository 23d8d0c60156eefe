"""Who asks, and may they: keys, or an identity provider's tokens, in ``Authorization: Bearer`` or ``X-API-Key``.

The one idea: for a key that is not for a plant, the plant does not exist. Without a right key every
route answers the same 401, whatever was wrong.
"""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request

from cluster.keys import Key, KeyStore
from models.errors import AccessError, NotFoundError
from serve.limits import RateError, Rates
from serve.metrics import Metrics
from serve.tokens import Tokens

Role = Literal["read", "write", "admin"]


class RoleError(AccessError):
    """A key without that right."""

    status = 403


class Access:
    """Who asks, by a key of ours or a token of the identity provider, and how often they may."""

    def __init__(self, keys: KeyStore, metrics: Metrics, *, rates: Rates, tokens: Tokens | None = None) -> None:
        self._keys, self._metrics, self._rates, self._tokens = keys, metrics, rates, tokens

    def identify(self, request: Request) -> Key:
        """The open key of the request. Raises AccessError, always the same; RateError where it asks too often."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        text = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        key = self._keys.verify(text)
        if key is None and self._tokens is not None and text.count(".") == 2:
            key = self._tokens.verify(text)
        if key is None:
            self._metrics.count("refused", reason="key")
            raise AccessError(
                "No valid key", expected="`Authorization: Bearer KEY` or `X-API-Key: KEY`",
                do="Make one with `millwright keys add`",
            )  # fmt: skip
        try:
            self._rates.take(key)
        except RateError:
            self._metrics.count("refused", reason="rate")
            raise
        return key

    def authorise(self, key: Key, plant: str, role: Role) -> None:
        """Raises NotFoundError for another's plant, as for one that is not there; RoleError without the right."""
        if not key.sees(plant):
            self._metrics.count("refused", reason="plant")
            raise unknown_plant(plant)
        if not key.may(role):
            self._metrics.count("refused", reason="role")
            raise RoleError(f"The key may not {role}", expected=f"role {role}", found=", ".join(key.roles) or "none")

    def refresh(self) -> None:
        """Read the identity provider's keys where they have changed. Raises InputError."""
        if self._tokens is not None:
            self._tokens.refresh()

    def close(self) -> None:
        self._keys.close()


def unknown_plant(plant: str) -> NotFoundError:
    return NotFoundError("Unknown plant", found=repr(plant), do="Check the name and the key's plants")

"""JSON Web Tokens of an identity provider as keys: checked by its published keys, which are read again as they change.

The one idea: a request never waits for the provider. Its keys are read by the thread that looks for models; a token
signed with a key that nobody knows yet is refused until then. What was checked is remembered until it ends.

Source: RFC 7519, and RFC 8725 on what goes wrong (algorithms are a list of ours, never the token's word).
"""

from __future__ import annotations

import hashlib
import logging
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt

from cluster.keys import ROLES, Key
from cluster.serving import JwtSettings
from models.errors import InputError

log = logging.getLogger("millwright.serve")
AGAIN_S = 300.0  # an address is read again after
REMEMBERED = 10_000
LONGEST = 8_192
_MOST_BYTES = 1 << 20
_TIMEOUT_S = 5.0


class Tokens:
    """``refresh`` reads the provider's keys where they may have changed; ``verify`` checks a token."""

    def __init__(self, settings: JwtSettings, *, now_s: Callable[[], float] = time.time) -> None:
        self._settings, self._now_s = settings, now_s
        self._keys: dict[str | None, Any] = {}
        self._read: float | None = None  # a file's time of change, or when an address was read
        self._known: OrderedDict[bytes, tuple[Key, float]] = OrderedDict()

    def refresh(self) -> None:
        """Read the keys where they may have changed. Raises InputError; what was known before stays."""
        where = self._settings.keys
        try:
            if where.startswith("https://"):
                if self._read is not None and time.monotonic() - self._read < AGAIN_S:
                    return
                with urllib.request.urlopen(where, timeout=_TIMEOUT_S) as answer:
                    text, mark = answer.read(_MOST_BYTES), time.monotonic()
            else:
                mark = float(Path(where).stat().st_mtime_ns)
                if mark == self._read:
                    return
                text = Path(where).read_bytes()
            found = jwt.PyJWKSet.from_json(text.decode())
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise InputError(
                "The identity provider's keys cannot be read", expected="a JSON Web Key Set", found=str(error)[:200],
                where=where, do="Correct serve.jwt.keys",
            ) from error  # fmt: skip
        self._keys = {key.key_id: key for key in found.keys}
        self._read = mark
        self._known.clear()  # a key that is gone signs nothing any more

    def verify(self, text: str) -> Key | None:
        """Who the token is, or None, whatever is wrong with it."""
        if len(text) > LONGEST:
            return None
        digest, now = hashlib.sha256(text.encode()).digest(), self._now_s()
        known = self._known.get(digest)
        if known is not None:
            return known[0] if now < known[1] else None
        claims = self._claims(text)
        if claims is None:
            return None
        key = _key(claims, self._settings)
        self._known[digest] = key, float(claims["exp"]) + self._settings.leeway_s
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return key

    def _claims(self, text: str) -> Mapping[str, Any] | None:
        settings = self._settings
        try:
            signed_by = self._keys.get(jwt.get_unverified_header(text).get("kid"))
            if signed_by is None:
                return None
            found: Mapping[str, Any] = jwt.decode(
                text, signed_by, algorithms=list(settings.algorithms), audience=settings.audience,
                issuer=settings.issuer, leeway=settings.leeway_s, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return found


def _key(claims: Mapping[str, Any], settings: JwtSettings) -> Key:
    roles = tuple(role for role in ROLES if role in _words(claims.get(settings.roles_claim)))
    subject = str(claims["sub"])[:128]
    return Key(f"jwt:{subject}", subject, _words(claims.get(settings.plants_claim)), roles, created_at="")


def _words(claim: Any) -> tuple[str, ...]:
    if isinstance(claim, str):
        return tuple(claim.split())
    return tuple(word for word in claim if isinstance(word, str)) if isinstance(claim, list) else ()

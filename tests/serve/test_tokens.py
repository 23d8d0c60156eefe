"""Tokens of an identity provider: what opens, what never does, and keys that change."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cluster.home import Home
from cluster.keys import open_keys
from cluster.serving import JwtSettings
from models.errors import InputError
from serve.api import create_app
from serve.auth import Access
from serve.limits import Rates
from serve.service import Service
from serve.tokens import Tokens

ISSUER, AUDIENCE, NOW = "https://idp.example", "millwright", 1_800_000_000
RSA, EC = rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CLAIMS = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": 4_000_000_000, "plants": ["mill"], "roles": "read write"
}  # fmt: skip


def published(**keys: Any) -> str:
    found = []
    for name, key in keys.items():
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        found.append(json.loads(algorithm.to_jwk(key.public_key())) | {"kid": name})
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    return json.dumps({"keys": [*found, {"kty": "oct", "kid": "secret", "k": secret}]})


def token(key: Any = RSA, algorithm: str = "RS256", kid: str = "one", **claims: Any) -> str:
    kept = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
def where(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(published(one=RSA, two=EC))
    return path


@pytest.fixture
def tokens(where: Path) -> Tokens:
    made = Tokens(JwtSettings(issuer=ISSUER, audience=AUDIENCE, keys=str(where)), now_s=lambda: NOW)
    made.refresh()
    return made


def test_a_good_token_is_a_key_with_its_plants_and_roles(tokens: Tokens) -> None:
    for text in (token(), token(EC, "ES256", "two")):
        key = tokens.verify(text)
        assert key is not None
        assert (key.name, key.plants, key.roles) == ("anna", ("mill",), ("read", "write"))
        assert tokens.verify(text) is key  # remembered


def _unsigned() -> str:
    part = lambda found: base64.urlsafe_b64encode(json.dumps(found).encode()).decode().rstrip("=")  # noqa: E731
    return f"{part({'alg': 'none', 'kid': 'one'})}.{part(CLAIMS)}."


def _with_the_public_key_as_a_secret() -> str:
    """The classic: sign with HMAC, the published key as its secret."""
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    return jwt.api_jws.PyJWS().encode(
        json.dumps(CLAIMS).encode(), base64.b64encode(pem), algorithm="HS256", headers={"kid": "one"}
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        token(OTHER), token(kid="three"), token(kid=""), token(exp=NOW - 10**9), token(exp=None),
        token(iss="https://evil.example"), token(iss=None), token(aud="another"), token(aud=None), token(sub=None),
        token(nbf=4_000_000_000), token(EC, "ES256", "one"), token(RSA, "RS512"), _unsigned(),
        _with_the_public_key_as_a_secret(), token("s" * 32, "HS256", "secret"), token() + "x", "a.b.c", "..", "",
        token(padding="x" * 9000), "é.é.é",
    ],
)  # fmt: skip
def test_what_is_not_right_opens_nothing(tokens: Tokens, text: str) -> None:
    assert tokens.verify(text) is None


def test_a_remembered_token_ends_when_it_says(where: Path) -> None:
    now = [1_900_000_000.0]
    made = Tokens(JwtSettings(issuer=ISSUER, audience=AUDIENCE, keys=str(where)), now_s=lambda: now[0])
    made.refresh()
    text = token(exp=3_900_000_000)
    assert made.verify(text) is not None
    now[0] = 3_900_000_031.0
    assert made.verify(text) is None


def test_roles_that_nobody_knows_and_odd_claims_open_nothing(tokens: Tokens) -> None:
    key = tokens.verify(token(roles=["root", 7, "read"], plants={"mill": 1}))
    assert key is not None
    assert (key.plants, key.roles) == ((), ("read",))


def test_keys_are_read_again_when_their_file_changes_and_a_key_that_is_gone_closes(tokens: Tokens, where: Path) -> None:
    assert tokens.verify(token()) is not None
    assert tokens.verify(token(OTHER, kid="new")) is None
    where.write_text(published(new=OTHER))
    os.utime(where, ns=(1, 1))
    tokens.refresh()
    assert tokens.verify(token(OTHER, kid="new")) is not None
    assert tokens.verify(token()) is None


@pytest.mark.parametrize("text", ["", "{}", '{"keys": []}', "no json"])
def test_keys_that_cannot_be_read_are_told_and_the_last_good_ones_stay(tokens: Tokens, where: Path, text: str) -> None:
    where.write_text(text)
    with pytest.raises(InputError, match="The identity provider's keys cannot be read"):
        tokens.refresh()
    assert tokens.verify(token()) is not None


@pytest.mark.parametrize(
    "wrong", [{"algorithms": ["HS256"]}, {"algorithms": ["none"]}, {"algorithms": []}, {"keys": "http://idp/keys"}]
)
def test_settings_that_would_let_anybody_in_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"some of|https"):
        JwtSettings(**({"issuer": ISSUER, "audience": AUDIENCE, "keys": "k.json"} | wrong))


def test_over_http_a_token_opens_its_plants_only(
    service: Service, call: Any, tokens: Tokens, plant_home: Home, new_key: Callable[..., str]
) -> None:
    service.access = Access(open_keys(plant_home), service.metrics, rates=Rates(1, lambda: 0.0), tokens=tokens)
    call.app = create_app(service)
    assert call("GET", "/v1/plants/mill/machines").status == 200  # keys of ours go on
    call.key = token()
    assert call("GET", "/v1/plants/mill/machines").status == 200
    assert [plant["name"] for plant in call("GET", "/v1/plants").json["plants"]] == ["mill"]
    call.key = token(plants=["quarry"])
    assert call("GET", "/v1/plants/mill/machines").status == 404
    call.key = token(roles="write")
    assert call("GET", "/v1/plants/mill/machines").status == 403
    call.key = token(exp=1)
    assert call("GET", "/v1/plants/mill/machines").status == 401

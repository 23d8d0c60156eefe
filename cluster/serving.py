"""How the service runs: where it listens, how many replicas there are, who may ask, and for how much."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from models.config import Frozen

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class JwtSettings(Frozen):
    """Tokens of an identity provider, beside keys of our own. ``keys`` is its JSON Web Key Set: a file, or https://.

    A token names plants and roles in the claims ``plants_claim`` and ``roles_claim``: a list, or words in one text.
    """

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    keys: str = Field(min_length=1)
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    plants_claim: str = "plants"
    roles_claim: str = "roles"
    leeway_s: float = Field(30.0, ge=0, le=300)  # by which clocks may differ

    @field_validator("algorithms")
    @classmethod
    def _signed(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        # A secret that signs and checks alike would let whoever can check tokens make them.
        if not algorithms or not set(algorithms) <= set(ASYMMETRIC):
            raise ValueError(f"some of {', '.join(ASYMMETRIC)}")
        return algorithms

    @field_validator("keys")
    @classmethod
    def _where(cls, keys: str) -> str:
        if "://" in keys and not keys.startswith("https://"):
            raise ValueError("a file or an https:// address")
        return keys


class ServeSettings(Frozen):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    replicas: int = Field(1, ge=1)  # at least
    most_replicas: int | None = Field(None, ge=1)  # as load asks for them; without it there are always ``replicas``
    target_in_flight: float = Field(4.0, gt=0)  # requests that a replica should be at, on average, while there are more
    upscale_delay_s: float = Field(5.0, ge=0)  # for which load must last; a replica takes seconds to come
    downscale_delay_s: float = Field(300.0, ge=0)  # shifts begin together: capacity stays a while
    gpus: float = Field(0.0, ge=0)  # of each replica, a share of one or several; networks then run there, by torch
    in_flight: int = Field(64, ge=1)  # requests that a replica works on at once; more are told to come again
    max_body_mb: float = Field(32.0, gt=0)
    body_wait_s: float = Field(1.0, gt=0, le=20)  # until a body begins to come; more for plants on slow links
    max_windows: int = Field(4096, ge=1)  # in one `score` request
    journal_rows: int = Field(20_000, ge=1)  # predictions that may wait for the journal
    model_poll_s: float = Field(2.0, gt=0)  # how often a replica looks for a new champion
    price_per_hour: float = Field(0.0, ge=0)  # of one replica, in your currency: its share of a machine, power, people
    jwt: JwtSettings | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ServeSettings:
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            raise ValueError(f"most_replicas is less than replicas, {self.replicas}")
        return self

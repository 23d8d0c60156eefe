"""How the service runs: where it listens, how many replicas there are, what a request may ask for."""

from __future__ import annotations

from pydantic import Field

from models.config import Frozen


class ServeSettings(Frozen):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    replicas: int = Field(1, ge=1)
    in_flight: int = Field(64, ge=1)  # requests that a replica works on at once; more are told to come again
    max_body_mb: float = Field(32.0, gt=0)
    max_windows: int = Field(4096, ge=1)  # in one `score` request
    journal_rows: int = Field(20_000, ge=1)  # predictions that may wait for the journal
    model_poll_s: float = Field(5.0, gt=0)  # how often a replica looks for a new champion

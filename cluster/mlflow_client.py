"""MLflow's client, quiet, and opened by one process at a time.

The one idea: what MLflow raises leaves here as an error that says what to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.home import Home
from cluster.report import Silent
from cluster.turns import alone
from models.errors import MillwrightError


def tracking_uri(home: Home) -> str:
    return home.settings.registry.uri or f"sqlite:///{home.registry / 'mlflow.db'}"


def mlflow_client(home: Home) -> Any:
    """An MLflow client that says nothing and sends nothing; SQLite's tables are made at the first use.

    One process at a time: two that make the tables at once would both fail.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    home.registry.mkdir(parents=True, exist_ok=True)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # importing MLflow sets its own level
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = tracking_uri(home)
    with alone(home.registry / "mlflow.lock", "the registry", Silent()), saying("open the registry"):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def saying(what: str) -> Iterator[None]:
    """MLflow's own error as one of ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise MillwrightError(
            f"MLflow could not {what}", found=str(error).splitlines()[0], do="Check registry.uri and its server"
        ) from error

"""Whatever `/openapi.json` lets a client send is answered as it says: Schemathesis, against a real socket.

One of its checks is told one thing more: that a body is well-formed is in the description; that a plant has these
sensors, and its model windows of this length, is not, and a request that misses that is 422 or 413.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.api import create_app
from serve.service import Service
from tests.serve.conftest import listening_server

SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "413", "422", "429", "503"]

[parameters]
plant = ["mill", "quarry", "nowhere"]
version = ["v1", "v2"]
"""


@pytest.mark.parametrize("plants", [("*",), ("quarry",)])
def test_every_route_answers_as_it_is_described(
    service: Service, new_key: Callable[..., str], tmp_path: Path, plants: tuple[str, ...]
) -> None:
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with listening_server(create_app(service)) as (_, port):
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json",
            "--header", f"Authorization: Bearer {new_key(plants=plants)}", "--max-examples", "25",
            "--generation-deterministic", "--continue-on-failure", "--no-color",
        ]  # fmt: skip
        found = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
            env=os.environ | {"COLUMNS": "200"},
        )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert "Tested: " in found.stdout

"""Azure's storage by the same path, against its own emulator where that is installed (npm's `azurite`)."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import bundles
from cluster.commit import append_once, open_table
from cluster.places import Remote, files_below, read_parquet, reference, tables_below
from cluster.running import free_port
from models.errors import AccessError, NotFoundError
from tests.models.test_bundle import spec

PROGRAM = shutil.which("azurite-blob")
ACCOUNT = "plant"
KEY, WRONG = (base64.b64encode(letter * 32).decode() for letter in (b"k", b"w"))

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no azurite-blob on the PATH (npm install azurite)")


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    port = free_port("127.0.0.1")
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    process = subprocess.Popen(
        [str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options],
        env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for name, value in {"KEY": KEY, "NAME": ACCOUNT}.items():
        monkeypatch.setenv(f"RIDGE_AZURE_STORAGE_ACCOUNT_{name}", value)
    monkeypatch.setenv("RIDGE_AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{port}")
    place = Remote("abfs://lake/history", "RIDGE_")
    try:
        for _ in range(100):
            try:
                place.filesystem.create_dir("lake")
                break
            except OSError:
                time.sleep(0.2)
        yield place
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_a_table_and_a_bundle_lie_in_a_container(
    lake: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, table = lake / "readings/pump", pa.table({"machine": ["a", "b"]})
    assert [append_once(place, table, app_id="x", version=1) for _ in range(2)] == [True, False]
    assert tables_below(lake) == ["readings/pump"]
    assert read_parquet([reference(place / f.path) for f in files_below(place, ".parquet")]).num_rows == 2
    bundles.save(lake / "v1", spec(kind="trees", version="v1"), weights="tree")
    assert bundles.load_at(lake / "v1", tmp_path).model == b"tree"
    with pytest.raises(NotFoundError, match="No such bucket"):
        open_table(Remote("abfs://nowhere/x", "RIDGE_"))
    monkeypatch.setenv("RIDGE_AZURE_STORAGE_ACCOUNT_KEY", WRONG)
    for way in (lambda: open_table(place), place.is_file):
        with pytest.raises(AccessError, match="refuses these keys") as error:
            way()
        assert WRONG not in str(error.value)

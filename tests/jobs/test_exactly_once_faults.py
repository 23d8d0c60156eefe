"""Disks that fill up, turn read-only or go away: a clear error, no torn commit, and the next run finishes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from deltalake import DeltaTable

from cluster import durability
from cluster.commit import append_once, open_table
from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.ingest import run
from jobs.ingesting.merging import Row
from models.errors import MillwrightError
from tests.jobs.once_checker import check_every_version, state
from tests.jobs.once_crashes import FAIL, Forks, disk
from tests.jobs.once_plants import PLANT, connect, hostile, put

FAULTS = {errno.ENOSPC: "No space left on device", errno.EROFS: "Read-only file system", errno.EIO: "Input/output"}


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    library = disk(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    with Forks(library) as found:
        yield found


def two_runs(folder: Path) -> tuple[Home, Path]:
    """A home with one run behind it, and a second delivery to ingest."""
    home = open_home(folder / "home", create=True, environment={})
    connect(home, folder / "raw")
    first, second = hostile(Random(1), runs=2)
    put(folder / "raw", first)
    run(home, progress=Silent(), spread=map)
    put(folder / "raw", second)
    return home, folder / "raw"


def fail_and_mend(folder: Path, forks: Forks, *, every: int) -> int:
    """From each ``every``-th change on nothing can be written; then it can again. How many faults there were."""
    home, _ = two_runs(folder)
    earlier, before, copy = state(home), folder / "before", folder / "failing"
    shutil.copytree(home.path, before)
    steps = forks.run(home.path)["steps"]
    later, failed = state(home), 0
    for number, step in enumerate(range(1, steps + 1, every)):
        code = list(FAULTS)[number % len(FAULTS)]
        shutil.copytree(before, copy)
        failing = open_home(copy, environment={})
        answer = forks.run(copy, mode=FAIL, at=step, error=code)
        assert "broken" not in answer, (step, answer)
        if "failed" in answer:
            failed += 1
            assert answer["code"] == 1
            assert FAULTS[code] in answer["failed"] and "goes on where it stopped" in answer["failed"]
            assert str(copy) in answer["failed"]
        assert state(failing) in (earlier, later)
        check_every_version(failing)
        assert "steps" in forks.run(copy)
        assert state(failing) == later
        shutil.rmtree(copy)
    return failed


@pytest.mark.slow
def test_a_disk_that_fails_is_named_and_the_next_run_finishes(tmp_path: Path, forks: Forks) -> None:
    assert fail_and_mend(tmp_path, forks, every=40) > 4


@pytest.mark.parametrize("left", [0, 40])
def test_a_commit_that_power_loss_has_cut_short_is_made_again(tmp_path: Path, left: int) -> None:
    clean, _ = two_runs(tmp_path / "clean")
    run(clean, progress=Silent(), spread=map)
    home, _ = two_runs(tmp_path / "torn")
    table = DeltaTable(str(home.table(PLANT, "quarantine")))
    entry = home.table(PLANT, "quarantine") / "_delta_log" / f"{table.version() + 1:020}.json"
    entry.write_text("{" * left)
    run(home, progress=Silent(), spread=map)
    check_every_version(home)
    assert {k: len(v) for k, v in state(home).items()} == {k: len(v) for k, v in state(clean).items()}
    assert entry.with_suffix(".torn").exists()


def test_a_checkpoint_that_power_loss_has_cut_short_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    monkeypatch.setattr(durability, "CHECKPOINT", 3)
    path = tmp_path / "journal"
    for number in range(1, 5):
        append_once(path, pa.table({"n": [number]}), app_id="test", version=number)
    (checkpoint,) = (path / "_delta_log").glob("*.checkpoint.parquet")
    checkpoint.write_bytes(b"PAR1")
    table = open_table(path)
    assert table is not None and table.transaction_version("test") == 4
    assert sorted(table.to_pyarrow_table()["n"].to_pylist()) == [1, 2, 3, 4]


def test_a_store_that_has_gone_is_refused_and_nothing_is_written_in_its_place(tmp_path: Path) -> None:
    home, _ = two_runs(tmp_path)
    home.lake.rename(tmp_path / "elsewhere")
    with pytest.raises(MillwrightError, match=r"History is gone.* at version .*Mount the store again"):
        run(home, progress=Silent(), spread=map)
    assert not [path for path in home.lake.rglob("*") if path.is_file()]
    shutil.rmtree(home.lake, ignore_errors=True)
    (tmp_path / "elsewhere").rename(home.lake)
    assert run(home, progress=Silent(), spread=map).files > 0
    check_every_version(home)


def test_a_source_that_goes_away_while_it_is_read_is_named_and_the_next_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, raw = two_runs(tmp_path)
    for number in (8, 9):
        shutil.copy(raw / "readings/wide/0.csv", raw / f"readings/wide/{number}.csv")
    clean = open_home(shutil.copytree(home.path, tmp_path / "clean"), environment={})
    run(clean, progress=Silent(), spread=map)
    before, elsewhere = state(home), tmp_path / "elsewhere"
    monkeypatch.setattr("jobs.ingest.TASK_BYTES", 1)

    def vanishing(function: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
        assert len(items) > 1
        for item in items:
            yield function(item)
            if raw.exists():  # behind the first file
                raw.rename(elsewhere)

    with pytest.raises(MillwrightError, match=f"changed while it was read.*{raw}") as caught:
        run(home, progress=Silent(), spread=vanishing)
    assert caught.value.exit_code == 1
    assert state(home) == before
    with pytest.raises(MillwrightError, match="The source's folder is gone"):
        run(home, progress=Silent(), spread=map)
    assert state(home) == before
    elsewhere.rename(raw)
    assert run(home, progress=Silent(), spread=map).files > 0
    assert state(home) == state(clean)
    check_every_version(home)


def test_a_lake_that_only_another_user_may_write_is_named_and_the_next_run_finishes(forks: Forks) -> None:
    if os.geteuid() != 0:
        pytest.skip("may not become another user")
    with TemporaryDirectory() as name:  # pytest's own folder is for one user alone
        folder = Path(name)
        folder.chmod(0o755)
        home, _ = two_runs(folder)
        shutil.copytree(home.path, folder / "clean")
        clean = open_home(folder / "clean", environment={})
        forks.run(clean.path)
        before, nobody = state(home), 65534
        own(home.path, nobody)
        own(home.lake, 0)
        answer = forks.run(home.path, user=nobody)
        assert answer.get("code") == 1, answer
        assert "Permission denied" in answer["failed"] and str(home.lake) in answer["failed"]
        assert state(home) == before
        own(home.lake, nobody)
        assert forks.run(home.path, user=nobody)["code"] == 0
        assert state(home) == state(clean)
        check_every_version(home)


def own(folder: Path, user: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)


def test_a_full_disk_and_a_read_only_one_are_named_and_work_goes_on_when_mended(mounted: Path, tmp_path: Path) -> None:
    home = open_home(mounted / "home", create=True, environment={})
    connect(home, tmp_path / "raw")
    first, second = hostile(Random(1), runs=2)
    put(tmp_path / "raw", first)
    run(home, progress=Silent(), spread=map)
    before = state(home)
    put(tmp_path / "raw", second)
    size = shutil.disk_usage(mounted).free
    (mounted / "ballast").write_bytes(b"\0" * (size - 40_000))
    with pytest.raises(MillwrightError, match="No space left on device"):
        run(home, progress=Silent(), spread=map)
    assert state(home) == before
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    with pytest.raises(MillwrightError, match="Read-only file system"):
        run(home, progress=Silent(), spread=map)
    subprocess.run(["mount", "-o", "remount,rw", mounted], check=True)
    (mounted / "ballast").unlink()
    assert run(home, progress=Silent(), spread=map).files > 0
    check_every_version(home)
    assert run(home, progress=Silent(), spread=map).files == 0

"""C-MAPSS through the same code as any plant: on files that the test writes, and on NASA's where they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from cluster.home import Home, open_home
from cluster.registry import champion
from cluster.report import Silent
from jobs import benchmark
from jobs.benchmarks import cmapss
from jobs.benchmarks.cmapss import description
from jobs.benchmarks.cmapss_files import read_labels
from models.errors import InputError


def write_subset(folder: Path, *, train: int = 10, test: int = 4, compress: bool = False) -> None:
    """Engines whose eleven first sensors drift with wear, in NASA's 26 columns."""
    rng = np.random.default_rng(0)

    def engine(unit: int, life: int, stop: int) -> list[str]:
        lines = []
        for cycle in range(1, stop + 1):
            wear = np.exp((cycle - life) / 30)
            sensors = 100 + rng.normal(0, 0.1, 21) + np.r_[np.full(11, 3 * wear), np.zeros(10)]
            lines.append(" ".join(f"{x:.4f}" for x in (0.0, 0.0, 100.0, *sensors)))
            lines[-1] = f"{unit} {cycle} {lines[-1]}  "
        return lines

    lives = rng.integers(80, 160, train + test)
    stops = [int(life) - int(rng.integers(5, 60)) for life in lives[train:]]
    contents = {
        "train": [line for i in range(train) for line in engine(i + 1, int(lives[i]), int(lives[i]))],
        "test": [line for i in range(test) for line in engine(i + 1, int(lives[train + i]), stops[i])],
        "RUL": [f"{int(lives[train + i]) - stops[i]} " for i in range(test)],
    }
    for part, lines in contents.items():
        data = ("\n".join(lines) + "\n").encode()
        if compress:
            (folder / f"{part}_FD001.txt.gz").write_bytes(gzip.compress(data))
        else:
            (folder / f"{part}_FD001.txt").write_bytes(data)


@pytest.mark.ray
@pytest.mark.parametrize("compress", [False, True])
def test_both_protocols_stand_beside_their_baseline(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch, compress: bool
) -> None:
    quick = cmapss.CONFIG.network.model_copy(update={"epochs": 2, "train_steps": 0, "hidden": 8})
    trees = cmapss.CONFIG.trees.model_copy(update={"rounds": 20})
    monkeypatch.setattr(cmapss, "CONFIG", cmapss.CONFIG.model_copy(update={"network": quick, "trees": trees}))
    write_subset(tmp_path, compress=compress)
    home = open_home(tmp_path / "home", create=True, environment={})
    report = benchmark.run(home, progress=Silent(), name="cmapss", data=tmp_path, subset="FD001", seeds=2)
    assert isinstance(report, cmapss.BenchmarkReport)
    found = report.as_json()
    for kind in ("model", "baseline", "no_sensor"):
        assert 0 < found[kind]["clipped"]["rmse"] <= 125 and found[kind]["true"]["score"] > 0
        low, high = found[kind]["true"]["interval"]
        assert low <= found[kind]["true"]["rmse"] * 1.2 and low <= high
    assert found["intervals"].keys() == {"network", "trees", "age only"}
    for told in found["intervals"].values():
        assert 0 <= told["coverage"][0] <= 1 and 0 <= told["beyond"] <= 1 and 0 <= told["width"] <= 125
    assert len(found["model"]["true"]["seeds"]) == 2 and found["engines"] == 4
    assert champion(home, "cmapss-FD001") is not None
    assert report.baseline.clipped.rmse < report.no_sensor.clipped.rmse * 1.5


def test_a_test_engine_ends_without_a_failure_and_a_training_engine_with_one(tmp_path: Path) -> None:
    write_subset(tmp_path, train=1, test=1)
    train, test = description(tmp_path, "FD001").streams
    assert train.run_to_failure and not test.run_to_failure
    assert (train.machine.prefix, test.machine.prefix) == ("train-", "test-")


def test_missing_and_broken_files_are_named(tmp_path: Path, home: Home) -> None:
    with pytest.raises(InputError, match=r"A file is missing: expected train_FD001.txt or .txt.gz"):
        read_labels(tmp_path, "FD001")
    write_subset(tmp_path, train=1, test=1)
    (tmp_path / "RUL_FD001.txt").write_text("12 what")
    with pytest.raises(InputError, match=r"Unreadable labels.*RUL_FD001.txt"):
        read_labels(tmp_path, "FD001")
    with pytest.raises(InputError, match=r"No such folder"):
        read_labels(tmp_path / "nowhere", "FD001")
    with pytest.raises(InputError, match=r"Unknown subset: expected one of FD001.*'FD009'"):
        benchmark.run(home, progress=Silent(), name="cmapss", data=tmp_path, subset="FD009")
    with pytest.raises(InputError, match=r"Unknown benchmark: expected one of azure, cmapss"):
        benchmark.run(home, progress=Silent(), name="bearing", data=tmp_path)


@pytest.mark.parametrize(
    ("part", "text", "match"),
    [
        ("train", "1 2 3\n", r"Unreadable rows of engines: expected 26 numbers a line, found 3 numbers .*train_FD001"),
        ("test", "", r"Unreadable rows of engines: .* found nothing .*test_FD001"),
        ("test", "<html>", r"Unreadable rows of engines: .*could not convert .*test_FD001"),
        ("RUL", "", r"Unreadable labels: expected one number a line, found nothing"),
        ("RUL", "nan\n", r"Unreadable labels: .* found a number that is not finite"),
        ("RUL", "-3\n", r"Unreadable labels: .* found a negative one"),
    ],
)
def test_files_that_are_not_whole_are_no_benchmark(tmp_path: Path, part: str, text: str, match: str) -> None:
    write_subset(tmp_path, train=1, test=1)
    (tmp_path / f"{part}_FD001.txt").write_text(text)
    with pytest.raises(InputError, match=match):
        read_labels(tmp_path, "FD001")


def test_of_a_plain_and_a_packed_file_only_one_is_read(tmp_path: Path) -> None:
    write_subset(tmp_path, train=1, test=1)
    (tmp_path / "train_FD001.txt.gz").write_bytes(b"an older copy")
    (tmp_path / "train_FD001.txt.bak").write_bytes(b"another")
    assert len(read_labels(tmp_path, "FD001")) == 1
    assert [stream.files for stream in description(tmp_path, "FD001").streams] == ["train_FD001.txt", "test_FD001.txt"]

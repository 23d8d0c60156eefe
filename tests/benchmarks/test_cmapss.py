"""NASA's C-MAPSS, three seeds a subset: the errors and intervals that the README gives, and what they must not exceed.

One configuration for all; files that are not beside the repository are skipped. The table says how long it took.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from cluster.home import open_home
from cluster.report import Silent
from jobs import benchmark
from jobs.benchmarks import cmapss

NASA = Path(__file__).parents[3] / "shared" / "data" / "cmapss"
MOST = {"FD001": 11.8, "FD002": 11.4, "FD003": 13.0, "FD004": 14.0}  # the last two: guards

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.mark.parametrize("subset", MOST)
def test_the_network_is_below_its_bar_and_below_the_trees_and_its_intervals_cover(
    tmp_path: Path, ray_cluster: None, subset: str
) -> None:
    if not any((NASA / f"train_{subset}.{suffix}").is_file() for suffix in ("txt", "txt.gz")):
        pytest.skip(f"NASA's {subset} is not beside this repository (shared/data/cmapss)")
    home = open_home(tmp_path / "home", create=True, environment={})
    report = benchmark.run(home, progress=Silent(), name="cmapss", data=NASA, subset=subset, seeds=3)
    assert isinstance(report, cmapss.BenchmarkReport)
    Console(width=160).print(report.render(), f"{report.seconds:.0f} s")
    assert report.model.clipped.rmse <= MOST[subset]
    assert report.model.clipped.rmse < report.baseline.clipped.rmse < report.no_sensor.clipped.rmse
    counted, low, high = report.intervals["network"].counted
    assert low <= 0.8 <= high and 0.7 <= counted <= 0.9

"""What `connect` finds in some forty small plants, each written as a real system would write it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from cluster.home import Home
from tests.jobs import connect_layouts, connect_logs, connect_texts, connect_times
from tests.jobs.connect_plants import Case, connected, told, written

CASES = connect_texts.CASES + connect_layouts.CASES + connect_logs.CASES + connect_times.CASES


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_connect_finds(home: Home, tmp_path: Path, case: Case) -> None:
    found, report = connected(home, written(tmp_path / "raw", case.files), *case.settings)
    assert told(found) == dedent(case.told).strip()
    assert set(found.doubts) == case.doubts
    assert tuple(report.remarks) == case.remarks


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_inference_stands_in_the_file_with_its_confidence_and_evidence(
    home: Home, tmp_path: Path, case: Case
) -> None:
    found, report = connected(home, written(tmp_path / "raw", case.files), *case.settings)
    lines = Path(report.path).read_text().splitlines()
    for key in ("role = ", "time = {", "machine = {"):
        assert all("# confidence" in lines[at - 1] for at, line in enumerate(lines) if line.startswith(key))
    sensors = [line for line in lines if "= {sensor = " in line]
    assert len(sensors) == sum(len(stream.sensors) for stream in found.streams)
    assert all("# confidence" in line for line in sensors)
    assert len(found.doubts) <= 5

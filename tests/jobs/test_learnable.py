"""A plant with too little to learn from is told so before anything is trained, and stops no other plant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs import connect, ingest
from jobs.candidates import studies_of
from models.errors import InputError

pytestmark = pytest.mark.ray


@pytest.fixture
def both(tmp_path: Path, plant_home: Home) -> Home:
    """A plant that can be learned from, and three days of one machine."""
    path = tmp_path / "home"
    shutil.copytree(plant_home.path, path)
    home = open_home(path, environment={}, assignments=["split.unseen_machines=0.25"])
    rows = "".join(f"2025-01-0{1 + i // 24}T{i % 24:02}:00:00Z,M1,2{i % 7}\n" for i in range(72))
    (tmp_path / "r.csv").write_text("time,machine,temp_degC\n" + rows)
    connect.run(home, path=tmp_path / "r.csv", plant="tiny", progress=Silent())
    ingest.run(home, plant="tiny", progress=Silent())
    return home


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_named_plant_is_refused_and_among_all_it_is_left_out(both: Home) -> None:
    with pytest.raises(InputError, match=r"Too little history to learn from: .* 3 days of 1 machines .*plant tiny"):
        list(studies_of(both, "tiny", progress=Silent()))
    told = Notes()
    assert [study.plant for study in studies_of(both, "all", progress=told)] == ["harbor"]
    assert len(told.notes) == 1 and told.notes[0].startswith("tiny is left out. Too little history")


def test_a_plant_whose_failures_nobody_logged_is_refused(both: Home) -> None:
    path = both.sources / "harbor.toml"
    (both.sources / "tiny.toml").unlink()
    shutil.rmtree(both.lake / "harbor" / "events")
    (both.plans / "harbor" / "visible.json").unlink()
    assert path.is_file()
    with pytest.raises(InputError, match=r"No failure to learn from: expected at least one logged failure"):
        list(studies_of(both, "all", progress=Silent()))

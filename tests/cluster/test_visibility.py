"""What a plant's own files or a version's text may name: tables of that plant, and nothing else."""

from pathlib import Path

import pytest

from cluster.added import added
from cluster.home import Home, open_home
from cluster.sources import write_source
from cluster.visibility import states, visible_versions
from models.errors import InputError, MillwrightError
from models.source import SourceDescription, Stream

LEADS_OUT = ["../beta/events", "readings/../../beta/readings/pump", "/etc", "readings/..", "..", "./events", "a/b/c"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = open_home(tmp_path / "home", create=True, environment={})
    home.of("alpha").make()
    streams = (Stream(name="r", role="readings", files="*.csv"),)
    write_source(home.of("alpha").source, SourceDescription(plant="alpha", root="/data", streams=streams))
    return home


@pytest.mark.parametrize("table", LEADS_OUT)
def test_a_version_names_no_table_of_another_plant(home: Home, table: str) -> None:
    with pytest.raises(InputError, match="Not a version: expected a batch's id"):
        visible_versions(home, "alpha", f"events@1,{table}@1")
    assert visible_versions(home, "alpha", "events@1,readings/pump@2") == {"events": 1, "readings/pump": 2}


@pytest.mark.parametrize("text", [*(f'{{"{table}": 1}}' for table in LEADS_OUT), '{"events": "1"}', "[]", "", "{"])
def test_a_forged_list_of_visible_tables_is_refused(home: Home, text: str) -> None:
    (home.of("alpha").plans / "visible.json").write_text(text)
    with pytest.raises(MillwrightError, match=r"Unreadable list of visible tables: .* Delete it"):
        visible_versions(home, "alpha")


@pytest.mark.parametrize("line", ["[]", "{}", '{"at":5}', '{"at":"2025-01-01","versions":{"../beta/events":1}}'])
def test_a_forged_record_of_visible_tables_is_refused(home: Home, line: str) -> None:
    (home.of("alpha").plans / "visible.jsonl").write_text(line + "\n")
    with pytest.raises(MillwrightError, match=r"Unreadable record of visible tables: .* delete that line"):
        states(home, "alpha")


@pytest.mark.parametrize("text", ["[]", "nonsense", '{"r": {"T": {"sensor": 5}}}'])
def test_a_forged_list_of_added_sensors_is_refused(home: Home, text: str) -> None:
    (home.of("alpha").plans / "added.json").write_text(text)
    with pytest.raises(MillwrightError, match=r"Unreadable list of added sensors: .* Delete it and run"):
        added(home, "alpha")

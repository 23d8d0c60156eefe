"""Dossiers on disk: written once, read back, and never trusted where they are damaged."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from cluster import dossiers, status
from cluster.dossiers import Contender, Dossier, Interval
from cluster.home import Home
from cluster.report import Silent
from cluster.sources import write_source
from models.errors import InputError, NotFoundError
from models.source import MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

NAME = "trees-1-20260102T030405.000006Z"


def dossier(**changes: object) -> Dossier:
    known: dict[str, object] = {
        "plant": "harbor", "at": "2026-01-02T03:04:05.000006+00:00", "who": "kim", "run_id": "r", "data_version": "d",
        "code_version": "c", "verdict": "better", "why": "w", "challenger": Contender(version="trees-1", kind="trees"),
    }  # fmt: skip
    return Dossier.model_validate(known | changes)


@pytest.fixture
def connected(home: Home) -> Home:
    stream = Stream(
        name="r", role="readings", files="*.csv", time=TimeFormat(column="t", format="iso"), machine_type="pump",
        machine=MachineFrom(kind="column", column="m"), sensors={"x": SensorColumn(sensor="x")},
    )  # fmt: skip
    home.sources.mkdir()
    write_source(home.of("harbor").source, SourceDescription(plant="harbor", root="/raw", streams=(stream,)))
    return home


def crowned(home: Home, name: str | None) -> None:
    path = home.of("harbor").champion
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"kind": "trees", "version": "trees-1", "path": "registry/bundles/harbor/trees-1"}
    path.write_text(json.dumps(found | ({"dossier": name} if name else {})))


def test_a_dossier_lies_beside_the_bundles_and_reads_back_the_same(home: Home) -> None:
    one = dossier(difference=Interval(value=0.5, low=0.25, high=0.75))
    path = dossiers.keep(home, one, "# words\n")
    assert path == home.path / "registry" / "dossiers" / "harbor" / f"{NAME}.json"
    assert path.with_suffix(".md").read_text() == "# words\n"
    assert dossiers.read(home, "harbor", one.name) == one


def test_dossiers_are_listed_by_time_whatever_their_version(home: Home) -> None:
    later = dossier(challenger=Contender(version="network-9", kind="network"), at="2026-01-03T00:00:00+00:00")
    for one in (later, dossier()):
        dossiers.keep(home, one, "")
    assert dossiers.names(home, "harbor") == [NAME, "network-9-20260103T000000.000000Z"]
    assert dossiers.names(home, "ridge") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "EOF while parsing"), ("[]", "an object"), ('{"plant": "harbor"}', "at: Field required"),
        (dossier().model_dump_json().replace('"better"', '"splendid"'), "verdict"),
        (dossier(plant="ridge").model_dump_json(), "one of plant ridge"),
        (dossier().model_dump_json().replace("2026-01-02T", "yesterday "), "isoformat"),
        (" " * (2**20 + 1), "1048577 bytes"), (None, "No such file"),
    ],
)  # fmt: skip
def test_a_damaged_dossier_is_named(home: Home, text: str | None, found: str) -> None:
    path = dossiers.keep(home, dossier(), "")
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)Damaged dossier.*{found}.*trees-1-2026.*promote a version again"):
        dossiers.read(home, "harbor", NAME)


@pytest.mark.parametrize("name", ["../../x", "trees-1", "a/b-20260102T030405.000006Z", ""])
def test_a_pointer_never_leads_out_of_the_folder(home: Home, name: str) -> None:
    with pytest.raises(InputError, match=r"Damaged dossier|Not a version name"):
        dossiers.read(home, "harbor", name)


def test_another_plants_dossiers_are_not_there(home: Home) -> None:
    dossiers.keep(home, dossier(), "")
    with pytest.raises(NotFoundError, match="Unknown plant"):
        dossiers.read(home.only("ridge"), "harbor", NAME)


def test_status_shows_verdict_and_date_of_the_last_promotion(connected: Home) -> None:
    crowned(connected, dossiers.keep(connected, dossier(forced=True, verdict="inconclusive"), "").stem)
    report = status.run(connected, progress=Silent())
    assert report.as_json()["plants"][0]["promotion"] == {
        "verdict": "inconclusive", "at": "2026-01-02T03:04:05.000006+00:00", "forced": True, "who": "kim",
        "problem": None,
    }  # fmt: skip
    assert "2026-01-02 03:04  inconclusive, forced" in shown(report)


def test_a_champion_of_before_dossiers_has_none(connected: Home) -> None:
    crowned(connected, None)
    (plant,) = status.run(connected, progress=Silent()).plants
    assert plant.champion is not None and plant.promotion is None


def test_a_damaged_dossier_does_not_hide_the_rest_of_status(connected: Home) -> None:
    path = dossiers.keep(connected, dossier(), "")
    crowned(connected, path.stem)
    path.write_text("{")
    report = status.run(connected, progress=Silent())
    (plant,) = report.plants
    assert plant.champion is not None and plant.champion.version == "trees-1"
    assert plant.promotion is not None and "Damaged dossier" in (plant.promotion.problem or "")
    text = shown(report)
    assert "damaged dossier" in text and "harbor: Damaged dossier" in text


def shown(report: status.StatusReport) -> str:
    out = io.StringIO()
    Console(width=300, file=out).print(report.render())
    return out.getvalue()

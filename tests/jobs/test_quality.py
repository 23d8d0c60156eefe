"""The verb: what it prints, its fixed keys, its exit code, and a page that hostile rows cannot touch."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from cluster.cli import main
from cluster.home import open_home
from cluster.report import Silent
from cluster.sources import write_source
from cluster.storage import QUARANTINE
from jobs import quality
from jobs.ingesting import gate, plan
from jobs.ingesting.measures import measure
from jobs.reporting.quality_page import PlantData, render
from models.checks import Finding
from models.errors import InputError, NotFoundError
from models.source import SensorColumn, SourceDescription, Stream, TimeFormat

HOUR = 3_600_000_000
HOSTILE = "<script>alert(1)</script>\x00</pre><img src=x onerror=alert(2)>"


def description(plant):
    columns = {"T": SensorColumn(sensor="temp", kind="temperature", unit="degC")}
    stream = Stream(name="r", role="readings", files="*.csv", sensors=columns, time=TimeFormat(column="t"))
    return SourceDescription(plant=plant, root="/data", streams=(stream,))


def month(text, level):
    time = int(np.datetime64(text, "us").astype(np.int64)) + HOUR * np.arange(24 * 28)
    values = (level + np.sin(np.arange(len(time)))).astype(np.float32)
    values[::10] = np.nan
    return measure(["P-1"], np.zeros(len(time), np.int64), time, {"temp": values}, np.ones(len(time), bool), text)


def kept(home, plant, sequence, measures, findings=(), *, held=False):
    own = plan.Plan(
        plant=plant, sequence=sequence, batch=f"{sequence:06d}-abcabcabcabc", code_version="1", source_digest="",
        created_at=datetime(2025, 7, sequence, tzinfo=UTC), source=description(plant), files=(), held=held,
        done=not held,
    )  # fmt: skip
    plan.save(home, own)
    gate.save(home, own, measures, findings, counts={"rows_ingested": 672, "rows_quarantined": 3}, held=held)


@pytest.fixture
def home(tmp_path):
    home = open_home(tmp_path / "home", create=True, environment={})
    for plant in ("north", "south"):
        write_source(home.of(plant).source, description(plant))
    return home


NOTE = Finding("gap", "note", "north", "P-1: no readings for 3 days", "P-1", None, 0, 3 * 24 * HOUR, 72.0)
STOP = Finding("unit_jump", "stop", "north", "P-1 temp: 36 to 41 degC before", "P-1", "temp", 0, HOUR, 1.8)


def test_plants_without_a_batch_are_told_and_nothing_is_wrong(home):
    report = quality.run(home, progress=Silent())
    assert report.exit_code == 0
    assert [(p.name, p.batches, p.findings) for p in report.plants] == [("north", [], []), ("south", [], [])]
    page = (home.path / "reports" / "quality.html").read_text("utf-8")
    assert "Nothing has been ingested yet." in page


def test_batches_and_findings_are_told_worst_first_with_fixed_keys(home):
    kept(home, "north", 1, month("2025-05", 40), [NOTE])
    kept(home, "north", 2, month("2025-06", 50), [STOP, NOTE], held=True)
    report = quality.run(home, progress=Silent())
    north = report.as_json()["plants"][0]
    assert report.exit_code == 3
    assert [(b["batch"][:6], b["held"], b["machines"], b["sensors"], b["rows"]) for b in north["batches"]] == [
        ("000001", False, 1, 1, 672), ("000002", True, 1, 1, 672),
    ]  # fmt: skip
    assert north["batches"][0]["missing"] == pytest.approx(68 / 672)
    assert north["batches"][1]["findings"] == {"stop": 1, "note": 1}
    first = north["findings"][0]
    assert {k: first[k] for k in ("check", "severity", "machine", "sensor", "from", "until", "message")} == {
        "check": "unit_jump", "severity": "stop", "machine": "P-1", "sensor": "temp",
        "from": "1970-01-01T00:00:00+00:00",
        "until": "1970-01-01T01:00:00+00:00", "message": "P-1 temp: 36 to 41 degC before",
    }  # fmt: skip
    assert [f["severity"] for f in north["findings"]] == ["stop", "note", "note"]


def test_one_plant_and_one_batch_can_be_asked_for_and_a_wrong_one_is_refused(home):
    kept(home, "north", 1, month("2025-05", 40), [NOTE])
    kept(home, "north", 2, month("2025-06", 50))
    report = quality.run(home, progress=Silent(), plant="north", batch="000002-abcabcabcabc")
    assert [(p.name, len(p.batches), p.findings) for p in report.plants] == [("north", 1, [])]
    with pytest.raises(NotFoundError, match=r"No such batch.*'000009'"):
        quality.run(home, progress=Silent(), batch="000009")
    with pytest.raises(NotFoundError, match="Unknown plant"):
        quality.run(home, progress=Silent(), plant="west")


def test_the_command_line_prints_one_object_and_ends_with_3(home, capfd, tmp_path):
    kept(home, "north", 1, month("2025-05", 40), [STOP], held=True)
    page = tmp_path / "own.html"
    with pytest.raises(SystemExit) as ended:
        main(["quality", "--home", str(home.path), "--html", str(page), "--json"])
    assert ended.value.code == 3
    assert json.loads(capfd.readouterr().out)["page"] == str(page)
    assert page.read_text("utf-8").count("1 batch is held") == 1
    with pytest.raises(SystemExit):
        main(["quality", "--home", str(home.path)])
    assert "P-1 temp: 36 to 41 degC before" in capfd.readouterr().out


def test_a_batch_that_was_accepted_is_no_longer_held(home):
    kept(home, "north", 1, month("2025-05", 40), [STOP], held=True)
    first = plan.plans(home, "north")[0]
    file = plan.PlannedFile.model_construct(stream="r", path="a.csv", size=1, mtime_ns=1, digest="", stream_digest="")
    plan.save(home, first.model_copy(update={"files": (file,)}))
    assert quality.run(home, progress=Silent()).exit_code == 3
    again = {"sequence": 2, "batch": "000002-abcabcabcabc", "held": False, "done": True, "files": (file,)}
    plan.save(home, first.model_copy(update=again))
    report = quality.run(home, progress=Silent())
    assert report.exit_code == 0
    assert (report.plants[0].batches[0].held, report.plants[0].batches[0].in_history) == (False, False)


def page_of(quarantine, findings=()):
    rows = [quality.BatchRow(batch="000001-a", created_at="2025-07-01", machines=1, sensors=1, rows=672)]
    sensors = {"temp": SensorColumn(sensor="temp", kind="temperature")}
    measures = [month("2025-05", 40), month("2025-06", 50)]
    return render([PlantData("north", sensors, rows, measures, list(findings), quarantine)])


def test_raw_rows_are_shown_as_text_and_never_as_markup():
    refused = pa.Table.from_pylist(
        [{"raw": HOSTILE, "file": "<b>.csv", "line": 7, "reason": "bad_time", "detail": "t = </summary>"}] * 5,
        schema=QUARANTINE,
    )
    page = page_of(refused, [gate.told(Finding("gap", "note", "north", "<i>P-1</i>"), "000001-a")])
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\ufffd&lt;/pre&gt;" in page
    assert page.count("&lt;b&gt;.csv, line 7") == 3
    assert "&lt;i&gt;P-1&lt;/i&gt;" in page


def test_the_page_asks_for_nothing_else_and_compares_the_last_two_batches():
    page = page_of(QUARANTINE.empty_table())
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in page
    assert "prefers-color-scheme: dark" in page
    assert "up by" in page  # the median went from 40 to 50
    assert "last batch: 50" in page


def test_a_page_that_cannot_be_written_is_told(home, tmp_path):
    with pytest.raises(InputError, match=r"Cannot write the page: .* found Is a directory .* Give another --html"):
        quality.run(home, progress=Silent(), html=tmp_path)

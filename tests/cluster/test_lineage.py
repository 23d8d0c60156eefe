"""Lineage: every run is told as events of the OpenLineage standard, and never stands in the way of the work."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from openlineage.client import event_v2
from openlineage.client.facet_v2 import dataset_version_dataset, schema_dataset

from cluster import lineage
from cluster.commit import commit_once, open_or_create, write_part
from cluster.home import Home, open_home
from cluster.lineage_events import KEY_VARIABLE
from cluster.report import Silent
from cluster.storage import TIME, readings_schema, show_versions
from cluster.verbs import target
from models.errors import InputError, MillwrightError

PLANT = "plant"


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def events(home: Home, verb: str = "") -> list[dict[str, Any]]:
    paths = sorted((home.path / "lineage").glob(f"*-{verb}*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def simulate(home: Home, out: Path, **options: Any) -> None:
    home.launch("simulate", out=out, machines=1, days=40, plants=["harbor"], **options)


def with_history(home: Home, batch: str, rows: int) -> None:
    path = home.table(PLANT, "readings/pump")
    table = open_or_create(path, readings_schema(["temp"]), partition_by=["month"])
    columns = {
        "machine": ["P1"] * rows, "time": pa.array(range(rows), TIME), "temp": pa.array([1.5] * rows, pa.float32()),
        "ingested_at": pa.array([0] * rows, TIME), "source_id": [batch] * rows,
    }  # fmt: skip
    part = write_part(path, pa.table(columns), stem=f"part-{batch}", partition={"month": "1970-01"})
    assert commit_once(table, [part], app_id=batch)
    show_versions(home, PLANT, {"readings/pump": table.version() + 1}, cause=batch)


def test_a_run_is_one_file_with_its_beginning_and_its_end(home: Home, tmp_path: Path) -> None:
    simulate(home, tmp_path / "raw")
    (path,) = (home.path / "lineage").iterdir()
    assert "-simulate-" in path.name
    start, end = events(home)
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert start["job"]["name"] == "simulate"
    assert start["job"]["facets"]["sourceCodeLocation"]["url"].startswith("pkg:pypi/millwright@")
    assert end["job"]["facets"]["sourceCodeLocation"]["url"].endswith("#jobs.simulate:run")
    parameters = {p["key"]: p["value"] for p in end["run"]["facets"]["executionParameters"]["parameters"]}
    assert parameters["days"] == "40"
    assert len(end["run"]["facets"]["millwright_configuration"]["digest"]) == 64
    assert end["run"]["facets"]["millwright_configuration"]["seconds"] > 0


def test_a_failure_is_told_without_what_was_found(home: Home, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="secret-value"):
        home.launch("connect", path=tmp_path / "secret-value", plant=PLANT)
    start, end = events(home)
    assert (start["eventType"], end["eventType"]) == ("START", "FAIL")
    assert end["run"]["facets"]["errorMessage"]["message"] == "No such path"

    def fail(error: BaseException) -> None:
        with lineage.traced(home, "ingest", {}, Silent()):
            raise error

    with pytest.raises(ValueError, match="4711"):
        fail(ValueError("a cell held 4711"))
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    told = [e for e in events(home, "ingest") if e["eventType"] != "START"]
    assert {e["eventType"] for e in told} == {"FAIL", "ABORT"}
    assert "4711" not in json.dumps(told)


def test_inputs_and_outputs_have_versions_digests_columns_and_counts(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("m,t\n")
    with lineage.traced(home, "ingest", {}, Silent()):
        with_history(home, "000001-abcdefabcdef", 3)
        with_history(home, "000002-abcdefabcdef", 2)
        (home.plans / PLANT / "000002-abcdefabcdef.json").write_text("{}")
        lineage.ingested(home, PLANT, "000002-abcdefabcdef", tmp_path, [("a.csv", "d" * 64, 4)])
    _, end = events(home)
    (given,) = end["inputs"]
    assert (given["namespace"], given["name"]) == ("file", str(tmp_path / "a.csv"))
    assert given["facets"]["version"]["datasetVersion"] == "d" * 64
    assert given["inputFacets"]["inputStatistics"]["size"] == 4
    table, plan = sorted(end["outputs"], key=lambda o: o["name"])
    assert table["name"] == str(home.table(PLANT, "readings/pump"))
    assert table["facets"]["version"]["datasetVersion"] == "2"
    assert {"name": "temp", "type": "float"}.items() <= table["facets"]["schema"]["fields"][2].items()
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert plan["name"].endswith("000002-abcdefabcdef.json")


def test_events_are_those_of_the_standard(home: Home) -> None:
    """No schema comes with the client; its own classes know every field and check what is in it."""
    with lineage.traced(home, "ingest", {}, Silent()):
        with_history(home, "000001-abcdefabcdef", 3)
        lineage.reads_history(home, PLANT)
    for found in events(home):
        assert found["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
        assert set(found) == {"eventTime", "eventType", "inputs", "outputs", "job", "run", "producer", "schemaURL"}
        again = event_v2.RunEvent(
            eventTime=found["eventTime"], producer=found["producer"], eventType=event_v2.RunState(found["eventType"]),
            run=event_v2.Run(runId=found["run"]["runId"]),
            job=event_v2.Job(namespace=found["job"]["namespace"], name=found["job"]["name"]),
        )  # fmt: skip
        assert again.schemaURL == found["schemaURL"]
        facets = [*found["run"]["facets"].values(), *found["job"]["facets"].values()]
        facets += [f for side in ("inputs", "outputs") for d in found[side] for f in d["facets"].values()]
        assert all(f["_producer"] and f["_schemaURL"].startswith("https://openlineage.io/spec/") for f in facets)
    given = events(home)[1]["inputs"][0]["facets"]
    plain = {k: v for k, v in given["version"].items() if not k.startswith("_")}
    assert dataset_version_dataset.DatasetVersionDatasetFacet(**plain).datasetVersion == "1"
    fields = [schema_dataset.SchemaDatasetFacetFields(**f) for f in given["schema"]["fields"]]
    assert [f.name for f in fields] == ["machine", "time", "temp", "ingested_at", "source_id", "month"]


def test_no_value_of_a_sensor_is_told(home: Home) -> None:
    with lineage.traced(home, "ingest", {}, Silent()):
        with_history(home, "000001-abcdefabcdef", 3)
        lineage.reads_history(home, PLANT)
    assert "1.5" not in json.dumps([(e["inputs"], e["outputs"]) for e in events(home)])


def test_a_verb_inside_another_is_its_child(home: Home, tmp_path: Path) -> None:
    with lineage.traced(home, "demo", {}, Silent()):
        simulate(home, tmp_path / "raw")
    outer, inner = events(home, "demo")[0], events(home, "simulate")
    for event in inner:
        assert event["run"]["facets"]["parent"]["run"]["runId"] == outer["run"]["runId"]
        assert event["run"]["facets"]["parent"]["job"] == {"namespace": "millwright", "name": "demo", "facets": {}}
    assert "parent" not in outer["run"]["facets"]


def test_what_a_job_says_outside_of_a_run_is_lost_without_harm(home: Home) -> None:
    lineage.reads(lineage.Dataset("/a", "FILE"))
    lineage.reads_history(home, PLANT)
    assert not (home.path / "lineage").exists()


def test_verbs_that_only_look_tell_nothing(home: Home) -> None:
    target("status")(home)
    target("config")(home)
    assert not (home.path / "lineage").exists()


def test_lineage_can_be_turned_off(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=["lineage.enabled=false"])
    simulate(home, tmp_path / "raw")
    assert not (home.path / "lineage").exists()


def test_lineage_that_cannot_be_written_is_noted_and_the_work_is_done(home: Home, tmp_path: Path) -> None:
    (home.path / "lineage").write_text("a file where the folder should be")
    progress = Notes()
    simulate(home, tmp_path / "raw", progress=progress)
    assert (tmp_path / "raw" / "harbor").is_dir()
    (note,) = progress.notes
    assert note.startswith("lineage of this run is not complete: FileExistsError")


class Receiver(BaseHTTPRequestHandler):
    got: list[tuple[str, str | None, dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append((self.path, self.headers.get("Authorization"), body))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[str]:
    Receiver.got.clear()
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_events_go_to_a_receiver_with_the_key_from_the_environment(
    tmp_path: Path, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "hidden-key")
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=[f"lineage.url={receiver}"])
    simulate(home, tmp_path / "raw")
    assert [(path, key, body["eventType"]) for path, key, body in Receiver.got] == [
        ("/api/v1/lineage", "Bearer hidden-key", "START"), ("/api/v1/lineage", "Bearer hidden-key", "COMPLETE"),
    ]  # fmt: skip
    assert "hidden-key" not in json.dumps([body for _, _, body in Receiver.got])
    assert not (home.path / "lineage").exists()


def test_a_receiver_that_does_not_answer_costs_one_note(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=["lineage.url=http://127.0.0.1:9"])
    progress = Notes()
    simulate(home, tmp_path / "raw", progress=progress)
    assert len(progress.notes) == 1


def test_a_password_in_the_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lineage\.url"):
        open_home(tmp_path / "home", create=True, environment={}, assignments=["lineage.url=http://me:pw@host"])


def test_many_files_are_told_up_to_a_bound(home: Home, tmp_path: Path) -> None:
    with lineage.traced(home, "ingest", {}, Silent()):
        lineage.reads_files(tmp_path, ((f"{n}.csv", "d" * 64, 1) for n in range(lineage.MOST_DATASETS + 5)))
        lineage.reads(lineage.Dataset("/a/table", "TABLE"))
    assert len(events(home)[1]["inputs"]) == lineage.MOST_DATASETS + 1


def test_errors_of_the_work_come_through_unchanged(home: Home) -> None:
    wrong = MillwrightError("Wrong")
    with pytest.raises(MillwrightError) as caught, lineage.traced(home, "ingest", {}, Silent()):
        raise wrong
    assert caught.value is wrong

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.home import Home
from cluster.registry import Champion, champion
from cluster.report import Silent
from cluster.sources import write_source
from cluster.storage import EVENTS, MACHINES, append_once, read_readings, readings_schema
from jobs.ingest import run as ingest
from models.errors import GateError, NotFoundError
from models.source import MachineFrom
from serve.cuts import cut
from serve.metrics import Metrics
from serve.scorer import Scorer
from serve.service import Service, open_service
from tests.serve.conftest import describe

START = datetime(2025, 6, 1, tzinfo=UTC)


def test_an_unknown_plant_and_a_plant_without_a_model_are_told_apart(service: Service) -> None:
    with pytest.raises(NotFoundError, match="Unknown plant: found 'nope'"):
        service.scorer.model("nope")
    with pytest.raises(GateError, match="The plant has no model"):
        service.scorer.model("quarry")


def test_a_new_champion_is_taken_over_whole(
    service: Service, plant_home: Home, champion_of: Callable[..., Path]
) -> None:
    before = service.scorer.model("mill")
    assert service.scorer.refresh() == []
    champion_of(plant_home, "mill", "v2", 0.9)
    assert service.scorer.refresh() == ["mill"]
    after = service.scorer.model("mill")
    assert (before.spec.version, after.spec.version) == ("v1", "v2")
    assert after.state is before.state  # readings belong to the plant, not to the model
    window = np.ones((1, 8, 4), np.float32)
    assert not np.array_equal(before.predictor.hazard(window), after.predictor.hazard(window))


def test_a_plant_that_gets_its_first_champion_is_served(
    service: Service, plant_home: Home, champion_of: Callable[..., Path]
) -> None:
    champion_of(plant_home, "quarry")
    assert service.scorer.refresh() == ["quarry"]
    assert service.scorer.plants() == ["mill", "quarry"]


def test_new_data_and_an_edited_description_reach_a_service_that_runs(
    home: Home, tmp_path: Path, champion_of: Callable[..., Path]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.csv").write_text("t,machine,oil_degF,vib\n2025-06-01T00:00:00Z,m1,,1.5\n")
    (stream,) = describe("mill").streams
    stream = stream.model_copy(update={"machine": MachineFrom(column="machine")})
    source = describe("mill").model_copy(update={"root": str(raw), "streams": (stream,)})
    write_source(home.of("mill").source, source)
    ingest(home, plant="mill", progress=Silent(), spread=map)
    champion_of(home, "mill")
    service = open_service(home, now_us=lambda: 0)
    before = service.scorer.model("mill")
    service.scorer.refresh()
    assert service.scorer.model("mill") is before  # nothing has changed
    (raw / "b.csv").write_text("t,machine,oil_degF,vib\n2025-06-01T01:00:00Z,m2,,2.5\n")
    ingest(home, plant="mill", progress=Silent(), spread=map)
    service.scorer.refresh()
    after = service.scorer.model("mill")
    assert after.plant.version != before.plant.version
    assert [latest.machine for latest in after.state.machines()] == ["m1", "m2"]
    assert after.predictor is before.predictor
    inches = stream.sensors["vib"].model_copy(update={"unit": "in/s"})
    edited = stream.model_copy(update={"sensors": stream.sensors | {"vib": inches}})
    write_source(home.of("mill").source, source.model_copy(update={"streams": (edited,)}))
    service.scorer.refresh()
    scale = service.scorer.model("mill").plant.scale("vib")
    assert scale is not None
    assert scale.factor == pytest.approx(25.4)
    service.close()


@pytest.mark.parametrize("file", ["model.onnx", "bundle.json", "manifest.json"])
def test_a_corrupt_bundle_keeps_the_last_good_model(
    service: Service, plant_home: Home, champion_of: Callable[..., Path], file: str
) -> None:
    path = champion_of(plant_home, "mill", "v2") / file
    good = path.read_bytes()
    path.write_bytes(good[:-9] + b"corrupted")
    assert service.scorer.refresh() == []
    assert service.scorer.model("mill").spec.version == "v1"
    assert 'millwright_model_loads_total{result="failed"} 1.0' in service.metrics.text().decode()
    path.write_bytes(good)
    assert service.scorer.refresh() == ["mill"]
    assert service.scorer.model("mill").spec.version == "v2"


def test_a_damaged_pointer_keeps_the_last_good_model(service: Service, plant_home: Home) -> None:
    (plant_home.registry / "champions" / "mill.json").write_text("{")
    assert service.scorer.refresh() == []
    assert service.scorer.model("mill").spec.version == "v1"


def test_another_plants_bundle_is_refused(service: Service, plant_home: Home, champion_of: Callable[..., Path]) -> None:
    folder = champion_of(plant_home, "quarry", "v7")
    where = {"kind": "network", "version": "v7", "path": str(folder.relative_to(plant_home.path))}
    (plant_home.registry / "champions" / "mill.json").write_text(json.dumps(where))
    service.scorer.refresh()
    assert service.scorer.model("mill").spec.version == "v1"


def test_a_registry_that_hangs_holds_up_neither_keys_nor_metrics(plant_home: Home) -> None:
    settings = plant_home.settings.model_copy(
        update={"serve": plant_home.settings.serve.model_copy(update={"model_poll_s": 0.01})}
    )
    looked, hangs = threading.Event(), threading.Event()
    scorer = Scorer(replace(plant_home, settings=settings), Metrics(), also=(looked.set,))
    scorer.refresh = lambda: hangs.wait(5)  # type: ignore[method-assign,assignment,return-value]
    scorer.start()
    assert looked.wait(2)
    looked.clear()
    assert looked.wait(2)
    hangs.set()
    scorer.close()


def test_the_health_check_scores(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.scorer.check()
    monkeypatch.setattr(service.scorer.model("mill").predictor, "_score", lambda values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        service.scorer.check()


def ingested(home: Home, machines: dict[str, int], *, app_id: str = "test") -> None:
    """Tables as ingest leaves them: hours of readings a machine, a list of machines, one repair."""
    names = [m for m, hours in machines.items() for _ in range(hours)]
    times = [START + timedelta(hours=h) for hours in machines.values() for h in range(hours)]
    values = np.arange(len(names), dtype=np.float32)
    schema = readings_schema(["oil_temp", "vibration"])
    columns: dict[str, Any] = {"machine": names, "time": times, "oil_temp": values, "vibration": values / 100}
    rest = {n: [None] * len(names) for n in ("ingested_at", "source_id", "month")}
    table = pa.table([pa.array((columns | rest)[f.name], f.type) for f in schema], schema=schema)
    append_once(home.table("mill", "readings/mill"), table, app_id=app_id, version=1)
    listed = {"machine": list(machines), "valid_from": [START - timedelta(days=30)] * len(machines)}
    empty = {f.name: [None] * len(machines) for f in MACHINES}
    append_once(home.table("mill", "machines"), pa.table(empty | listed, schema=MACHINES), app_id=app_id, version=1)
    repair = {
        "event_id": ["e1"], "machine": ["m1"], "kind": ["maintenance"], "effect": ["replaced"],
        "started_at": [START], "ended_at": [START + timedelta(hours=2)], "recorded_at": [START + timedelta(hours=5)],
    }  # fmt: skip
    empty = {f.name: [None] for f in EVENTS}
    append_once(home.table("mill", "events"), pa.table(empty | repair, schema=EVENTS), app_id=app_id, version=1)


def test_windows_start_with_the_tail_of_history(service: Service, plant_home: Home) -> None:
    ingested(plant_home, {"m1": 40, "m2": 3, "silent": 20})
    service.scorer.refresh()
    model = service.scorer.model("mill")
    assert set(model.plant.types) == {"m1", "m2", "silent"}
    history = read_readings(plant_home, "mill", machines=["m1"])
    found = cut(model, "m1", None)
    assert found is not None
    np.testing.assert_array_equal(found.values[:, 0], history["oil_temp"].to_numpy()[-8:])
    assert found.values[-1, 2] == 37.0  # hours since the repair's end, known since it was booked
    kept = {latest.machine: latest.num_rows for latest in model.state.machines()}
    assert kept == {"m1": 10, "m2": 3, "silent": 10}  # a window and what is carried into it
    assert model.state.num_pending() == 0


def test_history_is_copied_once_a_version_and_never_over_what_was_sent(service: Service, plant_home: Home) -> None:
    ingested(plant_home, {"m1": 40})
    service.scorer.refresh()
    first = service.scorer.model("mill")
    service.scorer.refresh()
    assert service.scorer.model("mill") is first
    ingested(plant_home, {"m3": 5}, app_id="next")
    assert service.scorer.refresh() == []  # the same model, with a new look at the plant
    assert "m3" in service.scorer.model("mill").plant.types
    assert service.scorer.model("mill").predictor is first.predictor


def test_what_is_wrong_with_one_plant_does_not_reach_the_others(
    service: Service, plant_home: Home, champion_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(plant_home, "quarry", "v2")

    def broken(home: Home, name: str) -> Champion | None:
        if name == "mill":
            raise RuntimeError("a library's own error")
        return champion(home, name)

    monkeypatch.setattr("serve.scorer.champion", broken)
    assert service.scorer.refresh() == ["quarry"]
    assert service.scorer.model("mill").spec.version == "v1"


def test_a_bundle_of_another_version_is_refused(
    service: Service, plant_home: Home, champion_of: Callable[..., Path]
) -> None:
    champion_of(plant_home, "mill", "v2")
    where = {"kind": "network", "version": "v3", "path": "registry/bundles/mill/v2"}
    (plant_home.registry / "champions" / "mill.json").write_text(json.dumps(where))
    assert service.scorer.refresh() == []
    assert service.scorer.model("mill").spec.version == "v1"

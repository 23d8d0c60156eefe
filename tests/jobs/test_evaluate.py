"""Evaluation on a plant small enough to count by hand: who was caught, who was not, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from cluster.config import SplitSettings
from cluster.home import Home
from cluster.report import Silent
from cluster.sources import write_source
from jobs.dataset import PlantData
from jobs.evaluate import EvaluateReport, context_asked, run, write
from jobs.evaluation.judging import Judged, judge_plant
from jobs.evaluation.results import CandidateResult
from jobs.evaluation.rows import arranged, later_rows
from jobs.evaluation.truth import TrueFailure, Truth, read_truth
from models.bundle import Bundle
from models.calibration import Calibration
from models.config import Clock, ModelConfig, WindowConfig
from models.errors import InputError, NotFoundError
from models.labels import CONDITION, MachineLog
from models.source import MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat
from models.spec import BundleSpec, Lineage, Usual
from models.windows import CONTEXT, Channel, MachineEvents, channels_of, series_of

HOUR, START = 3_600_000_000, 1_735_689_600_000_000
HOURS, LENGTH = 1000, 8
CHANNELS = channels_of([("flow", "flow", "m^3/h"), ("vibration", "vibration", "mm/s")])
CONFIG = ModelConfig(window=WindowConfig(length=LENGTH))
SETTINGS = SplitSettings(train_until=0.3, validate_until=0.4, unseen_machines=0.0)
# Machine -> (hour of the failure, whether vibration rises before it, whether it is logged). Test begins at hour 568.
FAILURES = {"M1": (700, True, True), "M2": (800, False, True), "M3": (750, True, False), "M4": None}


def at(hour: float) -> int:
    return START + round(hour * HOUR)


def graph() -> bytes:
    """Every bin's hazard is sigmoid(2 * newest vibration - 10): 4.5e-5 at 0, 0.5 at 5, 0.88 at 6."""
    pick = np.zeros((len(CHANNELS), len(CONFIG.hazard.edges) + 1), np.float32)
    pick[1] = 2.0
    constants = {"last": np.array(LENGTH - 1), "pick": pick, "bias": np.float32(-10), "zero": np.float32(0)}
    nodes = [
        helper.make_node("Gather", ["values", "last"], ["newest"], axis=1),
        helper.make_node("IsNaN", ["newest"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "newest"], ["known"]),
        helper.make_node("MatMul", ["known", "pick"], ["raw"]),
        helper.make_node("Add", ["raw", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["hazard"]),
    ]
    made = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("values", TensorProto.FLOAT, [None, LENGTH, len(CHANNELS)])],
        [helper.make_tensor_value_info("hazard", TensorProto.FLOAT, [None, len(CONFIG.hazard.edges) + 1])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def bundle(hazard: tuple[float, ...] = ()) -> Bundle:
    spec = BundleSpec(
        plant="harbor", kind="network", name="harbor", version="network-1", config=CONFIG, channels=CHANNELS,
        calibration=Calibration(), usual=Usual(window=(80.0, 1.0, 500.0, 0.0), hazard=hazard), threshold=0.5,
        lineage=Lineage(data_version="1", code_version="0"),
    )  # fmt: skip
    return Bundle(Path("nowhere"), spec, graph(), b"", "")


@pytest.fixture(scope="module")
def data() -> PlantData:
    series, events, logs = {}, {}, {}
    times = np.array([at(h) for h in range(1, HOURS + 1)])
    for name, failure in FAILURES.items():
        values = np.tile(np.array([80.0, 1.0], np.float32), (HOURS, 1))
        own = np.empty(0, np.int64)
        if failure is not None:
            hour, rises, logged = failure
            if rises:
                values[hour - 40 : hour, 1] = 6.0
            if logged:
                own = np.array([at(hour)])
        events[name] = MachineEvents(at(-100))
        logs[name] = MachineLog(own, own + 10 * HOUR, own + 10 * HOUR)
        series[name] = series_of(name, times, values, events[name], clock=Clock(), window=CONFIG.window)
    return PlantData("harbor", Clock(), CHANNELS, series, events, logs, dict.fromkeys(FAILURES, "pump"), "1", {})


@pytest.fixture(scope="module")
def truth() -> Truth:
    failures = tuple(
        TrueFailure(name, "bearing" if f[1] else "short_circuit", not f[1], at(f[0]), f[2])
        for name, f in FAILURES.items() if f is not None
    )  # fmt: skip
    hours = np.arange(HOURS)
    tables = []
    for name, failure in FAILURES.items():
        knows = (hours >= failure[0] - 48) & (hours < failure[0]) if failure is not None and failure[1] else hours < 0
        tables.append(
            pa.table({
                "machine": [name] * HOURS, "p48h": np.where(knows, 0.99, 0.001).astype(np.float32),
                "time": pa.array([at(int(h)) for h in hours], pa.int64()).cast(pa.timestamp("us", "UTC")),
            })
        )  # fmt: skip
    return Truth(failures, pa.concat_tables(tables))


@pytest.fixture(scope="module")
def judged(data: PlantData, truth: Truth) -> Judged:
    return judge_plant(data, data.split_in_time(SETTINGS, CONFIG), {"network": bundle()}, truth)


def _of(judged: Judged, kind: str) -> CandidateResult:
    found = judged.result.all.of(kind)
    assert found is not None
    return found


def test_only_later_time_is_read(data: PlantData) -> None:
    rows = later_rows(data, data.split_in_time(SETTINGS, CONFIG))
    # 40 % of 999 hours, then a gap of the longest horizon, 168 h.
    assert rows.time_us.min() > at(400 + 168)
    assert rows.time_us.max() <= at(HOURS)
    assert rows.machines == ("M1", "M2", "M3", "M4")


def test_thinned_rows_keep_to_one_grid(data: PlantData) -> None:
    rows = later_rows(data, data.split_in_time(SETTINGS, CONFIG), most=500)
    assert rows.every == 4
    assert len(rows.time_us) <= 500
    assert set((rows.time_us // HOUR) % 4) == {0}
    assert rows.ticks.step == 4.0


def test_nothing_later_to_read_is_an_error(data: PlantData) -> None:
    settings = SplitSettings(train_until=0.5, validate_until=0.99, unseen_machines=0.0)
    with pytest.raises(InputError, match="Nothing to evaluate on: expected readings later than"):
        later_rows(data, data.split_in_time(settings, CONFIG))


def test_the_champion_catches_what_shows_and_misses_what_does_not(judged: Judged) -> None:
    assert [(f.machine, f.caught, f.sudden, f.mode) for f in judged.result.failures] == [
        ("M1", True, False, "bearing"), ("M2", False, True, "short_circuit"),
    ]  # fmt: skip
    champion = judged.result.all.champion
    assert (champion.caught, champion.num_failures, champion.false_alarms) == (1, 2, 1)
    assert champion.lead_median.value == 39.0  # vibration rose in the reading of 40 h before, known an hour later
    assert judged.result.failures[0].failed_at == "2025-01-30T04:00:00Z"


def test_an_alarm_before_a_failure_that_nobody_logged_is_false_but_said(judged: Judged) -> None:
    assert judged.result.num_unlogged == 1
    assert [(a.machine, a.outcome, a.unlogged) for a in judged.result.alarms if a.outcome == "false"] == [
        ("M3", "false", True)
    ]  # fmt: skip


def test_always_healthy_catches_nothing_and_the_oracle_is_the_ceiling(judged: Judged) -> None:
    assert (_of(judged, "always_healthy").caught, _of(judged, "always_healthy").false_alarms) == (0, 0)
    assert _of(judged, "oracle").caught >= judged.result.all.champion.caught
    assert [c.kind for c in judged.result.all.candidates] == ["network", "always_healthy", "oracle"]


def test_kaplan_meier_is_an_alarm_that_never_ends_and_saves_nothing(data: PlantData, truth: Truth) -> None:
    usual = bundle(hazard=(0.01,) * (len(CONFIG.hazard.edges) + 1))
    found = judge_plant(data, data.split_in_time(SETTINGS, CONFIG), {"network": usual}, truth)
    everyone = _of(found, "kaplan_meier")
    assert (everyone.caught, everyone.num_failures) == (2, 2)
    # 432 hours of four machines: M3 and M4 run through two promises each, the others' first ones end in failures.
    assert everyone.false_alarms >= 4
    assert everyone.caught_at_equal_false_alarms == 0
    assert (everyone.auc.value, everyone.brier_skill.value) == (0.5, pytest.approx(0.0, abs=1e-9))


def test_failures_that_no_alarm_could_announce_are_counted_apart(data: PlantData, judged: Judged) -> None:
    assert judged.result.num_not_judged == 0
    early = np.array([at(568 + 3)])  # three hours after the test part begins: too late for any alarm
    logs = data.logs | {"M4": MachineLog(early, early + 10 * HOUR, early + 10 * HOUR)}
    found = judge_plant(replace(data, logs=logs), data.split_in_time(SETTINGS, CONFIG), {"network": bundle()}, None)
    assert (found.result.all.num_failures, found.result.num_not_judged) == (2, 1)


def test_the_scored_ticks_hold_each_risk_exactly(judged: Judged) -> None:
    assert judged.ticks.schema.field("risk_network").type == pa.float64()


def test_few_failures_give_no_verdict(judged: Judged) -> None:
    assert not judged.result.enough
    assert judged.result.verdict.startswith("not enough failures (n = 2): caught 1 of 2 failures")


def test_without_truth_nothing_is_claimed_about_it(data: PlantData) -> None:
    found = judge_plant(data, data.split_in_time(SETTINGS, CONFIG), {"network": bundle()}, None)
    assert found.result.num_unlogged is None
    assert {f.sudden for f in found.result.failures} == {None}
    assert found.result.all.of("oracle") is None


def test_unseen_machines_are_shown_apart(data: PlantData, truth: Truth) -> None:
    settings = SplitSettings(train_until=0.3, validate_until=0.4, unseen_machines=0.5)
    found = judge_plant(data, data.split_in_time(settings, CONFIG), {"network": bundle()}, truth).result
    groups = found.groups[:3]
    assert [g.name for g in groups] == ["all", "known machines", "unseen machines"]
    assert [g.num_machines for g in groups] == [4, 2, 2]
    assert sum(g.num_failures for g in groups[1:]) == found.all.num_failures


def test_each_failure_mode_is_judged_against_all_healthy_time(data: PlantData, truth: Truth) -> None:
    modes = {("M1", at(700)): "bearing", ("M2", at(800)): "short_circuit"}
    found = judge_plant(data, data.split_in_time(SETTINGS, CONFIG), {"network": bundle()}, truth, modes).result
    own = {g.name: g for g in found.groups if g.kind == "failure mode"}
    assert {name: (g.champion.caught, g.num_failures) for name, g in own.items()} == {
        "bearing": (1, 1), "short_circuit": (0, 1),
    }  # fmt: skip
    # The false alarm on M3 counts against both; the true one, of the other mode, against neither.
    assert [g.champion.false_alarms for g in own.values()] == [1, 1]
    assert own["short_circuit"].champion.precision.value == 0.0
    # A week before each of the other mode's failures is left out.
    months = found.all.machine_months - 168 / 730.5
    assert own["bearing"].machine_months == pytest.approx(months, abs=0.01)
    assert own["bearing"].note == "not enough failures (n = 1)"
    truly = [g.name for g in found.groups if g.kind == "true failure mode"]
    assert truly == ["bearing", "short_circuit, sudden"]


def test_maintenance_on_condition_is_judged_under_both_bounds(data: PlantData, judged: Judged) -> None:
    assert judged.result.on_condition is None
    assert "replaced on condition" not in EvaluateReport(plants=[judged.result])._caption()
    # M3 rose like M1, which failed; somebody saw it and replaced M3 at hour 750. M4 was serviced by the calendar.
    replaced, serviced = np.array([at(750)]), np.array([at(760)])
    logs = data.logs | {
        "M3": MachineLog(serviced_us=replaced, serviced_known_us=replaced, serviced_as=np.array([CONDITION], np.int8)),
        "M4": MachineLog(serviced_us=serviced, serviced_known_us=serviced),
    }
    usual = (0.01,) * (len(CONFIG.hazard.edges) + 1)
    found = judge_plant(
        replace(data, logs=logs), data.split_in_time(SETTINGS, CONFIG), {"network": bundle(hazard=usual)}, None
    ).result
    assert found.on_condition is not None and found.on_condition.num == 1
    assert {b.kind for b in found.on_condition.bounds} == {c.kind for c in found.all.candidates}
    logged, failed, never = found.on_condition.of("network")
    assert [(b.assumed, b.caught, b.num_failures) for b in (logged, failed, never)] == [
        ("logged", 1, 2), ("failed", 2, 3), ("never", 1, 2),
    ]  # fmt: skip
    champion = found.all.champion
    assert (logged.auc, logged.brier_skill, logged.log_likelihood) == (
        champion.auc, champion.brier_skill, champion.log_likelihood
    )  # fmt: skip
    for name in ("auc", "brier_skill"):
        worse, better = getattr(never, name).value, getattr(failed, name).value
        assert worse < better, name  # the alarm on M3 was right if it had failed, else wrong
    assert len({b.log_likelihood.value for b in (logged, failed, never)}) == 3
    healthy = found.on_condition.of("always_healthy")
    assert [(b.caught, b.num_failures, b.log_likelihood.value) for b in healthy] == [
        (0, 2, None), (0, 3, None), (0, 2, None)
    ]  # fmt: skip
    caption = EvaluateReport(plants=[found])._caption().splitlines()
    assert len(caption) == 2 and caption[1].startswith(
        "harbor: 1 machine was replaced on condition; as logged / had each failed then / had none within 48h: "
        "caught 1 of 2 / 2 of 3 / 1 of 2, AUC "
    )  # fmt: skip
    again = EvaluateReport.model_validate_json(json.dumps(EvaluateReport(plants=[found]).as_json()))
    assert again.plants == [found]


def test_the_champion_is_compared_with_each_candidate_on_the_same_draws(data: PlantData, truth: Truth) -> None:
    usual = (0.01,) * (len(CONFIG.hazard.edges) + 1)
    bundles = {"network": bundle(hazard=usual), "trees": bundle(hazard=usual)}
    found = judge_plant(data, data.split_in_time(SETTINGS, CONFIG), bundles, truth).result.all
    assert [c.against for c in found.comparisons] == ["trees", "kaplan_meier"]
    same, known = found.comparisons
    assert (same.average_precision.value, same.brier_skill.value, same.log_likelihood.value) == (0.0, 0.0, 0.0)
    everyone = found.of("kaplan_meier")
    assert everyone is not None and found.champion.average_precision.value is not None
    gain = found.champion.average_precision.value - (everyone.average_precision.value or 0.0)
    assert known.average_precision.value == pytest.approx(gain, rel=1e-4)


def test_what_every_threshold_comes_to_is_kept_for_all_machines(judged: Judged) -> None:
    champion = judged.result.all.champion
    in_use = next(p for p in champion.curve if p.threshold == champion.threshold)
    assert (in_use.recall, in_use.precision) == (champion.recall.value, champion.precision.value)
    assert champion.leads == [39.0]
    assert [p.threshold for p in champion.curve] == sorted(p.threshold for p in champion.curve)
    assert not judged.result.groups[-1].champion.curve


def test_the_story_ends_with_the_failure_that_was_caught(judged: Judged) -> None:
    story = judged.story
    assert (story["machine"], story["caught"], story["lead"]) == ("M1", True, 39.0)
    assert story["before"][-1] == 0.0
    assert story["risk"][0] < 0.1
    assert story["risk"][-1] > 0.99
    assert story["sensors"][0]["name"] == "vibration"
    assert story["sensors"][0]["values"][-1] == 6.0


def test_a_channel_that_is_gone_is_no_value(data: PlantData) -> None:
    windows = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    spec = bundle().spec
    assert arranged(windows, spec.channels, spec) is windows
    swapped = arranged(windows[..., [1, 2]], (spec.channels[1], spec.channels[2]), spec)
    assert np.isnan(swapped[..., [0, 3]]).all()
    assert np.array_equal(swapped[..., [1, 2]], windows[..., [1, 2]])


def test_the_history_is_given_the_context_that_the_bundles_read() -> None:
    named = Channel("errors_24h.e1", "number", "1", "context")
    more = bundle().spec.model_copy(update={"channels": (*CHANNELS, named)})
    assert context_asked([bundle(), replace(bundle(), spec=more), bundle()]) == (*CONTEXT, named)
    assert context_asked([]) == ()


def test_what_is_written_is_json_without_nan_and_ticks_for_the_report(judged: Judged, tmp_path: Path) -> None:
    files = write(tmp_path, [judged])
    report = EvaluateReport(plants=[judged.result], files=files)
    text = json.dumps(report.as_json(), allow_nan=False)
    assert EvaluateReport.model_validate_json(text).plants == [judged.result]
    assert {"seconds", "version", "plants", "files"} <= set(json.loads(text))
    table = pq.read_table(tmp_path / "evaluation" / "harbor.parquet")
    assert {"machine", "time", "time_to_end", "failed", "risk_network", "risk_oracle"} <= set(table.column_names)
    assert json.loads((tmp_path / "evaluation" / "harbor.story.json").read_text())["machine"] == "M1"


def test_truth_is_read_from_the_simulators_files(truth: Truth, tmp_path: Path) -> None:
    (tmp_path / "harbor").mkdir()
    pq.write_table(truth.oracle, tmp_path / "harbor" / "oracle.parquet")
    columns = {name: [getattr(f, name) for f in truth.failures] for name in ("machine", "mode", "sudden", "logged")}
    failed_at = pa.array([f.failed_us for f in truth.failures], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table(columns | {"failed_at": failed_at}), tmp_path / "harbor" / "failures.parquet")
    found = read_truth(tmp_path, "harbor")
    assert found.failures == truth.failures
    machines = np.array(["M1", "M1", "M4"], object)
    assert found.risk("p48h", machines, np.array([at(699.5), at(651), at(9_999)])).tolist() == pytest.approx(
        [0.99, 0.001, 0.0]
    )
    with pytest.raises(NotFoundError, match=r"No truth for this plant: expected ridge/failures\.parquet"):
        read_truth(tmp_path, "ridge")


def test_a_plant_without_a_model_says_what_to_do(home: Home) -> None:
    with pytest.raises(InputError, match="No plant: expected at least one connected plant"):
        run(home, progress=Silent())
    stream = Stream(
        name="r", role="readings", files="*.csv", time=TimeFormat(column="t"), sensors={"f": SensorColumn(sensor="f")},
        machine=MachineFrom(column="m"),
    )  # fmt: skip
    source = SourceDescription(plant="harbor", root="/nowhere", streams=(stream,))
    write_source(home.sources / "harbor.toml", source)
    with pytest.raises(NotFoundError, match=r"No model for this plant.*millwright tune --plants harbor"):
        run(home, progress=Silent())

"""The gate in its pieces: which ticks two models are compared on, and figures worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cluster import dossiers
from cluster.commit import commit_once, open_or_create, write_part
from cluster.config import SplitSettings
from cluster.dossiers import Contender, Dossier
from cluster.home import Home
from cluster.storage import TIME, data_version, readings_schema, show_versions
from jobs.dataset import PlantData
from jobs.promotion.figures import pair_figures
from jobs.promotion.gate import incomparable
from jobs.promotion.slices import Compared, Span, known_span, read_before, slice_of
from models.calibration import Calibration
from models.config import Clock, HazardConfig, ModelConfig, WindowConfig
from models.episodes import Ticks
from models.errors import InputError
from models.evaluation import Forecast
from models.labels import MachineLog
from models.spec import BundleSpec, Lineage, Usual
from models.windows import MachineEvents, channels_of, series_of

HOUR, START = 3_600_000_000, 1_735_689_600_000_000
CHANNELS = channels_of([("vibration", "vibration", "mm/s")])
CONFIG = ModelConfig(window=WindowConfig(length=8))
SETTINGS = SplitSettings(train_until=0.3, validate_until=0.5, unseen_machines=0.0)
FAILED = {"M1": (450, 900), "M2": (480, 950), "M3": (), "M4": (940,)}  # hours; 1000 in all


def at(hour: float) -> int:
    return START + round(hour * HOUR)


def spec(name: str, scope: str = "plant") -> BundleSpec:
    return BundleSpec.model_validate(
        {
            "plant": "harbor", "kind": "trees", "name": "harbor", "version": name, "config": CONFIG, "scope": scope,
            "channels": CHANNELS, "calibration": Calibration(), "usual": Usual(window=(1.0, 500.0, 0.0)),
            "lineage": Lineage(data_version="readings/pump@1", code_version="0"),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def data() -> PlantData:
    series, events, logs = {}, {}, {}
    times = np.array([at(h) for h in range(1, 1001)])
    for name, hours in FAILED.items():
        failed = np.array([at(h) for h in hours], np.int64)
        events[name], logs[name] = MachineEvents(at(-100)), MachineLog(failed, failed + HOUR, failed + HOUR)
        values = np.ones((1000, 1), np.float32)
        series[name] = series_of(name, times, values, events[name], clock=Clock(), window=CONFIG.window)
    return PlantData("harbor", Clock(), CHANNELS, series, events, logs, dict.fromkeys(FAILED, "pump"), "1", {})


def chosen(data: PlantData, *known: Span | None, least: int = 2, scope: str = "plant") -> Compared:
    specs = [spec("champion"), spec("challenger", scope)]
    split = data.split_in_time(SETTINGS, CONFIG)
    return slice_of(data, split, specs, known, settings=SETTINGS, min_failures=least)


def hours(found: Compared) -> tuple[int, int]:
    return tuple(int((us - START) // HOUR) for us in (found.rows.time_us.min(), found.rows.time_us.max()))  # type: ignore[return-value]


def test_without_new_history_the_validation_part_is_asked_and_the_test_part_is_not(data: PlantData) -> None:
    found = chosen(data, (at(1), at(1000)), (at(1), at(1000)))
    # Validation: a gap of 168 h after 30 % of 999 h, until half of them. What failed at 480 was booked in time.
    assert hours(found)[0] == 469 and hours(found)[1] <= 500
    assert found.slice.kind == "validation" and found.slice.num_failures == 1  # 450 lies before the part
    assert found.seen == (True, True)
    assert "no history has come since" in found.slice.told
    assert "both models were calibrated" in found.slice.told


def test_ticks_later_than_both_models_are_taken_alone_where_they_hold_enough_failures(data: PlantData) -> None:
    found = chosen(data, (at(1), at(600)), (at(1), at(700)), least=3)
    assert found.slice.kind == "fresh" and found.slice.num_failures == 3
    assert hours(found)[0] == 701
    assert found.seen == (False, False)
    assert "`evaluate` reads these ticks too" in found.slice.told


def test_too_few_new_failures_leave_the_validation_part_and_are_counted(data: PlantData) -> None:
    found = chosen(data, (at(1), at(600)), (at(1), at(700)), least=4)
    assert found.slice.kind == "validation"
    assert found.slice.told.startswith("3 failures since 2025-01-30T04:00:00Z, when both models were made, are too few")


def test_who_was_calibrated_on_the_slice_is_told_for_each_model(data: PlantData) -> None:
    # Made from 400 hours, validated on hours 288 to 200: an empty part, which overlaps nothing.
    found = chosen(data, (at(1), at(400)), (at(1), at(1000)))
    assert found.seen == (False, True) and "which favours the challenger" in found.slice.told
    found = chosen(data, (at(1), at(1000)), (at(1), at(1000)), scope="fleet")
    assert found.seen == (True, False) and "which favours the champion" in found.slice.told


def test_nothing_that_a_model_was_trained_on_judges_it_where_older_history_came_later(data: PlantData) -> None:
    # The champion was made from hours 60 to 1000 alone: trained until 342, with the gap until 510.
    with pytest.raises(InputError, match="later than the training part with a known outcome"):
        chosen(data, (at(60), at(1000)), (at(1), at(1000)))


def test_a_data_version_that_cannot_be_read_leaves_nothing_known_to_be_new(data: PlantData) -> None:
    found = chosen(data, None, (at(1), at(600)))
    assert found.slice.kind == "validation" and found.seen == (None, False)
    assert "cannot be read any more" in found.slice.told and "not known for both" in found.slice.told


def test_evaluation_is_told_what_a_promotion_has_read_of_its_test_part(data: PlantData, home: Home) -> None:
    split = data.split_in_time(SETTINGS, CONFIG)  # its test part begins at hour 668
    challenger = Contender(version="trees-1", kind="trees")
    one = Dossier(
        plant="harbor", at="2026-01-02T03:04:05+00:00", who="kim", run_id="r", data_version="d", code_version="c",
        verdict="inconclusive", why="w", challenger=challenger,
    )  # fmt: skip
    old, new = chosen(data, (at(1), at(1000)), (at(1), at(1000))), chosen(data, (at(1), at(600)), (at(1), at(600)))
    dossiers.keep(home, one.model_copy(update={"slice": old.slice}), "")
    assert read_before(home, "harbor", split) == []
    path = dossiers.keep(home, one.model_copy(update={"slice": new.slice, "at": "2026-02-02T00:00:00+00:00"}), "")
    (told,) = read_before(home, "harbor", split)
    assert told.startswith("harbor: a promotion (inconclusive, 2026-02-02) was judged on 2025-01-28T")
    path.write_text("{")
    (told,) = read_before(home, "harbor", split)
    assert told.startswith("Damaged dossier")


def test_the_span_of_a_data_version_is_what_its_readers_saw(home: Home) -> None:
    for batch, first in (("b1", 10), ("b2", 500)):
        path = home.table("harbor", "readings/pump")
        table = open_or_create(path, readings_schema(["temp"]), partition_by=["month"])
        columns = {
            "machine": ["P1"] * 3, "time": pa.array(range(first, first + 3), TIME),
            "ingested_at": pa.array([0] * 3, TIME), "temp": pa.array([1.5] * 3, pa.float32()), "source_id": [batch] * 3,
        }  # fmt: skip
        part = write_part(path, pa.table(columns), stem=f"part-{batch}", partition={"month": "1970-01"})
        assert commit_once(table, [part], app_id=batch)
        show_versions(home, "harbor", {"readings/pump": table.version() + 1}, cause=batch)
        if batch == "b1":
            before = data_version(home, "harbor")
    assert known_span(home, "harbor", before) == (10, 12)
    assert known_span(home, "harbor", data_version(home, "harbor")) == (10, 502)
    assert known_span(home, "harbor", "no version") is None


TINY = HazardConfig(horizons={"2h": 2.0}, edges=(2.0,))


def two_machines() -> Ticks:
    """One fails within the first bin, the other is censored at its end."""
    return Ticks(np.array([0, 1]), np.array([0.0, 0.0]), np.array([2.0, 2.0]), np.array([True, False]), 2, 1.0)


def said(*hazard: float, risk: float = 0.1, rows: int = 2) -> Forecast:
    return Forecast(np.full(rows, risk), 0.5, np.tile(np.array(hazard, np.float32), (rows, 1)))


def test_the_difference_in_likelihood_is_that_worked_by_hand() -> None:
    found = pair_figures(
        two_machines(), np.zeros(2, bool), said(0.25, 0.1), said(0.5, 0.1), config=TINY, usual=(0.25, 0.1)
    )
    fails, lives = np.log(0.5 / 0.25), np.log(0.5 / 0.75)
    assert found.difference.value == pytest.approx((fails + lives) / 2, abs=1e-7)
    # A draw of two machines is twice the one, each once, or twice the other.
    assert (found.difference.low, found.difference.high) == pytest.approx((lives, fails), abs=1e-7)
    assert found.champion.value == pytest.approx((np.log(0.25) + np.log(0.75)) / 2, abs=1e-7)
    assert found.usual == pytest.approx(found.champion.value, abs=1e-7)


def test_a_model_beside_itself_differs_by_nothing_and_has_no_interval() -> None:
    found = pair_figures(two_machines(), np.zeros(2, bool), said(0.25, 0.1), said(0.25, 0.1), config=TINY)
    assert found.difference.value == 0.0 and np.isnan(found.difference.low) and found.usual is None


def test_ticks_before_a_confirmed_finding_count_neither_way() -> None:
    found = pair_figures(two_machines(), np.array([False, True]), said(0.25, 0.1), said(0.5, 0.1), config=TINY)
    assert found.difference.value == pytest.approx(np.log(2.0) / 2, abs=1e-7)


def test_failures_are_caught_at_the_champions_false_alarms() -> None:
    left = np.arange(300.0, 0.0, -1.0)
    ticks = Ticks(np.repeat(np.arange(4), 300), np.tile(300 - left, 4), np.tile(left, 4), np.ones(1200, bool), 4, 1.0)
    rising = left <= 48
    one, other = (np.concatenate([rising * (m < caught) * 0.9 for m in range(4)]) for caught in (2, 3))
    other[10] = 0.95  # a false alarm that a threshold of 0.92 would raise alone
    hazard = np.full((1200, len(CONFIG.hazard.edges) + 1), 0.1, np.float32)
    champion, challenger = Forecast(one, 0.5, hazard), Forecast(other, 0.5, hazard)
    found = pair_figures(ticks, np.zeros(1200, bool), champion, challenger, config=CONFIG.hazard)
    assert (found.caught_champion, found.caught_challenger, found.num_announceable) == (2, 0, 4)
    one[310] = 0.9  # now the champion raises a false one too
    found = pair_figures(ticks, np.zeros(1200, bool), replace(champion, risk=one), challenger, config=CONFIG.hazard)
    assert (found.caught_champion, found.caught_challenger) == (2, 3)
    assert found.caught_difference.value == 0.25
    assert found.caught_difference.low == 0.0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"clock": Clock(step_s=60)}, "clock"),
        ({"hazard": HazardConfig(edges=(24, 48, 168))}, "hazard.edges"),
        ({"window": WindowConfig(length=8, carry=9)}, "window.carry"),
    ],
)
def test_models_whose_figures_mean_other_things_are_not_compared(change: dict[str, object], name: str) -> None:
    assert f"differ in {name}, so" in (incomparable(CONFIG, CONFIG.model_copy(update=change)) or "")
    assert incomparable(CONFIG, CONFIG.model_copy(update={"window": WindowConfig(length=32)})) is None

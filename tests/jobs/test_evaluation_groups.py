"""Groups of ticks: ages by the training part's tertiles, modes as the log names them, types of machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cluster.config import SplitSettings
from cluster.storage import EVENTS
from jobs.dataset import PlantData
from jobs.evaluation.groups import MOST_MODES, OTHERS, Group, groups_of, named_modes
from jobs.evaluation.rows import later_rows
from models.config import Clock, ModelConfig, WindowConfig
from models.labels import MachineLog
from models.windows import MachineEvents, channels_of, series_of

HOUR, START, HOURS = 3_600_000_000, 1_735_689_600_000_000, 1000
CONFIG = ModelConfig(window=WindowConfig(length=8))
SETTINGS = SplitSettings(train_until=0.3, validate_until=0.4, unseen_machines=0.0)


def at(hour: float) -> int:
    return START + round(hour * HOUR)


def plant(failures: dict[str, list[int]], installed: dict[str, int | None], types: dict[str, str]) -> PlantData:
    """Machines with one sensor; hour of installation and of each failure."""
    series, events, logs = {}, {}, {}
    times, values = np.array([at(h) for h in range(1, HOURS + 1)]), np.full((HOURS, 1), 80.0, np.float32)
    for name, since in installed.items():
        own = np.array([at(hour) for hour in failures.get(name, [])], np.int64)
        events[name] = MachineEvents(None if since is None else at(since))
        logs[name] = MachineLog(own, own + HOUR, own + HOUR)
        series[name] = series_of(name, times, values, events[name], clock=Clock(), window=CONFIG.window)
    channels = channels_of([("flow", "flow", "m^3/h")])
    return PlantData("harbor", Clock(), channels, series, events, logs, types, "1", {})


def groups(data: PlantData, modes: dict[tuple[str, int], str] | None = None) -> list[Group]:
    split = data.split_in_time(SETTINGS, CONFIG)
    return groups_of(data, later_rows(data, split), split, modes=modes or {}, truth=None, longest=168.0)


def test_ages_are_parted_by_the_training_parts_tertiles() -> None:
    # Training sees ages 1 to 300 of A, 1001 to 1300 of B, none of C: two thirds of the 600 lie up to 1100.
    data = plant({}, {"A": 0, "B": -1000, "C": None}, dict.fromkeys("ABC", "pump"))
    rows = later_rows(data, data.split_in_time(SETTINGS, CONFIG))
    found = {g.part.name: g.part.keep for g in groups(data) if g.kind == "age"}
    assert list(found) == ["middle: up to 1100 h", "old: over 1100 h", "unknown age"]
    machine = np.array(rows.machines)[rows.ticks.machine]
    assert set(machine[found["unknown age"]]) == {"C"}
    assert set(machine[found["old: over 1100 h"]]) == {"B"}
    assert set(machine[found["middle: up to 1100 h"]]) == {"A"}  # 569 to 1000 hours old by then
    assert sum(keep.sum() for keep in found.values()) == len(machine)


def test_where_all_ages_are_unknown_or_the_same_type_nothing_is_parted() -> None:
    data = plant({}, {"A": None, "B": None}, dict.fromkeys("AB", "pump"))
    assert [g.kind for g in groups(data)] == ["all"]


def test_machine_types_are_groups_and_a_machine_that_no_list_names_is_one_too() -> None:
    data = plant({}, {"A": None, "B": None, "C": None}, {"A": "pump", "B": "fan"})
    assert [g.part.name for g in groups(data) if g.kind == "machine type"] == ["fan", "no type", "pump"]


def test_a_mode_leaves_out_the_last_days_before_other_failures_and_censors_what_precedes_them() -> None:
    data = plant({"A": [800], "B": [900]}, {"A": None, "B": None, "C": None}, dict.fromkeys("ABC", "pump"))
    rows = later_rows(data, data.split_in_time(SETTINGS, CONFIG))
    found = {g.part.name: g.part for g in groups(data, {("A", at(800)): "seal"}) if g.kind == "failure mode"}
    assert list(found) == ["not named", "seal"]
    seal, ticks = found["seal"], rows.ticks
    assert seal.event is not None
    left_out = ~seal.keep
    assert set(ticks.machine[left_out]) == {1}
    assert (ticks.time[left_out].min(), ticks.time[left_out].max(), left_out.sum()) == (1.0, 168.0, 168)
    assert set(ticks.machine[seal.event]) == {0}
    assert not seal.event[(ticks.machine == 1) & ticks.event].any()


def test_rare_modes_are_one_group() -> None:
    names = [f"M{number:02d}" for number in range(MOST_MODES + 2)]
    data = plant({n: [900] for n in names}, dict.fromkeys(names), dict.fromkeys(names, "pump"))
    own = [g.part for g in groups(data, {(n, at(900)): f"mode_{n}" for n in names}) if g.kind == "failure mode"]
    assert [p.name for p in own] == [f"mode_{n}" for n in names[:MOST_MODES]] + [OTHERS]
    assert own[-1].event is not None
    ticks = later_rows(data, data.split_in_time(SETTINGS, CONFIG)).ticks
    assert len(set(ticks.machine[own[-1].event])) == 2


def test_a_group_without_a_tick_is_left_out() -> None:
    data = plant({}, {"A": 0, "B": 0}, dict.fromkeys("AB", "pump"))
    # All are older in test than any third of training: one band, hence none.
    assert [g.kind for g in groups(data)] == ["all"]
    typed = replace(data, machine_types={"A": "pump", "B": "fan"})
    assert [g.kind for g in groups(typed)] == ["all", "machine type", "machine type"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("A", "seal_leak", "seal", 5)], {("A", 5): "seal_leak"}),
        ([("A", None, "seal", 5)], {("A", 5): "seal"}),
        ([("A", None, None, 5)], {}),
        ([("A", "wear", "bearing", 5), ("A", "leak", "seal", 5)], {("A", 5): "leak and wear"}),
        ([("A", "wear", "bearing", 5), ("B", "wear", "bearing", 5)], {("A", 5): "wear", ("B", 5): "wear"}),
    ],
)
def test_a_failure_is_called_by_its_mode_or_else_its_component(
    rows: list[tuple[str, str | None, str | None, int]], expected: dict[tuple[str, int], str]
) -> None:
    columns = {name: [None] * (len(rows) + 1) for name in EVENTS.names}
    columns["machine"] = [r[0] for r in rows] + ["A"]
    columns["failure_mode"] = [r[1] for r in rows] + ["an error's"]
    columns["component"] = [r[2] for r in rows] + [None]
    columns["kind"] = ["failure"] * len(rows) + ["error"]
    columns["started_at"] = [r[3] for r in rows] + [5]
    assert named_modes(pa.table(columns, schema=EVENTS)) == expected

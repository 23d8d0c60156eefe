"""What a layout makes of raw rows: machines in names of columns, sensors in names of files, states, mixed logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.sources import logs, reading, readings
from models.source import Stream

DAY_US = 86_400_000_000
T0 = 1_735_689_600_000_000  # 2025-01-01 in UTC


def stream(**changes: object) -> Stream:
    base: dict[str, object] = {"name": "s", "role": "readings", "files": "*", "time": {"column": "t"}}
    return Stream.model_validate(base | changes)


def read(path: Path, described: Stream, name: str | None = None) -> tuple[list[dict[str, object]], list[str], int]:
    (chunk,) = reading.chunks(path, described)
    found = readings.canonical(chunk, described, name or path.name)
    rows = [{k: v for k, v in row.items() if v is not None} for row in found.table.to_pylist()]
    return rows, [f"{w.line} {w.reason} {w.scope} {w.detail}" for w in found.wrong], found.num_rows


def test_machines_in_columns_names_are_rows_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(
        "t,P-01.temp,P-01.p,P-02.temp,note\n2025-01-01,1,2,3,x\n2025-01-02,,,4,\nsoon,1,1,1,\n2025-01-03,?,,5,\n"
    )
    machine = {"kind": "tag", "names": {"P-02": "pump-2"}}
    sensors = {"temp": {"sensor": "temp"}, "P-01.p": {"sensor": "p"}}
    rows, wrong, num_rows = read(tmp_path / "f.csv", stream(machine=machine, sensors=sensors))
    assert rows == [
        {"machine": "P-01", "time": T0, "temp": 1.0, "p": 2.0},
        {"machine": "pump-2", "time": T0, "temp": 3.0},
        {"machine": "pump-2", "time": T0 + DAY_US, "temp": 4.0},
        {"machine": "pump-2", "time": T0 + 2 * DAY_US, "temp": 5.0},
    ]
    assert wrong == ["4 bad_time row t = soon", "5 bad_number row P-01.temp = ?"]
    assert num_rows == len(rows) + len(wrong)


@pytest.mark.parametrize("folder", ["PT-1/a.csv", "x/PT-1/a.csv"])
def test_a_file_s_path_may_be_its_tag(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a.csv").write_text("t,v\n2025-01-01,14.5\n2025-01-02,\n")
    described = stream(
        layout="long", value_column="v", tag_pattern=r"(?P<tag>[A-Z]+-\d)/", machine={"kind": "constant", "value": "M"},
        sensors={"PT-1": {"sensor": "p", "kind": "pressure", "unit": "psi"}},
    )  # fmt: skip
    rows, wrong, _ = read(tmp_path / "a.csv", described, folder)
    assert [(row["machine"], row["p"]) for row in rows] == [("M", pytest.approx(0.99974, rel=1e-4))]
    assert wrong == ["3 no_value row no value"]
    assert [w.split()[1] for w in read(tmp_path / "a.csv", described, "a.csv")[1]] == ["unknown_tag"] * 2


def test_one_column_holds_the_states_of_one_tag_and_the_numbers_of_another(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "t,tag,v\n2025-01-01,M.run,RUN\n2025-01-01,M.temp,7\n2025-01-02,M.run,3\n2025-01-03,M.run,1\n2025-01-02,M.temp,RUN\n"
    )
    described = stream(
        layout="long", tag_column="tag", value_column="v", machine={"kind": "tag"},
        sensors={"run": {"sensor": "run", "states": {"RUN": 5, "1": 0}}, "temp": {"sensor": "temp"}},
    )  # fmt: skip
    rows, wrong, _ = read(tmp_path / "a.csv", described)
    assert rows == [
        {"machine": "M", "time": T0, "run": 5.0}, {"machine": "M", "time": T0, "temp": 7.0},
        {"machine": "M", "time": T0 + 2 * DAY_US, "run": 0.0},
    ]  # fmt: skip
    assert [w.split()[:2] for w in wrong] == [["4", "bad_number"], ["6", "bad_number"]]


def events(path: Path, **changes: object) -> tuple[list[dict[str, object]], list[tuple[int | None, str]], int]:
    described = stream(**{"machine": {"column": "m"}, "role": "failures", "fields": {"external_id": "id"}, **changes})
    (chunk,) = reading.chunks(path, described)
    table, wrong, num_rows = logs.canonical(chunk, described, path.name, "plant", now_us=T0)
    return table.to_pylist(), [(w.line, w.reason.value) for w in wrong], num_rows


def test_an_order_s_number_is_one_however_a_file_spells_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("m,t,id\nA,2024-05-01,17\nA,2024-05-02,18\n")
    (tmp_path / "b.csv").write_text("m,t,id\nA,2024-05-01,17.0\nA,2024-05-02,\n")
    first, second = events(tmp_path / "a.csv")[0], events(tmp_path / "b.csv")[0]
    assert first[0]["event_id"] == second[0]["event_id"]
    assert len({event["event_id"] for event in first + second}) == 3


def test_a_failure_from_the_future_is_wrong_and_a_planned_repair_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("m,t,id\nA,2025-01-01,1\nA,2025-01-02T00:00:01Z,2\nA,2025-01-01T23:00:00Z,3\n")
    assert events(tmp_path / "a.csv")[1:] == ([(3, "future_time")], 3)
    assert events(tmp_path / "a.csv", role="maintenance")[1:] == ([], 3)


def test_a_log_of_several_kinds_is_several_streams(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("m,t,id,kind\nA,2024-01-01,1,F\nA,soon,2,M\nB,soon,3,F\n")
    found, wrong, num_rows = events(tmp_path / "a.csv", where={"kind": ("F", "f")})
    assert [event["external_id"] for event in found] == ["1"]
    assert (wrong, num_rows) == ([(4, "bad_time")], 2)


def test_a_machine_s_number_is_one_however_a_file_spells_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,m,a\n2025-01-01,1.0,5\n2025-01-02,10,6\n2025-01-03,1.10,7\n2025-01-04,-2.00,8\n")
    described = stream(machine={"column": "m", "prefix": "P"}, sensors={"a": {"sensor": "a"}})
    rows, _, _ = read(tmp_path / "a.csv", described)
    assert [row["machine"] for row in rows] == ["P1", "P10", "P1.10", "P-2"]

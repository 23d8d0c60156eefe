"""A source description survives its file, and a wrong file says where it is wrong."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.sources import edited, read_source, write_source
from models.config import Clock
from models.errors import InputError, NotFoundError
from models.source import CsvFormat, MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat
from models.units import CANONICAL_UNIT

# Raw names hold anything that a file can hold: dots, quotes, brackets, line breaks, other scripts.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
patterns = texts.map(lambda text: f"(?P<machine>{re.escape(text)})")
globs = texts.map(lambda text: f"x{text}").filter(lambda text: ".." not in text.split("/"))
sensors = st.builds(
    SensorColumn, sensor=names, kind=st.sampled_from(sorted(CANONICAL_UNIT)), unit=texts,
    low=st.none() | st.floats(allow_nan=False), high=st.none() | st.floats(allow_nan=False),
)  # fmt: skip
times = st.builds(TimeFormat, column=texts, format=texts, zone=texts, step_s=st.none() | st.floats(0.001, 1e9))
csvs = st.builds(
    CsvFormat, delimiter=st.sampled_from([",", ";", "\t", "|", "\\", '"', "whitespace"]),
    decimal=st.sampled_from([".", ","]), encoding=texts,
    columns=st.none() | st.lists(texts, max_size=3).map(tuple), comment=st.none() | texts, skip_rows=st.integers(0, 9),
)  # fmt: skip
machines = st.builds(
    MachineFrom, kind=st.sampled_from(["column", "file_name", "folder", "constant", "tag"]), column=st.none() | texts,
    value=st.none() | texts, pattern=st.none() | patterns, prefix=texts,
)  # fmt: skip
streams = st.builds(
    Stream, name=names, role=st.sampled_from(["readings", "failures", "machines", "ignored"]), files=globs,
    format=st.sampled_from(["csv", "jsonl", "json", "parquet"]), csv=csvs, layout=st.sampled_from(["wide", "long"]),
    time=st.none() | times, machine=machines, machine_type=st.none() | texts,
    sensors=st.dictionaries(texts, sensors, max_size=3), quality_good=st.lists(texts, max_size=2).map(tuple),
    fields=st.dictionaries(texts, texts, max_size=3), run_to_failure=st.booleans(),
    values=st.dictionaries(texts, st.dictionaries(texts, texts, max_size=2), max_size=2),
    times=st.dictionaries(texts, times, max_size=2), period_s=st.none() | st.floats(0.001, 1e9),
)  # fmt: skip
descriptions = st.builds(
    SourceDescription, plant=names, root=texts, clock=st.builds(Clock, step_s=st.floats(0.001, 1e6)),
    streams=st.lists(streams, min_size=1, max_size=2, unique_by=lambda s: s.name).map(tuple),
    doubts=st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip

MINIMAL = SourceDescription(plant="alpha", root="/data", streams=(Stream(name="r", role="readings", files="*.csv"),))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(description=descriptions, note=texts)
def test_a_description_is_read_as_it_was_written(tmp_path: Path, description: SourceDescription, note: str) -> None:
    path = tmp_path / "alpha.toml"
    keys = [f"streams.{s.name}.{k}" for s in description.streams for k in ("", "role", "time", "sensors", "values")]
    keys += [f"streams.{s.name}.sensors.{raw}" for s in description.streams for raw in s.sensors]
    write_source(path, description, dict.fromkeys(["clock", *keys], note))
    assert read_source(path) == description
    assert not edited(path)


def test_the_description_of_nasas_files_survives(tmp_path: Path) -> None:
    described = {f"s{i}": SensorColumn(sensor=f"s{i}") for i in range(3)}
    parts = tuple(
        Stream(
            name=part, role="readings", files=f"{part}_FD001.txt*",
            csv=CsvFormat(delimiter="whitespace", columns=("unit", "cycle", "s0", "s1", "s2")),
            time=TimeFormat(column="cycle", format="counter", step_s=1), sensors=described, machine_type="turbofan",
            machine=MachineFrom(kind="column", column="unit", prefix=f"{part}-"), run_to_failure=part == "train",
        )
        for part in ("train", "test")
    )  # fmt: skip
    clock = Clock(step_s=1, life_unit="cycle")
    description = SourceDescription(plant="cmapss-FD001", root="/data", clock=clock, streams=parts)
    write_source(tmp_path / "c.toml", description)
    assert read_source(tmp_path / "c.toml") == description


def test_notes_stand_beside_what_they_explain(tmp_path: Path) -> None:
    stream = Stream(name="r", role="readings", files="*.csv", sensors={"T [degC]": SensorColumn(sensor="t")})
    description = SourceDescription(plant="alpha", root="/data", streams=(stream,))
    notes = {"streams.r.role": "because\nof this", "streams.r.sensors.T [degC]": "its bracket"}
    write_source(tmp_path / "a.toml", description, notes)
    lines = (tmp_path / "a.toml").read_text().splitlines()
    assert lines[lines.index('role = "readings"') - 1] == "# because of this"
    assert '"T [degC]" = {sensor = "t", kind = "number", unit = "1"} # its bracket' in lines


def test_a_change_by_hand_is_seen_and_a_file_of_anothers_making_too(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    write_source(path, MINIMAL)
    assert not edited(path)
    path.write_text(path.read_text() + "# mine\n")
    assert edited(path)
    path.write_text('plant = "alpha"\n')
    assert edited(path)
    path.write_text("")
    assert edited(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('role = "readings"', 'role = "reading"', "Wrong source description at 'streams.r.role': expected 'readings'"),
        ('role = "readings"', 'roles = "readings"', "Wrong source description at 'streams.r.role': expected field"),
        ("step_s = 3600.0", "step_s = -1", "Wrong source description at 'clock.step_s'"),
        ('plant = "alpha"', 'plant = "../a"', "Not a plant name"),
        ('plant = "alpha"', "plant = ", "Unreadable source description: expected TOML"),
        ('plant = "alpha"', 'plant = "alpha"\nextra = 1', "Wrong source description at 'extra'"),
    ],
)
def test_a_wrong_description_names_the_file_and_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.toml"
    write_source(path, MINIMAL)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message) as error:
        read_source(path)
    assert error.value.exit_code == 2
    assert error.value.where == path or "plant name" in message


def test_a_missing_description_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"No source description: .*gone.toml"):
        read_source(tmp_path / "gone.toml")

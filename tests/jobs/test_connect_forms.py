"""One table written in every way means the same: a law, tested with hypothesis."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.home import open_home
from jobs.infer.dialect import dialect
from jobs.infer.numerals import plain, signs
from models.source import SourceDescription
from tests.jobs.connect_plants import connected

HEAD = ("Zeit", "Maschine", "Temp [degC]", "Druck [bar]")


def table(decimal: str, rows: int) -> list[tuple[str, ...]]:
    times = [f"2025-01-{20 + i // 24:02d}T{i % 24:02d}:00:00Z" for i in range(rows)]
    return [
        (time, f"P-0{i % 3}", f"{20 + i % 9}{decimal}{i % 7}5", f"{i}{decimal}5") for i, time in enumerate(times)
    ]


def written(cells: list[tuple[str, ...]], delimiter: str, quote: str) -> str:
    if delimiter == "fixed":
        return "".join("".join(f"{cell:<22}" for cell in row).rstrip() + "\n" for row in cells)
    return "".join(delimiter.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in cells)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    delimiter=st.sampled_from([";", ",", "\t", "|", "fixed"]),
    decimal=st.sampled_from([".", ","]),
    quote=st.sampled_from(["", '"', "'"]),
    header=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    end=st.sampled_from(["\n", "\r\n"]),
    preamble=st.sampled_from(["", "# exported\n# by a person\n", "Anlage Nord\n\n"]),
    rows=st.integers(8, 60),
)
def test_any_form_of_one_table_gives_the_same_sensors_machines_and_times(  # noqa: PLR0917
    delimiter: str, decimal: str, quote: str, header: bool, encoding: str, end: str, preamble: str, rows: int
) -> None:
    quote = '"' if delimiter == decimal and not quote else quote  # else it is no table
    text = written([HEAD] * header + table(decimal, rows), delimiter, "" if delimiter == "fixed" else quote)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        raw.mkdir()
        (raw / "r.csv").write_bytes(((preamble if header else "") + text).replace("\n", end).encode(encoding))
        home = open_home(Path(folder) / "home", create=True, environment={}, assignments=())
        found, report = connected(home, raw)
    check(found, header)
    assert report.streams[0].machines == 3
    assert found.streams[0].csv.decimal == decimal


def check(found: SourceDescription, header: bool) -> None:
    (stream,) = found.streams
    assert stream.time is not None
    assert stream.period_s == 3 * 3600
    names = HEAD if header else tuple(f"column_{n}" for n in range(1, 5))
    assert (stream.time.column, stream.time.format, stream.machine.column) == (names[0], "iso", names[1])
    assert list(stream.sensors) == list(names[2:])
    if header:
        assert [(s.kind, s.unit) for s in stream.sensors.values()] == [("temperature", "degC"), ("pressure", "bar")]


@given(
    values=st.lists(st.integers(-10_000_000, 10_000_000), min_size=5, max_size=40),
    style=st.sampled_from([(".", ""), (",", ""), (".", ","), (",", "."), (".", "'"), (",", " "), (".", " ")]),
)
def test_numbers_are_read_back_from_every_style(values: list[int], style: tuple[str, str]) -> None:
    decimal, thousands = style
    cells = [f"{value / 100:,.2f}".replace(",", "T").replace(".", decimal).replace("T", thousands) for value in values]
    told = signs([cells])
    assert told[0] == decimal
    assert told[1] in (thousands, "")  # nothing above a thousand shows no sign
    assert [float(plain(cell, *told)) for cell in cells] == [value / 100 for value in values]


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["1,234", "987"], (".", ",")),  # three digits that never begin with a nought, beside whole hundreds
        (["1,234", "0,987"], (",", "")),
        (["1.234", "0.987"], (".", "")),
        (["1,234,567"], (".", ",")),
        (["1.234.567"], (",", ".")),
        (["5,2", "1.234"], (",", ".")),
        (["5.2", "1,234"], (".", ",")),
        (["12", "7"], (".", "")),
        (["1e-3", "2.5"], (".", "")),
    ],
)
def test_what_one_number_leaves_open_the_others_settle(cells: list[str], found: tuple[str, str]) -> None:
    assert signs([cells]) == found


def test_commas_between_texts_cut_though_every_row_has_one_blank() -> None:
    lines = ["machine,type,valid_from", *(f"P-{n},pump,2023-08-0{n} 00:00:00" for n in range(1, 8))]
    assert (dialect(lines).delimiter, dialect(lines).width) == (",", 3)
    numbers = ["P-01   61,5   5,25", "P-02   60,5   5,50", "P-03   60,1   5,51"]
    assert (dialect(numbers).delimiter, dialect(numbers).width) == ("whitespace", 3)

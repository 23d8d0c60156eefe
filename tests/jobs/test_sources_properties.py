"""Laws of reading: a dialect changes no value, a cut changes no row, a unit is a factor and an offset."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pint import UnitRegistry

from jobs.sources import reading, readings, stamps, text
from jobs.sources.raw import Span
from jobs.sources.times import to_us
from models.quality import scale_of
from models.source import CsvFormat, SensorColumn, Stream, TimeFormat
from models.units import CANONICAL_UNIT

MACHINES = ["A", "B b", "Pümpe-1", "7"]
START = datetime(2025, 1, 1, tzinfo=UTC)
Row = tuple[str, float | None]
ROWS = st.lists(st.tuples(st.sampled_from(MACHINES), st.none() | st.integers(-(10**7), 10**7).map(lambda n: n / 100)),
                min_size=1, max_size=30)  # fmt: skip


def stream(form: CsvFormat, **changes: object) -> Stream:
    base = {
        "name": "s", "role": "readings", "files": "*", "time": {"column": "t"}, "machine": {"column": "m"},
        "sensors": {"x": {"sensor": "x"}}, "csv": form,
    }  # fmt: skip
    return Stream.model_validate({**base, **changes})


def rows_of(path: Path, described: Stream, span: Span | None = None) -> tuple[list[object], list[object]]:
    good: list[object] = []
    wrong: list[object] = []
    for chunk in reading.chunks(path, described, span):
        found = readings.canonical(chunk, described, path.name)
        if found.table.num_rows:
            good += zip(*(found.table[c].to_pylist() for c in ("machine", "time", "x")), strict=True)
        wrong += [(entry.line, entry.reason.value, entry.raw, entry.detail, entry.scope) for entry in found.wrong]
    return good, sorted(wrong, key=repr)


def spelled(value: float | None, form: CsvFormat) -> str:
    if value is None:
        return ""
    plain = f"{value:,.2f}" if form.thousands else f"{value:.2f}"
    return plain.translate(str.maketrans({",": form.thousands, ".": form.decimal}))


@st.composite
def dialects(draw: st.DrawFn) -> CsvFormat:
    decimal = draw(st.sampled_from([".", ","]))
    thousands = draw(st.sampled_from(["", "'", "." if decimal == "," else ","]))
    quote = draw(st.sampled_from(['"', "'"]))
    if thousands == quote:
        thousands = ""
    delimiter = draw(st.sampled_from([d for d in (";", "\t", "|", ",", "fixed") if d not in (decimal, thousands)]))
    return CsvFormat(
        delimiter=delimiter, decimal=decimal, thousands=thousands, quote=quote,
        widths=(30, 12, 20) if delimiter == "fixed" else None,
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])),
        comment=draw(st.sampled_from([None, "#"])), skip_rows=draw(st.integers(0, 2)),
        skip_after_header=draw(st.integers(0, 1)), columns=draw(st.sampled_from([None, ("t", "m", "x")])),
    )  # fmt: skip


def written(rows: list[Row], form: CsvFormat, end: str) -> bytes:
    def line(*cells: str) -> str:
        if form.delimiter == "fixed":
            return "".join(cell.ljust(width) for cell, width in zip(cells, form.widths or (), strict=True)).rstrip()
        quote = form.quote
        return form.delimiter.join(f"{quote}{c}{quote}" if " " in c or form.delimiter in c else c for c in cells)

    lines = ["# a remark", "# another one"] if form.comment else []
    lines += ["skipped"] * form.skip_rows + ([line("t", "m", "x")] if form.columns is None else [])
    lines += [line("-", "-", "bar")] * form.skip_after_header
    for hour, (machine, value) in enumerate(rows):
        lines.append(line((START + timedelta(hours=hour)).isoformat(), machine, spelled(value, form)))
    return (end.join(lines) + end).encode(form.encoding)


@settings(max_examples=150, deadline=None)
@given(ROWS, dialects(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_no_dialect_changes_a_value(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], form: CsvFormat, end: str
) -> None:
    path = tmp_path_factory.mktemp("dialect") / "f.csv"
    path.write_bytes(written(rows, form, end))
    start = int(START.timestamp() * 1e6)
    expected = [
        (machine, start + hour * 3_600_000_000, None if value is None else float(np.float32(value)))
        for hour, (machine, value) in enumerate(rows)
    ]
    assert rows_of(path, stream(form)) == (expected, [])


LINE = st.sampled_from(
    ["{t},A,1.5", "{t},B,2", "{t},A,?", "{t},A", "{t},A,-", "{t},A, 3", "soon,A,4", "{t},,5", "{t},A,ERR", "",
     "{t},A,inf"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE, max_size=30), st.data(), st.integers(0, 2), st.sampled_from(["\n", "\r\n"]))
def test_a_file_in_pieces_is_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject, remarks: int, end: str
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "f.csv"
    head = ["# remark"] * remarks + ["t,m,x"]
    body = [line.format(t=(START + timedelta(minutes=i)).isoformat()) for i, line in enumerate(lines)]
    path.write_bytes("".join(line + end for line in head + body).encode())
    described = stream(CsvFormat(comment="#"))
    assert text.splittable(path, described)
    assert in_pieces(path, described, data) == rows_of(path, described)


OBJECT = st.sampled_from(
    ['{{"t": "{t}", "m": "A", "x": 1.5}}', '{{"t": "{t}", "m": "B", "x": "ERR"}}', '{{"t": "{t}", "m": 7, "x": 2}}',
     '{{"t": "{t}"', "[]", "", '{{"t": "{t}", "m": "B", "x": "3"}}', '{{"x": null, "t": "{t}", "m": "C"}}']
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(OBJECT, max_size=30), st.data())
def test_json_lines_in_pieces_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "f.jsonl"
    body = ['{{"t": "{t}", "m": "A", "x": 0}}', *lines]
    moments = ((START + timedelta(minutes=i)).isoformat() for i in itertools.count())
    path.write_text("".join(line.format(t=moment) + "\n" for line, moment in zip(body, moments, strict=False)))
    described = stream(CsvFormat(), format="jsonl")
    assert text.splittable(path, described)
    assert in_pieces(path, described, data) == rows_of(path, described)


def in_pieces(path: Path, described: Stream, data: st.DataObject) -> tuple[list[object], list[object]]:
    raw = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(raw) if byte == ord("\n")]
    cuts = data.draw(st.sets(st.sampled_from(ends))) | {0, len(raw)}
    good: list[object] = []
    wrong: list[object] = []
    for start, stop in itertools.pairwise(sorted(cuts)):
        found = rows_of(path, described, Span(start, stop, raw[:start].count(b"\n") + 1))
        good, wrong = good + found[0], wrong + found[1]
    return good, sorted(wrong, key=repr)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("temperature", "degF"), ("temperature", "K"), ("temperature", "degC"), ("pressure", "psi"), ("pressure", "mbar")],
)
def test_a_unit_is_a_factor_and_an_offset_as_pint_converts_one_value(kind: str, unit: str) -> None:
    ureg = UnitRegistry()
    scale = scale_of(SensorColumn(sensor="s", kind=kind, unit=unit))
    for value in (-40.0, 0.0, 1.0, 98.6, 451.0):
        expected = ureg.Quantity(value, unit).to(CANONICAL_UNIT[kind]).magnitude
        assert value * scale.factor + scale.offset == pytest.approx(expected, rel=1e-9, abs=1e-9)


FORMS = ["%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%Y-%m-%d", "%Y%m%d%H%M%S", "%H:%M:%S %d-%m-%Y"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.datetimes(datetime(1901, 1, 1), datetime(2199, 12, 31)), min_size=1, max_size=5),
    st.sampled_from(FORMS), st.data(),
)  # fmt: skip
def test_a_time_read_by_its_digits_is_what_python_reads(
    moments: list[datetime], form: str, data: st.DataObject
) -> None:
    texts = [moment.strftime(form) for moment in moments]
    spoiled = data.draw(
        st.lists(st.tuples(st.integers(0, len(texts) - 1), st.integers(0, 9), st.sampled_from("0379x ")))
    )
    for row, place, mark in spoiled:
        texts[row] = texts[row][:place] + mark + texts[row][place + 1 :]
    us, good, utc = stamps.read(pa.array(texts), form)
    assert not utc
    for moment, ok, found in zip(texts, good.tolist(), us.tolist(), strict=True):
        if ok:
            expected = datetime.strptime(moment, form).replace(tzinfo=UTC)
            assert datetime.fromtimestamp(found / 1e6, UTC) == expected
    if not spoiled:
        assert good.all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)), min_size=1, max_size=20))
def test_local_times_become_utc_as_the_zone_says(moments: list[datetime]) -> None:
    from zoneinfo import ZoneInfo

    zone = ZoneInfo("Europe/Berlin")
    sharp = [m.replace(microsecond=0) for m in moments]
    texts = pa.chunked_array([pa.array([m.strftime(FORMS[0]) for m in sharp])])
    found = to_us(texts, TimeFormat(column="t", format=FORMS[0], zone=zone.key)).to_pylist()
    for moment, us in zip(sharp, found, strict=True):
        both = {int(moment.replace(tzinfo=zone, fold=fold).timestamp() * 1e6) for fold in (0, 1)}
        exists = datetime.fromtimestamp(max(both) / 1e6, zone).replace(tzinfo=None) == moment
        assert us in both if exists or len(both) == 1 else us is None

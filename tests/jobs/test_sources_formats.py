"""CSV, JSON and Parquet as chunks of raw rows: nothing good is lost to what is wrong beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.sources import csv, jsonl, parquet
from jobs.sources.raw import Chunk, Chunks, Wanted
from jobs.sources.values import split_tags
from models.quality import scale_of
from models.source import CsvFormat, MachineFrom, SensorColumn

WANTED: Wanted = {"m": "text", "x": "number"}


def rows(chunks: Chunks) -> tuple[list[tuple[object, ...]], list[tuple[int | None, str]], list[Chunk]]:
    kept = list(chunks)
    found = [tuple(row.get(n) for n in ("m", "x")) for chunk in kept for row in chunk.table.to_pylist()]
    return found, [(w.line, w.reason.value) for chunk in kept for w in chunk.wrong], kept


def of_text(tmp_path: Path, text: str | bytes, **form: object):  # type: ignore[no-untyped-def]
    path = tmp_path / "f.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return rows(csv.chunks(path, CsvFormat(**form), WANTED))  # type: ignore[arg-type]


def test_comments_skipped_rows_units_and_a_decimal_comma(tmp_path: Path) -> None:
    text = "# made by hand\n# twice\nexport 7\nm;x\n-;bar\nA;1,5\n\nB;2\n"
    found, wrong, chunks = of_text(
        tmp_path, text, delimiter=";", decimal=",", comment="#", skip_rows=1, skip_after_header=1
    )
    assert found == [("A", 1.5), ("B", 2.0)]
    assert not wrong
    assert chunks[0].locate([0, 1]) == [(6, "A;1,5"), (8, "B;2")]


def test_a_table_without_header_in_runs_of_blanks(tmp_path: Path) -> None:
    found, wrong, chunks = of_text(tmp_path, "A  1.5 \n B 2\n", delimiter="whitespace", columns=("m", "x"))
    assert found == [("A", 1.5), ("B", 2.0)]
    assert not wrong
    assert [line for line, _ in chunks[0].locate([0, 1])] == [1, 2]


def test_a_bad_number_is_told_by_its_row_beside_numbers_that_are_read(tmp_path: Path) -> None:
    found, _, chunks = of_text(tmp_path, "m,x\nA,1\nB,n/a?\nC,3,4\nD,5\n")
    assert found == [("A", 1.0), ("B", None), ("D", 5.0)]
    assert chunks[0].texts == {"x": {1: "n/a?"}}
    assert chunks[0].locate([1, 2]) == [(3, "B,n/a?"), (5, "D,5")]
    assert [(w.line, w.reason, w.raw) for w in chunks[0].wrong] == [(4, "wrong_number_of_columns", "C,3,4")]


def test_a_quote_that_never_closes_costs_its_own_line(tmp_path: Path) -> None:
    found, wrong, _ = of_text(tmp_path, 'm,x\nA,1\n"B,2\nC,3\n"D\nE",4\n')
    assert ("A", 1.0) in found
    assert ("C", 3.0) in found
    assert (3, "wrong_number_of_columns") in wrong


def test_a_quoted_field_may_span_lines(tmp_path: Path) -> None:
    found, _, chunks = of_text(tmp_path, 'm,x\n"A\nB",1\nC,2\n')
    assert found == [("A\nB", 1.0), ("C", 2.0)]
    assert [line for line, _ in chunks[0].locate([0, 1])] == [2, 4]


def test_lines_that_are_no_utf_8_or_hold_nul_are_told(tmp_path: Path) -> None:
    found, wrong, _ = of_text(tmp_path, b"m,x\nA,1\n\xff,2\nB\0,3\nC,4\n")
    assert found == [("A", 1.0), ("C", 4.0)]
    assert wrong == [(3, "bad_encoding"), (4, "bad_encoding")]


def test_columns_of_one_name_are_numbered_and_nameless_ones_placed(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x, x,,y\n1,2,3,4\n")
    assert csv.header(tmp_path / "f", CsvFormat()) == ["x", "x_2", "column_3", "y"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["A", "B b", "C"]), st.floats(-1e6, 1e6, allow_nan=False)), max_size=20))
def test_what_is_written_as_csv_or_json_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("back")
    (folder / "f.csv").write_text("m,x\n" + "".join(f"{m},{x!r}\n" for m, x in written))
    (folder / "f.jsonl").write_text("".join(json.dumps({"m": m, "x": x}) + "\n" for m, x in written))
    (folder / "f.json").write_text(json.dumps([{"m": m, "x": x} for m, x in written]))
    assert rows(csv.chunks(folder / "f.csv", CsvFormat(), WANTED))[0] == written
    assert rows(jsonl.chunks(folder / "f.jsonl", WANTED))[0] == written
    assert rows(jsonl.chunks(folder / "f.json", WANTED, array=True))[0] == written


def test_bad_json_lines_are_told_and_their_neighbours_kept(tmp_path: Path) -> None:
    lines = [json.dumps({"m": f"M{i}", "x": i, "other": [1, {"a": 2}]}) for i in range(20_000)]
    lines[7], lines[15_000], lines[19_000] = "{", '{"m": "T", "x": "text"}', '{"m": 5, "x": NaN}'
    (tmp_path / "f").write_text("\n".join(lines) + "\n")
    found, wrong, chunks = rows(jsonl.chunks(tmp_path / "f", WANTED))
    assert len(found) == 19_999
    assert wrong == [(8, "bad_json")]
    assert sum(chunk.table.num_rows for chunk in chunks) == 19_999
    place = 0
    for chunk in chunks:
        for index, row in enumerate(chunk.table.to_pylist()):
            if row["m"] in ("T", "M19999"):
                assert chunk.locate([index])[0][0] == {"T": 15_001, "M19999": 20_000}[row["m"]]
            place += 1


def test_what_is_no_json_array_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"m": 1}')
    assert rows(jsonl.chunks(tmp_path / "f", WANTED, array=True))[:2] == ([], [(None, "bad_json")])


def test_a_damaged_parquet_gives_what_comes_before_the_damage(tmp_path: Path) -> None:
    table = pa.table({"m": pa.array(["A"] * 1000).dictionary_encode(), "x": np.arange(1000.0)})
    pq.write_table(table, tmp_path / "f", row_group_size=100, compression="none", use_dictionary=["m"])
    assert len(rows(parquet.chunks(tmp_path / "f", WANTED))[0]) == 1000
    (tmp_path / "g").write_bytes((tmp_path / "f").read_bytes()[:-9])
    found, wrong, _ = rows(parquet.chunks(tmp_path / "g", WANTED))
    assert (found, wrong) == ([], [(None, "unreadable_file")])


def test_conversion_is_a_factor_and_an_offset() -> None:
    scale = scale_of(SensorColumn(sensor="t", kind="temperature", unit="degF", high=100.0))
    assert 212 * scale.factor + scale.offset == pytest.approx(100.0)
    assert scale.high == 100.0


def test_tags_split_into_machine_and_sensor() -> None:
    machine = MachineFrom(kind="tag", pattern=r"^(?P<machine>\w+)/(?P<sensor>.+)$", prefix="L1-")
    assert split_tags(["A/temp", "nothing"], machine) == (["L1-A", None], ["temp", "nothing"])

"""Damaged and strange files: every good row is read, every bad one is in quarantine with its line and reason."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import resource
import tempfile
import time
import tracemalloc
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.sources import archive, reading, readings, text
from jobs.sources.decoded import bytes_of
from models.source import Stream

HEAD = "t,m,x\n"
ROWS = "2025-01-01T00:00:00Z,A,1\n2025-01-01T01:00:00Z,A,2\n2025-01-01T02:00:00Z,B,3\n"
ALL = [1.0, 2.0, 3.0]
Told = list[tuple[int | None, str]]


@dataclass(frozen=True)
class Case:
    name: str
    data: bytes
    good: list[float | None]
    told: Told
    changes: dict[str, object] = field(default_factory=dict)
    file: str = "f.csv"


def stream(**changes: object) -> Stream:
    base: dict[str, object] = {
        "name": "s", "role": "readings", "files": "*", "time": {"column": "t"}, "machine": {"column": "m"},
        "sensors": {"x": {"sensor": "x"}},
    }  # fmt: skip
    return Stream.model_validate(base | changes)


def read(path: Path, described: Stream) -> tuple[list[float | None], Told]:
    """Values of ``x`` in the file's order, and line and reason of what is wrong."""
    good: list[float | None] = []
    told: Told = []
    for chunk in reading.chunks(path, described):
        found = readings.canonical(chunk, described, path.name, now_us=1_780_000_000_000_000)
        good += found.table["x"].to_pylist() if "x" in found.table.column_names else []
        told += [(entry.line, entry.reason.value) for entry in found.wrong]
        assert all("\0" not in entry.raw + entry.detail for entry in found.wrong)
    return good, told


def row(hour: int, value: str, machine: str = "A") -> str:
    return f"2025-01-01T{hour:02d}:00:00Z,{machine},{value}\n"


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return out.getvalue()


def encrypted() -> bytes:
    """An archive whose headers say that its member is encrypted."""
    data = bytearray(zipped({"a.csv": (HEAD + ROWS).encode()}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    return bytes(data)


def parquet(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


TABLE = pa.table({"t": ["2025-01-01T00:00:00Z"] * 3, "m": ["A", "A", "B"], "x": ALL})
WHOLE = (HEAD + ROWS).encode()
JSON_ROWS = [{"t": f"2025-01-01T0{i}:00:00Z", "m": "A", "x": float(i + 1)} for i in range(3)]
LINES = "".join(json.dumps(r) + "\n" for r in JSON_ROWS)
PACKED = gzip.compress(WHOLE + b"".join(row(3, f"{i}.5").encode() for i in range(30_000)))
NOISE = (
    np.random.default_rng(7)
    .integers(0, 256, 5_000, dtype=np.uint8)
    .tobytes()
    .translate(bytes.maketrans(b"\r\n", b"\0\0"))
)

CASES = [
    Case("zero bytes", b"", [], [(None, "empty_file")]),
    Case("only a header", HEAD.encode(), [], []),
    Case("only blank lines", b"\n\n\n", [], [(None, "empty_file")]),
    Case("no line end at the end", WHOLE.rstrip(), ALL, []),
    Case("a gzip that is text", WHOLE, ALL, [], file="f.csv.gz"),
    Case("a text that is gzip", gzip.compress(WHOLE), ALL, []),
    Case("a csv that is Parquet", parquet(TABLE), [], [(None, "unreadable_file")]),
    Case("a csv that is a zip", zipped({"a.csv": WHOLE}), [], [(1, "unreadable_file")]),
    Case("an empty zip", zipped({}), [], [(1, "unreadable_file")]),
    Case("a Parquet that is HTML", b"<html>502</html>\n", [], [(None, "unreadable_file")], {"format": "parquet"}),
    Case("random bytes", NOISE, [], [(1, "missing_column")]),
    Case("random bytes for JSON", NOISE, [], [(1, "bad_encoding")], {"format": "jsonl"}),
    Case("random bytes for Parquet", NOISE, [], [(None, "unreadable_file")], {"format": "parquet"}),
    Case("cut in a row", WHOLE[:-8], [1.0, 2.0], [(4, "wrong_number_of_columns")]),
    Case("a gzip cut at its first bytes", gzip.compress(WHOLE)[:9], [], [(1, "truncated_file")]),
    Case("a line of 10 MB", (HEAD + row(0, "1") + row(1, "9" * (10 << 20)) + row(2, "3")).encode(), [1.0, 3.0],
         [(3, "line_too_long")]),
    Case("a NUL", (HEAD + row(0, "1") + row(1, "2\0") + row(2, "3")).encode(), [1.0, 3.0], [(3, "bad_encoding")]),
    Case("a hole of zeros", WHOLE + b"\0" * 100_000 + b"\n" + row(3, "4").encode(), [*ALL, 4.0],
         [(5, "bad_encoding")]),
    Case("UTF-16 with a mark", (HEAD + ROWS).encode("utf-16"), ALL, []),
    Case("UTF-16 without a mark", (HEAD + ROWS).encode("utf-16-le"), ALL, []),
    Case("UTF-16, the other way round", (HEAD + ROWS).encode("utf-16-be"), ALL, []),
    Case("latin-1 in UTF-8", HEAD.encode() + row(0, "1").encode() + row(1, "2", "Ä").encode("latin-1")
         + row(2, "3").encode(), [1.0, 3.0], [(3, "bad_encoding")]),
    Case("a byte that cp1252 lacks", HEAD.encode() + row(0, "1").encode() + b"2025-01-01T01:00:00Z,\x81,2\n"
         + row(2, "3").encode(), [1.0, 3.0], [(3, "bad_encoding")], {"csv": {"encoding": "cp1252"}}),
    Case("mixed line ends", (HEAD + row(0, "1").replace("\n", "\r\n") + row(1, "2").replace("\n", "\r") + row(2, "3")
         ).encode(), ALL, []),
    Case("a quote that never closes", (HEAD + row(0, "1") + row(1, '"2') + row(2, "3")).encode(), [1.0, 3.0],
         [(3, "wrong_number_of_columns")]),
    Case("lines in quotes", (HEAD + '2025-01-01T00:00:00Z,"A\nA",1\n' + row(1, "x") + row(2, "3")).encode(),
         [1.0, 3.0], [(4, "bad_number")]),
    Case("quotes that mean nothing", (HEAD + row(0, "1", '"A') + row(1, "2", 'B"')).encode(), [1.0, 2.0], [],
         {"csv": {"quote": ""}}),
    Case("single quotes", (HEAD + row(0, "'1'", "'A,B'") + row(1, "2")).encode(), [1.0, 2.0], [],
         {"csv": {"quote": "'"}}),
    Case("two headers of one name", f"t,m,x,x\n{ROWS.replace(chr(10), ',9' + chr(10))}".encode(), ALL, []),
    Case("ragged rows", (HEAD + row(0, "1") + "2025,A\n" + row(1, "2,3") + row(2, "3") + "\n\n" + row(3, "?")).encode(),
         [1.0, 3.0], [(3, "wrong_number_of_columns"), (4, "wrong_number_of_columns"), (8, "bad_number")]),
    Case("infinities", (HEAD + row(0, "inf") + row(1, "-Infinity") + row(2, "1e400") + row(3, "nan") + row(4, "5")
         ).encode(), [None, 5.0], [(2, "bad_number"), (3, "bad_number"), (4, "bad_number")]),
    Case("huge whole numbers", (HEAD + row(0, "1" + "0" * 400) + row(1, "123456789012345678901234567890")).encode(),
         [], [(2, "bad_number"), (3, "out_of_range")]),
    Case("blanks around numbers", (HEAD + row(0, " 1 ") + row(1, " ") + row(2, " -- ")).encode(), [1.0, None],
         [(4, "bad_number")]),
    Case("thousands", (HEAD + row(0, "1.234,5") + row(1, "12.34") + row(2, "7")).replace(",", ";")
         .replace("1.234;5", "1.234,5").encode(), [1234.5, 7.0], [(3, "bad_number")],
         {"csv": {"delimiter": ";", "decimal": ",", "thousands": "."}}),
    Case("fixed widths", b"t                   m  x\n2025-01-01T00:00:00ZA  1.5\n\n2025-01-01T01:00:00ZB  ??\n"
         b"2025-01-01T02:00:00ZB\n", [1.5, None], [(4, "bad_number")],
         {"csv": {"delimiter": "fixed", "widths": [20, 3, 5]}}),
    Case("states", (HEAD + row(0, "RUN") + row(1, "STOP") + row(2, "7") + row(3, "")).encode(), [1.0, 0.0, None],
         [(4, "bad_number")], {"sensors": {"x": {"sensor": "x", "states": {"RUN": 1, "STOP": 0}}}}),
    Case("rows of another stream", (HEAD + row(0, "1", "A") + row(1, "?", "B") + row(2, "?", "A")).encode(), [1.0],
         [(4, "bad_number")], {"where": {"m": ["A"]}}),
    Case("a date of its own", b"d,t,m,x\n2025-01-01,00:00:00,A,1\n2025-02-30,01:00:00,A,2\n,01:00:00,A,2\n", [1.0],
         [(3, "bad_time"), (4, "bad_time")], {"time": {"column": "t", "date_column": "d"}}),
    Case("JSON lines, some cut off", (LINES + '{"t": "2025\n[1]\n"x"\n' + LINES).encode(), ALL * 2,
         [(4, "bad_json"), (5, "bad_json"), (6, "bad_json")], {"format": "jsonl"}),
    Case("texts for numbers in JSON", (LINES.replace("2.0", '"?"').replace("3.0", '"3"')).encode(), [1.0, 3.0],
         [(2, "bad_number")], {"format": "jsonl"}),
    Case("two objects on a line", (LINES + LINES.replace("\n", "", 1)).encode(), [*ALL, 3.0], [(4, "bad_json")],
         {"format": "jsonl"}),
    Case("deep JSON", (LINES + '{"x": ' + "[" * 200_000 + "]" * 200_000 + "}\n" + LINES).encode(), ALL * 2,
         [(4, "bad_json")], {"format": "jsonl"}),
    Case("infinite JSON", LINES.replace("2.0", "Infinity").replace("3.0", "NaN").encode(), [1.0, None],
         [(2, "bad_number")], {"format": "jsonl"}),
    Case("half a character in JSON", LINES.replace('"A", "x": 2.0', '"\\ud800", "x": 2.0').encode(), [1.0, 3.0],
         [(2, "bad_json")], {"format": "jsonl"}),
    Case("keys in objects", "".join(json.dumps({"t": r["t"], "m": "A", "v": {"x": r["x"]}}) + "\n" for r in JSON_ROWS)
         .replace("2.0", '"?"').encode(), [1.0, 3.0], [(2, "bad_number")],
         {"format": "jsonl", "sensors": {"v.x": {"sensor": "x"}}}),
    Case("an array with strange elements", json.dumps([*JSON_ROWS, 5, "a,[", None, {"x": "?", "t": "2025-01-01",
         "m": '"\\],'}], indent=1).encode(), ALL,
         [(4, "bad_json"), (5, "bad_json"), (6, "bad_json"), (7, "bad_number")], {"format": "json"}),
    Case("an array that is cut off", json.dumps(JSON_ROWS).encode()[:-20], [1.0, 2.0], [(3, "truncated_file")],
         {"format": "json"}),
    Case("an array without its bracket", json.dumps(JSON_ROWS).encode()[:-1], ALL, [(4, "truncated_file")],
         {"format": "json"}),
    Case("text behind an array", json.dumps(JSON_ROWS).encode() + b"[]", ALL, [(4, "bad_json")], {"format": "json"}),
    Case("an empty array", b" [ ] ", [], [(None, "empty_file")], {"format": "json"}),
    Case("a Parquet that is cut off", parquet(TABLE)[:-20], [], [(None, "unreadable_file")], {"format": "parquet"}),
    Case("infinities in Parquet", parquet(TABLE.set_column(2, "x", pa.array([1.0, np.inf, np.nan]))), [1.0, None],
         [(2, "bad_number")], {"format": "parquet"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_good_is_read_and_what_is_bad_is_told_by_its_line(case: Case, tmp_path: Path) -> None:
    (tmp_path / case.file).write_bytes(case.data)
    assert read(tmp_path / case.file, stream(**case.changes)) == (case.good, case.told)


def test_an_archive_that_is_cut_off_gives_its_whole_rows(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes(PACKED[: len(PACKED) // 2])
    good, told = read(tmp_path / "f.csv", stream())
    assert len(good) > 1000
    assert good[3:] == [i + 0.5 for i in range(len(good) - 3)]
    assert told[-1] == (len(good) + 2, "truncated_file")


BOMBS = {"gzip": gzip.GzipFile, "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}


@pytest.mark.parametrize(("pack", "fill"), [("gzip", b"\0"), ("gzip", b"\n"), ("bzip2", b"\0"), ("xz", b"\0")])
def test_a_bomb_ends_early_in_bounded_memory(pack: str, fill: bytes, tmp_path: Path) -> None:
    with BOMBS[pack](tmp_path / "f.csv", "wb") as file:
        file.write(WHOLE)
        for _ in range(20):
            file.write(fill * (16 << 20))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    good, told = read(tmp_path / "f.csv", stream())
    assert good == ALL
    assert told[-1][1] == "line_too_long"
    assert time.process_time() - started < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_file_of_wrong_lines_alone_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_LOST", 100_000)
    (tmp_path / "f.csv").write_text(HEAD + "1\n" * 2_000_000)
    tracemalloc.start()
    lines = 0
    for chunk in reading.chunks(tmp_path / "f.csv", stream()):
        lines += len(chunk.wrong)
        last = chunk.wrong[-1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100_000 < lines < 300_000
    assert (last.scope, last.detail) == ("file", "over 100000 lines are wrong, more than are good: not read further")
    assert peak < 200 << 20


def test_members_of_an_archive_are_read_where_they_lie(tmp_path: Path) -> None:
    names = ["b/a.csv", "a.csv", "../up.csv", "/abs.csv", "C:/x.csv", ".hidden/a.csv", "b/.a.csv", "c.txt", "b/"]
    (tmp_path / "e.zip").write_bytes(zipped({name: WHOLE if name != "c.txt" else b"" for name in names}))
    assert archive.members(tmp_path / "e.zip", "*.csv") == ["a.csv", "b/a.csv"]
    assert archive.members(tmp_path / "e.zip") == ["a.csv", "b/a.csv", "c.txt"]
    path = Path(f"{tmp_path}/e.zip!/b/a.csv")
    assert archive.split(path) == (tmp_path / "e.zip", "b/a.csv")
    assert read(path, stream()) == (ALL, [])
    assert reading.header(path, stream()) == ["t", "m", "x"]
    assert not text.splittable(path, stream())
    assert archive.split(Path(f"{tmp_path}/none.zip!/b/a.csv")) == (Path(f"{tmp_path}/none.zip!/b/a.csv"), None)


@pytest.mark.parametrize(
    ("data", "member", "told"),
    [
        (encrypted(), "a.csv", [(1, "unreadable_file")]),
        (zipped({"a.csv": WHOLE})[:-30], "a.csv", [(1, "unreadable_file")]),
        (zipped({"a.csv": WHOLE}), "b.csv", [(1, "unreadable_file")]),
        (zipped({"a.csv": b""}), "a.csv", [(None, "empty_file")]),
    ],
    ids=["encrypted", "cut off", "not there", "empty"],
)
def test_a_member_that_cannot_be_read_is_told(data: bytes, member: str, told: Told, tmp_path: Path) -> None:
    (tmp_path / "e.zip").write_bytes(data)
    assert read(Path(f"{tmp_path}/e.zip!/{member}"), stream()) == ([], told)


def test_a_member_that_is_packed_again_or_damaged_or_parquet(tmp_path: Path) -> None:
    plain = zipped({"a.csv.gz": gzip.compress(WHOLE), "p": parquet(TABLE), "s.csv": WHOLE}, zipfile.ZIP_STORED)
    damaged = plain.replace(b"A,2\n", b"A,7\n")  # its checksum no longer fits
    (tmp_path / "e.zip").write_bytes(damaged)
    assert read(Path(f"{tmp_path}/e.zip!/a.csv.gz"), stream()) == (ALL, [])
    assert read(Path(f"{tmp_path}/e.zip!/p"), stream(format="parquet")) == (ALL, [])
    good, told = read(Path(f"{tmp_path}/e.zip!/s.csv"), stream())
    assert (good, [reason for _, reason in told]) == ([], ["unreadable_file"])


def test_a_parquet_that_claims_more_than_it_holds_takes_no_memory_for_it(tmp_path: Path) -> None:
    codes = pa.array(np.zeros(400_000, np.int32))
    columns = {"t": pa.DictionaryArray.from_arrays(codes, ["2025-01-01"]), "x": np.ones(400_000)}
    columns["m"] = pa.DictionaryArray.from_arrays(codes, ["x" * 100_000])
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    (chunk, *_) = reading.chunks(tmp_path / "f.parquet", stream(format="parquet"))
    assert chunk.table.nbytes < 64 << 20  # the text as it is would be 26 GB


def test_an_array_of_any_size_is_read_in_bounded_memory() -> None:
    element = b'{"t": "2025-01-01T00:00:00Z", "m": "A", "x": 1.5},\n'
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"[" + element * 200_000 + element[:-2] + b"]")
        file.flush()
        tracemalloc.start()
        number = 0
        for chunk in reading.chunks(Path(file.name), stream(format="json")):
            number += chunk.table.num_rows
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert number == 200_001
    assert peak < 100 << 20


def test_bytes_of_a_file_that_unpacks_without_end_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.sources.decoded._MOST_UNPACKED", 1 << 20)
    with lzma.open(tmp_path / "f", "wb") as file:
        file.write(row(0, "1").encode() * 400_000)
    *_, last = bytes_of(tmp_path / "f")
    assert not isinstance(last, bytes)
    assert (last.reason, last.detail) == ("unreadable_file", "unpacks to over 1000 times its size")

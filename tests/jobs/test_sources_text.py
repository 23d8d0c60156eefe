"""Files as blocks of whole lines, whatever packs or damages them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.sources.raw import Wrong
from jobs.sources.text import blocks

LINES = b"".join(b"line %d of some text\n" % i for i in range(200_000))


def joined(path: Path, **options: object) -> tuple[bytes, list[Wrong]]:
    found = list(blocks(path, **options))  # type: ignore[arg-type]
    return b"".join(block.data for block in found), [wrong for block in found for wrong in block.wrong]


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACKERS = [bytes, gzip.compress, bz2.compress, lambda data: lzma.compress(data, preset=0), zstd]


@pytest.mark.parametrize("pack", PACKERS, ids=["plain", "gzip", "bzip2", "xz", "zstd"])
def test_every_packing_gives_the_same_lines(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "f").write_bytes(pack(LINES))
    assert joined(tmp_path / "f", size=1 << 20) == (LINES, [])


@pytest.mark.parametrize("pack", PACKERS[1:], ids=["gzip", "bzip2", "xz", "zstd"])
def test_a_cut_off_archive_gives_its_whole_lines_and_says_where_it_ends(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    packed = pack(LINES)
    (tmp_path / "f").write_bytes(packed[: len(packed) * 2 // 3])
    data, wrong = joined(tmp_path / "f")
    assert LINES.startswith(data)
    assert data.endswith(b"\n")
    assert len(data) > len(LINES) // 4
    assert [entry.reason for entry in wrong][-1:] == ["truncated_file"]
    assert wrong[-1].scope == "file"
    assert wrong[-1].line == data.count(b"\n") + 1


def test_members_of_one_gzip_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\n"))
    assert joined(tmp_path / "f") == (b"a\nb\n", [])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\r\nb\rc", b"a\nb\nc\n"),
        (b"\xef\xbb\xbfa", b"a\n"),
        ("ä\r\nb".encode("utf-16"), "ä\nb\n".encode()),
        (b"", b""),
    ],
)
def test_line_ends_marks_and_encodings_become_utf_8_lines(tmp_path: Path, data: bytes, expected: bytes) -> None:
    (tmp_path / "f").write_bytes(data)
    assert joined(tmp_path / "f")[0] == expected


def test_an_endless_line_is_told_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a\n" + b"x" * (3 << 20) + b"\nb\n")
    data, wrong = joined(tmp_path / "f", size=1 << 16)
    assert data == b"a\nb\n"
    assert [(w.reason, w.line) for w in wrong] == [("line_too_long", 2)]


def test_a_declared_encoding_that_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes("ä\n".encode("latin-1"))
    assert joined(tmp_path / "f", encoding="latin-1") == ("ä\n".encode(), [])
    assert joined(tmp_path / "f", encoding="utf-16")[1][0].reason == "bad_encoding"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=30),
    st.integers(8, 64),
)
def test_no_line_is_lost_or_torn_at_a_block_s_end(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "f"
    path.write_bytes(b"start\n" + b"".join(line + b"\n" for line in lines))
    found = list(blocks(path, size=64 + size))
    assert b"".join(block.data for block in found) == path.read_bytes()
    line = 1
    for block in found:
        assert block.first_line == line
        line += block.data.count(b"\n")

"""The spool: numbered without a gap, whatever power loss cuts short; never larger than what waits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.following.spool import Record, Spool, read, segments
from models.errors import MillwrightError


def record(number: int, size: int = 10) -> Record:
    return Record("line", f"t/{number}", bytes([number % 256]) * size, number)


def numbers(folder: Path, first: int = 0, at: tuple[int, int] | None = None) -> list[int]:
    return [placed.record.received_us for placed in read(folder, first, at)]


@given(
    st.text(max_size=20), st.binary(max_size=50), st.integers(-1, 2**40), st.integers(-1, 1000),
    st.none() | st.binary(max_size=9),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_a_record_comes_back_as_it_went(
    topic: str, body: bytes, offset: int, partition: int, key: bytes | None
) -> None:
    own = Record("s", topic, body, 5, offset=offset, partition=partition, key=key)
    assert Record.unpacked(own.packed()) == own


def test_what_was_cut_short_is_dropped_and_its_number_given_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=1 << 20)
    spool.append([record(number) for number in range(5)])
    spool.close()
    (path,) = segments(tmp_path)
    whole = path.read_bytes()
    for cut in (1, 20, 40):
        path.write_bytes(whole[:-cut])
        again = Spool(tmp_path, most_bytes=1 << 20)
        assert again.next == 4
        assert again.append([record(77)]) == 5
        again.close()
        assert numbers(tmp_path) == [0, 1, 2, 3, 77]
        path.write_bytes(whole)


def test_segments_go_when_all_of_their_records_are_done_and_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=4000)  # segments of 1000 bytes
    for number in range(100):
        spool.append([record(number, 100)])
    assert spool.is_full
    place = next(placed for placed in read(tmp_path, 50))
    spool.drop(50)
    assert numbers(tmp_path, 50, (place.segment, place.byte)) == list(range(50, 100))
    spool.drop(100)
    assert not spool.is_full
    assert numbers(tmp_path, 100) == []
    spool.append([record(100)])
    spool.close()
    assert numbers(tmp_path, 100) == [100]
    assert Spool(tmp_path, most_bytes=4000).next == 101


def test_a_spool_whose_folder_was_emptied_goes_on_behind_what_history_has(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=4000, start=17)
    assert spool.append([record(3)]) == 18
    spool.close()
    assert numbers(tmp_path, 17) == [3]


def test_damage_before_the_newest_records_is_told_and_not_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=4000)
    for number in range(40):
        spool.append([record(number, 100)])
    spool.close()
    first = segments(tmp_path)[0]
    data = bytearray(first.read_bytes())
    data[300] ^= 1
    first.write_bytes(data)
    with pytest.raises(MillwrightError, match=r"Damaged spool of live messages: expected message 2 "):
        numbers(tmp_path)
    first.unlink()
    with pytest.raises(MillwrightError, match="Damaged spool"):
        numbers(tmp_path)

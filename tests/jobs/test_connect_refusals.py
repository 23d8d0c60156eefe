"""What `connect` refuses, in which words, and that a refusal leaves what was there alone."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.connect import ConnectReport, run
from models.errors import InputError, NotFoundError
from tests.jobs.connect_plants import zipped

GOOD = "time,machine,power_kW\n2025-01-01T00:00:00Z,M1,1.5\n2025-01-01T01:00:00Z,M1,1.5\n"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def connect(home: Home, path: Path, *assignments: str, plant: str = "alpha", force: bool = False) -> ConnectReport:
    answered = open_home(home.path, environment={}, assignments=assignments)
    return run(answered, path=path, plant=plant, force=force, progress=Silent())


def slashed(raw: Path, *days: str) -> None:
    rows = "".join(f"{day} 0{i % 10}:00,M1,1.5\n" for i, day in enumerate(days))
    (raw / "readings.csv").write_text("time,machine,power_kW\n" + rows)


def test_a_missing_path_is_not_found(home: Home, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"No such path: expected a folder, a file or a glob, found nothing \(in"):
        connect(home, tmp_path / "gone")
    with pytest.raises(NotFoundError, match="No such files"):
        connect(home, tmp_path / "gone" / "*.csv")
    (tmp_path / "a.zip").write_bytes(zipped(a_csv=GOOD))
    with pytest.raises(NotFoundError, match=r"No such member: .* found 'b\*.csv' \(in .*a.zip\)"):
        connect(home, tmp_path / "a.zip!" / "b*.csv")


def test_an_empty_folder_is_refused_hidden_files_do_not_count(home: Home, raw: Path) -> None:
    (raw / ".truth").mkdir()
    (raw / ".truth" / "a.csv").write_text(GOOD)
    with pytest.raises(InputError, match="An empty folder: expected a plant's raw files, found no file"):
        connect(home, raw)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", b"", "a.csv: empty"),
        ("a.csv", b"# only a comment\n", "a.csv: no row but comments"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00broken", "a.csv.gz: a compressed file without readable content"),
        ("a.parquet", b"PAR1 and no more", "a.parquet: .*parquet"),
        ("a.dat", b"\x00\x01\x02\x00\x07\x00" * 50, "a.dat: binary, not a text table"),
        ("a.xlsx", b"PK\x03\x04rest", "a.xlsx: a broken or empty zip archive, or a workbook; export it as CSV"),
        ("a.zip", b"PK\x03\x04rest", "a.zip: a broken or empty zip archive"),
        ("a.xlsx", zipped(xl__workbook="<xml/>"), "a.xlsx: an Excel workbook; export it as CSV"),
        ("a.dat", zipped(a_csv=GOOD), "a.dat: a zip archive; name it .zip"),
        ("a.zip", zipped(inner="PK\x03\x04"), "a.zip!/inner: an archive within an archive; unpack it"),
        ("a.zip", zipped(a_csv=GOOD)[:60], "a.zip: a broken or empty zip archive"),
        ("a.csv", b"x" * 400_000, "a.csv: no line break in the first 262,144 bytes"),
        ("a.json", b"[1, 2, 3]", "a.json: a JSON array without an object"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    home: Home, raw: Path, name: str, data: bytes, reason: str
) -> None:
    (raw / name).write_bytes(data)
    for path in (raw, raw / name):
        with pytest.raises(InputError, match=f"No file can be read: expected CSV.* found {reason}") as error:
            connect(home, path)
        assert error.value.exit_code == 2
    assert home.plants() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(home: Home, raw: Path) -> None:
    (raw / "a.csv").write_text(GOOD)
    (raw / "a.csv").chmod(0)
    with pytest.raises(InputError, match=r"No file can be read.*a.csv: permission denied"):
        connect(home, raw)


def test_a_plant_without_readings_is_refused_with_what_was_seen(home: Home, raw: Path) -> None:
    (raw / "failures.csv").write_text("machine,failure_mode,started_at\nM1,wear,2025-01-01T00:00:00Z\n")
    with pytest.raises(InputError, match=r"No readings found: .*found failures.csv \(machine, failure_mode, started"):
        connect(home, raw)
    assert home.plants() == []


def test_an_open_order_of_day_and_month_is_refused_until_answered(home: Home, raw: Path) -> None:
    slashed(raw, "01/02/2025", "02/02/2025", "03/02/2025")
    with pytest.raises(InputError, match="The order of day and month is ambiguous") as error:
        connect(home, raw)
    assert error.value.exit_code == 2
    assert "'01/02/2025 00:00' in column 'time' of readings.csv" in str(error.value)
    assert "--set time.dayfirst=true" in str(error.value)
    assert home.plants() == []
    connect(home, raw, "time.dayfirst=true")
    assert home.source("alpha").streams[0].time.format == "%d/%m/%Y %H:%M"  # type: ignore[union-attr]
    connect(home, raw, "time.dayfirst=false")
    assert home.source("alpha").streams[0].time.format == "%m/%d/%Y %H:%M"  # type: ignore[union-attr]


def test_both_orders_in_one_column_are_refused(home: Home, raw: Path) -> None:
    slashed(raw, "13/02/2025", "02/14/2025")
    with pytest.raises(InputError, match=r"both orders, '13/02/2025 00:00' and '02/14/2025 01:00' in column 'time'"):
        connect(home, raw)


def test_an_open_order_of_day_and_month_is_refused_in_a_column_of_dates_too(home: Home, raw: Path) -> None:
    (raw / "r.csv").write_text("date,time,machine,temp_C\n01/02/2025,10:00,A1,1.5\n02/02/2025,11:00,A1,1.5\n")
    with pytest.raises(InputError, match=r"ambiguous: .* found '01/02/2025 10:00' in column 'time' of r.csv"):
        connect(home, raw)
    connect(home, raw, "time.dayfirst=true")
    time = home.source("alpha").streams[0].time
    assert time is not None
    assert (time.date_column, time.column, time.format) == ("date", "time", "%d/%m/%Y %H:%M")


def test_proof_in_the_values_beats_the_setting(home: Home, raw: Path) -> None:
    slashed(raw, "13/02/2025", "14/02/2025")
    connect(home, raw, "time.dayfirst=false")
    assert home.source("alpha").streams[0].time.format == "%d/%m/%Y %H:%M"  # type: ignore[union-attr]


def test_an_unknown_zone_in_the_settings_is_refused(home: Home, raw: Path) -> None:
    (raw / "r.csv").write_text(GOOD)
    with pytest.raises(InputError, match=r"Wrong setting 'time.zone': expected an IANA name .* found 'Mars/Base'"):
        connect(home, raw, "time.zone=Mars/Base")


def test_a_plants_name_must_be_safe(home: Home, raw: Path) -> None:
    (raw / "r.csv").write_text(GOOD)
    with pytest.raises(InputError, match="Not a plant name"):
        connect(home, raw, plant="../alpha")


def test_a_description_edited_by_hand_is_kept_unless_forced(home: Home, raw: Path) -> None:
    (raw / "r.csv").write_text(GOOD)
    path = Path(connect(home, raw).path)
    connect(home, raw)  # our own text may be replaced
    edited = path.read_text().replace('kind = "power"', 'kind = "number"')
    path.write_text(edited)
    with pytest.raises(InputError, match="The source description was edited by hand") as error:
        connect(home, raw)
    assert "--force" in str(error.value)
    assert path.read_text() == edited
    connect(home, raw, force=True)
    assert 'kind = "power"' in path.read_text()


def test_a_plant_stays_with_its_folder_unless_forced(home: Home, raw: Path, tmp_path: Path) -> None:
    (raw / "r.csv").write_text(GOOD)
    other = tmp_path / "other"
    other.mkdir()
    (other / "r.csv").write_text(GOOD)
    connect(home, raw)
    with pytest.raises(InputError, match=r"This plant is connected to another folder: expected .*raw, found .*other"):
        connect(home, other)
    connect(home, other, force=True)
    assert home.source("alpha").root == str(other)


def test_a_folder_that_cannot_be_written_says_so(home: Home, raw: Path) -> None:
    (raw / "r.csv").write_text(GOOD)
    home.sources.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="Cannot write the source description"):
        connect(home, raw)


def test_an_archive_that_unpacks_without_end_costs_a_sample_alone(home: Home, raw: Path) -> None:
    bomb = GOOD + "0" * 64_000_000
    (raw / "a.zip").write_bytes(zipped(bomb_csv=bomb, good_csv=GOOD))
    tracemalloc.start()
    report = connect(home, raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32_000_000
    assert {stream.role for stream in report.streams} == {"readings"}


def test_thousands_of_members_are_one_stream(home: Home, raw: Path) -> None:
    (raw / "a.zip").write_bytes(zipped(**{f"day_{day:04d}_csv": GOOD for day in range(2000)}))
    (stream,) = connect(home, raw).streams
    assert (stream.files, stream.num_files, stream.machines) == ("a.zip", 2000, 1)
    source = home.source("alpha").streams[0]
    assert (source.files, source.member) == ("a.zip", "day_*.csv")


def test_a_path_that_the_system_or_the_glob_refuses_is_told(home: Home, raw: Path) -> None:
    (raw / "a.csv").write_text(GOOD)
    with pytest.raises(InputError, match="Cannot look into it: expected a folder, a file or a glob, found File name"):
        connect(home, raw / ("x" * 300))
    with pytest.raises(InputError, match=r"Not a glob: expected a pattern such as .*, found .*x.: Invalid"):
        connect(home, raw / "**x")


def test_a_file_whose_name_is_no_text_is_left_out_and_told(home: Home, raw: Path) -> None:
    for name in (b"a1.csv", b"a2.csv", b"a3\xff.csv"):
        (raw / os.fsdecode(name)).write_text(GOOD)
    connect(home, raw)
    description = home.source("alpha")
    assert [stream.files for stream in description.streams] == ["a1.csv", "a2.csv"]  # a*.csv would name the third
    assert "a3\ufffd.csv (its name is not UTF-8; rename it)" in description.doubts["files"]
    away = raw / os.fsdecode(b"b\xff")
    away.mkdir()
    (away / "a.csv").write_text(GOOD)
    with pytest.raises(InputError, match="A folder whose name is not UTF-8"):
        connect(home, away, plant="beta")


def test_json_that_is_nested_without_end_is_a_broken_file(home: Home, raw: Path) -> None:
    (raw / "a.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"found a\.json: JSON that is nested too deeply"):
        connect(home, raw)


@pytest.mark.parametrize("folder", ["new!", "a.zip!", "deep!/er!"])
def test_a_folder_whose_name_ends_with_an_exclamation_mark_is_no_archive(home: Home, raw: Path, folder: str) -> None:
    (raw / folder).mkdir(parents=True)
    (raw / folder / "a.csv").write_text(GOOD)
    (raw / "b.zip").write_bytes(zipped(in__b_csv=GOOD.replace("power_kW", "flow_m3h")))
    connect(home, raw)
    own, packed = sorted(home.source("alpha").streams, key=lambda stream: stream.member or "")
    assert (own.files, own.member) == (folder.replace("!", "[#!]") + "/a.csv", None)
    assert [p.relative_to(raw).as_posix() for p in raw.glob(own.files)] == [f"{folder}/a.csv"]
    assert (packed.files, packed.member) == ("b.zip", "in/b.csv")
    for number, path in enumerate((raw / folder, raw / folder / "*.csv")):
        plant = f"beta{number}"
        connect(home, path, plant=plant)
        assert home.source(plant).root == str(raw / folder)

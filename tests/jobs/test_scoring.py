"""Batch scoring says what the service says, once, however often it is run or killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from cluster.commit import WrittenFile, commit_once, open_or_create, open_table, write_part
from cluster.home import Home
from cluster.manifest import Unit
from cluster.predictions import SCHEMA, JournalFiles, as_table, ids_among
from cluster.registry import standing_champion
from cluster.report import Silent
from jobs import score
from jobs.dataset import load_plant
from jobs.scoring.committing import commit_units, paced
from jobs.scoring.devices import answers_of, by_series
from jobs.scoring.rows import journal_rows, seen_rows
from models.bundle import Bundle, load_bundle
from models.predict import answer, degradation_codes, degradations, missing_share, window_digest, window_digests
from models.predictor import Predictor
from models.windows import MachineEvents, windows_ending
from tests.journal import journal_ids

pytestmark = pytest.mark.ray
PLANT = "harbor"


def bundle_of(home: Home, kind: str) -> Bundle:
    folders = (path.parent for path in home.of(PLANT).bundles.glob(f"{kind}-*/manifest.json"))
    return load_bundle(sorted(folders)[0])


def windows_of(home: Home, bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """Real windows, some with sensors that are gone, out of range, or with a short history."""
    series = load_plant(home, PLANT, config=bundle.spec.config).series["P-04"]
    ends = np.r_[series.lead : series.lead + 40, 500:560]
    windows = windows_ending(series.values, ends, bundle.spec.config.window.length)
    windows[3, :, 0], windows[5, -1, 1], windows[7, :, :], windows[9, :50, :] = np.nan, 1e6, np.nan, np.nan
    windows[11, -1, 2] = -1e6
    return windows, (series.first_tick + ends).astype(np.int64) * bundle.spec.config.clock.step_us


@pytest.mark.parametrize("kind", ["network", "trees"])
def test_rows_of_many_windows_are_those_of_each_answer(tuned: Any, kind: str) -> None:
    bundle = bundle_of(tuned.home, kind)
    spec = bundle.spec
    windows, times = windows_of(tuned.home, bundle)
    scored = Predictor(bundle).score(windows)
    rows = journal_rows(
        spec, scored, windows, plant=PLANT, machine="P-04", as_of_us=times, always=["doubt"], predicted_us=5
    )
    answers = [
        answer(
            spec, h, plant=PLANT, machine="P-04", as_of_us=at, data_until_us=at, digest=window_digest(w), modes_M=m,
            missing=float(missing_share(spec, w[None])[0]),
            degraded=[*degradations(spec, w), {"code": "doubt", "text": "?"}],
        )
        for h, m, w, at in zip(scored.hazard, scored.modes, windows, times.tolist(), strict=True)
    ]  # fmt: skip
    assert rows.equals(as_table(((PLANT, a, 5) for a in answers), source="score"))
    assert rows.schema.equals(SCHEMA)
    codes = degradation_codes(spec, windows)
    assert codes == [tuple(c["code"] for c in degradations(spec, w)) for w in windows]
    assert len(set(codes)) >= 5
    assert window_digests(windows) == [window_digest(w) for w in windows]


def test_one_pass_over_a_series_says_what_the_served_network_says_of_each_window(tuned: Any) -> None:
    bundle = bundle_of(tuned.home, "network")
    series = load_plant(tuned.home, PLANT, config=bundle.spec.config).series["P-04"]
    rows = seen_rows(series.values, series.lead, len(bundle.spec.channels) - 2)
    rows = rows[(rows < 300) | (rows > 900)]  # a gap, and more than one block
    at_once = by_series(bundle, "cpu")(series.values, rows)
    windows = windows_ending(series.values, rows, bundle.spec.config.window.length)
    served = Predictor(bundle).score(windows)
    np.testing.assert_allclose(at_once.hazard, served.hazard, atol=1e-6)
    np.testing.assert_allclose(at_once.modes, served.modes, atol=1e-5)
    by_torch = Predictor(bundle, device="cpu")  # as on a GPU
    np.testing.assert_allclose(by_torch.score(windows).hazard, served.hazard, atol=1e-6)
    assert by_torch.hazard(windows[:0]).shape == (0, bundle.spec.num_bins)
    newest = answers_of(bundle, device="cpu", newest=True)(series.values, rows[-1:])
    assert newest.hazard.tobytes() == Predictor(bundle).hazard(windows[-1:]).tobytes()


@pytest.fixture
def fresh(tuned: Any) -> Iterator[Home]:
    """The tuned plant without a journal."""
    folder = tuned.home.table(PLANT, "predictions")
    aside = folder.with_name("predictions.aside")
    if folder.exists():
        folder.rename(aside)
    yield tuned.home
    if folder.exists():
        folder.rename(folder.with_name(f"predictions.{np.random.default_rng().integers(2**32)}"))
    if aside.exists():
        aside.rename(folder)


def journal(home: Home) -> pa.Table:
    return DeltaTable(str(home.table(PLANT, "predictions"))).to_pyarrow_table()


def expected(home: Home, since: str) -> set[str]:
    """Ids of every window since then, one at a time, out of the whole history in memory."""
    bundle = load_bundle(standing_champion(home, PLANT).path)
    data = load_plant(home, PLANT, config=bundle.spec.config)
    found: set[str] = set()
    for series in data.series.values():
        for p in score.score_series(bundle, PLANT, series, data.channels, since_us=score.parse_time_us(since)):
            found.add(p["prediction_id"])
    return found


def test_every_window_since_then_is_in_the_journal_once(fresh: Home) -> None:
    since = "2025-03-20T00:00Z"
    report = score.run(fresh, progress=Silent(), plant=PLANT, since=since)
    ids = journal(fresh)["prediction_id"].to_pylist()
    assert len(ids) == len(set(ids)) == report.predictions_written == report.predictions_total
    assert set(ids) == expected(fresh, since)
    again = score.run(fresh, progress=Silent(), plant=PLANT, since=since)
    assert (again.predictions_written, again.predictions_total) == (0, report.predictions_total)


def test_overlapping_questions_add_only_what_is_new(fresh: Home) -> None:
    late = score.run(fresh, progress=Silent(), plant=PLANT, since="2025-04-01T00:00Z")
    early = score.run(fresh, progress=Silent(), plant=PLANT, since="2025-03-25T00:00Z")
    assert early.predictions_written == early.predictions_total - late.predictions_total
    newest = score.run(fresh, progress=Silent(), plant=PLANT)
    assert (newest.predictions_written, newest.predictions_total) == (0, 12)
    assert len(set(journal_ids(fresh, PLANT))) == journal(fresh).num_rows == early.predictions_total


class _DiedError(Exception):
    pass


def test_a_run_that_dies_between_two_units_is_finished_by_the_next(
    fresh: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    since, done = "2025-03-20T00:00Z", []
    monkeypatch.setattr("cluster.manifest.LEAST_BYTES", 20_000)
    monkeypatch.setattr("jobs.scoring.committing.COMMIT_EVERY", 0)
    whole = score.commit_units

    def dying(*arguments: Any) -> int:
        if len(done) == 2:
            raise _DiedError
        done.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(score, "commit_units", dying)
    with pytest.raises(_DiedError):
        score.run(fresh, progress=Silent(), plant=PLANT, since=since)
    part = journal(fresh).num_rows
    assert part == sum(row["total"] for *_, rows in done for row in rows) > 0
    monkeypatch.setattr(score, "commit_units", whole)
    rest = score.run(fresh, progress=Silent(), plant=PLANT, since=since)
    assert rest.predictions_written == rest.predictions_total - part > 0
    assert set(journal(fresh)["prediction_id"].to_pylist()) == expected(fresh, since)
    assert journal(fresh).num_rows == rest.predictions_total


def one_row(folder: Path, name: str) -> dict[str, Any]:
    table = pa.Table.from_pylist([dict.fromkeys(SCHEMA.names) | {"prediction_id": name, "machine": "m"}], schema=SCHEMA)
    return {"name": name, "total": 1, "files": [write_part(folder, table, stem=name).as_dict()]}


def test_two_runs_of_one_unit_commit_it_once(fresh: Home) -> None:
    folder = fresh.table(PLANT, "predictions")
    open_or_create(folder, SCHEMA)
    first, second, new = (one_row(folder, name) for name in ("score-x", "score-x", "score-y"))
    assert commit_units(fresh, PLANT, [first]) == 1
    assert commit_units(fresh, PLANT, [second, new]) == 1
    assert commit_units(fresh, PLANT, []) == 0
    assert sorted(journal(fresh)["prediction_id"].to_pylist()) == ["score-x", "score-y"]
    assert not (folder / second["files"][0]["path"]).exists()
    table = open_table(folder)
    assert table is not None and [table.transaction_version(name) for name in ("score-x", "score-y")] == [2, 2]


def test_units_that_come_together_are_one_commit(fresh: Home) -> None:
    folder = fresh.table(PLANT, "predictions")
    before = open_or_create(folder, SCHEMA).version()
    assert commit_units(fresh, PLANT, [one_row(folder, f"score-{n}") for n in range(5)]) == 5
    assert open_or_create(folder, SCHEMA).version() == before + 1 and journal(fresh).num_rows == 5


def test_commits_take_a_twentieth_of_the_time_however_slow_they_are() -> None:
    now = [0.0]

    def coming() -> Iterator[dict[str, Any]]:
        for number in range(200):
            now[0] += 1.0  # a unit a second
            yield {"name": str(number)}

    sizes = []
    for rows in paced(coming(), lambda: now[0]):
        sizes.append(len(rows))
        now[0] += 2.0  # a commit
    assert sizes == [1, 38, 38, 38, 38, 38, 9] and sum(sizes) == 200


def test_the_journal_is_asked_for_the_files_that_may_hold_a_units_answers(fresh: Home) -> None:
    folder, day = fresh.table(PLANT, "predictions"), 86_400_000_000
    table = open_or_create(folder, SCHEMA)
    files = {}
    for machine, at in (("a", 1), ("b", 1), ("b", 5), ("c", 1)):
        row = dict.fromkeys(SCHEMA.names) | {"machine": machine, "as_of": datetime.fromtimestamp(at * 86_400, UTC)}
        files[machine, at] = write_part(folder, pa.Table.from_pylist([row], schema=SCHEMA), stem="x")
    nameless = WrittenFile("nowhere.parquet", 1, 1, {}, '{"numRecords":1}')
    commit_once(table, [*files.values(), nameless], app_id="x")
    found = JournalFiles(fresh, PLANT)

    def asked(low: str | None, high: str | None, first: int, last: int) -> set[str]:
        return set(found.meeting(Unit("pump", low, high, None, None, (), 0), first * day, last * day).files)

    def expected_of(*keys: tuple[str, int]) -> set[str]:
        return {str(folder / files[key].path) for key in keys} | {str(folder / "nowhere.parquet")}

    assert asked("b", "c", 0, 9) == expected_of(("b", 1), ("b", 5))
    assert asked("b", "c", 2, 5) == expected_of(("b", 5))
    assert asked(None, "c", 1, 1) == expected_of(("a", 1), ("b", 1))
    assert asked("b", None, -(2**62) // day, 1) == expected_of(("b", 1), ("c", 1))


def test_a_machine_that_fell_silent_long_ago_has_its_newest_window_too(
    fresh: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "LOOK_BACK", 3_600_000_000)
    report = score.run(fresh, progress=Silent(), plant=PLANT)
    rows = journal(fresh)
    assert report.predictions_total == 12 and sorted(rows["machine"].to_pylist()) == sorted(
        set(rows["machine"].to_pylist())
    )
    data = load_plant(fresh, PLANT)
    last = {m: s.last_tick * 3_600_000_000 for m, s in data.series.items()}
    for machine, at in zip(rows["machine"].to_pylist(), rows["as_of"].cast(pa.int64()).to_pylist(), strict=True):
        assert at <= last[machine] and at > last[machine] - 72 * 3_600_000_000


def test_a_log_that_came_later_asks_the_question_anew(fresh: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    since = "2025-04-05T00:00Z"
    first = score.run(fresh, progress=Silent(), plant=PLANT, since=since)
    known = score.machine_events

    def later(*tables: Any) -> dict[str, MachineEvents]:
        found = known(*tables)
        at = np.array([1_743_900_000_000_000])  # 2025-04-06: an error that was booked after the first run
        return found | {
            "P-03": replace(found["P-03"], errors_known_us=np.sort(np.r_[found["P-03"].errors_known_us, at]))
        }

    monkeypatch.setattr(score, "machine_events", later)
    second = score.run(fresh, progress=Silent(), plant=PLANT, since=since)
    assert second.predictions_total == first.predictions_total and 0 < second.predictions_written < 200


def test_one_newest_answer_a_machine_however_its_history_is_cut(fresh: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.manifest.LEAST_BYTES", 2_000)
    report = score.run(fresh, progress=Silent(), plant=PLANT)
    assert report.predictions_total == journal(fresh).num_rows == 12
    assert len(set(journal(fresh)["machine"].to_pylist())) == 12


def test_what_a_batch_has_answered_the_service_does_not_write_again(fresh: Home) -> None:
    score.run(fresh, progress=Silent(), plant=PLANT)
    row = journal(fresh).to_pylist()[0]
    about = {
        "prediction_id": row["prediction_id"],
        "as_of": row["as_of"].isoformat(),
        "data_until": row["as_of"].isoformat(),
    }
    assert ids_among(fresh, PLANT, [about, about | {"prediction_id": "new"}]) == {row["prediction_id"]}
    assert ids_among(fresh, PLANT, []) == set()

"""The Python surface: the same windows and reasons as the rest, as frames, and clear errors for what is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from cluster.home import Home
from jobs.frames import moment_us
from jobs.tuning.space import find_space, parse_space
from models.config import NetworkConfig
from models.errors import InputError, NotFoundError
from tests.jobs.conftest import PLANT, Tuned


def test_windows_of_a_machine_are_those_of_the_whole_history(tuned: Tuned) -> None:
    whole = tuned.home.windows(PLANT).to_pandas()
    own = whole[whole["machine"] == "P-02"].sort_values("time").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, tuned.home.windows(PLANT, machines="P-02").to_pandas(), check_dtype=False)
    assert whole["machine"].nunique() == 12 and (own["time"].diff().dropna() == pd.Timedelta(hours=1)).all()


def test_a_part_of_the_readings_has_both_its_ends(tuned: Tuned) -> None:
    part = tuned.home.readings(PLANT, machines="P-02", since="2025-02-01", until="2025-02-03T12:00").to_pandas()
    assert set(part["machine"]) == {"P-02"} and 40 < len(part) <= 61
    assert part["time"].min() >= pd.Timestamp("2025-02-01", tz="UTC")
    assert part["time"].max() <= pd.Timestamp("2025-02-03 12:00", tz="UTC")


def test_reasons_of_each_tick_sum_to_what_the_score_says(tuned: Tuned) -> None:
    frame = tuned.home.readings(PLANT, machines=["P-02", "P-12"], since="2025-03-20").to_pandas()
    scored = tuned.home.score(PLANT, frame, since="2025-04-08").set_index(["machine", "as_of"])
    told = tuned.home.reasons(PLANT, frame, since="2025-04-08").groupby(["machine", "as_of"])
    assert set(told.groups) == set(scored.index) and len(scored) > 48
    risk = told["risk"].first()
    assert (told["contribution"].sum() - (risk - told["usual_risk"].first())).abs().max() < 1e-12
    assert (risk - scored["failure_probability.48h"]).abs().max() < 2e-6, "one is rounded as it is served"


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda h, f: h.readings(PLANT, machines="P-99"), NotFoundError, "Unknown machine.*12 machines.*'P-99'"),
        (lambda h, f: h.readings(PLANT, since="soon"), InputError, "Not a time.*'soon'"),
        (lambda h, f: h.readings("nowhere"), NotFoundError, "Unknown plant"),
        (lambda h, f: h.studies("nowhere"), NotFoundError, "Unknown plant"),
        (lambda h, f: h.score(PLANT, f[["machine", "time"]]), InputError, "A column is missing"),
        (lambda h, f: h.score(PLANT, f.to_dict()), InputError, "Not a pandas frame"),
        (lambda h, f: h.score(PLANT, pd.concat([f, f])), InputError, "A time comes twice"),
        (lambda h, f: h.reasons(PLANT, f.assign(drehzahl="fast")), InputError, "Not a number.*'drehzahl'"),
        (lambda h, f: h.score(PLANT, f.assign(machine=None)), InputError, "no machine or no time"),
        (lambda h, f: h.launch("tune", plant=PLANT, trails=3), InputError, "Wrong options of 'tune'.*trials"),
        (lambda h, f: h.launch("promote", plant=PLANT), InputError, "Wrong options of 'promote'.*version"),
    ],
)
def test_what_is_wrong_is_said(
    tuned: Tuned, wrong: Callable[[Home, pd.DataFrame], Any], error: type[Exception], words: str
) -> None:
    frame = tuned.home.readings(PLANT, machines="P-02", since="2025-04-01").to_pandas()
    with pytest.raises(error, match=words):
        wrong(tuned.home, frame)


def test_a_space_in_a_notebook_is_the_space_of_a_file(tuned: Tuned) -> None:
    tables = {"hidden": {"type": "int", "low": 16, "high": 32, "step": 8}, "layers": [{"type": "fixed", "value": 3}]}
    text = '[hidden]\ntype = "int"\nlow = 16\nhigh = 32\nstep = 8\n[[layers]]\ntype = "fixed"\nvalue = 3\n'
    given, written = (find_space(tuned.home.path, tables), (text, "space.toml"))
    assert parse_space(*given, NetworkConfig()).digest() == parse_space(*written, NetworkConfig()).digest()
    with pytest.raises(InputError, match="Unreadable search space"):
        find_space(tuned.home.path, {"hidden": {"type": "int", "low": None}})


def test_moments_without_a_zone_are_utc() -> None:
    assert moment_us("1970-01-02") == moment_us(pd.Timestamp("1970-01-02T01:00+01:00")) == 86_400_000_000

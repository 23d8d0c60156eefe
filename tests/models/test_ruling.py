"""Four verdicts, worked by hand on intervals against a margin."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from models.metrics import Estimate
from models.ruling import GateConfig, Ruling, margin_in_nats, rule

NAN = float("nan")


def ruled(low: float, high: float, *, margin: float = 0.01, failures: int = 10) -> Ruling:
    return rule(Estimate((low + high) / 2, low, high), margin=margin, num_failures=failures, min_failures=10)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.02, "better"),
        (0.0, 0.02, "non-inferior"),  # zero itself is no gain
        (-0.009, 0.02, "non-inferior"),
        (-0.009, -0.001, "non-inferior"),  # worse for sure, by less than the margin
        (-0.01, 0.02, "inconclusive"),  # at the margin is not above it
        (-0.02, 0.0, "inconclusive"),
        (-0.02, -0.001, "inferior"),
        (NAN, NAN, "inconclusive"),
        (-math.inf, 0.02, "inconclusive"),
    ],
)
def test_an_interval_is_read_against_zero_and_the_margin(low: float, high: float, verdict: str) -> None:
    found = ruled(low, high)
    assert found.verdict == verdict
    assert found.passes == (verdict in ("better", "non-inferior"))


def test_without_a_margin_only_a_gain_passes() -> None:
    assert ruled(0.001, 0.02, margin=0.0).verdict == "better"
    assert ruled(0.0, 0.02, margin=0.0).verdict == "inconclusive"
    assert ruled(-0.001, 0.02, margin=0.0).verdict == "inconclusive"


def test_too_few_failures_tell_nothing_however_clear_the_interval() -> None:
    found = ruled(0.5, 0.6, failures=9)
    assert found == Ruling("inconclusive", "9 failures in the slice are too few, at least 10 tell")
    assert ruled(0.5, 0.6, failures=10).verdict == "better"


def test_the_sentence_says_difference_interval_failures_and_margin() -> None:
    assert ruled(-0.02, 0.04).why == (
        "the difference is +0.0100 nats a tick (-0.0200 to +0.0400, 95 % by machine, 10 failures): "
        "it may be a loss beyond the margin of 0.0100"
    )


def test_the_margin_is_a_share_of_what_the_champion_knows() -> None:
    assert margin_in_nats(-0.5, -0.7, 0.1) == pytest.approx(0.02)
    assert margin_in_nats(-0.7, -0.7, 0.1) == 0.0
    assert margin_in_nats(-0.8, -0.7, 0.1) == 0.0  # worse than the usual curve: nothing to preserve
    assert margin_in_nats(NAN, -0.7, 0.1) == 0.0


@pytest.mark.parametrize("wrong", [{"margin": -0.1}, {"margin": 1.1}, {"min_failures": 0}, {"marign": 0.1}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        GateConfig.model_validate(wrong)

"""Figures of merit: exact values by hand, and scikit-learn where it has the same definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from models.metrics import (
    Draws,
    Pairs,
    Ranking,
    asymmetric_penalty,
    asymmetric_score,
    auc,
    average_precision,
    concordance,
    estimate,
    paired,
    rmse,
    weighted_quantile,
)

SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({positive for _, positive in rows}) == 2
)


def test_rmse_by_hand() -> None:
    assert rmse([3.0, 5.0], [0.0, 1.0]) == pytest.approx(math.sqrt((9 + 16) / 2))
    assert rmse([3.0, 5.0], [0.0, 1.0], weight=[1, 0]) == 3.0


def test_asymmetric_score_punishes_late_predictions_more() -> None:
    # Saxena et al. (2008): exp(13/13) - 1 for 13 too early, exp(10/10) - 1 for 10 too late.
    assert asymmetric_score([87.0], [100.0]) == pytest.approx(math.e - 1)
    assert asymmetric_score([110.0], [100.0]) == pytest.approx(math.e - 1)
    assert asymmetric_score([100.0], [100.0]) == 0.0


def test_auc_counts_ties_half() -> None:
    # Positives 0.9 and 0.5 against negatives 0.5 and 0.1: wins 1, 1, 0.5, 1 of 4 pairs.
    assert auc([0.9, 0.5, 0.5, 0.1], [True, True, False, False]) == pytest.approx(3.5 / 4)


def test_auc_without_a_positive_is_no_number() -> None:
    assert math.isnan(auc([0.1, 0.2], [False, False]))
    assert math.isnan(average_precision([0.1, 0.2], [False, False]))


def test_average_precision_by_hand() -> None:
    # Ranks: true, false, true: precision 1 at recall 1/2, 2/3 at recall 1.
    assert average_precision([0.9, 0.8, 0.7], [True, False, True]) == pytest.approx((1 + 2 / 3) / 2)


@given(SCORED)
def test_ranking_agrees_with_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    score, positive = zip(*rows, strict=True)
    assert auc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert average_precision(score, positive) == pytest.approx(average_precision_score(positive, score))


@given(SCORED)
def test_a_weight_is_as_good_as_a_copy(rows: list[tuple[int, bool]]) -> None:
    score, positive = (list(column) for column in zip(*rows, strict=True))
    weight = [1 + index % 3 for index in range(len(rows))]
    copies = [index for index, count in enumerate(weight) for _ in range(count)]
    copied = [score[i] for i in copies], [positive[i] for i in copies]
    assert auc(score, positive, weight) == pytest.approx(auc(*copied))
    assert average_precision(score, positive, weight) == pytest.approx(average_precision(*copied))


def test_concordance_skips_pairs_that_censoring_hides() -> None:
    # Fails at 1 and 3, censored at 2. Comparable: (1,2) right, (1,3) wrong; the censored one starts no pair.
    assert concordance([0.5, 0.1, 0.9], [1, 2, 3], [True, False, True]) == 0.5
    assert math.isnan(concordance([0.5, 0.1], [1, 2], [False, False]))


def test_concordance_counts_equal_risks_half() -> None:
    assert concordance([0.5, 0.5], [1, 2], [True, False]) == 0.5


def test_weighted_quantile_is_the_smallest_that_reaches_the_share() -> None:
    assert weighted_quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert weighted_quantile([1.0, 2.0], 0.5, weight=[1, 3]) == 2.0
    assert weighted_quantile([1.0, 2.0], 0.5, weight=[0, 1]) == 2.0
    assert math.isnan(weighted_quantile([], 0.5))


def test_the_interval_holds_the_value_and_narrows_with_machines() -> None:
    def width(num: int) -> float:
        values = np.tile([0.0, 1.0], num // 2)
        found = estimate(lambda w: float((w * values).sum() / w.sum()), num, rng=np.random.default_rng(0))
        assert found.low <= found.value <= found.high
        return found.high - found.low

    # A mean of n fair coins has a 95 % interval of 2 * 1.96 * 0.5 / sqrt(n).
    assert width(100) == pytest.approx(0.196, abs=0.03)
    assert width(400) == pytest.approx(0.098, abs=0.02)


def test_equal_seeds_give_equal_intervals() -> None:
    def one() -> object:
        return estimate(lambda w: float(w[0]), 5, rng=np.random.default_rng(3))

    assert one() == one()


def test_draws_that_all_agree_give_no_interval() -> None:
    # No failure of ten was caught: whoever is drawn, the share is 0, and that says nothing of its spread.
    found = estimate(lambda w: float(0 * w.sum() / w.sum()), 10, rng=np.random.default_rng(0))
    assert found.value == 0.0
    assert math.isnan(found.low) and math.isnan(found.high)


def test_one_machine_has_no_interval() -> None:
    found = estimate(lambda _: 0.7, 1, rng=np.random.default_rng(0))
    assert found.value == 0.7
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_recall_at_a_precision_is_the_best_that_one_threshold_attains() -> None:
    # Highest first: hit, miss, miss, hit, hit, miss. Precision 1, 1/2, 1/3, 1/2, 3/5, 1/2; recall at 1/2 is all three.
    score, positive = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [True, False, False, True, True, False]
    ranking = Ranking(score, positive)
    assert ranking.recall_at_precision(0.5) == 1.0
    assert ranking.recall_at_precision(0.6) == 1.0  # 3 of 5
    assert ranking.recall_at_precision(0.7) == pytest.approx(1 / 3)
    assert ranking.recall_at_precision(0.5, weight=[1, 1, 3, 1, 1, 1]) == pytest.approx(1 / 3)


def test_ties_are_flagged_together_and_no_precise_threshold_is_no_recall() -> None:
    assert Ranking([0.5, 0.5, 0.5], [True, False, False]).recall_at_precision(0.5) == 0.0
    assert Ranking([0.5, 0.5], [True, False]).recall_at_precision(0.5) == 1.0
    assert math.isnan(Ranking([0.5, 0.5], [False, False]).recall_at_precision(0.5))
    assert math.isnan(Ranking([], []).recall_at_precision(0.5))


@given(SCORED)
def test_figures_together_are_the_figures_alone(rows: list[tuple[int, bool]]) -> None:
    score, positive = zip(*rows, strict=True)
    ranking = Ranking(score, positive)
    every = [(sum(p for s, p in rows if s >= at), sum(s >= at for s, _ in rows)) for at in set(score)]
    best = max([hits / sum(positive) for hits, flagged in every if hits * 2 >= flagged], default=0.0)
    together = (auc(score, positive), average_precision(score, positive), best)
    assert ranking.figures(0.5) == pytest.approx(together)


def test_pairs_of_machines_weigh_like_copies_of_their_rows() -> None:
    rng = np.random.default_rng(4)
    risk, time, event = rng.random(40), rng.integers(1, 30, 40).astype(float), rng.random(40) < 0.6
    machine, weight = rng.integers(0, 5, 40), np.array([0.0, 1.0, 2.0, 1.0, 3.0])
    copies = np.repeat(np.arange(40), weight[machine].astype(int))
    expected = concordance(risk[copies], time[copies], event[copies])
    assert Pairs(risk, time, event, machine).concordance(weight) == pytest.approx(expected)


def test_a_ratio_by_machine_is_nan_where_nothing_is_below() -> None:
    draws = Draws(np.array([[2.0, 0.0], [0.0, 2.0]]))
    found = draws.ratio([3.0, 1.0], [6.0, 0.0])
    assert found.value == pytest.approx(4 / 6)
    assert found.drawn[0] == 0.5
    assert math.isnan(found.drawn[1])


def test_paired_figures_cancel_what_is_hard_for_both() -> None:
    # Engines differ by hundreds, the second model is worse by 1 on each: alone, the two intervals overlap.
    hard = np.random.default_rng(5).uniform(100, 300, 30)

    def mean(error: np.ndarray) -> Callable[[np.ndarray], float]:
        return lambda weight: float((weight * error).sum() / weight.sum())

    first = estimate(mean(hard), 30, rng=np.random.default_rng(0))
    second = estimate(mean(hard + 1), 30, rng=np.random.default_rng(0))
    assert first.high > second.low
    found = paired(mean(hard + 1), mean(hard), 30, rng=np.random.default_rng(0))
    assert found.value == pytest.approx(1.0)
    assert math.isnan(found.low)  # every draw differs by exactly 1: none shows a spread
    found = paired(mean(hard * 1.01), mean(hard), 30, rng=np.random.default_rng(0))
    assert 0 < found.low < found.value < found.high


def test_paired_rmse_of_engines_by_hand() -> None:
    actual, one, other = np.array([10.0, 20.0]), np.array([13.0, 24.0]), np.array([10.0, 20.0])
    found = paired(lambda w: rmse(one, actual, w), lambda w: rmse(other, actual, w), 2, rng=np.random.default_rng(0))
    # Both engines once: sqrt((9 + 16) / 2); the first twice: 3; the second twice: 4.
    assert (found.value, found.low, found.high) == (pytest.approx(math.sqrt(12.5)), 3.0, 4.0)


def test_the_penalty_of_a_row_adds_up_to_the_score() -> None:
    assert asymmetric_penalty([87.0, 110.0], [100.0, 100.0]).tolist() == pytest.approx([math.e - 1] * 2)

"""Every candidate under both bounds of what maintenance on condition prevented.

The one idea: the log says what was done and not what it prevented, so where people replaced machines on their
condition each figure has three values, and the truth lies between the outer two.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jobs.evaluation.results import BoundResult, CandidateResult, OnCondition, figure
from jobs.evaluation.rows import LaterRows
from models.bounds import Assumed, at_bound, on_condition
from models.evaluation import Answers

ASSUMED: tuple[Assumed, ...] = ("failed", "never")


def bounds_of(
    rows: LaterRows, ready: Mapping[str, Answers], logged: list[CandidateResult], *, horizon: float,
    reference_risk: float, seed: int, draws: int,
) -> OnCondition | None:  # fmt: skip
    """Three judgements of each candidate, ``logged`` the log's own; None where no maintenance was on condition."""
    ended_by = rows.ended_by
    if not on_condition(ended_by).any():
        return None
    found = []
    for one in logged:
        found.append(
            BoundResult(
                kind=one.kind, champion=one.champion, assumed="logged", num_failures=one.num_failures,
                caught=one.caught, recall=one.recall, auc=one.auc, brier_skill=one.brier_skill,
                log_likelihood=one.log_likelihood,
            )
        )  # fmt: skip
        for assumed in ASSUMED:
            b = at_bound(
                ready[one.kind], ended_by, assumed, horizon=horizon, reference_risk=reference_risk,
                rng=np.random.default_rng(seed), draws=draws,
            )  # fmt: skip
            found.append(
                BoundResult(
                    kind=one.kind, champion=one.champion, assumed=assumed, num_failures=b.num_failures,
                    caught=b.num_caught, recall=figure(b.recall), auc=figure(b.auc),
                    brier_skill=figure(b.brier_skill), log_likelihood=figure(b.log_likelihood),
                )
            )  # fmt: skip
    return OnCondition(num=_num(rows), bounds=found)


def _num(rows: LaterRows) -> int:
    """Lives that ended so: a machine and the moment of its end."""
    return len({
        (piece.machine, end)
        for piece, own in zip(rows.pieces, rows.rows_of, strict=True)
        for end in piece.labels.end_us[own][on_condition(piece.labels.ended_by[own])].tolist()
    })  # fmt: skip

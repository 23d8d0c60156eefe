"""What a plant's figures come to, in one sentence, or why they come to nothing yet."""

from __future__ import annotations

from jobs.evaluation.results import BASELINE, CandidateResult

ENOUGH = 20  # failures in a plant under which no verdict is given (DESIGN, section 4)


def too_few(num_failures: int) -> str:
    """What a report says instead of a verdict."""
    return f"not enough failures (n = {num_failures})" if num_failures < ENOUGH else ""


def verdict(champion: CandidateResult, baselines: list[CandidateResult], *, num_known: int) -> str:
    """One sentence: what was caught, beside the better baseline.

    ``num_known`` failures of the plant in all; under 20 of them there is no verdict.
    """
    rate, recall = champion.false_alarms_per_machine_month.value, champion.recall
    share = "" if recall.low is None or recall.high is None else f" ({recall.low:.0%} to {recall.high:.0%})"
    alarms = "" if rate is None else f" at {rate:.2f} false alarms per machine-month"
    caught = f"caught {champion.caught} of {champion.num_failures} failures{share}{alarms}"
    if num_known < ENOUGH:
        return f"{too_few(num_known)}: {caught}, no verdict"
    others = [b for b in baselines if b.caught_at_equal_false_alarms is not None]
    if not others:
        return caught
    best = max(others, key=lambda b: b.caught_at_equal_false_alarms or 0)
    return f"{caught}; the {BASELINE[best.kind]} would catch {best.caught_at_equal_false_alarms} with as many"

"""May a challenger replace the champion? One of four words, from a paired difference and the failures behind it.

The one idea: silence is no consent. Too few failures, or an interval that holds both «no worse» and «worse than
the margin», is «inconclusive», and then the champion stays.

The margin is a share of what the champion knows: of its log-likelihood above the plant's usual curve, so that where
failures are rare, and all likelihoods near, a model that knows nothing does not pass for an equal.

Source: Piaggio et al. (2012), "Reporting of noninferiority and equivalence randomized trials", JAMA 308, on reading
an interval against a margin; a margin as the share of an effect to be preserved: FDA (2016), "Non-inferiority clinical
trials to establish effectiveness", section IV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from models.config import Frozen

if TYPE_CHECKING:
    from models.metrics import Estimate

Verdict = Literal["better", "non-inferior", "inferior", "inconclusive"]


class GateConfig(Frozen):
    """``margin``: the share of the champion's gain that a challenger may lose; ``min_failures``: in the slice, for a
    verdict at all."""

    margin: float = Field(0.1, ge=0, le=1)
    min_failures: int = Field(20, ge=1)


@dataclass(frozen=True)
class Ruling:
    """The verdict and why, in one sentence without its full stop."""

    verdict: Verdict
    why: str

    @property
    def passes(self) -> bool:
        return self.verdict in ("better", "non-inferior")


def margin_in_nats(champion: float, usual: float, share: float) -> float:
    """What may be lost a tick: ``share`` of the champion's log-likelihood above the usual curve's; 0 of no gain."""
    gain = champion - usual
    return share * gain if gain > 0 else 0.0


def rule(difference: Estimate, *, margin: float, num_failures: int, min_failures: int) -> Ruling:
    """Judge the challenger's log-likelihood a tick minus the champion's; ``margin`` in the same nats, 0 or more."""
    if num_failures < min_failures:
        return Ruling("inconclusive", f"{num_failures} failures in the slice are too few, at least {min_failures} tell")
    low, high = difference.low, difference.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return Ruling("inconclusive", "the difference has no interval: one machine, or answers that do not differ")
    found = f"{difference.value:+.4f} nats a tick ({low:+.4f} to {high:+.4f}, 95 % by machine, {num_failures} failures)"
    if low > 0:
        return Ruling("better", f"the challenger is better by {found}")
    if low > -margin:
        return Ruling("non-inferior", f"the difference is {found}, no lower than the margin of {margin:.4f} allows")
    if high < 0:
        return Ruling("inferior", f"the challenger is worse: {found}")
    return Ruling("inconclusive", f"the difference is {found}: it may be a loss beyond the margin of {margin:.4f}")

"""Reasons: what each channel adds to a machine's risk, summing exactly to the difference from the usual risk.

The one idea: occlusion. Each channel in turn is set to what is usual in the plant; the change of the
risk's log-odds is the channel's part, and what the parts leave over (redundancy, interaction) is shared
in proportion to their size, so that nothing is hidden. A model that can tell these C + 2 risks for less
than C + 2 windows says so by ``occluded``; the others get one batch.

Limits: two sensors that tell the same story share its weight only through that last step, a usual
value is that of the operating regime where a plant has any, and a part says what moved the *model*, not what
broke the machine.
Source: occlusion as in Zeiler and Fergus (2014); the exact sum is the completeness axiom of
Sundararajan et al. (2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.spec import BundleSpec
from models.windows import Channel

Values = NDArray[np.float64]
Occlusion = tuple[float, float, Values]


class RiskModel(Protocol):
    """What a Predictor offers to an explanation."""

    spec: BundleSpec

    def risk(self, values_BWC: NDArray[np.float32]) -> Values: ...


@runtime_checkable
class Occluding(Protocol):
    """A model that knows a cheaper way than C + 2 windows."""

    def occluded(self, values_WC: NDArray[np.float32]) -> Occlusion:
        """Of one window: its risk, the risk of a usual one, and its risk with each channel at its usual value [C]."""
        ...


class Reason(TypedDict):
    """One channel's part of the risk within the alarm's horizon; ``value`` is the newest one, None where none is."""

    sensor: str
    contribution: float
    value: float | None
    usual: float | None
    unit: str
    text: str


@dataclass(frozen=True)
class Explanation:
    """``reasons`` sum to ``risk - usual_risk``, largest first; ``usual_risk`` is the risk of an all-usual window."""

    risk: float
    usual_risk: float
    reasons: tuple[Reason, ...]


def explain(model: RiskModel, values_WC: NDArray[np.float32]) -> Explanation:
    """Reasons for the risk of one window [W, C]."""
    spec, usual_C = model.spec, usual_window(model.spec, values_WC)[-1]
    risk, usual_risk, occluded_C = (
        model.occluded(values_WC) if isinstance(model, Occluding) else in_batch(model, values_WC)
    )
    parts = allocate(risk, usual_risk, occluded_C)
    life_unit, newest_C = spec.config.clock.life_unit, _newest(values_WC)
    found = [
        _reason(channel, part, value, usual, life_unit)
        for channel, part, value, usual in zip(
            spec.channels, parts.tolist(), newest_C.tolist(), usual_C.tolist(), strict=True
        )
    ]
    return Explanation(risk, usual_risk, tuple(sorted(found, key=lambda r: -abs(r["contribution"]))))


def usual_window(spec: BundleSpec, values_WC: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is usual of each channel [W, C], in the operating regime of each step; NaN where training saw no value.

    Of a channel that tells the regime it is that regime's level, so that the usual window is in the same regimes.
    """
    usual = np.array([np.nan if u is None else u for u in spec.usual.window], np.float32)
    if not spec.scaling.keys:
        return np.broadcast_to(usual, values_WC.shape)
    scaling = spec.scaling.scaling
    assert scaling.regimes is not None, "keys tell regimes"
    found: NDArray[np.float32] = np.where(np.isnan(usual), usual, scaling.usual(values_WC))
    keys, level_WQ = list(scaling.regimes.keys), scaling.regimes.level_of(values_WC)
    found[:, keys] = np.where(np.isnan(level_WQ), found[:, keys], level_WQ)
    return found


def in_batch(model: RiskModel, values_WC: NDArray[np.float32]) -> Occlusion:
    """``Occluding.occluded`` of any model, at the cost of C + 2 windows in one batch."""
    usual_WC = usual_window(model.spec, values_WC)
    batch = np.repeat(np.asarray(values_WC, np.float32)[None], values_WC.shape[1] + 2, axis=0)
    for index in range(values_WC.shape[1]):
        batch[index, :, index] = usual_WC[:, index]
    batch[-1] = usual_WC
    risks = np.asarray(model.risk(batch), np.float64)
    return float(risks[-2]), float(risks[-1]), risks[:-2]


def reasons(model: RiskModel, values_WC: NDArray[np.float32]) -> list[Reason]:
    """``explain`` without the totals: every channel with its contribution, largest first."""
    return list(explain(model, values_WC).reasons)


def allocate(risk: float, usual_risk: float, occluded_C: Values) -> Values:
    """Parts [C] that sum to ``risk - usual_risk``.

    ``occluded_C[c]`` is the risk with channel c set to its usual value. Parts are measured in
    log-odds, where the effects of sensors come closest to adding up, then scaled to probability.
    """
    total = risk - usual_risk
    clipped = np.clip(np.array([risk, usual_risk, *occluded_C]), 1e-9, 1.0 - 1e-9)
    logit_all = np.log(clipped) - np.log1p(-clipped)
    logit, logit_usual, logit_C = float(logit_all[0]), float(logit_all[1]), logit_all[2:]
    part_C = logit - logit_C
    left_over = (logit - logit_usual) - part_C.sum()
    weight_C = np.abs(part_C)
    if weight_C.sum() > 1e-12:
        part_C = part_C + left_over * weight_C / weight_C.sum()
    else:  # the channels act only together: none can be told from another
        part_C = np.full(len(part_C), left_over / len(part_C))
    span = logit - logit_usual
    # The secant slope from log-odds to probability, the tangent where the two risks are equal.
    slope = total / span if abs(span) > 1e-9 else risk * (1.0 - risk)
    found: Values = part_C * slope
    found[int(np.argmax(np.abs(found)))] += total - math.fsum(found)  # rounding only
    return found


def _newest(values_WC: NDArray[np.float32]) -> NDArray[np.float32]:
    """The newest value of each channel [C], NaN where there is none."""
    newest_C = np.where(np.isfinite(values_WC[-1]), values_WC[-1], np.nan)
    for index in np.flatnonzero(np.isnan(newest_C)):
        known = values_WC[np.isfinite(values_WC[:, index]), index]
        newest_C[index] = known[-1] if len(known) else np.nan
    return newest_C


def _reason(channel: Channel, part: float, newest: float, usual: float, life_unit: str) -> Reason:
    value = newest if math.isfinite(newest) else None
    expected = usual if math.isfinite(usual) else None
    unit = life_unit if channel.unit == "life" else channel.unit
    usual_text = _written(expected, unit if value is None else "")
    text = f"{_spoken(channel.name)} {_written(value, unit)}, usual {usual_text}"
    return Reason(sensor=channel.name, contribution=part, value=value, usual=expected, unit=unit, text=text)


@cache
def _spoken(name: str) -> str:
    known = {"since_service": "time since service", "errors_24h": "errors in the last 24 h"}
    what, _, which = name.partition(".")
    if which and what in known:
        which = which.replace("_", " ")
        return f"time since service of {which}" if what == "since_service" else f"{which} in the last 24 h"
    return known.get(name, name.replace("_", " "))


def _written(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown"
    size = abs(value)
    text = f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 1 or value == 0 else f"{value:.3f}"
    return text if unit in ("", "1") else f"{text} {unit}"

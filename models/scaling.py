"""Scaling of channels: centre and spread of each, from training machines only, within each operating regime.

The one idea: it is fitted from quantiles, so that stuck sensors and spikes do not set the scale, and applied
inside the model's graph, so that whoever asks sends canonical units. A channel that never moves keeps scale 1.

Legend: T steps, C channels, R regimes.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace

import numpy as np

from models.errors import InputError
from models.features import Sequence
from models.hazard import Float32
from models.regimes import Regimes, find_regimes
from models.windows import Channel

# Rows kept for the quantiles; more change nothing in the third digit.
MAX_ROWS = 200_000
# Distance between the 5 % and the 95 % quantile of a normal distribution, in standard deviations.
NORMAL_SPREAD = 3.2897
STILL = 1e-3  # in scaled units: less than that is rounding
MIN_ROWS = 50  # of a channel in a regime, for a centre and a scale of its own


@dataclass(frozen=True)
class Scaling:
    """``scaled = clip((value - center) / scale, -clip, clip)`` for each channel; NaN becomes 0 with mask 0.

    With ``regimes``, ``center_in`` and ``scale_in`` [R, C] go before ``center`` and ``scale``, which hold where the
    regime is unknown.
    """

    center: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float = 8.0
    regimes: Regimes | None = None
    center_in: tuple[tuple[float, ...], ...] = ()
    scale_in: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        centers, scales = (self.center, *self.center_in), (self.scale, *self.scale_in)
        whole = {len(row) for row in (*centers, *scales)} == {len(self.center)} and len(centers) == len(scales)
        in_regimes = 0 if self.regimes is None else len(self.regimes.levels)
        if not whole or len(self.center_in) != in_regimes or not self._is_finite():
            raise InputError(
                "Scaling is broken", expected="a centre and a positive scale for each channel, and in each regime",
                found=f"{len(self.center)} centres, scales {self.scale}, {len(self.center_in)} of {in_regimes} regimes",
            )  # fmt: skip

    def _is_finite(self) -> bool:
        """Whether every number is one, and every scale positive, as float32 has them."""
        with np.errstate(over="ignore"):
            scales = self.scales
            return bool((np.isfinite(self.centers) & np.isfinite(scales) & (scales > 0)).all() and self.clip > 0)

    @property
    def centers(self) -> Float32:
        """Centres [R + 1, C] of each regime; the last where the regime is unknown."""
        return np.array([*self.center_in, self.center], np.float32)

    @property
    def scales(self) -> Float32:
        return np.array([*self.scale_in, self.scale], np.float32)

    def apply(self, values: Float32) -> Float32:
        """Scaled values [..., C] float32, NaN kept."""
        center = self.usual(values)
        scale: Float32 = self.scales[0] if self.regimes is None else self.scales[self.regimes.of(values)]
        scaled: Float32 = np.clip((values - center) / scale, -self.clip, self.clip)
        return scaled

    def usual(self, values: Float32) -> Float32:
        """The centre of each channel in the regimes that values [..., C] are in; [C] or [..., C]."""
        found: Float32 = self.centers[0] if self.regimes is None else self.centers[self.regimes.of(values)]
        return found

    def select(self, channels: Ordered[int]) -> Scaling:
        """The scaling of some channels, in the order given; regimes are still told by all of them."""
        def chosen(row: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(row[i] for i in channels)

        return replace(
            self, center=chosen(self.center), scale=chosen(self.scale),
            center_in=tuple(map(chosen, self.center_in)), scale_in=tuple(map(chosen, self.scale_in)),
        )  # fmt: skip


def scaling_of(sequences: Ordered[Sequence], channels: Ordered[Channel], *, ignore: Ordered[str] = ()) -> Scaling:
    """``fit_scaling`` on the usable steps of training sequences; sensors but those to ``ignore`` may tell a regime."""
    stride = stride_of(sum(int(s.usable.sum()) for s in sequences))
    rows = (s.values[steps[::stride]] for s in sequences if len(steps := np.flatnonzero(s.usable)))
    sensors = [i for i, channel in enumerate(channels) if channel.role == "sensor" and channel.name not in ignore]
    return fit_scaling(rows, stride=1, regimes_from=sensors)


def moving(scaling: Scaling, sequences: Ordered[Sequence]) -> list[int]:
    """Channels that move in training (within regimes, where there are any), are sometimes missing, or tell the regime.

    The others say nothing, and what a network does not read costs nothing.
    """
    low = np.full(len(scaling.center), np.inf, np.float32)
    high, seen, missed = -low, np.zeros(len(low), bool), np.zeros(len(low), bool)
    stride = stride_of(sum(len(s.values) for s in sequences))
    for s in sequences:
        scaled = scaling.apply(s.values[np.flatnonzero(s.usable)[::stride]])
        known = ~np.isnan(scaled)
        low = np.minimum(low, np.where(known, scaled, np.inf).min(axis=0, initial=np.inf))
        high = np.maximum(high, np.where(known, scaled, -np.inf).max(axis=0, initial=-np.inf))
        seen, missed = seen | known.any(axis=0), missed | (~known).any(axis=0)
    told = np.isin(np.arange(len(low)), scaling.regimes.keys if scaling.regimes is not None else ())
    found: list[int] = np.flatnonzero(told | (seen & missed) | (high - low > STILL)).tolist()
    return found


def stride_of(num_rows: int) -> int:
    """Of how many rows one is enough for the quantiles."""
    return max(1, num_rows // MAX_ROWS)


def fit_scaling(
    series: Iterable[Float32], *, stride: int | None = None, clip: float = 8.0, regimes_from: Ordered[int] = ()
) -> Scaling:
    """Median and robust spread of each channel over series [T, C] of training machines, one row in ``stride``.

    Without a ``stride`` it follows from the number of rows; 1 where they are thinned already. ``regimes_from`` are
    the channels that may tell an operating regime.

    A channel whose middle 90 % do not move takes its standard deviation; one that never moves, or has no value,
    scale 1. Raises InputError where there is no series.
    """
    parts = list(series)
    if not parts:
        raise InputError("Nothing to fit a scaling on", expected="at least one training series", found="none")
    stride = stride or stride_of(sum(len(part) for part in parts))
    rows = np.concatenate([part[::stride] for part in parts])
    center, scale = _of_columns(rows)
    regimes = find_regimes(rows, regimes_from)
    if regimes is None:
        return Scaling(center, scale, clip)
    of_row = regimes.of(rows)
    parts = [rows[of_row == r] for r in range(len(regimes.levels))]
    found = [_in_regime(part, center, scale, regimes_from, regimes.keys) for part in parts]
    return Scaling(center, scale, clip, regimes, tuple(c for c, _ in found), tuple(s for _, s in found))


def _of_columns(rows: Float32) -> tuple[tuple[float, ...], tuple[float, ...]]:
    fitted = [_center_and_scale(column[np.isfinite(column)]) for column in rows.T.astype(np.float64)]
    return tuple(center for center, _ in fitted), tuple(scale for _, scale in fitted)


def _in_regime(
    rows: Float32, center: tuple[float, ...], scale: tuple[float, ...], sensors: Ordered[int], keys: Ordered[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Sensors by the regime's own rows; what the logs say, and the keys themselves, as everywhere."""
    own = _of_columns(rows)
    enough = np.isfinite(rows).sum(axis=0) >= MIN_ROWS
    chosen = [c in sensors and c not in keys and bool(enough[c]) for c in range(len(center))]
    return (
        tuple(o if mine else c for o, c, mine in zip(own[0], center, chosen, strict=True)),
        tuple(o if mine else s for o, s, mine in zip(own[1], scale, chosen, strict=True)),
    )


def _center_and_scale(column: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    if len(column) == 0:
        return 0.0, 1.0
    low, middle, high = (float(x) for x in np.quantile(column, (0.05, 0.5, 0.95)))
    still = 1e-6 * max(1.0, abs(middle))  # float32 rounding of a constant is no movement
    for spread in ((high - low) / NORMAL_SPREAD, float(column.std())):
        if spread > still:
            return middle, spread
    return middle, 1.0

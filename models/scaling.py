"""Scaling of channels: centre and spread of each, from training machines only.

The one idea: it is fitted from quantiles, so that stuck sensors and spikes do not set the scale, and applied
inside the model's graph, so that whoever asks sends canonical units. A channel that never moves keeps scale 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import InputError
from models.hazard import Float32

# Rows kept for the quantiles; more change nothing in the third digit.
MAX_ROWS = 200_000
# Distance between the 5 % and the 95 % quantile of a normal distribution, in standard deviations.
NORMAL_SPREAD = 3.2897


@dataclass(frozen=True)
class Scaling:
    """``scaled = clip((value - center) / scale, -clip, clip)`` for each channel; NaN becomes 0 with mask 0."""

    center: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float = 8.0

    def __post_init__(self) -> None:
        if len(self.center) != len(self.scale) or any(not s > 0 for s in self.scale):
            raise InputError(
                "Scaling is broken", expected="a centre and a positive scale for each channel",
                found=f"{len(self.center)} centres, scales {self.scale}",
            )  # fmt: skip

    def apply(self, values: Float32) -> Float32:
        """Scaled values [..., C] float32, NaN kept."""
        center, scale = np.asarray(self.center, np.float32), np.asarray(self.scale, np.float32)
        scaled: Float32 = np.clip((values - center) / scale, -self.clip, self.clip)
        return scaled

    def select(self, channels: Sequence[int]) -> Scaling:
        """The scaling of some channels, in the order given."""
        return Scaling(
            tuple(self.center[i] for i in channels), tuple(self.scale[i] for i in channels), self.clip
        )  # fmt: skip


def stride_of(num_rows: int) -> int:
    """Of how many rows one is enough for the quantiles."""
    return max(1, num_rows // MAX_ROWS)


def fit_scaling(series: Iterable[Float32], *, stride: int | None = None, clip: float = 8.0) -> Scaling:
    """Median and robust spread of each channel over series [T, C] of training machines, one row in ``stride``.

    Without a ``stride`` it follows from the number of rows; 1 where they are thinned already.

    A channel whose middle 90 % do not move takes its standard deviation; one that never moves, or has no value,
    scale 1. Raises InputError where there is no series.
    """
    parts = list(series)
    if not parts:
        raise InputError("Nothing to fit a scaling on", expected="at least one training series", found="none")
    stride = stride or stride_of(sum(len(part) for part in parts))
    rows = np.concatenate([part[::stride] for part in parts]).astype(np.float64)
    fitted = [_center_and_scale(column[np.isfinite(column)]) for column in rows.T]
    return Scaling(tuple(center for center, _ in fitted), tuple(scale for _, scale in fitted), clip)


def _center_and_scale(column: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    if len(column) == 0:
        return 0.0, 1.0
    low, middle, high = (float(x) for x in np.quantile(column, (0.05, 0.5, 0.95)))
    still = 1e-6 * max(1.0, abs(middle))  # float32 rounding of a constant is no movement
    for spread in ((high - low) / NORMAL_SPREAD, float(column.std())):
        if spread > still:
            return middle, spread
    return middle, 1.0

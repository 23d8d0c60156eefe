"""What a network's inputs are: the rows of x [B, I, T], in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """C scaled channels (0 for no value), their C masks, with ``deviations`` their C deviations from what the other
    channels suggest (``models.relations``), and a 1 in the row of the step's regime (R rows, or none).

    ``kinds`` [C] are the channels' kinds (``models.units``).
    """

    kinds: tuple[str, ...]
    num_regimes: int = 0
    deviations: bool = False

    @property
    def num_inputs(self) -> int:
        return self.rows_a_channel * len(self.kinds) + self.num_regimes

    @property
    def rows_a_channel(self) -> int:
        return 3 if self.deviations else 2

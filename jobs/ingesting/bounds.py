"""A range of machines and times: what one task merges, compacts or compares at a time."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset as ds
from pydantic import BaseModel, ConfigDict

from cluster.storage import TIME, ReadingFile


class Bounds(BaseModel):
    """Machines in ``[low, high)`` and times in ``[since_us, until_us)``; None is no bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: str | None = None
    high: str | None = None
    since_us: int | None = None
    until_us: int | None = None

    def holds(self, machine: str) -> bool:
        """Whether its rows may lie within, at some time."""
        return (self.low is None or machine >= self.low) and (self.high is None or machine < self.high)

    def meets(self, file: ReadingFile) -> bool:
        """Whether a file may have rows within, by its statistics."""
        return (
            (self.low is None or file.last_machine >= self.low)
            and (self.high is None or file.first_machine < self.high)
            and (self.since_us is None or file.last_us >= self.since_us)
            and (self.until_us is None or file.first_us < self.until_us)
        )

    def condition(self) -> ds.Expression:
        """Of rows of a readings table, for a dataset: row groups without any are not read."""
        keep = ds.scalar(True)
        if self.low is not None:
            keep &= ds.field("machine") >= self.low
        if self.high is not None:
            keep &= ds.field("machine") < self.high
        if self.since_us is not None:
            keep &= ds.field("time") >= pa.scalar(self.since_us, TIME)
        if self.until_us is not None:
            keep &= ds.field("time") < pa.scalar(self.until_us, TIME)
        return keep

"""The simulator's truth beside the log: what really failed, what could not be foreseen, what the oracle says.

The one idea: truth only *names and bounds* results. Candidates are judged by the log alone, as in the
field; the oracle, which knows every machine's true state, is the ceiling that no model can pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import NotFoundError

HOUR_US = 3_600_000_000
SAME_FAILURE_US = 2 * HOUR_US  # a log that rounds to the hour still means the same failure


@dataclass(frozen=True)
class TrueFailure:
    machine: str
    mode: str
    sudden: bool  # no precursor: nothing could have announced it
    failed_us: int
    logged: bool


@dataclass(frozen=True)
class Truth:
    failures: tuple[TrueFailure, ...]
    oracle: pa.Table

    def of(self, machine: str, failed_us: int) -> TrueFailure | None:
        """What really happened behind a failure of the log."""
        near = [f for f in self.failures if f.machine == machine and abs(f.failed_us - failed_us) <= SAME_FAILURE_US]
        return min(near, key=lambda f: abs(f.failed_us - failed_us)) if near else None

    def hidden(self, machine: str, from_us: int, to_us: int) -> list[TrueFailure]:
        """Failures of a machine that nobody logged."""
        return [
            f for f in self.failures if f.machine == machine and not f.logged and from_us <= f.failed_us <= to_us
        ]  # fmt: skip

    def risk(self, column: str, machines: NDArray[np.object_], time_us: NDArray[np.int64]) -> NDArray[np.float64]:
        """The oracle's probability [N] at the start of each time's hour; 0 while a machine is out of service."""
        known = zip(self.oracle["machine"].to_pylist(), _us(self.oracle["time"]).tolist(), strict=True)
        by_hour = dict(zip(known, self.oracle[column].to_pylist(), strict=True))
        hours = (time_us // HOUR_US) * HOUR_US
        return np.array([by_hour.get(k, 0.0) for k in zip(machines.tolist(), hours.tolist(), strict=True)], np.float64)


def read_truth(folder: Path, plant: str) -> Truth:
    """The truth of one plant. Raises NotFoundError where ``folder`` holds none for it."""
    where = folder / plant
    for name in ("failures.parquet", "oracle.parquet"):
        if not (where / name).is_file():
            raise NotFoundError(
                "No truth for this plant", expected=f"{plant}/{name}", found="nothing", where=folder,
                do="Give the simulator's .truth folder, or leave the truth out",
            )  # fmt: skip
    table = pq.read_table(where / "failures.parquet", columns=["machine", "mode", "sudden", "failed_at", "logged"])
    rows = zip(*(table[c].to_pylist() for c in ("machine", "mode", "sudden", "logged")), _us(table["failed_at"]),
               strict=True)  # fmt: skip
    failures = tuple(TrueFailure(m, mode, bool(s), int(at), bool(logged)) for m, mode, s, logged, at in rows)
    return Truth(failures, pq.read_table(where / "oracle.parquet"))


def _us(column: pa.ChunkedArray) -> NDArray[np.int64]:
    found: NDArray[np.int64] = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return found

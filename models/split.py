"""Parts of a history: train, validate and test, by machine *and* by time, with a gap of the longest horizon.

The one idea: test is later than everything that a choice has seen, and a share of its machines has
never been seen at all. Labels of a part know only what the log held at the part's end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.windows import Int

Part = Literal["train", "validate", "test"]


@dataclass(frozen=True)
class Split:
    """Time bounds in microseconds UTC (exclusive below, inclusive above), and machines kept apart.

    Where ``by_machine`` holds, parts differ by machine alone: for records that all start at zero.
    """

    bounds_us: dict[Part, tuple[int, int]]
    unseen: frozenset[str]
    by_machine: bool = False
    held_out: frozenset[str] = frozenset()  # by machine: the validation machines

    def owns(self, part: Part, machine: str, now_us: Int) -> npt.NDArray[np.bool_]:
        """Which ticks (by their end) of a machine belong to a part."""
        low, high = self.bounds_us[part]
        inside = (now_us > low) & (now_us <= high)
        if self.by_machine:
            wanted: Part = (
                "test" if machine in self.unseen else "validate" if machine in self.held_out else "train"
            )
            return inside & (part == wanted)
        return inside if part == "test" or machine not in self.unseen else np.zeros(len(now_us), bool)


def split_by_time(
    failures: Mapping[str, int], first_us: int, last_us: int, *,
    train_until: float, validate_until: float, unseen_share: float, gap_us: int, seed: int,
) -> Split:  # fmt: skip
    """Train, then validate, then test, a gap between; ``failures`` counts each machine's logged failures."""
    span = last_us - first_us
    train_end, validate_end = first_us + int(span * train_until), first_us + int(span * validate_until)
    bounds: dict[Part, tuple[int, int]] = {
        "train": (first_us - 1, train_end),
        "validate": (min(train_end + gap_us, validate_end), validate_end),
        "test": (min(validate_end + gap_us, last_us), last_us),
    }
    return Split(bounds, draw(failures, unseen_share, seed=seed))


def split_by_machine(failures: Mapping[str, int], test: frozenset[str], *, validate_share: float, seed: int) -> Split:
    """For run-to-failure records: test machines are given, validation machines drawn from the others."""
    everything = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
    rest = {machine: count for machine, count in failures.items() if machine not in test}
    bounds: dict[Part, tuple[int, int]] = {"train": everything, "validate": everything, "test": everything}
    return Split(bounds, test, by_machine=True, held_out=draw(rest, validate_share, seed=seed))


def draw(failures: Mapping[str, int], share: float, *, seed: int) -> frozenset[str]:
    """A share of the machines, spread evenly over their counts of failures; ties fall by a seeded hash."""
    order = sorted(failures, key=lambda m: (failures[m], hashlib.sha256(f"{seed}/{m}".encode()).digest()))
    wanted = round(share * len(order))
    if wanted == 0:
        return frozenset()
    positions = ((np.arange(wanted) + 0.5) * len(order) / wanted).astype(int)
    return frozenset(order[i] for i in positions)

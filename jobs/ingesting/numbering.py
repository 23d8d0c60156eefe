"""The one sequence of a plant's batches, of files and of live messages alike: the order of deliveries."""

from __future__ import annotations

from pathlib import Path

from cluster.home import Home
from jobs.ingesting import live


def plan_files(home: Home, plant: str) -> list[Path]:
    """The files of the plans, in delivery order; beside them lies what the gate found."""
    paths = (path for path in home.of(plant).plans.glob("[0-9]*.json") if "." not in path.stem)
    return sorted(paths, key=lambda path: sequence_of(path.stem))


def sequence_of(batch: str) -> int:
    """A batch's number, which has more than six digits once live streams have made a million."""
    number = batch.partition("-")[0]
    return int(number) if number.isdigit() else 0


def last_sequence(home: Home, plant: str) -> int:
    """The number of the newest batch; 0 where there is none."""
    return max([live.last_sequence(home, plant), *(sequence_of(path.stem) for path in plan_files(home, plant))])

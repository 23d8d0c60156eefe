"""A benchmark through the same ingest, windows, training and hazard as any plant.

The one idea: a benchmark is a source description, a clock and a configuration; nothing else knows that it is one. Each
is a file in ``jobs/benchmarks`` with a ``run`` of its own and a line in ``BENCHMARKS``. The public ones read files that
``data`` names; those of ``MAKES_ITS_DATA`` read none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.home import Home
from cluster.report import Progress, Report
from jobs.benchmarks import azure, cmapss, fleet, unseen
from models.errors import InputError

BENCHMARKS: Mapping[str, Callable[..., Report]] = {
    "azure": azure.run, "cmapss": cmapss.run, "fleet": fleet.run, "unseen": unseen.run,
}  # fmt: skip
MAKES_ITS_DATA = frozenset({"fleet", "unseen"})


def run(
    home: Home, *, progress: Progress, name: str, data: Path | None = None, subset: str | None = None, seeds: int = 3
) -> Report:
    """The report of a benchmark.

    Raises InputError for an unknown one, an unknown subset, files that are not there or not named, and for a folder of
    files where none is read.
    """
    found = BENCHMARKS.get(name)
    if found is None:
        raise InputError("Unknown benchmark", expected=f"one of {', '.join(BENCHMARKS)}", found=repr(name))
    if name in MAKES_ITS_DATA:
        if data is not None:
            raise InputError(
                f"The benchmark {name} makes its own data", expected="no --data", found=str(data), do="Leave --data out"
            )
        return found(home, progress=progress, subset=subset, seeds=seeds)
    if data is None:
        raise InputError(
            f"The benchmark {name} reads files", expected="--data DIR", found="no --data",
            do="Name the folder of its files with --data",
        )  # fmt: skip
    return found(home, progress=progress, data=data, subset=subset, seeds=seeds)

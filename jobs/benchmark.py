"""A public benchmark through the same ingest, windows, training and hazard as any plant.

The one idea: a benchmark is a source description, a clock and a configuration; nothing else knows that it is one. Each
is a file in ``jobs/benchmarks`` with a ``run`` of its own and a line in ``BENCHMARKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.home import Home
from cluster.report import Progress, Report
from jobs.benchmarks import azure, cmapss
from models.errors import InputError

BENCHMARKS: Mapping[str, Callable[..., Report]] = {"azure": azure.run, "cmapss": cmapss.run}


def run(home: Home, *, progress: Progress, name: str, data: Path, subset: str | None = None, seeds: int = 3) -> Report:
    """The report of a benchmark. Raises InputError for an unknown one, an unknown subset, or files not there."""
    found = BENCHMARKS.get(name)
    if found is None:
        raise InputError("Unknown benchmark", expected=f"one of {', '.join(BENCHMARKS)}", found=repr(name))
    return found(home, progress=progress, data=data, subset=subset, seeds=seeds)

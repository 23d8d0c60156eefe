"""Where the page of a call's studies is written: ``reports/tuning.html``."""

from __future__ import annotations

from collections.abc import Mapping

from cluster import lineage
from cluster.files import write_atomically
from cluster.home import Home
from cluster.report import code_version
from jobs.tuning.report import TuneReport
from jobs.tuning.search import PlantSearch

FILE = "tuning.html"


def write_page(home: Home, report: TuneReport, searches: Mapping[str, PlantSearch]) -> list[str]:
    """The page of this call's plants in place of the one before; returns its path. Writes nothing without plants."""
    from jobs.reporting.tuning_page import render  # matplotlib takes half a second

    if not report.plants:
        return []
    path = home.path / "reports" / FILE
    space = f", search space {report.space}" if report.space else ""
    origin = f"Millwright {code_version()}{space}. Made from the studies' journals; `millwright tune` makes it anew."
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(report, searches, origin=origin))
    lineage.writes_file(path)
    return [str(path)]

"""``report.html``: what was caught, what was missed, what could not be caught, in one file a person can send.

The one idea: the page is made from what ``evaluate`` and the service left in ``reports/`` and from
nothing else, so it can be made again at any time without a model, Ray or a network.

Reads ``reports/evaluation.json``, ``reports/evaluation/<plant>.story.json`` and, where the demo or a test
of the service has written it, ``reports/served.json``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.text import Text

from cluster.files import write_atomically
from cluster.home import Home
from cluster.report import Progress, Report
from jobs.evaluation.results import PlantResult
from jobs.reporting.words import ServedPlant, origin
from models.errors import InputError, NotFoundError

SERVED = "served.json"
FIGURES = "evaluation.html"  # what `evaluate` writes for people


class PageReport(Report):
    """``path`` of the page, absolute."""

    path: str = ""
    size_bytes: int = 0
    plants: list[str] = []

    def render(self) -> Text:
        return Text(f"{self.path} ({self.size_bytes / 1024:.0f} KB): {', '.join(self.plants)}")


def run(
    home: Home, *, progress: Progress, out: Path | None = None, served: list[dict[str, Any]] | None = None
) -> PageReport:
    """Write the page to ``out`` (default: ``reports/report.html`` in the home).

    ``served`` holds plants as the demo reports them (``name``, ``questions``, ``latency_ms``); it is kept in
    ``reports/served.json``, and None takes what is there. Raises NotFoundError where nothing has been evaluated.
    """
    from jobs.reporting.page import render  # matplotlib takes half a second

    began = time.monotonic()
    folder = home.path / "reports"
    plants = read_evaluation(folder / "evaluation.json")
    progress.step("Draw the report")
    if served is not None:
        _write_served(folder / SERVED, served)
    stories = {p.name: _story(folder / "evaluation" / f"{p.name}.story.json") for p in plants}
    path = out or folder / "report.html"
    figures = FIGURES if (path.parent / FIGURES).is_file() else None
    page = render(plants, stories, read_served(folder / SERVED), origin=origin(plants), figures=figures)
    write_atomically(path, page)
    return PageReport(
        seconds=time.monotonic() - began, path=str(path.resolve()), size_bytes=len(page.encode()),
        plants=[plant.name for plant in plants],
    )  # fmt: skip


def read_evaluation(path: Path) -> list[PlantResult]:
    """The figures that ``evaluate`` wrote. Raises NotFoundError or InputError."""
    if not path.is_file():
        raise NotFoundError(
            "Nothing to report", expected="figures of an evaluation", found="none", where=path,
            do="Run `millwright evaluate` first",
        )  # fmt: skip
    try:
        return TypeAdapter(list[PlantResult]).validate_python(json.loads(path.read_text("utf-8"))["plants"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise _unreadable(path, error) from error


def read_served(path: Path) -> list[ServedPlant]:
    """Served predictions, or none where there was no service."""
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[ServedPlant]).validate_json(path.read_text("utf-8"))
    except (ValueError, ValidationError) as error:
        raise _unreadable(path, error) from error


def _write_served(path: Path, served: list[dict[str, Any]]) -> None:
    known = TypeAdapter(list[ServedPlant]).validate_python(served)
    write_atomically(path, json.dumps([plant.model_dump(mode="json") for plant in known], indent=1, allow_nan=False))


def _story(path: Path) -> dict[str, object]:
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
    except ValueError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    first = str(error)
    if isinstance(error, ValidationError):
        entry = error.errors()[0]
        first = f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}"
    return InputError(
        "Unreadable figures", expected="what `millwright evaluate` writes", found=first[:120], where=path,
        do="Run `millwright evaluate` again",
    )  # fmt: skip

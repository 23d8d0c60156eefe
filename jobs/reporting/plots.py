"""Plots of the report as inline SVG: small, sharp on a phone, and readable without telling red from green.

The one idea: shape tells what colour tells, so a figure survives print and colour blindness. Figures are
drawn at the width of a phone, so that their text is never shrunk. Colours: Okabe and Ito (2008).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jobs.evaluation.results import CandidateResult, PlantResult

BLUE, ORANGE, GREY, INK, PALE = "#0072B2", "#D55E00", "#767676", "#222222", "#E8EEF3"
WIDTH = 4.9  # inches: 353 points, a phone's width
MOST_ROWS = 26  # machines in the strip
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "millwright", "font.family": "sans-serif", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "text.color": INK, "axes.linewidth": 0.8, "path.simplify": True,
    "text.parse_math": False,  # a sensor may be called `$x$`
}  # fmt: skip


def story_plot(story: dict[str, Any]) -> str:
    """Sensors that gave a failure away, and the risk, over the time before it."""
    sensors = story["sensors"]
    scale, unit = (24.0, "days") if story["life_unit"] == "h" else (1.0, "cycles")
    before = -np.array(story["before"]) / scale
    with canvas(1.0 * len(sensors) + 1.75) as (figure, out):
        ratios = [1.0] * len(sensors) + [1.45]
        grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
        axes: list[Axes] = grid[:, 0].tolist()
        for axis, sensor in zip(axes, sensors, strict=False):
            axis.plot(before, _floats(sensor["values"]), color=BLUE, linewidth=1.1)
            if sensor["usual"] is not None:
                axis.axhline(sensor["usual"], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
            axis.set_title(_named(sensor), loc="left", fontsize=9, pad=2)
            axis.yaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
        risk = axes[-1]
        risk.fill_between(before, np.array(story["risk"]) * 100, color=ORANGE, alpha=0.25, linewidth=0)
        risk.plot(before, np.array(story["risk"]) * 100, color=ORANGE, linewidth=1.4)
        risk.axhline(story["threshold"] * 100, color=INK, linewidth=0.9, linestyle=(0, (1.5, 2)))
        risk.text(before[0], story["threshold"] * 100, " alarm", fontsize=8, va="bottom")
        risk.set_title(f"risk of a failure within {story['horizon']}, %", loc="left", fontsize=9, pad=2)
        risk.set_ylim(0, max(100 * max(story["risk"]) * 1.1, story["threshold"] * 130, 1))
        for axis in axes:
            axis.axvline(0, color=INK, linewidth=1.2)
        risk.set_xlabel(f"{unit} before the failure")
    return out[0]


def strip_plot(plant: PlantResult) -> str:
    """Machines with a failure or a false alarm: what was caught and how early, what was missed, what could not be."""
    machines = sorted({f.machine for f in plant.failures})
    quiet = sorted({a.machine for a in plant.alarms if a.outcome == "false"} - set(machines))
    rows = {machine: y for y, machine in enumerate((machines + quiet)[:MOST_ROWS])}
    with canvas(0.19 * max(len(rows), 3) + 0.75) as (figure, out):
        axis = figure.subplots()
        axis.set_xlim(_time(plant.first), max([_time(plant.last), *(_time(f.failed_at) for f in plant.failures)]))
        for alarm in plant.alarms:
            if alarm.machine in rows and alarm.outcome in ("false", "open"):
                filled = GREY if alarm.outcome == "false" else "none"
                axis.plot(_time(alarm.start), rows[alarm.machine], "v", color=GREY, mfc=filled, ms=5)
        for failure in plant.failures:
            if failure.machine in rows:
                _failure(axis, failure.caught, failure.sudden, _time(failure.failed_at), rows[failure.machine],
                         lead=failure.lead if plant.life_unit == "h" else None)  # fmt: skip
        axis.set_yticks(list(rows.values()), list(rows), fontsize=7)
        axis.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        axis.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=3, maxticks=5))
        axis.xaxis.set_major_formatter(mdates.DateFormatter("%d %b"))
        axis.grid(axis="y", color=PALE, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
    return out[0]


def calibration_plot(champion: CandidateResult) -> str:
    """Predicted against observed risk with its interval and the failures behind each point; below, the hours."""
    with canvas(3.5) as (figure, out):
        axis, counts = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        bins = champion.reliability
        top = min(max([1.0, *(100 * max(b.predicted, b.observed) for b in bins)]) * 1.12, 103.0)
        axis.plot([0, top], [0, top], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        said, seen = [100 * b.predicted for b in bins], [100 * b.observed for b in bins]
        axis.plot(said, seen, "o-", color=BLUE, linewidth=1, ms=5)
        for b in bins:
            x, y = 100 * b.predicted, 100 * b.observed
            if b.low is not None and b.high is not None:
                axis.plot([x, x], [100 * b.low, 100 * b.high], color=BLUE, linewidth=1, alpha=0.7)
            if x > 0.15 * top and b.num_failures:
                axis.annotate(f"n={b.num_failures}", (x, y), (6, -9), textcoords="offset points", fontsize=8)
        axis.set(xlim=(0, top), ylim=(0, top), ylabel="failed, %")
        counts.bar(said, [b.count for b in bins], width=top / 60, color=GREY)
        counts.set_yscale("log")
        counts.set_ylim(1, 10 ** np.ceil(np.log10(max([10, *(b.count for b in bins)]))))
        counts.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        counts.set(xlabel="predicted risk, %", ylabel="hours")
    return out[0]


def _failure(axis: Axes, caught: bool, sudden: bool | None, at: float, row: int, *, lead: float | None) -> None:
    if caught:
        if lead is not None:
            axis.plot([at - lead / 24, at], [row, row], color=BLUE, linewidth=3, alpha=0.45, solid_capstyle="butt")
        axis.plot(at, row, "o", color=BLUE, ms=6)
    elif sudden:
        axis.plot(at, row, "x", color=INK, ms=6, mew=1.6)
    else:
        axis.plot(at, row, "D", color=ORANGE, mfc="white", ms=5.5, mew=1.6)


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, list[str]]]:
    """A figure; when the block ends, the list holds its SVG."""
    out: list[str] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, out
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        out.append(_inline(text.getvalue()))


def _inline(svg: str) -> str:
    """Only what HTML needs: no prologue, no metadata, no names of namespaces, and a width that follows the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), svg)  # never in what is read
    return svg.replace("font: ", "font-family: system-ui, sans-serif; font: ") if "font: " in svg else svg


def _named(sensor: dict[str, Any]) -> str:
    unit = "" if sensor["unit"] in ("", "1") else f", {spoken_unit(sensor['unit'])}"
    return str(sensor["name"]).replace("_", " ") + unit


def spoken_unit(text: str) -> str:
    """Units as people write them, anywhere in a text."""
    for written, spoken in (("degC", "\u00b0C"), ("m^3", "m\u00b3"), ("m/s^2", "m/s\u00b2"), ("N*m", "N m")):
        text = text.replace(written, spoken)
    return text


def _time(text: str) -> float:
    return float(mdates.date2num(datetime.fromisoformat(text)))


def _floats(values: list[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if v is None else v for v in values], np.float64)

"""Plots of the figures' page: calibration with counts, leads, alarms by threshold, the interval by band of life.

The one idea: what a plot rests on is drawn in it: how many hours, how many failures, how wide the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.evaluation.results import BandResult, CandidateResult
from jobs.reporting.plots import BLUE, GREY, INK, ORANGE, PALE, canvas

SHOWN_WIDTHS = 1.25  # room over the widest interval


def lead_plot(champion: CandidateResult, *, num_failures: int, min_lead: float, max_lead: float, unit: str) -> str:
    """Share of all failures that were announced at least so long before."""
    with canvas(2.3) as (figure, out):
        axis = figure.subplots()
        leads = np.array([*champion.leads, max_lead])
        share = [100 * sum(lead >= x for lead in champion.leads) / max(num_failures, 1) for x in leads]
        axis.step([0, *leads], [100 * len(champion.leads) / max(num_failures, 1), *share], where="pre", color=BLUE,
                  linewidth=1.6)  # fmt: skip
        axis.plot(champion.leads, share[:-1], "o", color=BLUE, ms=4.5)
        axis.axvspan(0, min_lead, color=PALE)
        axis.text(min_lead, 100, " too late to act before", fontsize=8, va="top")
        axis.set(xlim=(0, max_lead), ylim=(0, 102), xlabel=f"{unit} before the failure", ylabel="failures announced, %")
    return out[0]


def threshold_plot(champion: CandidateResult) -> str:
    """Failures caught, and alarms that came true, by the threshold; the one in use is marked."""
    with canvas(2.5) as (figure, out):
        axis = figure.subplots()
        x = [max(100 * p.threshold, 1e-3) for p in champion.curve]
        axis.plot(x, [100 * p.recall for p in champion.curve], color=BLUE, linewidth=1.7)
        axis.plot(x, [np.nan if p.precision is None else 100 * p.precision for p in champion.curve], color=ORANGE,
                  linewidth=1.5, linestyle=(0, (4, 2)))  # fmt: skip
        if champion.threshold is not None:
            axis.axvline(max(100 * champion.threshold, 1e-3), color=INK, linewidth=0.9, linestyle=(0, (1.5, 2)))
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set(ylim=(0, 103), xlabel="alarm from a risk of, %", ylabel="%")
    return out[0]


def band_plot(champion: CandidateResult, unit: str) -> str:
    """Coverage of the 80 % interval by band of predicted and of true life, and the interval's width below it."""
    names = _band_names(champion)
    with canvas(3.3) as (figure, out):
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
        for bands, marker, colour, shift in ((champion.bands_predicted, "o", BLUE, -0.12),
                                             (champion.bands_true, "s", ORANGE, 0.12)):  # fmt: skip
            for band in bands:
                _coverage(above, band, names.index(band_name(band)) + shift, marker=marker, colour=colour)
        above.axhline(80, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        above.set(ylim=(0, 104), ylabel="held, %")
        widths = [(names.index(band_name(b)), b.width or 0.0, b.beyond) for b in champion.bands_predicted]
        below.bar([x for x, _, _ in widths], [w for _, w, _ in widths], width=0.5, color=BLUE, alpha=0.6)
        for x, width, beyond in widths:
            if beyond is not None and beyond > 0.5:  # most of these intervals are open at the top
                below.text(x, width, "open", ha="center", va="bottom", fontsize=8)
        below.set_ylim(0, max([1.0, *(w for _, w, _ in widths)]) * SHOWN_WIDTHS)
        below.set_ylabel(f"width, {unit}")
        below.set_xticks(range(len(names)), names, fontsize=8)
        below.set_xlabel(f"remaining life, {unit}")
    return out[0]


def band_name(band: BandResult) -> str:
    return f"{band.low:g} to {band.high:g}" if band.high is not None else f"over {band.low:g}"


def _coverage(axis: Any, band: BandResult, x: float, *, marker: str, colour: str) -> None:
    if band.coverage.value is None:
        return
    if band.coverage.low is not None and band.coverage.high is not None:
        axis.plot([x, x], [100 * band.coverage.low, 100 * band.coverage.high], color=colour, linewidth=1.1)
    axis.plot(x, 100 * band.coverage.value, marker, color=colour, mfc=colour if marker == "o" else "white", ms=5.5)


def _band_names(champion: CandidateResult) -> Sequence[str]:
    bands = {b.low: band_name(b) for b in [*champion.bands_predicted, *champion.bands_true]}
    return [bands[low] for low in sorted(bands)]

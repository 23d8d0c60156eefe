"""Plots of a study: learning curves, importance of settings, and settings against loss.

The one idea: the chosen trial is thick and blue, the configuration as it is dashed and orange, all others thin and
grey; how a trial ended is its last mark's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jobs.reporting.plots import BLUE, GREY, INK, ORANGE, canvas
from jobs.tuning.journal import Trial

MARKS = {"finished": "o", "stopped": "v", "diverged": "X", "out_of_memory": "X", "failed": "X", "running": "s"}
ABOVE = 1.5  # how many times the middle half of all losses a curve may go above it before it leaves the plot


def learning_plot(trials: Sequence[Trial], best: int | None, default: int | None) -> str:
    """Loss on later time by epoch, a line a trial."""
    known = np.array([loss for t in trials for loss in t.losses if loss is not None])
    with canvas(3.2) as (figure, out):
        axis = figure.subplots()
        for trial in sorted(trials, key=lambda t: (t.number == best, t.number == default)):
            points = [(epoch, loss) for epoch, loss in enumerate(trial.losses, 1) if loss is not None]
            if not points:
                continue
            style = _style(trial.number, best, default)
            axis.plot(*zip(*points, strict=True), **style)
            axis.plot(*points[-1], MARKS.get(trial.state, "s"), color=style["color"], ms=5, zorder=style["zorder"])
        low, quarter, upper, high = np.quantile(known, (0, 0.25, 0.75, 1))
        top = min(high, upper + ABOVE * max(upper - quarter, (upper - low) / 2, 1e-6))
        room = 0.04 * max(top - low, 1e-6)
        axis.set_ylim(low - room, top + room)
        axis.set(xlabel="epoch", ylabel="loss on later time")
        axis.xaxis.set_major_locator(_whole())
    return out[0]


def importance_plot(shares: Mapping[str, float]) -> str:
    """Bars, the weightiest on top."""
    names = list(shares)[::-1]
    with canvas(0.3 * len(names) + 0.8) as (figure, out):
        axis = figure.subplots()
        values = [100 * shares[name] for name in names]
        axis.barh(names, values, color=BLUE, height=0.6)
        for row, value in enumerate(values):
            axis.text(value, row, f" {value:.0f} %", va="center", fontsize=8)
        axis.set_yticks(range(len(names)), [spoken(name) for name in names])
        axis.set(xlim=(0, max([*values, 1]) * 1.18), xlabel="share, %")
    return out[0]


def parallel_plot(
    names: Sequence[str], settings: Sequence[Mapping[str, Any]], trials: Sequence[Trial], *, best: int | None,
    default: int | None, logarithmic: Sequence[str] = (),
) -> str:  # fmt: skip
    """An axis a setting and, last, the loss; a line a trial through its values. Every axis has its own scale."""
    columns = [_scaled([own[name] for own in settings], log=name in logarithmic) for name in names]
    losses = [float(t.loss) for t in trials if t.loss is not None]
    columns.append(_scaled(losses, log=False))
    with canvas(3.4) as (figure, out):
        axis = figure.subplots()
        order = sorted(range(len(trials)), key=lambda i: (trials[i].number == best, trials[i].number == default))
        for index in order:
            heights = [column[0][index] for column in columns]
            axis.plot(range(len(columns)), heights, **_style(trials[index].number, best, default))
        for place, (_, ticks) in enumerate(columns):
            axis.plot([place, place], [0, 1], color=INK, linewidth=0.7)
            for height, text in ticks:
                # Ends stand beyond their axis, where no line runs; a choice between them beside it, on white.
                side = "bottom" if height == 1 else "top" if height == 0 else "center"
                shift = {"bottom": (0, 2), "top": (0, -2), "center": (3, 0)}[side]
                axis.annotate(text, (place, height), shift, textcoords="offset points", fontsize=7.5, va=side,
                              ha="left" if side == "center" else "center", zorder=6,
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip
        labels = [_folded(spoken(name)) for name in names]
        axis.set_xticks(range(len(columns)), [*labels, "loss"], fontsize=7.5)
        axis.set(yticks=[], xlim=(-0.3, len(columns) - 0.7), ylim=(-0.09, 1.09))
        _bare(axis)
    return out[0]


def spoken(name: str) -> str:
    """A setting as people write it; a later variant by its number."""
    own, _, variant = name.partition("#")
    return own.replace("_", " ") + (f" (variant {int(variant) + 1})" if variant else "")


def _folded(text: str) -> str:
    return text.replace(" ", "\n", 1)


def written(value: Any) -> str:
    """A value as short as it can be read."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def _scaled(values: Sequence[Any], *, log: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights from 0 to 1, and the ticks: ends of a range, or every choice."""
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not numeric or len(set(values)) <= 2:
        found = sorted(set(values), key=lambda v: (isinstance(v, str), v))
        at = {v: row / max(1, len(found) - 1) if len(found) > 1 else 0.5 for row, v in enumerate(found)}
        return [at[v] for v in values], [(height, written(v)) for v, height in at.items()]
    turned = np.array([float(v) for v in values])
    usable = np.log(turned) if log and (turned > 0).all() else turned
    low, high = float(usable.min()), float(usable.max())
    heights = ((usable - low) / (high - low)).tolist() if high > low else [0.5] * len(values)
    return heights, [(0.0, written(min(values))), (1.0, written(max(values)))]


def _style(number: int, best: int | None, default: int | None) -> dict[str, Any]:
    if number == best:
        return {"color": BLUE, "linewidth": 2.4, "zorder": 4}
    if number == default:
        return {"color": ORANGE, "linewidth": 1.5, "linestyle": (0, (4, 2)), "zorder": 3}
    return {"color": GREY, "linewidth": 0.8, "alpha": 0.75, "zorder": 2}


def _whole() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=8)


def _bare(axis: Axes) -> None:
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)

"""The gate: a challenger beside the champion on the same later ticks, and what that comes to.

The one idea: whatever keeps two models from being compared is a reason to let the champion stay, never an error; who
knows better says so with a reason (`--force`), and that is written down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cluster.dossiers import Interval, Slice
from cluster.home import Home
from jobs.dataset import load_plant
from jobs.evaluate import context_asked
from jobs.evaluation.rows import forecast
from jobs.promotion.figures import PairFigures, pair_figures
from jobs.promotion.slices import known_span, slice_of
from models.bundle import Bundle
from models.config import ModelConfig
from models.errors import InputError
from models.labels import doubtful_ticks
from models.metrics import Estimate
from models.predictor import Predictor
from models.ruling import Ruling, margin_in_nats, rule


@dataclass(frozen=True)
class Judged:
    """``figures``, ``slice`` and ``margin`` (nats a tick) are None where the two could not be compared."""

    ruling: Ruling
    figures: PairFigures | None = None
    slice: Slice | None = None
    margin: float | None = None
    seen: tuple[bool | None, ...] = (None, None)
    data_version: str = ""


def judge(home: Home, plant: str, champion: Bundle, challenger: Bundle) -> Judged:
    """Compare two verified bundles of a plant on its history as it is now."""
    if (why := incomparable(champion.spec.config, challenger.spec.config)) is not None:
        return not_judged(why)
    try:
        return _compared(home, plant, champion, challenger)
    except InputError as error:  # too little history, or a model that does not fit it
        return not_judged(f"nothing to compare them on. {str(error).rstrip('.')}")


def not_judged(why: str) -> Judged:
    return Judged(Ruling("inconclusive", why))


def incomparable(one: ModelConfig, other: ModelConfig) -> str | None:
    """Why two likelihoods, or two alarms, do not mean the same; None where they do."""
    pairs = {
        "clock": (one.clock, other.clock),
        "hazard.edges": (one.hazard.edges, other.hazard.edges),
        "hazard.horizons": (one.hazard.horizons, other.hazard.horizons),
        "window.carry": (one.window.carry, other.window.carry),
    }
    differ = [name for name, (a, b) in pairs.items() if a != b]
    return f"the two models differ in {', '.join(differ)}, so their figures do not compare" if differ else None


def _compared(home: Home, plant: str, champion: Bundle, challenger: Bundle) -> Judged:
    gate, specs = home.settings.promote, (champion.spec, challenger.spec)
    config = challenger.spec.config
    length = max(spec.config.window.length for spec in specs)  # a shorter window is the end of a longer one
    config = config.model_copy(update={"window": config.window.model_copy(update={"length": length})})
    data = load_plant(home, plant, config=config, context=context_asked([champion, challenger]))
    split = data.split_in_time(home.settings.split, config)
    known = [known_span(home, plant, spec.lineage.data_version) for spec in specs]
    chosen = slice_of(
        data, split, specs, known, settings=home.settings.split, min_failures=gate.min_failures
    )  # fmt: skip
    rows = chosen.rows
    said = [forecast(rows, Predictor(bundle), data.channels) for bundle in (champion, challenger)]
    doubtful = doubtful_ticks(rows.ticks.time.astype(np.float32), rows.ended_by, within=config.hazard.alarm_within)
    found = pair_figures(rows.ticks, doubtful, *said, config=config.hazard, usual=champion.spec.usual.hazard)
    margin = 0.0 if found.usual is None else margin_in_nats(found.champion.value, found.usual, gate.margin)
    ruling = rule(
        found.difference, margin=margin, num_failures=chosen.slice.num_failures, min_failures=gate.min_failures
    )
    told = chosen.slice.model_copy(update={"num_announceable": found.num_announceable})
    return Judged(ruling, found, told, margin, chosen.seen, data.version)


def interval(estimate: Estimate) -> Interval:
    """An estimate as it is written; NaN is None."""
    values = (estimate.value, estimate.low, estimate.high)
    value, low, high = (number if math.isfinite(number) else None for number in values)
    return Interval(value=value, low=low, high=high)

"""Which ticks a challenger and the champion are compared on.

The one idea: best are ticks that neither model could have met, those that came after both were made. Where they hold
too few failures it is the validation part, later than both trainings, which calibration and early stopping have seen.
The test part of today's history is read in the first case only, from its end, and never for unseen machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster import dossiers
from cluster.config import SplitSettings
from cluster.dossiers import Slice
from cluster.home import Home
from cluster.storage import reading_files
from jobs.dataset import PlantData
from jobs.evaluation.rows import LaterRows, later_rows
from models.episodes import Ticks
from models.errors import InputError
from models.predict import iso
from models.spec import BundleSpec
from models.split import Split, split_by_time

TODAY = ", if `split` was set then as it is today"
Span = tuple[int, int]  # microseconds UTC: exclusive below, inclusive above


@dataclass(frozen=True)
class Compared:
    """The rows that both answer; ``seen``: for each model, whether it was calibrated on them (None: not known)."""

    rows: LaterRows
    slice: Slice
    seen: tuple[bool | None, ...]


def slice_of(
    data: PlantData, split: Split, specs: Sequence[BundleSpec], known: Sequence[Span | None], *,
    settings: SplitSettings, min_failures: int,
) -> Compared:  # fmt: skip
    """The fresh ticks where they hold ``min_failures``, else the validation part. Raises InputError without a tick.

    ``known``: the span of what each of the two models, the champion first, was made from, where that is known.
    """
    fresh, told = _fresh(data, split, known, min_failures)
    if fresh is not None:
        told = "later than everything that either model could have met; `evaluate` reads these ticks too, as test time"
        return Compared(fresh, _described(data, fresh, "fresh", told), (False,) * len(specs))
    own = [None if span is None else _parts(span, settings, split) for span in known]
    low, high = split.bounds_us["validate"]
    # History may have grown at its beginning too: nothing that a model was trained on may judge it.
    low = max([low, *(parts.bounds_us["validate"][0] for parts in own if parts is not None)])
    rows = later_rows(data, _with(split, (low, high)), part="validate")
    seen = tuple(
        # The fleet's network was calibrated on other plants alone.
        None if parts is None else spec.scope == "plant" and _overlap(parts.bounds_us["validate"], (low, high))
        for spec, parts in zip(specs, own, strict=True)
    )
    return Compared(rows, _described(data, rows, "validation", f"{told}; {_of_seen(seen)}{TODAY}"), seen)


def known_span(home: Home, plant: str, version: str) -> Span | None:
    """First and last reading of a data version; None where it cannot be read any more."""
    try:
        files = reading_files(home, plant, as_of=version)
    except InputError:
        return None
    return min(file.first_us for file in files), max(file.last_us for file in files)


def read_before(home: Home, plant: str, split: Split) -> list[str]:
    """What promotions have read of today's test part, in sentences; a dossier that cannot be read is one too."""
    begins, told = iso(split.bounds_us["test"][0]), []
    for name in dossiers.names(home, plant):
        try:
            found = dossiers.read(home, plant, name)
        except InputError as error:
            told.append(str(error))
            continue
        if found.slice is not None and found.slice.last > begins:
            first = max(found.slice.first, begins)
            told.append(
                f"{plant}: a promotion ({found.verdict}, {found.at[:10]}) was judged on {first} to {found.slice.last}, "
                "which is test time here: only unseen machines are untouched by choices"
            )
    return told


def num_failures(ticks: Ticks) -> int:
    """Distinct failures that the ticks lead to."""
    return len(np.unique(ticks.lives()[ticks.event]))


def _fresh(
    data: PlantData, split: Split, known: Sequence[Span | None], min_failures: int
) -> tuple[LaterRows | None, str]:
    """Ticks after all that both models could have met, or why not."""
    spans = [span for span in known if span is not None]
    if len(spans) < len(known):
        return None, "what a model was made from cannot be read any more, so nothing is known to be new"
    step = data.clock.step_us
    newest = -(-max(last for _, last in spans) // step) * step  # a tick that began before it holds readings of then
    if newest >= data.last_us:
        return None, "no history has come since both models were made"
    try:
        rows = later_rows(data, _with(split, (newest, data.last_us)), part="validate")
    except InputError:
        return None, f"nothing that has come since {iso(newest)} has a known outcome"
    found = num_failures(rows.ticks)
    if found < min_failures:
        return None, f"{found} failures since {iso(newest)}, when both models were made, are too few"
    return rows, ""


def _with(split: Split, span: Span) -> Split:
    return replace(split, bounds_us={**split.bounds_us, "validate": span})


def _parts(span: Span, settings: SplitSettings, split: Split) -> Split:
    """The parts that a model had, made from what was there, as far as the settings were today's."""
    gap_us = split.bounds_us["validate"][0] - split.bounds_us["train"][1]
    return split_by_time(
        {}, *span, train_until=settings.train_until, validate_until=settings.validate_until, unseen_share=0,
        gap_us=gap_us, seed=0,
    )  # fmt: skip


def _overlap(one: Span, other: Span) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def _of_seen(seen: Sequence[bool | None]) -> str:
    champion, challenger = seen
    if champion and challenger:
        return "both models were calibrated, and their trainings stopped, on these ticks or some of them"
    if challenger and champion is False:
        return "the challenger was calibrated on these ticks and the champion was not, which favours the challenger"
    if champion and challenger is False:
        return "the champion was calibrated on these ticks and the challenger was not, which favours the champion"
    if champion is False and challenger is False:
        return "neither model was calibrated on these ticks"
    return "whether the models were calibrated on these ticks is not known for both"


def _described(data: PlantData, rows: LaterRows, kind: str, told: str) -> Slice:
    return Slice.model_validate(
        {
            "kind": kind, "first": iso(int(rows.time_us.min())), "last": iso(int(rows.time_us.max())),
            "num_machines": len(np.unique(rows.ticks.machine)), "num_ticks": len(rows.time_us), "every": rows.every,
            "num_failures": num_failures(rows.ticks), "told": told,
        }
    )  # fmt: skip

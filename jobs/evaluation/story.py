"""One failure told for people: the sensors that gave it away and the risk, up to its end.

The one idea: a caught failure whose lead is the middle one, not the best; where none was caught, the first
of the record, told as missed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs.dataset import PlantData
from jobs.evaluation.rows import LaterRows, arranged
from jobs.evaluation.truth import Truth
from models.episodes import FailureSeen, Judgement
from models.explain import explain
from models.predict import iso
from models.predictor import Predictor

STEPS_SHOWN = 336  # at most; two weeks of an hourly grid
NUM_SENSORS = 3


def story_of(
    data: PlantData, rows: LaterRows, predictor: Predictor, judgement: Judgement, truth: Truth | None
) -> dict[str, Any]:
    """Plain JSON of one failure's last days; empty where there was no failure to tell of."""
    chosen = _chosen(judgement)
    if chosen is None:
        return {}
    piece, spec = rows.pieces[chosen.machine], predictor.spec
    at_us, clock, length = rows.at_us(chosen.at, data), data.clock, spec.config.window.length
    span = round(2 * max(spec.config.hazard.horizons.values()) / clock.life_per_step)
    # Before the failure, after the machine's former life, and with a whole window inside the series.
    last = int(np.searchsorted(piece.series.ticks * clock.step_us, at_us, side="left")) - 1
    end = piece.labels.time + piece.series.ticks * clock.life_per_step
    same = (np.abs(end - end[last]) < clock.life_per_step) & piece.labels.usable
    same[: length - 1] = False
    ends = np.flatnonzero(same)
    ends = ends[(ends <= last) & (ends > last - span)]
    ends = ends[:: max(1, -(-len(ends) // STEPS_SHOWN))]
    windows = arranged(piece.windows(length, ends), data.channels, spec)
    risks = predictor.risk(windows)
    told = explain(predictor, windows[int(np.argmax(risks))])
    units = {c.name: c.unit for c in spec.channels}
    sensors = [r for r in told.reasons if units[r["sensor"]] != "life" and r["value"] is not None]
    names = [c.name for c in spec.channels]
    known = truth.of(piece.machine, at_us) if truth is not None else None
    return {
        "machine": piece.machine, "failed_at": iso(at_us), "caught": chosen.lead is not None, "lead": chosen.lead,
        "mode": known.mode if known else None, "life_unit": clock.life_unit, "threshold": spec.threshold,
        "horizon": spec.alarm_horizon, "usual_risk": told.usual_risk,
        "before": [round((last - int(e)) * clock.life_per_step, 3) for e in ends],
        "risk": [round(float(r), 5) for r in risks],
        "sensors": [
            {
                "name": r["sensor"], "unit": r["unit"], "usual": r["usual"],
                "values": _numbers(windows[:, -1, names.index(r["sensor"])]),
            }
            for r in sensors[:NUM_SENSORS]
        ],
        "reasons": [dict(r) for r in told.reasons],
    }  # fmt: skip


def _chosen(judgement: Judgement) -> FailureSeen | None:
    caught = sorted((f for f in judgement.failures if f.lead is not None), key=lambda f: f.lead or 0.0)
    if caught:
        return caught[len(caught) // 2]
    return judgement.failures[0] if judgement.failures else None


def _numbers(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[float | None]:
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in values.tolist()]

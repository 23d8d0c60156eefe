"""Answers to many windows at once, as rows of the journal.

The one idea: these are the rows that ``models.predict.answer`` and ``cluster.predictions.as_table`` would give, window
by window, computed as arrays; a test compares them. Nothing here decides what an answer is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from cluster.predictions import SCHEMA
from models.predict import degradation_codes, missing_share, outlooks, prediction_id, window_digests
from models.predictor import Scored
from models.spec import BundleSpec
from models.windows import Float, Int


def journal_rows(
    spec: BundleSpec,
    scored: Scored,
    windows: Float,
    *,
    plant: str,
    machine: str,
    as_of_us: Int,
    always: Sequence[str],
    predicted_us: int,
) -> pa.Table:
    """Rows of ``SCHEMA`` for windows [B, W, C] of one machine and what they were scored.

    ``as_of_us`` [B] is each window's end; ``always`` are the codes of causes that every answer of the model has.
    """
    count, found = len(scored.hazard), outlooks(spec, scored.hazard, scored.modes, missing_share(spec, windows))
    times = as_of_us.tolist()
    ids = [
        prediction_id(spec.version, plant, machine, digest, at)
        for digest, at in zip(window_digests(windows), times, strict=True)
    ]
    moments = pa.array(times, pa.int64()).cast(SCHEMA.field("as_of").type)
    columns = {
        "prediction_id": pa.array(ids, pa.string()),
        "plant": pa.repeat(plant, count),
        "machine": pa.repeat(machine, count),
        "as_of": moments,
        "data_until": moments,
        "model_name": pa.repeat(spec.name, count),
        "model_version": pa.repeat(spec.version, count),
        "failure_probability": _texts(one.failure_probability for one in found),
        "remaining_useful_life": _texts(one.remaining_useful_life for one in found),
        "degraded": _codes(degradation_codes(spec, windows), always),
        "predicted_at": pa.repeat(pa.scalar(predicted_us, pa.int64()), count).cast(SCHEMA.field("predicted_at").type),
        "source": pa.repeat("score", count),
        "failure_modes": _texts(one.failure_modes for one in found),
    }
    return pa.table(columns, schema=SCHEMA)


def _texts(found: Iterable[dict[str, Any]]) -> pa.Array:
    return pa.array([orjson.dumps(one).decode() for one in found], pa.string())


def _codes(found: Sequence[tuple[str, ...]], always: Sequence[str]) -> pa.Array:
    known: dict[tuple[str, ...], str] = {}
    texts = []
    for codes in found:
        if codes not in known:
            known[codes] = orjson.dumps([*codes, *always]).decode()
        texts.append(known[codes])
    return pa.array(texts, pa.string())


def seen_rows(values: Float, lead: int, num_sensors: int) -> NDArray[np.int64]:
    """Rows of a series that own a window: those past its lead where any sensor has a value."""
    known = ~np.isnan(values[lead:, :num_sensors]).all(axis=1)
    found: NDArray[np.int64] = np.flatnonzero(known) + lead
    return found

"""A later part as rows, and what each candidate says at every one of them.

The one idea: all candidates are asked about the same ticks, evenly thinned, so that figures differ
by the model alone. The test part is read by `evaluate` and nobody else, after every choice has been made;
whoever chooses asks for the validation part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.dataset import PartOfMachine, PlantData
from models.episodes import Ticks
from models.errors import InputError
from models.evaluation import Forecast
from models.predictor import Predictor, risk
from models.spec import BundleSpec
from models.split import Part, Split
from models.windows import Channel, Float

# Ticks that every candidate scores: a few seconds a plant on one core. Enough for every tick of the demo's plants:
# judging every second one hid 4 of ridge's 23 false alarms that hourly service raises.
MOST_TICKS = 45_000
CHUNK = 2048
LATER_THAN: dict[Part, str] = {
    "train": "of the training part", "validate": "later than the training part",
    "test": "later than the training and validation parts",
}  # fmt: skip


@dataclass(frozen=True)
class LaterRows:
    """Ticks of a part with their labels; ``time_us`` [N] is each tick's end, ``unseen`` [M] by machine.

    ``pieces`` and ``rows_of`` lead back to each machine's windows, in the order of ``ticks``.
    """

    machines: tuple[str, ...]
    unseen: NDArray[np.bool_]
    ticks: Ticks
    time_us: NDArray[np.int64]
    every: int  # a tick in so many is scored
    pieces: tuple[PartOfMachine, ...]
    rows_of: tuple[NDArray[np.int64], ...]

    @property
    def ended_by(self) -> NDArray[np.int8]:
        """What ended each tick's life [N], as ``models.labels`` has it."""
        return np.concatenate([p.labels.ended_by[own] for p, own in zip(self.pieces, self.rows_of, strict=True)])

    def at_us(self, now: float, data: PlantData) -> int:
        """Microseconds UTC of a time on the ticks' own scale."""
        steps = (now - float(self.ticks.now.min())) / data.clock.life_per_step
        return int(self.time_us.min()) + round(steps * data.clock.step_us)


def later_rows(data: PlantData, split: Split, *, part: Part = "test", most: int = MOST_TICKS) -> LaterRows:
    """The usable ticks of a part, one in ``every``. Raises InputError where there is none."""
    pieces = list(data.part(part, split))
    total = sum(int(piece.labels.usable[piece.rows].sum()) for piece in pieces)
    if total == 0:
        raise InputError(
            "Nothing to evaluate on", expected=f"readings {LATER_THAN[part]} with a known outcome", found="none",
            where=f"plant {data.plant}", do="Ingest a longer history, or lower split.validate_until",
        )  # fmt: skip
    every = max(1, -(-total // most))
    rows_of = tuple(_chosen(piece, every) for piece in pieces)
    step_us, life = data.clock.step_us, data.clock.life_per_step
    number = [piece.series.ticks[rows] for piece, rows in zip(pieces, rows_of, strict=True)]
    first = min(int(ticks[0]) for ticks in number if len(ticks))
    joined = np.concatenate(number)
    ticks = Ticks(
        machine=np.repeat(np.arange(len(pieces)), [len(rows) for rows in rows_of]),
        now=((joined - first) * life).astype(np.float64),
        time=np.concatenate([p.labels.time[r] for p, r in zip(pieces, rows_of, strict=True)]).astype(np.float64),
        event=np.concatenate([p.labels.event[r] for p, r in zip(pieces, rows_of, strict=True)]),
        num_machines=len(pieces), step=every * life,
    )  # fmt: skip
    return LaterRows(
        tuple(p.machine for p in pieces), np.array([p.unseen for p in pieces], bool), ticks, joined * step_us, every,
        tuple(pieces), rows_of,
    )  # fmt: skip


def forecast(rows: LaterRows, predictor: Predictor, channels: tuple[Channel, ...]) -> Forecast:
    """The candidate's hazard and risk at every row, under the threshold that its bundle carries."""
    spec = predictor.spec
    found = [np.empty((0, spec.num_bins), np.float32)]
    for piece, own in zip(rows.pieces, rows.rows_of, strict=True):
        for start in range(0, len(own), CHUNK):
            windows = piece.windows(spec.config.window.length, own[start : start + CHUNK])
            found.append(predictor.hazard(arranged(windows, channels, spec)))
    hazard = np.concatenate(found)
    return Forecast(risk(spec, hazard), spec.threshold, hazard, spec.life_levels)


def arranged(windows: Float, channels: tuple[Channel, ...], spec: BundleSpec) -> Float:
    """Windows [..., C] of the plant's channels in the bundle's order; a channel that is gone is NaN."""
    if channels == spec.channels:
        return windows
    place = {channel.name: index for index, channel in enumerate(channels)}
    out = np.full((*windows.shape[:-1], len(spec.channels)), np.nan, np.float32)
    for index, channel in enumerate(spec.channels):
        if channel.name in place:
            out[..., index] = windows[..., place[channel.name]]
    return out


def _chosen(piece: PartOfMachine, every: int) -> NDArray[np.int64]:
    keep = piece.labels.usable[piece.rows] & (piece.series.ticks[piece.rows] % every == 0)
    found: NDArray[np.int64] = piece.rows[keep]
    return found

"""Repeated folds by machine: every machine answered by models that have never seen it, once a repetition.

The one idea: in each repetition the machines are dealt into groups with as many failures each; a group is test once,
the next one then validates (early stopping, calibration, alarm threshold), the others train. So the answers of a
repetition cover every tick of every machine, each is given once, and none by a model that saw its machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import ray
from numpy.typing import NDArray

from cluster.bundles import load_at
from cluster.home import Home
from cluster.places import place_of, reference
from cluster.registry import bundle_folder
from cluster.report import Progress
from jobs.candidates import study_of
from jobs.dataset import PlantData
from jobs.study import Candidate, Study
from jobs.train import fit_network, start
from models.config import ModelConfig
from models.episodes import Ticks
from models.errors import InputError
from models.features import Sequence as History
from models.hazard import probability_within
from models.predictor import Predictor, risk
from models.split import Part, Split

KINDS = ("network", "trees", "no_sensor", "blind")  # blind: the same network without the sensors
CHUNK = 2048
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Said:
    """What one candidate of one repetition says at every tick, always of machines that it has not seen.

    ``alarm`` [N]: whether the risk reaches the threshold that its fold's validation machines chose. ``usual`` [N] is
    the risk that its fold's training machines' Kaplan-Meier curve gives to everyone.
    """

    risk: Floats
    alarm: NDArray[np.bool_]
    usual: Floats


@dataclass(frozen=True)
class OutOfFold:
    """Ticks of all machines, and for each repetition what each kind of candidate says of them."""

    machines: tuple[str, ...]
    ticks: Ticks
    said: tuple[Mapping[str, Said], ...]


def folds_of(failures: Mapping[str, int], number: int, *, seed: int) -> list[Split]:
    """A split for each fold. Raises InputError where there are fewer machines than folds, or fewer than three folds."""
    if number < 3 or len(failures) < number:
        raise InputError("Too few machines for the folds", expected=f"at least {max(3, number)}", found=len(failures))
    order = sorted(failures, key=lambda m: (-failures[m], hashlib.sha256(f"{seed}/{m}".encode()).digest()))
    # There and back again, so that no group always gets the one with more failures.
    groups: list[set[str]] = [set() for _ in range(number)]
    for place, machine in enumerate(order):
        turn, at = divmod(place, number)
        groups[at if turn % 2 == 0 else number - 1 - at].add(machine)
    everything = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
    bounds: dict[Part, tuple[int, int]] = {"train": everything, "validate": everything, "test": everything}
    return [
        Split(bounds, frozenset(group), by_machine=True, held_out=frozenset(groups[(n + 1) % number]))
        for n, group in enumerate(groups)
    ]


def out_of_fold(
    home: Home, data: PlantData, config: ModelConfig, *, folds: int, repeats: int, progress: Progress
) -> OutOfFold:
    """Fit a network, trees, the no-sensor baseline and the network without sensors on each fold, and ask each about
    its fold's test machines."""
    bundles = bundle_folder(home, data.plant, "x").parent
    shared, cache = ray.put(data), str(home.of(data.plant).cache / "bundles")
    hidden = tuple(channel.name for channel in data.channels if channel.role == "sensor")
    waiting: dict[ray.ObjectRef[dict[str, dict[str, Said]]], int] = {}
    for repeat in range(repeats):
        for split in folds_of(data.failures(), folds, seed=repeat):
            study = limited(study_of(data, split, config))
            blind = {"seed": repeat, "ignore": (*config.network.ignore, *hidden)}
            fitted = [*start(study, bundles, [{"seed": repeat}]), fit_network.remote(study, reference(bundles), blind)]
            waiting[_answered.remote(shared, split, cache, *fitted)] = repeat
    found: list[dict[str, dict[str, Said]]] = [{} for _ in range(repeats)]
    total, pending = len(waiting), list(waiting)
    while pending:
        done, pending = ray.wait(pending, num_returns=1)
        for task in done:
            found[waiting[task]] |= ray.get(task)
        progress.update(total - len(pending), total, "folds")
    machines = tuple(sorted(found[0]))
    said = tuple(
        {kind: _joined([own[machine][kind] for machine in machines]) for kind in KINDS} for own in found
    )  # fmt: skip
    return OutOfFold(machines, _ticks([judged_history(data, machine) for machine in machines], config), said)


def limited(study: Study) -> Study:
    """The study with all lives censored at the last edge.

    With a few dozen failures the far future is noise: its bins are most of the likelihood, and a model that is stopped
    by it stops before it has learned the near future, which is all that is asked. Source for censoring at a planned
    time as harmless: Cox (1972).
    """
    last = study.config.hazard.edges[-1]

    def cut(history: History) -> History:
        near = history.time <= last
        return replace(history, time=np.minimum(history.time, np.float32(last)), event=history.event & near)

    return replace(study, train=[cut(s) for s in study.train], validate=[cut(s) for s in study.validate])


def judged_history(data: PlantData, machine: str) -> tuple[History, NDArray[np.int64]]:
    """All of a machine with its labels, as the log stands now, and the rows that are judged."""
    whole = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
    split = Split({"train": whole, "validate": whole, "test": whole}, frozenset([machine]), by_machine=True)
    piece = data.part_of(data.series[machine], "test", split, data.known_to("test", split))
    assert piece is not None, "a machine of the history has readings"
    start_row, history = piece.sequence()
    return history, piece.rows[piece.labels.usable[piece.rows]] - start_row


@ray.remote(num_cpus=1)
def _answered(data: PlantData, split: Split, cache: str, *candidates: Candidate) -> dict[str, dict[str, Said]]:
    """Machine -> kind -> what the candidate's bundle, as it would be served, says of each of its ticks.

    The candidates come in the order of ``KINDS``.
    """
    from pathlib import Path

    predictors = {
        kind: Predictor(load_at(place_of(c.folder), Path(cache))) for kind, c in zip(KINDS, candidates, strict=True)
    }
    found: dict[str, dict[str, Said]] = {}
    for machine in sorted(split.unseen & set(data.series)):
        history, rows = judged_history(data, machine)
        found[machine] = {kind: _said(predictor, history, rows) for kind, predictor in predictors.items()}
    return found


def _said(predictor: Predictor, history: History, rows: NDArray[np.int64]) -> Said:
    from models.windows import windows_ending

    spec = predictor.spec
    hazard = np.concatenate(
        [np.empty((0, spec.num_bins), np.float32)]
        + [
            predictor.hazard(windows_ending(history.values, rows[at : at + CHUNK], spec.config.window.length))
            for at in range(0, len(rows), CHUNK)
        ]
    )
    horizon = spec.config.hazard.horizons[spec.alarm_horizon]
    usual = probability_within(np.array([spec.usual.hazard]), spec.config.hazard.edges, horizon)[0]
    chance = risk(spec, hazard)
    return Said(chance, chance >= spec.threshold, np.full(len(rows), usual))


def _joined(parts: Sequence[Said]) -> Said:
    return Said(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("risk", "alarm", "usual")))


def _ticks(histories: Sequence[tuple[History, NDArray[np.int64]]], config: ModelConfig) -> Ticks:
    life = config.clock.life_per_step
    return Ticks(
        machine=np.repeat(np.arange(len(histories)), [len(rows) for _, rows in histories]),
        now=np.concatenate([(h.first_tick + rows) * life for h, rows in histories]).astype(np.float64),
        time=np.concatenate([h.time[rows] for h, rows in histories]).astype(np.float64),
        event=np.concatenate([h.event[rows] for h, rows in histories]),
        num_machines=len(histories), step=life,
    )  # fmt: skip

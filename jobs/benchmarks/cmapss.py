"""NASA C-MAPSS: turbofan engines that run to failure, and others whose remaining cycles are to be told.

The one idea: the benchmark is a source description, a cycle clock and a configuration; nothing else
knows that it is one. Test engines are read by training as nothing, and by scoring once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import ray
from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.bundles import load_at
from cluster.home import Home
from cluster.places import Place, place_of, reference
from cluster.registry import Tracking, bundle_folder
from cluster.report import Progress, Report
from cluster.sources import write_source
from jobs import ingest
from jobs.benchmarks.cmapss_files import SENSORS, data_file, read_labels
from jobs.candidates import study_of
from jobs.dataset import PlantData, load_plant
from jobs.promote import crown
from jobs.study import Candidate, Study
from jobs.train import cross_fitted, fit_baseline
from models.config import Clock, HazardConfig, ModelConfig, NetworkConfig, TreesConfig, WindowConfig
from models.conformal import interval_figures
from models.errors import InputError
from models.hazard import restricted_mean
from models.metrics import asymmetric_score, paired, rmse
from models.predictor import Predictor
from models.source import CsvFormat, MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

CAP = 125.0  # cycles; the protocol's clipping of remaining life
SUBSETS = ("FD001", "FD002", "FD003", "FD004")
CONFIG = ModelConfig(
    clock=Clock(step_s=1, life_unit="cycle"),
    window=WindowConfig(length=128, carry=0),
    hazard=HazardConfig(
        horizons={"10": 10, "20": 20, "50": 50}, edges=tuple(float(e) for e in range(5, 126, 5)), cap=CAP
    ),
    # Chosen on held-out training engines of FD001; see docs/decisions.md.
    network=NetworkConfig(
        layers=3, kernel=5, batch_size=4, train_steps=600_000, patience=100, mean_weight=10.0, folds=3,
        deviations=False,
    ),
    trees=TreesConfig(),
)
Numbers = npt.NDArray[np.float64]


class Score(BaseModel):
    """Mean over seeds; ``interval`` is the 95 % bootstrap interval of the RMSE over engines."""

    rmse: float
    score: float
    interval: tuple[float, float]
    seeds: list[float]


class Protocols(BaseModel):
    """``clipped``: labels clipped at 125 cycles too; ``true``: labels as given. Never to be mixed."""

    clipped: Score
    true: Score


class Intervals(BaseModel):
    """80 % intervals of remaining cycles, one window an engine, all seeds; see ``models.conformal.IntervalFigures``."""

    coverage: tuple[float, float, float]  # estimate and 95 % bootstrap interval over engines
    counted: tuple[float, float, float]
    width: float
    beyond: float


class BenchmarkReport(Report):
    name: str = ""
    subset: str = ""
    engines: int = 0
    model: Protocols
    baseline: Protocols
    no_sensor: Protocols
    gain: tuple[float, float, float] = (0.0, 0.0, 0.0)  # trees' clipped RMSE less the network's, paired over engines
    intervals: dict[str, Intervals] = {}
    champion: str = ""

    def render(self) -> RenderableType:
        seeds = len(self.model.true.seeds)
        table = Table(title=f"{self.name} {self.subset}: {self.engines} test engines, {seeds} seeds")
        for column in ("model", "protocol", "RMSE", "95 % over engines", "seeds", "score"):
            table.add_column(column)
        for label, found in (("network", self.model), ("trees", self.baseline), ("age only", self.no_sensor)):
            for protocol, s in (("clipped", found.clipped), ("true", found.true)):
                each = " ".join(f"{x:.2f}" for x in s.seeds)
                low, high = s.interval
                table.add_row(label, protocol, f"{s.rmse:.2f}", f"{low:.2f} to {high:.2f}", each, f"{s.score:.0f}")
        told = [_told(label, found) for label, found in self.intervals.items()]
        value, low, high = self.gain
        told.append(f"The network's clipped RMSE is {value:.2f} below the trees' ({low:.2f} to {high:.2f}, by engine).")
        words = "clipped: test labels clipped at 125 cycles too; true: labels as given. RMSE in cycles."
        return Group(table, *told, words)


def run(home: Home, *, progress: Progress, data: Path, subset: str | None = None, seeds: int = 3) -> BenchmarkReport:
    """One subset, FD001 where none is named. Raises InputError for an unknown one, or files that are not there."""
    began = time.monotonic()
    subset = subset or SUBSETS[0]
    if subset not in SUBSETS:
        raise InputError("Unknown subset", expected=f"one of {', '.join(SUBSETS)}", found=repr(subset))
    labels = read_labels(data, subset)
    source = description(data, subset)
    home.sources.mkdir(parents=True, exist_ok=True)
    write_source(home.of(source.plant).source, source)
    progress.step(f"Ingest {subset}")
    ingest.run(home, plant=source.plant, progress=progress)
    progress.step("Cut windows")
    history = load_plant(home, source.plant, config=CONFIG)
    test = [f"test-{unit}" for unit in range(1, len(labels) + 1)]
    missing = [m for m in test if m not in history.series]
    if missing or len(test) != sum(m.startswith("test-") for m in history.series):
        raise InputError(
            "Labels do not fit the test file", expected=f"{len(labels)} engines",
            found=sum(m.startswith("test-") for m in history.series), where=data,
        )  # fmt: skip
    folders = bundle_folder(home, source.plant, "x").parent
    progress.step(f"Train {seeds} networks and the baselines")
    networks, trees, no_sensor = _train(_studies(home, history, frozenset(test), seeds), folders, progress)
    progress.step("Score the test engines, once")
    cache = home.of(source.plant).cache / "bundles"
    scored = {c.version: remaining_life(c, history, test, cache) for c in [*networks, *trees, no_sensor]}
    with Tracking(home) as tracking:
        run_id = tracking.start(source.plant, f"{source.plant}/benchmark", tags={"plant": source.plant})
        same_split = [networks[0], trees[0], no_sensor]
        champion = crown(home, source.plant, same_split, tracking=tracking, run_id=run_id)
    return BenchmarkReport(
        seconds=time.monotonic() - began, name="cmapss", subset=subset, engines=len(test), champion=champion.version,
        model=_protocols([scored[c.version] for c in networks], labels),
        baseline=_protocols([scored[c.version] for c in trees], labels),
        no_sensor=_protocols([scored[no_sensor.version]], labels),
        gain=gain_of([[scored[c.version] for c in each] for each in (trees, networks)], np.minimum(labels, CAP)),
        intervals={
            label: intervals(found, history, test, cache, labels)
            for label, found in (("network", networks), ("trees", trees), ("age only", [no_sensor]))
        },
    )  # fmt: skip


def description(data: Path, subset: str) -> SourceDescription:
    """What NASA's files mean: 26 columns separated by blanks, no header; a training engine's record ends in failure."""
    columns = ("unit", "cycle", *SENSORS)
    sensors = {column: SensorColumn(sensor=column) for column in SENSORS}

    def stream(part: str) -> Stream:
        return Stream(
            name=part, role="readings", files=data_file(data, part, subset).name,
            csv=CsvFormat(delimiter="whitespace", columns=columns),
            time=TimeFormat(column="cycle", format="counter", step_s=1), machine_type="turbofan", sensors=sensors,
            machine=MachineFrom(kind="column", column="unit", prefix=f"{part}-"), run_to_failure=part == "train",
        )  # fmt: skip

    streams = (stream("train"), stream("test"))
    return SourceDescription(plant=f"cmapss-{subset}", root=str(data.resolve()), clock=CONFIG.clock, streams=streams)


def remaining_life(candidate: Candidate, data: PlantData, machines: list[str], cache: Path) -> Numbers:
    """E[min(T, cap)] [engines] at each engine's last cycle, from the bundle as it would be served."""
    predictor = Predictor(load_at(place_of(candidate.folder), cache))
    length = predictor.spec.config.window.length
    windows = np.stack([data.series[m].values[-length:] for m in machines])
    edges = predictor.spec.config.hazard.edges
    return np.asarray(restricted_mean(predictor.hazard(windows), edges, CAP), np.float64)


def intervals(
    candidates: list[Candidate], data: PlantData, machines: list[str], cache: Path, labels: Numbers
) -> Intervals:
    """Whether the 80 % intervals as served at each engine's last cycle hold the cycles that were left, as labelled."""
    hazards, levels = [], []
    for candidate in candidates:
        predictor = Predictor(load_at(place_of(candidate.folder), cache))
        windows = np.stack([data.series[m].values[-predictor.spec.config.window.length :] for m in machines])
        hazards.append(predictor.hazard(windows))
        levels.append(np.tile(predictor.spec.life_levels, (len(machines), 1)))
    found = interval_figures(
        np.concatenate(hazards), CONFIG.hazard.edges, np.concatenate(levels), np.tile(labels, len(candidates)),
        machine=np.tile(np.arange(len(machines)), len(candidates)),
    )  # fmt: skip
    coverage, counted = ((e.value, e.low, e.high) for e in (found.coverage, found.counted))
    return Intervals(coverage=coverage, counted=counted, width=found.width, beyond=found.beyond)


def _told(label: str, found: Intervals) -> str:
    (value, low, high), (counted, *_) = found.coverage, found.counted
    return (
        f"{label}: 80 % intervals cover {value:.0%} ({low:.0%} to {high:.0%}) of engines, {counted:.0%} counted up to "
        f"the last edge; median width {found.width:.0f} cycles, {found.beyond:.0%} go on past it."
    )


def _studies(home: Home, history: PlantData, test: frozenset[str], seeds: int) -> list[Study]:
    """One a seed, each with validation engines of its own: figures are not those of one lucky draw of twenty."""
    split = home.settings.split
    return [
        study_of(history, history.split_in_machines(split.model_copy(update={"seed": split.seed + seed}), test), CONFIG)
        for seed in range(seeds)
    ]


def _train(
    studies: list[Study], folders: Place, progress: Progress
) -> tuple[list[Candidate], list[Candidate], Candidate]:
    """A network and trees for each seed and its study, and the no-sensor baseline."""
    seeds, place = len(studies), reference(folders)
    shared = [ray.put(study) for study in studies]
    choices = [{"seed": seed} for seed in range(seeds)]
    tasks = [cross_fitted(study, own, folders, c) for study, own, c in zip(studies, shared, choices, strict=True)]
    tasks += [fit_baseline.remote(study, place, True, seed) for seed, study in enumerate(shared)]
    tasks.append(fit_baseline.remote(shared[0], place, False))
    waiting = list(tasks)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        ray.get(done)  # a failure ends the benchmark here
        progress.update(len(tasks) - len(waiting), len(tasks), "models")
    found = ray.get(tasks)
    return found[:seeds], found[seeds:-1], found[-1]


def _protocols(predicted: list[Numbers], labels: Numbers) -> Protocols:
    return Protocols(clipped=_score(predicted, np.minimum(labels, CAP)), true=_score(predicted, labels))


def gain_of(predicted: list[list[Numbers]], actual: Numbers) -> tuple[float, float, float]:
    """RMSE of the first less that of the second, squared errors averaged over seeds, with its interval over engines."""
    squared = [np.mean([(p - actual) ** 2 for p in each], axis=0) for each in predicted]

    def rmse_of(errors: Numbers) -> Callable[[Numbers], float]:
        return lambda weight: float(np.sqrt((weight * errors).sum() / weight.sum()))

    first, second = map(rmse_of, squared)
    found = paired(first, second, len(actual), rng=np.random.default_rng(0), draws=1000)
    return found.value, found.low, found.high


def _score(predicted: list[Numbers], actual: Numbers) -> Score:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(actual), (1000, len(actual)))
    squared = np.mean([(p - actual) ** 2 for p in predicted], axis=0)
    low, high = np.quantile(np.sqrt(squared[drawn].mean(axis=1)), (0.025, 0.975))
    seeds = [rmse(p, actual) for p in predicted]
    return Score(
        rmse=float(np.mean(seeds)), score=float(np.mean([asymmetric_score(p, actual) for p in predicted])),
        interval=(float(low), float(high)), seeds=seeds,
    )  # fmt: skip

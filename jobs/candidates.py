"""Candidates of a study: the searched network and its baselines, each calibrated, judged and bundled alike.

The one idea: every candidate answers the same later windows with the same kind of curve, and the one
with the highest censored log-likelihood there is the champion, baseline or not. Test data are never read here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cluster import bundles as store
from cluster.files import write_atomically
from cluster.home import Home
from cluster.places import Place, reference
from cluster.report import Progress, code_version
from jobs.crossfit import members_of, whole
from jobs.dataset import PlantData, load_plant, named_plants
from jobs.ingest import over_ray
from jobs.series.judged import Judged, judge
from jobs.series.later import count_failures
from jobs.series.modes import known_modes, mode_trust
from jobs.trial import begin, configured
from models.config import ModelConfig
from models.errors import InputError
from models.features import Sequence
from models.hazard import usual_hazard_over
from models.modes import NO_MODES, Modes
from models.scaling import MAX_ROWS
from models.spec import BundleSpec, Lineage, ScalingNumbers, Usual
from models.split import Split
from models.windows import Channel

CANDIDATES = "candidates.json"


@dataclass(frozen=True)
class Study:
    """What a trial, a baseline and a bundle need to know of a plant; small, since its sequences stay on disk."""

    plant: str
    channels: tuple[Channel, ...]
    config: ModelConfig
    machine_types: tuple[str, ...]
    data_version: str
    doubts: dict[str, str]
    train: Ordered[Sequence]
    validate: Ordered[Sequence]
    num_failures: int  # distinct failures in the training part
    modes: Modes = NO_MODES
    by_machine: bool = False  # parts differ by machine, not by time
    scaled_by: Ordered[Sequence] | None = None  # whose values scale a network; None: those of the training part


@dataclass(frozen=True)
class Candidate:
    """A bundled model; ``log_likelihood`` is the calibrated mean of the later slice, higher is better."""

    kind: str
    version: str
    folder: str
    log_likelihood: float
    seconds: float


def study_of(data: PlantData, split: Split, config: ModelConfig) -> Study:
    """The training and validation parts of a plant under its own clock."""
    config = config.model_copy(update={"clock": data.clock})
    train, validate = (data.sequences(part, split, spread=over_ray) for part in ("train", "validate"))
    return Study(
        data.plant, data.channels, config, tuple(sorted(set(data.machine_types.values()))), data.version, data.doubts,
        train, validate, count_failures(train, config.clock), known_modes(train, data.failure_modes, config.clock),
        split.by_machine,
    )  # fmt: skip


def studies_of(home: Home, plants: str, *, progress: Progress) -> Iterator[Study]:
    """What each of the plants (comma-separated, or ``all``) has to learn from.

    Raises InputError for a named plant that has too little; among ``all`` it is left out, unless none is left.
    """
    found, last = 0, None
    for name in named_plants(home, plants):
        try:
            data = load_plant(home, name)
            study = study_of(data, data.split_in_time(home.settings.split, home.settings.model), home.settings.model)
            _require_learnable(study, data)
        except InputError as error:
            if plants != "all":
                raise
            progress.note(f"{name} is left out. {error}")
            last = error
            continue
        found += 1
        yield study
    if last is not None and not found:
        raise last


def _require_learnable(study: Study, data: PlantData) -> None:
    days = (data.last_us - data.first_us) / 86_400e6
    for part, sequences in (("training", study.train), ("validation", study.validate)):
        if not any(sequence.usable.any() for sequence in sequences):
            raise InputError(
                "Too little history to learn from", expected=f"readings in the {part} part with a known outcome",
                found=f"none; {days:.0f} days of {len(data.series)} machines in all", where=f"plant {data.plant}",
                do="Ingest a longer history, or change `split.train_until` and `split.validate_until`",
            )  # fmt: skip
    if not study.num_failures:
        raise InputError(
            "No failure to learn from", expected="at least one logged failure in the training part",
            found=f"none; {sum(data.failures().values())} in all of {days:.0f} days", where=f"plant {data.plant}",
            do="Ingest the log of failures, or a longer history",
        )  # fmt: skip


def network_candidate(study: Study, bundles: Place, choices: dict[str, Any], *states: bytes) -> Candidate:
    """The network of a trial's saved state, or of those of all members, exported and bundled."""
    from models.export import export_onnx, export_reasons
    from models.networks import NetworkModel, joined, weights_of

    began, members = time.monotonic(), members_of(study, choices)
    fits = [begin(member, {}) for member in members]
    for fit, state in zip(fits, states, strict=True):
        fit.restore(state)
    networks = [fit.best() for fit in fits]
    heard = [
        (member.validate, NetworkModel(own)) for member, own in zip(members, networks, strict=True)
    ]  # fmt: skip
    network, validate = joined(networks), study.validate
    study = whole(study) if len(members) > 1 else study
    judged = judge(heard, study.config, compared=validate)
    trust = mode_trust(heard, study.modes, study.config) if study.modes.names else 1.0
    scaling = ScalingNumbers.of(fits[0].scaling)
    weights, config = weights_of(network), configured(study.config, choices)
    onnx = export_onnx(
        network, judged.calibration, config.window.length, len(study.channels), mode_shares=study.modes.shares,
        trust=trust,
    )  # fmt: skip
    told = export_reasons(network, judged.calibration, config.window.length, _usual(study)[0])
    return _bundle(
        study, bundles, "network", config, replace(judged, mode_trust=trust), began=began, weights=weights, onnx=onnx,
        reasons=told, scaling=scaling,
    )  # fmt: skip


def baseline(study: Study, bundles: Place, *, sensors: bool) -> Candidate:
    """The gradient-boosted baseline, or without ``sensors`` the one that sees only age and error log."""
    from models.trees import fit_trees

    began = time.monotonic()
    model = fit_trees(study.train, study.validate, study.config, study.channels, sensors=sensors)
    judged = judge([(study.validate, model)], study.config)
    scaling = None if model.scaling is None else ScalingNumbers.of(model.scaling)
    weights = model.to_text()
    return _bundle(study, bundles, model.kind, study.config, judged, began=began, weights=weights, scaling=scaling)


def choose(candidates: list[Candidate]) -> Candidate:
    """The champion: the highest censored log-likelihood on later time; on a tie the first."""
    return max(candidates, key=lambda c: c.log_likelihood)


def best_of_each_kind(candidates: list[Candidate]) -> dict[str, Candidate]:
    """Where several seeds of one kind were fitted, the one that ``choose`` would take."""
    return {c.kind: c for c in sorted(candidates, key=lambda c: c.log_likelihood)}


def write_candidates(bundles: Place, candidates: list[Candidate]) -> None:
    """Which bundle is which kind, the best of each, for evaluation beside the champion."""
    found = {kind: asdict(c) for kind, c in best_of_each_kind(candidates).items()}
    write_atomically(bundles / CANDIDATES, json.dumps(found, indent=1))


def alarm_horizon(config: ModelConfig) -> str:
    """48 h where it is served, else the middle one of the horizons."""
    return config.hazard.alarm_horizon


def _bundle(
    study: Study, bundles: Place, kind: Any, config: ModelConfig, judged: Judged, *, began: float,
    weights: bytes | str, onnx: bytes | None = None, reasons: bytes | None = None,
    scaling: ScalingNumbers | None = None,
) -> Candidate:  # fmt: skip
    raw = weights if isinstance(weights, bytes) else weights.encode()
    # What follows from equal data, configuration and weights is the same version, whenever it was made.
    learned = f"{judged.calibration}/{judged.levels}/{hashlib.sha256(raw).hexdigest()}"
    identity = f"{study.data_version}/{config.digest()}/{learned}"
    if study.modes.names:
        identity += f"/{study.modes}/{judged.mode_trust}"
    version = f"{kind.replace('_', '-')}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
    folder = bundles / version
    candidate = Candidate(kind, version, reference(folder), judged.log_likelihood, time.monotonic() - began)
    if (folder / "manifest.json").is_file():
        return candidate
    window, ranges = _usual(study)
    present = np.mean([~np.isnan(s.values[:: max(1, len(s.values) // 200)]).all(axis=0) for s in study.train], axis=0)
    hazard = usual_hazard_over(config.hazard.edges, ((s.time[s.usable], s.event[s.usable]) for s in study.train))
    spec = BundleSpec(
        plant=study.plant, kind=kind, name=study.plant, version=version, config=config, channels=study.channels,
        machine_types=study.machine_types, scaling=scaling or ScalingNumbers(), calibration=judged.calibration,
        usual=Usual(
            window=window, hazard=tuple(hazard.tolist()), modes=study.modes.shares, present=tuple(present.tolist())
        ),
        ranges=ranges, failure_modes=study.modes.names, mode_trust=judged.mode_trust,
        alarm_horizon=alarm_horizon(config), threshold=judged.threshold, life_levels=judged.levels,
        num_failures_trained_on=study.num_failures,
        metrics={"validation_log_likelihood": judged.log_likelihood},
        lineage=Lineage(
            data_version=study.data_version, code_version=code_version(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        doubts=study.doubts,
    )  # fmt: skip
    store.save(folder, spec, weights=weights, onnx=onnx, reasons=reasons, card=_card(study, spec))
    return candidate


def _usual(study: Study) -> tuple[tuple[float | None, ...], dict[str, tuple[float, float]]]:
    """Median of each channel over training steps, and the range that all but 0.2 % of them lie in."""
    stride = max(7, sum(int(s.usable.sum()) for s in study.train) // MAX_ROWS)
    rows = np.concatenate([s.values[np.flatnonzero(s.usable)[::stride]] for s in study.train])
    window: list[float | None] = []
    ranges: dict[str, tuple[float, float]] = {}
    for channel, column in zip(study.channels, rows.T, strict=True):
        seen = column[~np.isnan(column)]
        if len(seen) == 0:
            window.append(None)
            continue
        low, middle, high = (float(q) for q in np.quantile(seen, (0.001, 0.5, 0.999)))
        window.append(middle)
        ranges[channel.name] = (low, high)
    return tuple(window), ranges


def _card(study: Study, spec: BundleSpec) -> str:
    machines = {s.machine for s in study.train}
    sensors = ", ".join(f"{c.name} [{c.unit}]" for c in spec.channels)
    return f"""# {spec.plant}: {spec.kind}, version {spec.version}

Answers how likely a machine of plant {spec.plant} ({", ".join(spec.machine_types)}) is to fail within
{", ".join(spec.config.hazard.horizons)}, and how much life is left, from its last {spec.config.window.length} steps.

- Learned from {len(machines)} machines and {spec.num_failures_trained_on} logged failures; data {study.data_version}.
- Reads {sensors}.
- Judged on later time, on machines that it was trained on: censored log-likelihood
  {spec.metrics["validation_log_likelihood"]:.4f} a step; calibrated and given its alarm threshold
  ({spec.threshold:.3f} on {spec.alarm_horizon}) on the same slice. Test figures: `millwright evaluate`.
- The 80 % interval of life left is read at {spec.life_levels[0]:.1%} and {spec.life_levels[2]:.1%} of the curve, so
  that it covers 80 % of that slice's lives, censored ones by what they may still reach.
- Limits: failures without a precursor cannot be foreseen; maintenance is taken to censor independently;
  maintenance on condition too, but for confirmed findings, each of which counts as half a failure;
  a sensor outside the range seen in training makes an answer `degraded`, not impossible.
"""

"""Candidates as bundles: what whoever serves a model must know, and the card that people read.

The one idea: a version is named by what the model follows from, so the same study makes the same bundle, once.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cluster import bundles as store
from cluster.places import Place, reference
from cluster.report import code_version
from jobs.series.judged import Judged
from jobs.study import Candidate, Fleet, Study
from models.config import ModelConfig
from models.hazard import usual_hazard_over
from models.networks import HazardNetwork
from models.scaling import MAX_ROWS
from models.spec import BundleSpec, Lineage, ScalingNumbers, Usual


def bundle_network(
    study: Study, bundles: Place, network: HazardNetwork, config: ModelConfig, judged: Judged, *, began: float,
    scaling: ScalingNumbers, fleet: Fleet | None = None,
) -> Candidate:  # fmt: skip
    """A network with its graphs."""
    from models.export import export_onnx, export_reasons
    from models.networks import weights_of

    onnx = export_onnx(
        network, judged.calibration, config.window.length, len(study.channels), mode_shares=study.modes.shares,
        trust=judged.mode_trust,
    )  # fmt: skip
    told = export_reasons(network, judged.calibration, config.window.length, usual_of(study)[0])
    return bundle(
        study, bundles, "network", config, judged, began=began, weights=weights_of(network), onnx=onnx, reasons=told,
        scaling=scaling, fleet=fleet,
    )  # fmt: skip


def bundle(
    study: Study, bundles: Place, kind: Any, config: ModelConfig, judged: Judged, *, began: float,
    weights: bytes | str, onnx: bytes | None = None, reasons: bytes | None = None,
    scaling: ScalingNumbers | None = None, fleet: Fleet | None = None,
) -> Candidate:  # fmt: skip
    """Written where it is not there yet. ``fleet``: the plant's model is the fleet's, which learned elsewhere."""
    raw = weights if isinstance(weights, bytes) else weights.encode()
    # What follows from equal data, configuration and weights is the same version, whenever it was made.
    learned = f"{judged.calibration}/{judged.levels}/{hashlib.sha256(raw).hexdigest()}"
    identity = f"{study.data_version}/{config.digest()}/{learned}"
    if study.modes.names:
        identity += f"/{study.modes}/{judged.mode_trust}"
    if fleet is not None:
        identity += f"/{fleet.version}"
    version = f"{kind.replace('_', '-')}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
    folder = bundles / version
    candidate = Candidate(
        kind, version, reference(folder), judged.log_likelihood, time.monotonic() - began, judged.by_machine
    )
    if (folder / "manifest.json").is_file():
        return candidate
    window, ranges = usual_of(study)
    parent = fleet or (study.fleet if kind == "network" and config.network.start == "fleet" else None)
    present = np.mean([~np.isnan(s.values[:: max(1, len(s.values) // 200)]).all(axis=0) for s in study.train], axis=0)
    hazard = usual_hazard_over(config.hazard.edges, ((s.time[s.usable], s.event[s.usable]) for s in study.train))
    spec = BundleSpec(
        plant=study.plant, kind=kind, name=study.plant, version=version, config=config, channels=study.channels,
        machine_types=study.machine_types, scaling=scaling or ScalingNumbers(), calibration=judged.calibration,
        usual=Usual(
            window=window, hazard=tuple(hazard.tolist()), modes=study.modes.shares, present=tuple(present.tolist())
        ),
        ranges=ranges, failure_modes=study.modes.names, mode_trust=judged.mode_trust,
        alarm_horizon=config.hazard.alarm_horizon, threshold=judged.threshold, life_levels=judged.levels,
        num_failures_trained_on=study.num_failures if fleet is None else fleet.num_failures,
        scope="plant" if fleet is None else "fleet",
        metrics={"validation_log_likelihood": judged.log_likelihood},
        lineage=Lineage(
            data_version=study.data_version, code_version=code_version(), parent=parent.version if parent else None,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        doubts=study.doubts,
    )  # fmt: skip
    store.save(folder, spec, weights=weights, onnx=onnx, reasons=reasons, card=_card(study, spec))
    return candidate


def usual_of(study: Study) -> tuple[tuple[float | None, ...], dict[str, tuple[float, float]]]:
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
    learned = f"{len({s.machine for s in study.train})} machines and {spec.num_failures_trained_on} logged failures"
    if spec.scope == "fleet":
        learned = f"the fleet's plants and their {spec.num_failures_trained_on} logged failures, none of this plant's"
    elif spec.lineage.parent is not None:
        learned += f", from the fleet's weights {spec.lineage.parent}"
    sensors = ", ".join(f"{c.name} [{c.unit}]" for c in spec.channels)
    likelihood = f"censored log-likelihood {spec.metrics['validation_log_likelihood']:.4f} a step"
    alarm = f"its alarm threshold ({spec.threshold:.3f} on {spec.alarm_horizon})"
    on = "on machines that it was trained on" if spec.scope == "plant" else "of the fleet's plants, read as if unseen"
    judged = f"Judged on later time, {on}: {likelihood};\n  calibrated and given {alarm} on the same slice."
    return f"""# {spec.plant}: {spec.kind}, version {spec.version}

Answers how likely a machine of plant {spec.plant} ({", ".join(spec.machine_types)}) is to fail within
{", ".join(spec.config.hazard.horizons)}, and how much life is left, from its last {spec.config.window.length} steps.

- Learned from {learned}; data {study.data_version}.
- Reads {sensors}.
- {judged}
- The 80 % interval of life left is read at {spec.life_levels[0]:.1%} and {spec.life_levels[2]:.1%} of the curve, so
  that it covers 80 % of that slice's lives, censored ones by what they may still reach.
- Limits: failures without a precursor cannot be foreseen; maintenance is taken to censor independently;
  maintenance on condition too, but for confirmed findings, each of which counts as half a failure;
  a sensor outside the range seen in training makes an answer `degraded`, not impossible.
"""

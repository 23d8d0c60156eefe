"""Candidates of a study: the searched network and its baselines, each calibrated, judged and bundled alike.

The one idea: every candidate answers the same later windows with the same kind of curve, and the one
with the highest censored log-likelihood there is the champion, baseline or not. Test data are never read here.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from cluster.files import write_atomically
from cluster.home import Home
from cluster.places import Place
from cluster.report import Progress
from jobs.bundling import bundle, bundle_network
from jobs.crossfit import members_of, whole
from jobs.dataset import PlantData, load_plant, named_plants
from jobs.ingest import over_ray
from jobs.series.judged import judge
from jobs.series.later import count_failures
from jobs.series.modes import known_modes, mode_trust
from jobs.study import Candidate, Study
from jobs.trial import begin, configured
from models.config import ModelConfig
from models.errors import InputError
from models.spec import ScalingNumbers
from models.split import Split

CANDIDATES = "candidates.json"


def study_of(data: PlantData, split: Split, config: ModelConfig) -> Study:
    """The training and validation parts of a plant under its own clock."""
    config = config.model_copy(update={"clock": data.clock})
    train, validate = (data.sequences(part, split, spread=over_ray) for part in ("train", "validate"))
    return Study(
        data.plant, data.channels, config, tuple(sorted(set(data.machine_types.values()))), data.version, data.doubts,
        train, validate, count_failures(train, config.clock), known_modes(train, data.failure_modes, config.clock),
        split.by_machine,
    )  # fmt: skip


def studies_of(
    home: Home, plants: str, *, progress: Progress, without_failures: bool = False
) -> Iterator[Study]:
    """What each of the plants (comma-separated, or ``all``) has to learn from.

    With ``without_failures`` those come too that have readings alone.

    Raises InputError for a named plant that has too little; among ``all`` it is left out, unless none is left.
    """
    found, last = 0, None
    for name in named_plants(home, plants):
        try:
            data = load_plant(home, name)
            study = study_of(data, data.split_in_time(home.settings.split, home.settings.model), home.settings.model)
            study = replace(study, allowed_networks=home.settings.registry.allowed_networks)
            _require_learnable(study, data, without_failures=without_failures)
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


def _require_learnable(study: Study, data: PlantData, *, without_failures: bool) -> None:
    days = (data.last_us - data.first_us) / 86_400e6
    for part, sequences in (("training", study.train), ("validation", study.validate)):
        if not any(sequence.usable.any() for sequence in sequences):
            raise InputError(
                "Too little history to learn from", expected=f"readings in the {part} part with a known outcome",
                found=f"none; {days:.0f} days of {len(data.series)} machines in all", where=f"plant {data.plant}",
                do="Ingest a longer history, or change `split.train_until` and `split.validate_until`",
            )  # fmt: skip
    if not study.num_failures and not without_failures:
        raise no_failure(study, f"; {sum(data.failures().values())} in all of {days:.0f} days")


def no_failure(study: Study, told: str = "") -> InputError:
    """What a plant that has nothing to learn from is told."""
    return InputError(
        "No failure to learn from", expected="at least one logged failure in the training part", found=f"none{told}",
        where=f"plant {study.plant}", do="Ingest the log of failures, or a longer history",
    )  # fmt: skip


def network_candidate(study: Study, bundles: Place, choices: dict[str, Any], *states: bytes) -> Candidate:
    """The network of a trial's saved state, or of those of all members, exported and bundled."""
    from models.networks import NetworkModel, joined

    began, members = time.monotonic(), members_of(study, choices)
    fits = [begin(member, {}) for member in members]
    for fit, state in zip(fits, states, strict=True):
        fit.restore(state)
    networks = [fit.best() for fit in fits]
    heard = [(member.validate, NetworkModel(own)) for member, own in zip(members, networks, strict=True)]
    network, validate = joined(networks), study.validate
    study = whole(study) if len(members) > 1 else study
    judged = judge(heard, study.config, compared=validate)
    if study.modes.names:
        judged = replace(judged, mode_trust=mode_trust(heard, study.modes, study.config))
    return bundle_network(
        study, bundles, network, configured(study.config, choices), judged, began=began,
        scaling=ScalingNumbers.of(fits[0].scaling),
    )  # fmt: skip


def baseline(study: Study, bundles: Place, *, sensors: bool) -> Candidate:
    """The gradient-boosted baseline, or without ``sensors`` the one that sees only age and error log."""
    from models.trees import fit_trees

    began = time.monotonic()
    model = fit_trees(study.train, study.validate, study.config, study.channels, sensors=sensors)
    judged = judge([(study.validate, model)], study.config)
    scaling = None if model.scaling is None else ScalingNumbers.of(model.scaling)
    weights = model.to_text()
    return bundle(study, bundles, model.kind, study.config, judged, began=began, weights=weights, scaling=scaling)


def choose(candidates: list[Candidate]) -> Candidate:
    """The champion: the highest censored log-likelihood on later time; on a tie the first."""
    return max(candidates, key=lambda c: c.log_likelihood if math.isfinite(c.log_likelihood) else -math.inf)


def best_of_each_kind(candidates: list[Candidate]) -> dict[str, Candidate]:
    """Where several seeds of one kind were fitted, the one that ``choose`` would take."""
    return {c.kind: c for c in sorted(candidates, key=lambda c: c.log_likelihood)}


def write_candidates(bundles: Place, candidates: list[Candidate]) -> None:
    """Which bundle is which kind, the best of each, for evaluation beside the champion."""
    found = {kind: asdict(replace(c, by_machine={})) for kind, c in best_of_each_kind(candidates).items()}
    write_atomically(bundles / CANDIDATES, json.dumps(found, indent=1))

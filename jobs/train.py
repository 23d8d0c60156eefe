"""Train the default network and the baselines of each plant, without a search."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import ray
from rich.table import Table

from cluster import lineage, own_networks
from cluster.home import Home
from cluster.places import Place, place_of, reference
from cluster.registry import Tracking, bundle_folder, champion
from cluster.report import Progress, Report, code_version
from jobs.candidates import baseline, choose, network_candidate, studies_of
from jobs.crossfit import members_of
from jobs.promote import crown
from jobs.study import Candidate, Study
from jobs.trial import begin


class TrainReport(Report):
    plants: list[dict[str, Any]] = []

    def render(self) -> Table:
        table = Table(title="Trained: log-likelihood on later time")
        for column in ("plant", "best", "version", "network", "trees", "no sensor"):
            table.add_column(column)
        for plant in self.plants:
            scores = plant["log_likelihood"]
            table.add_row(plant["name"], plant["kind"], plant["version"], *(f"{scores[k]:.4f}" for k in KINDS))
        return table


KINDS = ("network", "trees", "no_sensor")


def run(home: Home, *, progress: Progress, plants: str = "all", seed: int = 0) -> TrainReport:
    """Train the plants named. A plant without a champion gets one; elsewhere the models are challengers.

    Raises InputError where a plant has too little to learn from.
    """
    began = time.monotonic()
    outcomes = []
    own_networks.require(home.settings.model.network.name, home.settings.registry.allowed_networks)
    with Tracking(home) as tracking:
        for study in studies_of(home, plants, progress=progress):
            plant = study.plant
            progress.step(f"Train {plant}")
            tags = {"plant": plant, "data_version": study.data_version, "code_version": code_version()}
            run_id = tracking.start(plant, f"{plant}/train", tags=tags)
            candidates = ray.get(start(study, bundle_folder(home, plant, "x").parent, [{"seed": seed}]))
            best = choose(candidates)
            standing = champion(home, plant)
            if standing is None:
                crown(home, plant, candidates, tracking=tracking, run_id=run_id)
            else:
                progress.note(
                    f"{standing.version} stays {plant}'s champion; to change that: "
                    f"millwright promote --plant {plant} --version {best.version}"
                )
                tracking.end(run_id, True)
            lineage.learns(home, plant, study.data_version, [place_of(c.folder) for c in candidates])
            scores = {c.kind: c.log_likelihood for c in candidates}
            outcomes.append({"name": plant, "kind": best.kind, "version": best.version, "log_likelihood": scores})
    return TrainReport(seconds=time.monotonic() - began, plants=outcomes)


def start(study: Study, bundles: Place, choices: list[dict[str, Any]]) -> list[ray.ObjectRef[Candidate]]:
    """Tasks, one core each: a network for each of ``choices``, trees for each of their seeds, the no-sensor one."""
    shared = ray.put(study)
    networks = [fit_network.remote(shared, reference(bundles), c) for c in choices]
    seeds = [int(c.get("seed", study.config.trees.seed)) for c in choices]
    trees = [fit_baseline.remote(shared, reference(bundles), True, seed) for seed in seeds]
    return [*networks, *trees, fit_baseline.remote(shared, reference(bundles), False)]


@ray.remote(num_cpus=1)
def fit_baseline(study: Study, bundles: str, sensors: bool, seed: int | None = None) -> Candidate:
    """The gradient-boosted baseline, or the no-sensor one; ``seed`` goes before the configured one."""
    if seed is not None:
        trees = study.config.trees.model_copy(update={"seed": seed})
        study = replace(study, config=study.config.model_copy(update={"trees": trees}))
    return baseline(study, place_of(bundles), sensors=sensors)


def cross_fitted(
    study: Study, shared: ray.ObjectRef[Study], bundles: Place, choices: dict[str, Any]
) -> ray.ObjectRef[Candidate]:
    """Tasks, one core each, for every member of the study's network, and one that bundles them."""
    states = [fit_member.remote(shared, choices, number) for number in range(study.config.network.folds)]
    return bundle_network.remote(shared, reference(bundles), choices, *states)


@ray.remote(num_cpus=1)
def fit_member(study: Study, choices: dict[str, Any], number: int) -> bytes:
    """The state of a cross-fitted network's member, trained to its end."""
    return _fitted(members_of(study, choices)[number])


@ray.remote(num_cpus=1)
def bundle_network(study: Study, bundles: str, choices: dict[str, Any], *states: bytes) -> Candidate:
    """A network of trained states, one a member."""
    return network_candidate(study, place_of(bundles), choices, *states)


@ray.remote(num_cpus=1)
def fit_network(study: Study, bundles: str, choices: dict[str, Any], state: bytes | None = None) -> Candidate:
    """A network trained to its end; or, given the ``state`` of a trial, just bundled."""
    states = [_fitted(member) for member in members_of(study, choices)] if state is None else [state]
    return network_candidate(study, place_of(bundles), choices, *states)


def _fitted(study: Study) -> bytes:
    import torch

    torch.set_num_threads(1)
    fit = begin(study, {})
    while not fit.done:
        fit.epoch()
    return fit.state()

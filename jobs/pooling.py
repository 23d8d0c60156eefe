"""The fleet's network: trained over all plants that share a clock, taken up by each, and by those without failures.

The one idea: it is named by what it follows from (the plants' data, the configuration, the code), kept in the registry
and never trained twice. What it says of a plant that it has not learned from is calibrated on the validation parts of
all others, read as it will read that one: by the kinds of their sensors.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

import ray

from cluster.files import write_atomically
from cluster.home import Home
from cluster.places import Place
from cluster.report import Progress, code_version
from jobs.bundling import bundle_network
from jobs.series.judged import Judged, judge
from jobs.study import Candidate, Fleet, Study
from models.calibration import Calibration
from models.config import Clock, ModelConfig
from models.errors import InputError
from models.spec import ScalingNumbers

WEIGHTS, ABOUT, FORMAT = "shared.safetensors", "fleet.json", "millwright-fleet/1"


def fleet_of(home: Home, studies: Sequence[Study], *, progress: Progress) -> Fleet | None:
    """The network of all these plants that have failures and share the clock of most of them.

    Trained where none of equal facts is in the registry. Where fewer than two have failures, the newest of this
    configuration that was ever trained; None where there is none, or the network is not `channels`.
    """
    config = home.settings.model
    able = [study for study in studies if study.num_failures]
    clocks = [study.config.clock for study in able]
    if len(able) < 2 or config.network.name != "channels":
        return _standing(home, studies)
    clock = max(clocks, key=lambda one: (clocks.count(one), one.step_s))
    able = sorted((study for study in able if study.config.clock == clock), key=lambda study: study.plant)
    config = config.model_copy(update={"clock": clock})
    version = _version(able, config)
    folder = home.registry / "fleet" / version
    if (folder / ABOUT).is_file():
        return _read(folder)
    progress.step(f"Train the fleet's network on {', '.join(study.plant for study in able)}")
    fleet: Fleet = ray.get(_fit.remote(able, config, version))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(fleet.shared)  # whole before ``fleet.json``, which says that it is there
    about = {"format": FORMAT, "plants": fleet.plants, "num_failures": fleet.num_failures}
    about |= {"clock": clock.model_dump(), "config": config.digest()} | asdict(fleet.judged)
    write_atomically(folder / ABOUT, json.dumps(about, indent=1))
    return fleet


def adopt(study: Study, fleet: Fleet, bundles: Place) -> Candidate:
    """The fleet's network as the model of a plant that it has not learned from.

    Raises InputError where the plant has another clock than the fleet.
    """
    from models.pooled import adopted

    began = time.monotonic()
    if study.config.clock != fleet.clock:
        raise InputError(
            "The fleet has another clock", expected=f"{fleet.clock.step_s:g} s a step, life in {fleet.clock.life_unit}",
            found=f"{study.config.clock.step_s:g} s, {study.config.clock.life_unit}", where=f"plant {study.plant}",
            do="Ingest failures of this plant, and it learns on its own",
        )  # fmt: skip
    network, scaling = adopted(study.config, study.channels, study.train, fleet.shared)
    config = study.config.model_copy(
        update={"network": study.config.network.model_copy(update={"start": "fleet"})}
    )
    return bundle_network(
        study, bundles, network, config, fleet.judged, began=began, fleet=fleet,
        scaling=ScalingNumbers.of(scaling),
    )  # fmt: skip


@ray.remote(num_cpus=1)
def _fit(studies: list[Study], config: ModelConfig, version: str) -> Fleet:
    import torch

    from models.networks import NetworkModel
    from models.pooled import History, PooledFit, adopted

    torch.set_num_threads(1)
    plants = {study.plant: History(study.channels, study.train, study.validate) for study in studies}
    fit = PooledFit(plants, config)
    while not fit.done:
        fit.epoch()
    shared = fit.shared()
    # As it would read them had it not seen them: by kinds, and scaled by their own readings.
    heard = [
        (study.validate, NetworkModel(adopted(config, study.channels, study.train, shared)[0])) for study in studies
    ]  # fmt: skip
    return Fleet(
        version, shared, tuple(study.plant for study in studies), sum(study.num_failures for study in studies),
        config.clock, judge(heard, config),
    )  # fmt: skip


def _version(studies: Sequence[Study], config: ModelConfig) -> str:
    facts = [[study.plant, study.data_version] for study in studies]
    text = json.dumps([facts, config.digest(), code_version()])
    return f"fleet-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _standing(home: Home, studies: Sequence[Study]) -> Fleet | None:
    wanted = {study.config.digest() for study in studies}
    found = sorted((home.registry / "fleet").glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime, reverse=True)
    fits = (path.parent for path in found if json.loads(path.read_text("utf-8")).get("config") in wanted)
    folder = next(fits, None)
    return _read(folder) if folder else None


def _read(folder: Place) -> Fleet:
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        judged = Judged(
            Calibration(**about["calibration"]), about["log_likelihood"], about["threshold"], tuple(about["levels"])
        )
        plants, num = tuple(about["plants"]), int(about["num_failures"])
        return Fleet(folder.name, (folder / WEIGHTS).read_bytes(), plants, num, Clock(**about["clock"]), judged)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            "Damaged fleet network", expected=FORMAT, found=str(error), where=folder,
            do="Remove that folder to train it anew",
        ) from error  # fmt: skip

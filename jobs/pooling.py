"""The fleet's network: trained over all plants that share a clock, taken up by each, and by those without failures.

The one idea: it is named by what it follows from (the plants' data, the configuration, the code), kept in the registry
and never trained twice. What it says of a plant that it has not learned from is calibrated on the validation parts of
all others, read as it will read that one: by the kinds of their sensors.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray

from cluster.files import write_atomically
from cluster.home import Home
from cluster.places import Place
from cluster.report import Progress, code_version
from cluster.turns import alone
from jobs.bundling import bundle_network
from jobs.pooled_training import Pooling, epochs_of, require_room, train_alone, train_together
from jobs.series.judged import Judged
from jobs.study import Candidate, Fleet, Study
from models.calibration import Calibration
from models.config import Clock, ModelConfig
from models.errors import DivergedError, InputError
from models.spec import ScalingNumbers

LOOK_S = 2.0
LEARNED = 2  # how a network is learned from its facts: another way is another version
WEIGHTS, ABOUT, FORMAT = "shared.safetensors", "fleet.json", "millwright-fleet/1"


def fleet_of(
    home: Home, studies: Sequence[Study], *, progress: Progress, most_s: float | None = None
) -> Fleet | None:
    """The network of all these plants that have failures and share the clock of most of them.

    Trained where none of equal facts is in the registry. Where fewer than two have failures, the newest of this
    configuration and split that was ever trained; None where there is none, or the network is not `channels`.

    After ``most_s`` the training ends at its next epoch; what it has by then is a version of its own. A training that
    diverges is told, and there is no fleet.
    """
    able = teachers(studies)
    if len(able) < 2 or home.settings.model.network.name != "channels":
        return _standing(home, studies)
    (fleet,) = fleets_of(home, home.registry / "fleet", [able], progress=progress, most_s=most_s)
    return fleet


def teachers(studies: Sequence[Study]) -> list[Study]:
    """Those that have failures and share the clock of most of them, by name."""
    able = [study for study in studies if study.num_failures]
    clocks = [study.config.clock for study in able]
    clock = max(clocks, key=lambda one: (clocks.count(one), one.step_s), default=None)
    return sorted((study for study in able if study.config.clock == clock), key=lambda study: study.plant)


def fleets_of(
    home: Home, shelf: Path, asked: Sequence[Sequence[Study]], *, progress: Progress, most_s: float | None = None
) -> list[Fleet | None]:
    """A network for each of these sets of plants; those that are not on the ``shelf`` are trained, a core each.

    None for one whose training diverged, which is told.
    """
    shelf.mkdir(parents=True, exist_ok=True)
    found: dict[str, Fleet | None] = {}
    with alone(shelf / "lock", "the fleet's network", progress):
        asked_for = [_pooling(home, shelf, studies, most_s) for studies in asked]
        wanted = {one.version: one for one in asked_for if not (shelf / one.version / ABOUT).is_file()}
        found |= {one.version: _read(shelf / one.version) for one in asked_for if one.version not in wanted}
        for version, fleet in _trained(home, list(wanted.values()), progress):
            if fleet is not None:
                _keep(home, shelf, fleet)
                if fleet.version == version:
                    wanted[version].state.unlink(missing_ok=True)
            found[version] = fleet
    return [found[one.version] for one in asked_for]


def _pooling(home: Home, shelf: Path, studies: Sequence[Study], most_s: float | None) -> Pooling:
    config = home.settings.model.model_copy(update={"clock": studies[0].config.clock})
    version = _version(home, studies, config)
    return Pooling(tuple(studies), config, version, shelf / f"{version}.state", most_s)


def _trained(home: Home, asked: Sequence[Pooling], progress: Progress) -> Iterator[tuple[str, Fleet | None]]:
    """Each version's network: as many at once as there are cores, or one after another on several workers."""
    workers, gpu = home.settings.tune.fleet_workers, home.settings.tune.gpu_per_trial > 0
    for one in asked:
        begun = "Go on with" if one.state.is_file() else "Train"
        progress.step(f"{begun} the fleet's network on {', '.join(study.plant for study in one.studies)}")
    alone = workers == 1 and not gpu
    if not alone:
        require_room(workers, gpu=gpu)
    each = len(asked) if alone else 1
    for start in range(0, len(asked), max(1, each)):
        some = asked[start : start + each]
        tasks = [
            train_alone.remote(one) if alone else train_together.remote(one, workers=workers, gpu=gpu) for one in some
        ]
        _watch(some, tasks, progress)
        for one, task in zip(some, tasks, strict=True):
            try:
                yield one.version, ray.get(task)
            except DivergedError as error:
                progress.note(f"There is no fleet to start from. {error}")
                one.state.unlink(missing_ok=True)
                yield one.version, None


def _watch(asked: Sequence[Pooling], tasks: Sequence[ray.ObjectRef[Fleet]], progress: Progress) -> None:
    """Until all have ended, how far they are, in epochs; many end before their last one."""
    most = sum(one.config.network.epochs for one in asked)
    while True:
        done, waiting = ray.wait(list(tasks), num_returns=len(tasks), timeout=LOOK_S)
        ended = {one.version: one for one, task in zip(asked, tasks, strict=True) if task in done}
        behind = [one.config.network.epochs if one.version in ended else epochs_of(one) for one in asked]
        progress.update(sum(behind), most, "epochs")
        if not waiting:
            return


def adopt(study: Study, fleet: Fleet, bundles: Place) -> Candidate:
    """The fleet's network as the model of a plant that it has not learned from.

    Raises InputError where the plant has another clock than the fleet.
    """
    from models.sharing import adopted

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


def parts_of(home: Home, study: Study) -> str:
    """A digest of how a plant's parts are cut and which channels they have: what its data version does not say."""
    text = home.settings.split.model_dump_json() + json.dumps([asdict(channel) for channel in study.channels])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _version(home: Home, studies: Sequence[Study], config: ModelConfig) -> str:
    facts = [[study.plant, study.data_version, parts_of(home, study)] for study in studies]
    workers = home.settings.tune.fleet_workers
    text = json.dumps([facts, config.digest(), code_version(), LEARNED, *([workers] if workers > 1 else [])])
    return f"fleet-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _learned(home: Home, config: ModelConfig) -> str:
    """What a fleet of other plants must share with those that take it up: configuration, clock and split."""
    return hashlib.sha256((config.digest() + home.settings.split.model_dump_json()).encode()).hexdigest()


def _keep(home: Home, shelf: Path, fleet: Fleet) -> None:
    """The weights first, then what says that they are there, and whole."""
    folder, config = shelf / fleet.version, home.settings.model.model_copy(update={"clock": fleet.clock})
    write_atomically(folder / WEIGHTS, fleet.shared)
    about = {"format": FORMAT, "plants": fleet.plants, "num_failures": fleet.num_failures}
    about |= {"clock": fleet.clock.model_dump(), "learned": _learned(home, config)}
    about |= {"sha256": hashlib.sha256(fleet.shared).hexdigest()} | asdict(replace(fleet.judged, by_machine={}))
    write_atomically(folder / ABOUT, json.dumps(about, indent=1))


def _standing(home: Home, studies: Sequence[Study]) -> Fleet | None:
    wanted = {_learned(home, study.config) for study in studies}
    folder = home.registry / "fleet"
    found = sorted(folder.glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((_read(path.parent) for path in found if _about(path.parent)["learned"] in wanted), None)


def _about(folder: Place) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
        if found["format"] != FORMAT or not isinstance(found["learned"], str):
            raise ValueError(str(found["format"]))
        return found
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise _damaged(folder, error) from error


def _read(folder: Place) -> Fleet:
    about = _about(folder)
    try:
        shared = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(shared).hexdigest() != about["sha256"]:
            raise ValueError(f"{WEIGHTS} is not what was written")
        judged = Judged(
            Calibration(**about["calibration"]), about["log_likelihood"], about["threshold"], tuple(about["levels"])
        )
        plants, num = tuple(about["plants"]), int(about["num_failures"])
        return Fleet(folder.name, shared, plants, num, Clock(**about["clock"]), judged)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Place, error: Exception) -> InputError:
    return InputError(
        "Damaged fleet network", expected=FORMAT, found=str(error), where=folder,
        do="Remove that folder to train it anew",
    )  # fmt: skip

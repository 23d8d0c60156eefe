"""One study a plant, several at once: search a network, fit the baselines beside it, keep the best.

The one idea: every plant has its own study, since one over all plants would prune hard plants instead of bad settings.
All draw on one pool of workers, in turn; baselines are tasks in between, and a plant is bundled once its study is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import ray

from cluster import lineage, own_networks, places
from cluster.home import Home
from cluster.places import reference
from cluster.registry import Tracking, bundle_folder
from cluster.report import Progress, code_version
from cluster.turns import only_one
from jobs.candidates import no_failure, studies_of
from jobs.dataset import named_plants
from jobs.evaluation.verdict import ENOUGH
from jobs.pooling import adopt, fleet_of, parts_of
from jobs.promote import crown
from jobs.study import Fleet, Study
from jobs.tracking import TrackTrials
from jobs.train import fit_baseline, fit_network
from jobs.tuning.budget import parse_budget
from jobs.tuning.journal import FILE, Facts, Journal
from jobs.tuning.live import Live
from jobs.tuning.page import write_page
from jobs.tuning.report import PlantStudy, TuneReport, counted, hours, outcomes
from jobs.tuning.resuming import require_resumable
from jobs.tuning.search import PlantSearch, batch_size
from jobs.tuning.space import Space, find_space, parse_space
from jobs.tuning.studies import PlantStudies
from jobs.tuning.sureness import against
from jobs.tuning.workers import say_who_waits, train_all
from models.errors import InputError

FLEET_SHARE = 1 / 3  # of a budget that the fleet's network may take
BASELINES = ("trees", "no_sensor")

__all__ = ["PlantStudy", "TuneReport", "run"]


@dataclass(frozen=True)
class _Plant:
    """A plant's study, its data in the object store, and its baselines under way."""

    study: Study
    data: Any
    search: PlantSearch
    track: TrackTrials
    baselines: list[Any]


def run(
    home: Home, *, progress: Progress, plants: str = "all", trials: int | None = None, seed: int | None = None,
    budget: str | None = None, resume: bool = False, space: str | Mapping[str, Any] | None = None,
) -> TuneReport:  # fmt: skip
    """Tune the plants named (comma-separated, or ``all``), for at most ``budget`` (``90s``, ``30m``, ``2h``).

    A study of equal facts goes on where it was, or answers from what it has. ``resume`` only goes on: it raises
    InputError rather than begin anew because something differs. ``space`` may be its tables, too.
    Raises InputError where a plant has too little to learn from, and for a wrong ``space`` or ``budget``.
    """
    began = time.monotonic()
    deadline = None if budget is None else began + parse_budget(budget)
    text = find_space(home.path, space)
    searched = parse_space(*text, home.settings.model.network)
    for name in (home.settings.model.network.name, *searched.names()):
        own_networks.require(name, home.settings.registry.allowed_networks)
    slots = _places(home)
    progress.step(f"Read the history of {', '.join(named_plants(home, plants))}")
    if home.settings.model.network.folds != 1:
        raise InputError(
            "A study has parts that differ by time", expected="model.network.folds=1",
            found=home.settings.model.network.folds, do="Leave it at 1: folds are for parts that differ by machine",
        )  # fmt: skip
    studies, new, fleet = _to_learn(home, plants, progress, deadline)
    asked = [_facts(home, study, searched, trials, seed) for study in studies]
    for study in filter(_starts_only, studies):
        told = f"{study.num_failures} failures are too few to search by; it starts from the fleet"
        progress.note(f"{study.plant}: {told}")
    if resume:
        require_resumable(home, studies, asked, progress=progress)
    most = max((facts.trials for facts in asked), default=0)
    progress.step(f"Tune {len(studies)} plants, {most} trials each, {slots} at once")
    say_who_waits(slots, progress)
    with ExitStack() as held, Tracking(home) as tracking:
        for study, facts in sorted(zip(studies, asked, strict=True), key=lambda pair: pair[0].plant):
            held.enter_context(only_one(home, study.plant, progress, work=f"tune-{facts.name()}"))
        tuned = {s.plant: _plant(home, s, f, searched, tracking) for s, f in zip(studies, asked, strict=True)}
        found = _search(home, tuned, slots, deadline, progress)
        if fleet is not None:
            found |= {study.plant: _adopted(home, study, fleet, tracking) for study in new}
    ended = [study for study in found.values() if study.budget_ended]
    if ended:
        progress.note(f"The budget of {budget} ended the search of {', '.join(study.name for study in ended)}")
    report = TuneReport(
        plants=[found[study.plant] for study in [*studies, *new]], budget=budget, budget_ended=bool(ended),
        space=searched.where,
    )  # fmt: skip
    report.files = write_page(home, report, {name: plant.search for name, plant in tuned.items()})
    report.seconds = time.monotonic() - began
    return report


def _to_learn(
    home: Home, plants: str, progress: Progress, deadline: float | None
) -> tuple[list[Study], list[Study], Fleet | None]:
    """The plants that have failures to learn from, those that take up the fleet's network, and that network."""
    if not home.settings.tune.fleet or home.settings.model.network.name != "channels":
        return list(studies_of(home, plants, progress=progress)), [], None
    found = list(studies_of(home, plants, progress=progress, without_failures=True))
    most_s = None if deadline is None else FLEET_SHARE * max(0.0, deadline - time.monotonic())
    fleet = fleet_of(home, found, progress=progress, most_s=most_s)
    able, new = [s for s in found if s.num_failures], [s for s in found if not s.num_failures]
    alone = [s for s in new if fleet is None or s.config.clock != fleet.clock]
    _left_out(alone, plants, progress, none_left=len(alone) == len(found))
    new = [s for s in new if s not in alone]
    if fleet is None:
        return able, new, None
    shares = [replace(s, fleet=fleet) if s.config.clock == fleet.clock else s for s in able]
    return shares, new, fleet


def _left_out(studies: list[Study], plants: str, progress: Progress, *, none_left: bool) -> None:
    """Without a failure of its own a plant needs a fleet's network of its clock.

    Raises InputError for a plant that was named, or where no other is left.
    """
    for study in studies:
        error = no_failure(study)
        if plants != "all" or none_left:
            raise error
        progress.note(f"{study.plant} is left out. {error}")


def _adopted(home: Home, study: Study, fleet: Fleet, tracking: Tracking) -> PlantStudy:
    """The fleet's network answers for the plant until it has failures of its own."""
    bundles = bundle_folder(home, study.plant, "x").parent
    candidate = adopt(study, fleet, bundles)
    code = code_version()
    tags = {"plant": study.plant, "data_version": study.data_version, "code_version": code, "fleet": fleet.version}
    run_id = tracking.start(study.plant, f"{study.plant}/adopt", tags=tags)
    champion = crown(home, study.plant, [candidate], tracking=tracking, run_id=run_id)
    lineage.learns(home, study.plant, study.data_version, [bundle_folder(home, study.plant, champion.version)])
    return PlantStudy(
        name=study.plant, trials=0, finished=0, resumed=False, fleet=fleet.version,
        best={
            "kind": champion.kind, "version": champion.version, "scope": "fleet", "config": {}, "trial": None,
            "log_likelihood": {champion.kind: champion.log_likelihood}, "num_failures": 0,
        },
    )  # fmt: skip


def _places(home: Home) -> int:
    """Trials at once over all plants. Raises InputError where a trial's share of a GPU is not there."""
    have, tune = ray.cluster_resources(), home.settings.tune
    room = int(have.get("CPU", 1))
    if tune.gpu_per_trial:
        gpus = have.get("GPU", 0.0)
        if gpus < tune.gpu_per_trial:
            raise InputError(
                "No room for a trial on a GPU", expected=f"{tune.gpu_per_trial:g} of a GPU", found=f"{gpus:g} GPUs",
                where="tune.gpu_per_trial", do="Set tune.gpu_per_trial=0 to train on the CPU",
            )  # fmt: skip
        room = min(room, int(gpus / tune.gpu_per_trial))
    return min(tune.concurrent or room, max(1, room))


def _facts(home: Home, study: Study, space: Space, trials: int | None, seed: int | None) -> Facts:
    tune = home.settings.tune
    number = trials or tune.trials or len(_heads(study))
    if _starts_only(study):
        number = 1
    return Facts(
        data=study.data_version, configuration=study.config.digest(), space=space.digest(), trials=number,
        batch=tune.batch or batch_size(number), seed=tune.seed if seed is None else seed, code=code_version(),
        split=parts_of(home, study), fleet=study.fleet.version if study.fleet else "",
    )  # fmt: skip


def _starts_only(study: Study) -> bool:
    """Too few failures to search by: the fleet's network, as far as they move it."""
    return study.fleet is not None and study.num_failures < ENOUGH


def _plant(home: Home, study: Study, facts: Facts, space: Space, tracking: Tracking) -> _Plant:
    journal = Journal(home.of(study.plant).studies / facts.name(), study.plant, facts)
    owner = home.settings.plants[study.plant].owner if study.plant in home.settings.plants else None
    tags = {"plant": study.plant, "data_version": study.data_version, "code_version": facts.code}
    tags |= {"owner": owner} if owner else {}
    track = TrackTrials(tracking, journal, tags | {"study": facts.name()})
    data = ray.put(study)
    bundles = reference(bundle_folder(home, study.plant, "x").parent)
    baselines = [fit_baseline.remote(data, bundles, kind == "trees") for kind in BASELINES]
    search = PlantSearch(journal, space, study.config.network, _heads(study))
    return _Plant(study, data, search, track, baselines)


def _heads(study: Study) -> list[dict[str, Any]]:
    """What a study begins with: the configuration as it is, from the fleet's weights and from scratch."""
    return [{"start": "fleet"}, {}] if study.fleet else [{}]


def _search(
    home: Home, tuned: dict[str, _Plant], slots: int, deadline: float | None, progress: Progress
) -> dict[str, PlantStudy]:
    """Train in a thread, and bundle here what is over, plant by plant."""
    queue = SimpleQueue[str | BaseException | None]()
    studies = PlantStudies(
        {name: plant.search for name, plant in tuned.items()}, {name: plant.track for name, plant in tuned.items()},
        slots, deadline, home.settings.tune.gpu_per_trial, ended=queue.put,
    )  # fmt: skip
    live = Live(studies, progress, {name: len(plant.baselines) for name, plant in tuned.items()})
    studies.told = live.told
    for name, plant in tuned.items():
        for kind, task in zip(BASELINES, plant.baselines, strict=True):
            task.future().add_done_callback(partial(live.baseline, name, kind))
    data = {name: plant.data for name, plant in tuned.items()}

    def work() -> None:
        try:
            train_all(studies, data, gpu=home.settings.tune.gpu_per_trial)
            queue.put(None)
        except BaseException as error:  # the thread's edge: whoever reads the queue raises it
            queue.put(error)

    told_before = sorted(name for name, search in studies.searches.items() if search.left == 0)
    thread = threading.Thread(target=work, daemon=True)  # whoever is interrupted does not wait for it
    thread.start()
    found: dict[str, PlantStudy] = {}
    try:
        for name in _ended(queue, told_before, tuned):
            found[name] = _outcome(home, tuned[name], studies)
    except Exception:  # no lock is left, and no run closed, while a thread still writes
        studies.deadline = 0.0
        thread.join()
        raise
    return found


def _ended(queue: SimpleQueue[str | BaseException | None], before: list[str], every: Iterable[str]) -> Iterator[str]:
    """Each plant once its search is over; last those that a budget has ended."""
    told = set(before)
    yield from before
    while (name := queue.get()) is not None:
        if isinstance(name, BaseException):
            raise name
        told.add(name)
        yield name
    yield from (name for name in every if name not in told)


def _outcome(home: Home, plant: _Plant, studies: PlantStudies) -> PlantStudy:
    """Bundle the best trial beside the baselines; the best of them is the champion, whatever became of the search."""
    study, journal = plant.study, plant.search.journal
    best, bundles = journal.best(), reference(bundle_folder(home, study.plant, "x").parent)
    tasks = list(plant.baselines)
    if best is not None:
        state = journal.state_of(best.number).read_bytes()
        tasks.insert(0, fit_network.remote(plant.data, bundles, best.settings, state))
    candidates = ray.get(tasks)
    seconds = {c.kind: c.seconds for c in candidates}
    cores, gpus = hours(journal.trials, seconds)
    plant.track.tracking.log(plant.track.parent(), metrics={"core_hours": cores, "gpu_hours": gpus})
    champion = crown(home, study.plant, candidates, tracking=plant.track.tracking, run_id=plant.track.parent())
    journal.write()
    if journal.over:
        journal.tidy()
    lineage.learns(home, study.plant, study.data_version, [bundle_folder(home, study.plant, champion.version)])
    return PlantStudy(
        name=study.plant, trials=journal.facts.trials, finished=counted(journal.trials, "finished", "stopped"),
        resumed=journal.resumed, study=places.reference(journal.folder / FILE), budget_ended=not journal.over,
        epochs_run=sum(n for (name, _), n in studies.epochs_run.items() if name == study.plant),
        owner=plant.track.tags.get("owner"), core_hours=round(cores, 6), gpu_hours=round(gpus, 6),
        stopped=outcomes(journal), fleet=study.fleet.version if study.fleet else None,
        outcomes=[t.model_dump(mode="json", exclude={"params", "rungs", "losses"}) for t in journal.trials],
        best={
            "kind": champion.kind, "version": champion.version,
            "log_likelihood": {c.kind: c.log_likelihood for c in candidates},
            "config": plant.search.configuration(best) if best else {}, "trial": best.number if best else None,
            "num_failures": study.num_failures, "seconds": seconds,
            "against": against(champion, candidates),
        },
    )  # fmt: skip

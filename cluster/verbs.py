"""The one table from verb to code. The command line, ``home.launch`` and ``submit`` all read it.

A target is a text, "module:function", imported when it is called: naming a verb costs no import,
and ``cluster`` never imports ``jobs`` or ``serve``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cluster.lineage import traced
from cluster.report import Report, Silent
from models.errors import InputError

if TYPE_CHECKING:
    from cluster.home import Home

Job = Callable[..., Report]


@dataclass(frozen=True)
class Verb:
    """``creates_home``: a missing or empty home is made. ``needs_ray``: runs inside a Ray session.

    ``needs_home`` is False where a home that is not there yet is no error, and is not made either.
    Every job tells its lineage; ``traced`` is False where it does so itself, or where it changes nothing.
    """

    target: str
    help: str
    creates_home: bool = False
    needs_ray: bool = False
    needs_home: bool = True
    traced: bool = True


VERBS: dict[str, Verb] = {
    "demo": Verb("jobs.demo:run", "The whole way on simulated plants, up to served predictions.", True),
    "simulate": Verb("jobs.simulate:run", "Write the raw files of a fleet, one folder a plant.", True),
    "connect": Verb("jobs.connect:run", "Find out what a plant's files hold, and write that down.", True),
    "ingest": Verb("jobs.ingest:run", "Raw files to history, exactly once; wrong rows to quarantine.", needs_ray=True),
    "follow": Verb("jobs.follow:run", "Live streams (MQTT, Sparkplug B, Kafka) to history.", traced=False),
    "quality": Verb("jobs.quality:run", "What is in the data, what was found in it, what is held.", traced=False),
    "labels": Verb("jobs.labels:run", "Every event: failure, censored or excluded, and why.", needs_ray=True),
    "history": Verb("jobs.history:run", "What each version added and from where; compact; retain.", traced=False),
    "tune": Verb("jobs.tune:run", "One study a plant, in parallel; the best becomes its champion.", needs_ray=True),
    "train": Verb("jobs.train:run", "One model a plant without a search, as a challenger.", needs_ray=True),
    "evaluate": Verb("jobs.evaluate:run", "The champions on later time and unseen machines.", needs_ray=True),
    "promote": Verb("jobs.promote:run", "A version becomes the champion, if the gate lets it.", needs_ray=True),
    "challenge": Verb("jobs.challenge:run", "A version on trial beside the champion."),
    "rollback": Verb("jobs.rollback:run", "The champion before answers again, without a gate."),
    "benchmark": Verb("jobs.benchmark:run", "A benchmark through the same code as any plant.", True, True),
    "score": Verb("jobs.score:run", "Predictions for the machines of a plant, into the journal.", needs_ray=True),
    "serve": Verb("serve.app:run", "The HTTP service, until `millwright stop`."),
    "stop": Verb("cluster.running:run_stop", "End what this home runs."),
    "status": Verb("cluster.status:run", "What is connected, registered and running."),
    "doctor": Verb("cluster.doctor:run", "Is this machine fit, and what to do if not.", needs_home=False),
    "keys": Verb("cluster.keys:run", "API keys: add, list, revoke."),
    "config": Verb("cluster.settings_report:run", "Every setting, its value and where it came from.", needs_home=False),
    "submit": Verb("cluster.submit:run", "The same verb as a job on a Ray cluster, followed to its end."),
}


def named(verb: str) -> Verb:
    """The verb's entry. Raises InputError where there is none."""
    if verb not in VERBS:
        raise InputError("Unknown verb", expected=f"one of {', '.join(VERBS)}", found=repr(verb))
    return VERBS[verb]


def load(target: str) -> Job:
    """Import "module:function"."""
    module, _, function = target.partition(":")
    return cast(Job, getattr(importlib.import_module(module), function))


def target(verb: str) -> Job:
    """``job(home, **options) -> Report``, inside a Ray session where the verb needs one; silent by default."""
    entry = named(verb)

    def job(home: Home, **options: Any) -> Report:
        if names := plants_named(options):
            if not entry.creates_home:
                _check_plants(home, names)
            home = home.only(*names)
        if not (entry.traced and entry.target.startswith("jobs.")):
            return work(home, **options)
        told = {key: value for key, value in options.items() if key != "progress"}
        with traced(home, verb, told, options.get("progress") or Silent()):
            return work(home, **options)

    def work(home: Home, **options: Any) -> Report:
        progress = options.setdefault("progress", Silent())
        if not entry.needs_ray:
            return _called(verb, load(entry.target), home, options)
        if not _ray_is_up():
            progress.step("Starting Ray")
        from cluster.session import ray_session

        with ray_session(home):  # before the job's module, which imports Ray
            return _called(verb, load(entry.target), home, options)

    return job


def _called(verb: str, job: Job, home: Home, options: Mapping[str, Any]) -> Report:
    """Run the job. Raises InputError for an option that it does not take, or one that it needs."""
    try:
        inspect.signature(job).bind(home, **options)
    except TypeError as error:
        taken = inspect.signature(job).parameters.values()
        known = [p.name for p in taken if p.kind is p.KEYWORD_ONLY and p.name != "progress"]
        expected = ", ".join(known) or "none"
        raise InputError(f"Wrong options of {verb!r}", expected=expected, found=str(error)) from error
    return job(home, **options)


def plants_named(options: Mapping[str, Any]) -> list[str]:
    """The plants that a verb is given by ``plant`` or ``plants``; none where it is for all."""
    given = [text for key in ("plant", "plants") if isinstance(text := options.get(key), str) and text != "all"]
    return [name for text in given for name in map(str.strip, text.split(",")) if name]


def _check_plants(home: Home, names: list[str]) -> None:
    """A name that is wrong is said at once; Ray takes ten seconds to start. Raises NotFoundError."""
    for name in names:
        home.source(name)


def _ray_is_up() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())

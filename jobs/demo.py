"""The whole way on simulated plants: raw files, history, models, evaluation, served predictions, report.

The one idea: every step is the verb that a plant would run, on the same home, in the same order;
what the demo leaves behind, `millwright serve` serves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, SerializeAsAny
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.home import Home
from cluster.keys import open_keys
from cluster.registry import champion
from cluster.report import Progress, Report
from cluster.running import free_port
from cluster.session import ray_session, stoppable
from jobs import report
from jobs.evaluation.truth import read_truth
from jobs.questions import Asked, questions_for
from jobs.service import Client, running, wait_until_ready
from models.config import NetworkConfig

TRIALS = 3  # the demo's patience; `millwright tune` takes the configured numbers, and the network that is the default:
# it takes over three times as long as this one, which two cores search for three plants in a minute and a half.
NETWORK = {"name": "tcn", "hidden": 48, "layers": 4, "kernel": 5, "learning_rate": 3e-3, "epochs": 8}
NUM_TIMED = 60  # requests behind a latency


class Question(BaseModel):
    """A machine at a moment of held-out time, and what the service said; ``outcome`` is what then happened."""

    machine: str
    about: str
    as_of: str
    outcome: str
    prediction: dict[str, Any]


class DemoPlant(BaseModel):
    name: str
    champion: str
    prediction: dict[str, Any]  # as served, of the machine about to fail
    questions: list[Question]
    latency_ms: dict[str, float]


class DemoReport(Report):
    plants: list[DemoPlant] = []
    steps: dict[str, float] = {}
    report: str = ""
    home: str = ""
    evaluation: SerializeAsAny[Report] = Report()

    def render(self) -> RenderableType:
        table = Table(title="Served over HTTP: held-out readings of a machine about to fail and of a healthy one")
        for column in ("plant", "machine", "asked at", "fails in 48 h", "life left p10 / p50 / p90", "main reason",
                       "what happened", "p50 / p99"):  # fmt: skip
            table.add_column(column)
        for plant in self.plants:
            for question in plant.questions:
                table.add_row(*_row(plant, question))
        words = (
            f"{self.seconds:.0f} s in all: " + ", ".join(f"{name} {s:.0f} s" for name, s in self.steps.items()) + "."
            f"\nReport: {self.report}\nServe it: millwright serve --home {self.home}"
        )
        return Group(self.evaluation.render(), table, words)


def _row(plant: DemoPlant, question: Question) -> tuple[str, ...]:
    found = question.prediction
    life = found["remaining_useful_life"]
    reason = found.get("reasons") or [{"text": "-"}]
    latency = f"{plant.latency_ms['p50']:.1f} / {plant.latency_ms['p99']:.1f} ms"
    return (
        plant.name, question.machine, question.as_of[:16].replace("T", " "),
        f"{100 * found['failure_probability']['48h']:.1f} %",
        " / ".join(_quantile(life, q) for q in ("p10", "p50", "p90")) + f" {life['unit']}", reason[0]["text"],
        question.outcome, latency,
    )  # fmt: skip


def _quantile(life: dict[str, Any], name: str) -> str:
    """A quantile past the last bin is only known to lie beyond it."""
    return f"> {life['beyond']:.0f}" if life[name] == life["beyond"] else f"{life[name]:.0f}"


def run(
    home: Home, *, progress: Progress, machines: int = 40, days: int = 210, trials: int | None = None, seed: int = 0
) -> DemoReport:
    """Run the demo in ``home``; what it started is ended, also where it fails."""
    began = time.monotonic()
    steps: dict[str, float] = {}
    home = _quick(home, trials or TRIALS, seed)
    raw = home.path / "raw"
    verb = partial(home.launch, progress=progress)
    with stoppable():
        with _timed(steps, "simulate"):
            verb("simulate", out=raw, machines=machines, days=days, seed=seed)
        plants = sorted(p.name for p in raw.iterdir() if p.is_dir() and not p.name.startswith("."))
        progress.step("Starting Ray")
        with ray_session(home):
            with _timed(steps, "connect"):
                for plant in plants:
                    verb("connect", path=raw / plant, plant=plant)
            with _timed(steps, "ingest"):
                verb("ingest")
            with _timed(steps, "tune"):
                verb("tune", plants=",".join(plants))
            with _timed(steps, "evaluate"):
                judged = verb("evaluate", plants=",".join(plants), truth=raw / ".truth")
                questions = {plant: questions_for(home, plant, read_truth(raw / ".truth", plant)) for plant in plants}
        with _timed(steps, "serve"):
            served = _serve(home, questions, progress)
        with _timed(steps, "report"):
            progress.step("Write the report")
            written = report.run(home, progress=progress, served=[p.model_dump(mode="json") for p in served])
    return DemoReport(
        seconds=time.monotonic() - began, plants=served, steps=steps, report=str(written.path),
        home=str(home.path), evaluation=judged,
    )  # fmt: skip


def _quick(home: Home, trials: int, seed: int) -> Home:
    """The home with the demo's budget; its configuration file stays as it is."""
    network = NetworkConfig.model_validate(home.settings.model.network.model_dump() | NETWORK)
    model = home.settings.model.model_copy(update={"network": network})
    search = home.settings.tune.model_copy(update={"trials": trials, "seed": seed})
    return replace(home, settings=home.settings.model_copy(update={"model": model, "tune": search}))


@contextmanager
def _timed(steps: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    steps[name] = round(time.monotonic() - began, 1)


def _serve(home: Home, questions: dict[str, list[Asked]], progress: Progress) -> list[DemoPlant]:
    host, port = home.settings.serve.host, free_port(home.settings.serve.host)
    progress.step(f"Serve on http://{host}:{port}")
    with _demo_key(home, list(questions)) as key, running(home, port) as child:
        wait_until_ready(home, child, host, port)
        progress.step("Ask about held-out readings")
        with closing(Client(host, port, key)) as client:
            return [_ask_plant(home, client, plant, asked) for plant, asked in questions.items()]


@contextmanager
def _demo_key(home: Home, plants: list[str]) -> Iterator[str]:
    """A key for these plants that ends with the demo."""
    with closing(open_keys(home)) as keys:
        key, text = keys.add("demo", plants=plants, roles=["read", "write"], now=datetime.now(UTC))
        try:
            yield text
        finally:
            keys.revoke(key.id, now=datetime.now(UTC))


def _ask_plant(home: Home, client: Client, plant: str, asked: list[Asked]) -> DemoPlant:
    answers, milliseconds = [], []
    for one in asked:
        path = f"/v1/plants/{plant}/machines/{one.machine}/readings"
        query = f"?as_of={one.as_of_us // 1_000_000}"
        answer = client.post(f"{path}{query}&reasons=true", {"readings": one.rows})
        # Sending a reading again changes nothing, so the last ones serve to measure.
        milliseconds += client.timed(path + query, [{"readings": [one.rows[-1 - i % 10]]} for i in range(NUM_TIMED)])
        answers.append(
            Question(
                machine=one.machine, about=one.about, as_of=answer["as_of"], outcome=one.outcome, prediction=answer
            )
        )
    best = champion(home, plant)
    assert best is not None, "tune has just crowned one"
    p50, p99 = np.quantile(milliseconds, (0.5, 0.99)) if milliseconds else (0.0, 0.0)
    return DemoPlant(
        name=plant, champion=best.version, prediction=answers[0].prediction if answers else {}, questions=answers,
        latency_ms={"p50": float(p50), "p99": float(p99), "requests": float(len(milliseconds))},
    )  # fmt: skip

"""What a person sees while studies run: a table of plants on a terminal, a line a trial that ended in a log.

The one idea: the table is drawn from the journals whenever the terminal asks for it, so nothing is kept twice, and what
the screen says is what a killed study would be found to have done.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cluster.console import duration
from cluster.report import Progress
from jobs.tuning.journal import IN_WORDS, Journal, Trial
from jobs.tuning.studies import PlantStudies

MOST_ROWS = 20  # plants on a screen; those that train come first
SETTLED = 0.02  # share done before a time left means anything
SHORT = {
    "stopped": "no better", "diverged": "diverged", "out_of_memory": "out of memory", "invalid": "invalid",
    "failed": "failed",
}  # fmt: skip


class Live:
    """The view of ``studies``; ``told`` hears of plant and trial after every change, ``baseline`` of each that ends."""

    def __init__(self, studies: PlantStudies, progress: Progress, baselines: dict[str, int]) -> None:
        self.studies, self.progress = studies, progress
        self.expected, self.baselines = baselines, {plant: dict[str, str]() for plant in baselines}
        self.total = sum(search.journal.facts.trials for search in studies.searches.values())
        self.before = self.total - studies.left()  # trials that an earlier call has ended
        self.began = time.monotonic()

    def told(self, plant: str, number: int) -> None:
        """A trial has begun, gained an epoch or ended; only its end is a line of the log."""
        journal = self.studies.searches[plant].journal
        left_its_worker = (plant, number) not in self.studies.live.values()
        self.progress.show(self, line(plant, journal.trials[number], journal) if left_its_worker else "")
        self.progress.update(self.before + sum(list(self.studies.shares.values())), self.total, "trials")

    def baseline(self, plant: str, kind: str, ended: Any) -> None:
        """``ended``: a future's end with the candidate, or with the error that the study ends with."""
        error = ended.exception()
        told = "failed" if error else f"{ended.result().log_likelihood:.4f}"
        self.baselines[plant][kind] = told
        self.progress.show(self, f"{plant}, {kind.replace('_', ' ')}: " + (told if error else f"log-likelihood {told}"))

    def left_s(self) -> float | None:
        """Seconds that the trials still take at the pace so far, or until the budget ends; None while nobody knows."""
        now, done = time.monotonic(), sum(list(self.studies.shares.values()))
        wanted = self.total - self.before
        share = done / wanted if wanted else 1.0
        pace = (now - self.began) * (1 / share - 1) if share > SETTLED else None
        until = None if self.studies.deadline is None else max(0.0, self.studies.deadline - now)
        known = [seconds for seconds in (pace, until) if seconds is not None]
        return min(known) if known else None

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("plant", "done", "running", "ended early", "best loss", "of trial", "baselines"):
            table.add_column(column, justify="right" if column in ("done", "running", "best loss") else "left")
        running = Counter(plant for plant, _ in list(self.studies.live.values()))
        order = sorted(self.studies.searches, key=lambda plant: (not running[plant], plant))
        for plant in order[:MOST_ROWS]:
            journal = self.studies.searches[plant].journal
            best = journal.best()
            table.add_row(
                plant, f"{sum(t.over for t in journal.trials)}/{journal.facts.trials}", str(running[plant]),
                early(journal), f"{best.loss:.4f}" if best else "-", str(best.number) if best else "-",
                self._baselines(plant),
            )  # fmt: skip
        rest = len(order) - MOST_ROWS
        seconds = self.left_s()
        told = [f"and {rest} more plants"] if rest > 0 else []
        told.append("time left not known yet" if seconds is None else f"about {duration(seconds)} left")
        return Group(table, Text("; ".join(told), style="dim"))

    def _baselines(self, plant: str) -> str:
        ended = list(self.baselines.get(plant, {}).items())
        running = self.expected.get(plant, 0) - len(ended)
        told = [f"{kind.replace('_', ' ')} {text}" for kind, text in ended]
        return ", ".join([*told, f"{running} running"] if running else told) or "-"


def early(journal: Journal) -> str:
    """Trials that ended before their own end, counted by reason."""
    found = Counter(SHORT[trial.state] for trial in journal.trials if trial.state in SHORT)
    return ", ".join(f"{count} {why}" for why, count in found.items()) or "-"


def line(plant: str, trial: Trial, journal: Journal) -> str:
    """``north, trial 3: stopped: no better than earlier trials, after 3 epochs, loss 0.05; best 0.04 of trial 1``."""
    state = IN_WORDS.get(trial.state, trial.state) + (f" ({trial.reason})" if trial.reason else "")
    epochs = f"{trial.epochs} epoch{'' if trial.epochs == 1 else 's'}"
    loss = "no loss" if trial.loss is None else f"loss {trial.loss:.4f}"
    best = journal.best()
    so_far = f"; best {best.loss:.4f} of trial {best.number}" if best else ""
    return f"{plant}, trial {trial.number}: {state}, after {epochs}, {loss}{so_far}"

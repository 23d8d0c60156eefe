"""Judge each plant's champion on later time and on unseen machines, beside its baselines.

The one idea: this is the first and only reader of the test part. Champion, thresholds and calibration
were fixed on earlier time, and nothing found here flows back into them. Whoever reads it to make a better
model has turned it into validation, and needs newer data for the figure.

Writes ``reports/evaluation.json``, ``reports/evaluation.html`` (every figure, for people) and, for each plant,
``reports/evaluation/<plant>.parquet`` (every scored tick) and ``<plant>.story.json``, from which ``report.html`` can
be made again alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import ray
from pydantic import Field
from rich.table import Table

from cluster import lineage
from cluster.bundles import load, load_version
from cluster.files import write_atomically
from cluster.home import Home
from cluster.registry import bundle_folder, standing_champion
from cluster.report import Progress, Report
from cluster.storage import read_events
from jobs.dataset import load_plant, named_plants
from jobs.evaluation import as_new
from jobs.evaluation.allowed import counts_of
from jobs.evaluation.groups import named_modes
from jobs.evaluation.judging import Judged, judge_plant
from jobs.evaluation.kept import Kept, kept
from jobs.evaluation.results import CandidateResult, Figure, PlantResult
from jobs.evaluation.truth import read_truth
from jobs.promotion.slices import read_before
from jobs.reporting.words import on_condition, origin
from models.bundle import Bundle
from models.windows import Channel, context_of

COLUMNS = (
    "plant", "candidate", "failures caught", "at equal\nfalse\nalarms", "false alarms\na machine-month", "median\nlead",
    "AUC", "Brier\nskill", "life\nerror", "in 80 %\ninterval",
)  # fmt: skip
CHAMPION = "champion"  # whatever kind it is, among the counts of what is kept


class EvaluateReport(Report):
    """``plants`` holds every figure, ``files`` what was written, ``kept`` what each champion's recall is without its
    plant's data, where that was asked."""

    plants: list[PlantResult] = Field(default_factory=list)
    kept: list[Kept] = Field(default_factory=list)
    files: list[str] = Field(default_factory=list)

    def render(self) -> Table:
        table = Table(title="On later time that no choice has seen; 95 % intervals by machine", caption=self._caption())
        for column in COLUMNS:
            table.add_column(column)
        for plant in self.plants:
            rows = plant.all.candidates
            for row in rows:
                table.add_row(plant.name if row.champion else "", *_cells(row, plant.life_unit),
                              end_section=row is rows[-1])  # fmt: skip
        return table

    def _caption(self) -> str:
        doubts = [f"{plant.name}: {text}." for plant in self.plants if (text := on_condition(plant))]
        return "\n".join([*(f"{plant.name}: {plant.verdict}." for plant in self.plants), *doubts, *self._kept()])

    def _kept(self) -> list[str]:
        return [
            f"{one.name}: of {at.caught[CHAMPION]} failures that the champion catches at its false alarms, the fleet's "
            f"network that never saw the plant catches {at.caught[as_new.KIND]} with as many: {at.kept[as_new.KIND]}."
            for one in self.kept for at in one.at if at.rate is None
        ]  # fmt: skip


def run(
    home: Home, *, progress: Progress, plants: str = "all", truth: Path | None = None, unseen: bool = False
) -> EvaluateReport:
    """Evaluate the champions of the plants named (comma-separated, or ``all``).

    ``truth`` is a simulator's ``.truth`` folder. With ``unseen`` each plant with failures is judged by the network of
    the others too, as if it were new. Raises NotFoundError for a plant without a champion.
    """
    began = time.monotonic()
    bundles = {name: plant_bundles(home, name) for name in named_plants(home, plants)}
    for name, new in (as_new.as_new(home, list(bundles), progress=progress) if unseen else {}).items():
        bundles[name][as_new.KIND] = new
    progress.step(f"Judge {', '.join(bundles)} on later time and unseen machines")
    task = ray.remote(num_cpus=1)(judge_plant)
    waiting = []
    for name, found in bundles.items():
        config = next(iter(found.values())).spec.config
        data = load_plant(home, name, config=config, context=context_asked(found.values()))
        known = read_truth(truth, name) if truth is not None else None
        modes = named_modes(read_events(home, name, as_of=data.version))
        split = data.split_in_time(home.settings.split, config)
        for text in read_before(home, name, split):
            progress.note(text)
        waiting.append(task.remote(data, split, found, known, modes))
    judged: list[Judged] = []
    for reference in waiting:
        judged.append(ray.get(reference))
        progress.update(len(judged), len(waiting), "plants")
    files = [*write(home.path / "reports", judged), str(home.path / "reports" / "evaluation.html")]
    write_atomically(Path(files[-1]), _page(judged))
    report = EvaluateReport(plants=[j.result for j in judged], files=files, kept=_kept(judged))
    report.seconds = time.monotonic() - began
    text = json.dumps(report.as_json(), indent=1, allow_nan=False)
    write_atomically(home.path / "reports" / "evaluation.json", text)
    for name, found in bundles.items():
        lineage.reads_history(home, name)
        lineage.reads(*(lineage.model(bundle.folder, bundle.spec.version) for bundle in found.values()))
    for file in report.files:
        lineage.writes_file(Path(file))
    return report


def _kept(judged: list[Judged]) -> list[Kept]:
    counts = {}
    for one in judged:
        if as_new.KIND in one.swept:
            found = counts_of(one, [one.result.champion, as_new.KIND])
            alarms = {CHAMPION: found.alarms[one.result.champion], as_new.KIND: found.alarms[as_new.KIND]}
            counts[one.result.name] = [replace(found, alarms=alarms)]
    return kept(counts, full=CHAMPION, newcomers=[as_new.KIND])


def plant_bundles(home: Home, plant: str) -> dict[str, Bundle]:
    """Verified bundles by kind, the champion first, then the candidates of its study.

    Raises NotFoundError where the plant has no champion, InputError where a bundle is not whole.
    """
    best = standing_champion(home, plant)
    found = {best.kind: load(home, plant, best.path)}
    listed = bundle_folder(home, plant, best.version).parent / "candidates.json"
    others = json.loads(listed.read_text("utf-8")) if listed.is_file() else {}
    for kind, entry in others.items():
        if kind not in found:
            found[kind] = load_version(home, plant, entry["version"])
    return found


def context_asked(bundles: Iterable[Bundle]) -> tuple[Channel, ...]:
    """Every context channel that one of the bundles reads: a log that has grown since would choose others."""
    return tuple(dict.fromkeys(c for bundle in bundles for c in context_of(bundle.spec.channels)))


def write(folder: Path, judged: list[Judged]) -> list[str]:
    """What the report needs beyond the figures; returns the files' paths."""
    details = folder / "evaluation"
    details.mkdir(parents=True, exist_ok=True)
    files = [str(folder / "evaluation.json")]
    for one in judged:
        ticks, story = (details / f"{one.result.name}{suffix}" for suffix in (".parquet", ".story.json"))
        pq.write_table(one.ticks, ticks, compression="zstd")
        write_atomically(story, json.dumps(one.story, allow_nan=False))
        files += [str(ticks), str(story)]
    return files


def _page(judged: list[Judged]) -> str:
    from jobs.reporting.figures_page import render  # matplotlib takes half a second

    plants = [one.result for one in judged]
    return render(plants, {one.result.name: one.story for one in judged}, origin=origin(plants))


def _cells(row: CandidateResult, unit: str) -> list[str]:
    """Only what tells candidates apart; the report and the JSON hold every figure with its interval."""
    lead, skill, equal = row.lead_median.value, row.brier_skill.value, row.caught_at_equal_false_alarms
    name = "always on alarm" if row.kind == "kaplan_meier" else row.kind.replace("_", " ")
    return [
        name + (" (champion)" if row.champion else ""),
        f"{row.caught} of {row.num_failures}" + _interval(row.recall, percent=True),
        "-" if equal is None else str(equal),
        _text(row.false_alarms_per_machine_month), "-" if lead is None else f"{lead:.0f} {unit}",
        _text(row.auc), "-" if skill is None else f"{skill:.2f}",
        "-" if row.life_error.value is None else f"{row.life_error.value:.0f} {unit}",
        "-" if row.coverage_80.value is None else f"{100 * row.coverage_80.value:.0f} %",
    ]  # fmt: skip


def _text(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.2f}" + _interval(figure)


def _interval(figure: Figure, *, percent: bool = False) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f" ({figure.low:.0%}-{figure.high:.0%})" if percent else f" ({figure.low:.2f}-{figure.high:.2f})"

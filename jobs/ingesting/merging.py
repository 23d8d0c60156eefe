"""Tiles merged wherever they are merged, and the batch judged before anything of it is committed.

The one idea: a batch is judged once, by what its own tiles measured. Where it is held, its files are
deleted and no table ever names them; where cells are put in quarantine, their tiles are merged again
without these cells. What was judged before a death stands: the run that finishes the batch takes the same
cells out, and finds those again that tables lack which were committed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cluster.home import Home
from cluster.places import place_of, reference
from cluster.report import Progress
from jobs.ingesting import gate
from jobs.ingesting.measures import MEASURES
from jobs.ingesting.parts import read_back
from jobs.ingesting.pieces import PIECES
from jobs.ingesting.plan import has_begun, work_folder
from jobs.ingesting.rewrite import Rewritten, Tile, rewrite_tile, tiles
from jobs.ingesting.tables import Batch
from models.checks import Finding, Mask

Row = dict[str, Any]  # Ray Data's
Spread = Callable[[Callable[[Row], Row], list[Row]], Iterable[Row]]


@dataclass
class Verdict:
    """What the gate says of a batch. ``held``: nothing of it may be committed."""

    findings: list[Finding]
    held: bool
    masked: list[str] = field(default_factory=list)  # files of cells that were put in quarantine
    num_masked: int = 0


@dataclass
class Merging:
    """Merges tiles by ``spread``; ``verdicts`` by plant, as soon as its tiles were merged."""

    home: Home
    batches: Sequence[Batch]
    spread: Spread
    progress: Progress
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    masks: dict[str, list[Mask]] = field(default_factory=dict)
    emptied: dict[str, list[Rewritten]] = field(default_factory=dict)  # table's folder -> what was taken out of it

    def held(self, plant: str) -> bool:
        return plant in self.verdicts and self.verdicts[plant].held

    def results(self, work: list[Tile]) -> list[Rewritten]:
        """A result for each tile of a batch that is not held."""
        found = self._run(work)
        fresh = [batch for batch in self.batches if batch.plan.plant not in self.verdicts]
        for batch in fresh:
            self._judge(batch, [result for result in found if result.plant == batch.plan.plant])
        new = {batch.plan.plant for batch in fresh}
        again = [tile for tile in work if tile.plant in new and not self.held(tile.plant) and self._concerned(tile)]
        if again:
            outdated = {(tile.folder, tile.month, tile.bounds) for tile in again}
            _forget([result for result in found if (result.folder, result.month, result.bounds) in outdated])
            found = [result for result in found if (result.folder, result.month, result.bounds) not in outdated]
            found += self._run(again)
        _forget([result for result in found if self.held(result.plant)])
        found = [result for result in found if not self.held(result.plant)]
        self._count_emptied(found)
        return found

    def judge_rest(self) -> None:
        """Batches without readings to commit: they brought none, or a run that was killed has committed them."""
        for batch in self.batches:
            if batch.plan.plant not in self.verdicts:
                self._judge(batch, [])
            if not self.held(batch.plan.plant):
                self._empty_again(batch)

    def _empty_again(self, batch: Batch) -> None:
        """Cells for quarantine of tables that a killed run has committed: its own list of them is gone."""
        plan, work = batch.plan, list[Tile]()
        for name, parts in batch.parts.items():
            folder = self.home.table(plan.plant, name)
            if reference(folder) not in self.emptied:
                work += tiles(parts, [], plan=plan, folder=folder, work=work_folder(self.home, plan))
        found = self._run([tile for tile in work if self._concerned(tile)])
        _forget(found)
        self._count_emptied(found)

    def _count_emptied(self, found: Sequence[Rewritten]) -> None:
        for folder in {result.folder for result in found}:
            self.emptied[folder] = [result for result in found if result.folder == folder]
        for plant, verdict in self.verdicts.items():
            own = [result for results in self.emptied.values() for result in results if result.plant == plant]
            verdict.masked = [result.quarantine for result in own if result.quarantine]
            verdict.num_masked = sum(result.cells for result in own)

    def _run(self, work: list[Tile]) -> list[Rewritten]:
        found = []
        masked = [tile.model_copy(update={"masks": self.masks.get(tile.plant, [])}) for tile in work]
        for number, row in enumerate(self.spread(rewrite_tile, [{"tile": t.model_dump_json()} for t in masked]), 1):
            self.progress.update(number, len(work), "parts")
            found.append(Rewritten.model_validate_json(row["rewritten"]))
        return found

    def _judge(self, batch: Batch, results: list[Rewritten]) -> None:
        plan = batch.plan
        # Tables that were committed before a death are not measured again; a batch that has begun is judged already.
        begun = has_begun(self.home, plan)
        judged = begun and gate.quality_path(self.home, plan.plant, plan.batch).is_file()
        fresh = _joined([result.measures for result in results if result.measures], MEASURES)
        measures = gate.read_measures(self.home, plan.plant, plan.batch) if judged else fresh
        pieces = _joined([parsed.pieces for parsed in batch.parsed if parsed.pieces], PIECES)
        before = gate.before(self.home, plan.plant, plan.sequence)
        findings = gate.judge(plan, measures, pieces, before, rows=sum(parsed.rows for parsed in batch.parsed))
        # What a person has let in, or what is partly in history already, is held no more.
        held = gate.is_held(findings) and plan.accepts is None and not begun
        self.verdicts[plan.plant] = Verdict(findings, held)
        self.masks[plan.plant] = gate.masks(findings)
        if not judged:
            gate.save(self.home, plan, measures, findings, counts=batch.counts(), held=held)

    def _concerned(self, tile: Tile) -> bool:
        return any(tile.bounds.holds(mask.machine) for mask in self.masks[tile.plant])


def _joined(paths: Sequence[str], schema: pa.Schema) -> pa.Table:
    tables = [read_back(path) for path in paths]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _forget(results: Sequence[Rewritten]) -> None:
    """Files that no table will ever name."""
    for result in results:
        for file in result.files:
            (place_of(result.folder) / file["path"]).unlink(missing_ok=True)

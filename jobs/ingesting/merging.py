"""Tiles merged wherever they are merged, and the batch judged before anything of it is committed.

The one idea: a batch is judged once, by what its own tiles measured. Where it is held, its files are
deleted and no table ever names them; where cells are put in quarantine, their tiles are merged again
without these cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.home import Home
from cluster.report import Progress
from jobs.ingesting import gate
from jobs.ingesting.measures import MEASURES
from jobs.ingesting.parts import read_back
from jobs.ingesting.pieces import PIECES
from jobs.ingesting.plan import has_begun
from jobs.ingesting.rewrite import Rewritten, Tile, rewrite_tile
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

    def held(self, plant: str) -> bool:
        return plant in self.verdicts and self.verdicts[plant].held

    def results(self, tiles: list[Tile]) -> list[Rewritten]:
        """A result for each tile of a batch that is not held."""
        found = self._run(tiles)
        fresh = [batch for batch in self.batches if batch.plan.plant not in self.verdicts]
        for batch in fresh:
            self._judge(batch, [result for result in found if result.plant == batch.plan.plant])
        new = {batch.plan.plant for batch in fresh}
        again = [tile for tile in tiles if tile.plant in new and not self.held(tile.plant) and self._concerned(tile)]
        if again:
            outdated = {(tile.folder, tile.month, tile.bounds) for tile in again}
            _forget([result for result in found if (result.folder, result.month, result.bounds) in outdated])
            found = [result for result in found if (result.folder, result.month, result.bounds) not in outdated]
            found += self._run(again)
        _forget([result for result in found if self.held(result.plant)])
        for plant, verdict in self.verdicts.items():
            own = [result for result in found if result.plant == plant and result.quarantine]
            verdict.masked = [result.quarantine for result in own if result.quarantine]
            verdict.num_masked = sum(result.cells for result in own)
        return [result for result in found if not self.held(result.plant)]

    def judge_rest(self) -> None:
        """Batches that brought no readings."""
        for batch in self.batches:
            if batch.plan.plant not in self.verdicts:
                self._judge(batch, [])

    def _run(self, tiles: list[Tile]) -> list[Rewritten]:
        found = []
        masked = [tile.model_copy(update={"masks": self.masks.get(tile.plant, [])}) for tile in tiles]
        for number, row in enumerate(self.spread(rewrite_tile, [{"tile": t.model_dump_json()} for t in masked]), 1):
            self.progress.update(number, len(tiles), "parts")
            found.append(Rewritten.model_validate_json(row["rewritten"]))
        return found

    def _judge(self, batch: Batch, results: list[Rewritten]) -> None:
        plan = batch.plan
        measures = _joined([result.measures for result in results if result.measures], MEASURES)
        pieces = _joined([parsed.pieces for parsed in batch.parsed if parsed.pieces], PIECES)
        before = gate.before(self.home, plan.plant, plan.sequence)
        findings = gate.judge(plan, measures, pieces, before, rows=sum(parsed.rows for parsed in batch.parsed))
        # What a person has let in, or what is partly in history already, is held no more.
        begun = has_begun(self.home, plan)
        held = gate.is_held(findings) and plan.accepts is None and not begun
        self.verdicts[plan.plant] = Verdict(findings, held)
        self.masks[plan.plant] = gate.masks(findings)
        if not (begun and gate.quality_path(self.home, plan.plant, plan.batch).is_file()):
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
            (Path(result.folder) / file["path"]).unlink(missing_ok=True)

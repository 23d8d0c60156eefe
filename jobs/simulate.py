"""``millwright simulate``: raw files of a fleet that never was, one folder a plant, and the truth beside them.

The one idea: what is written here looks like any customer's files. ``.truth/`` is for the evaluation's oracle and for
tests; no job learns from it. The generative model is documented in ``jobs/fleet``.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from rich.console import RenderableType
from rich.table import Table

from cluster.home import Home
from cluster.report import Progress, Report, code_version
from jobs.fleet.history import History, simulate_plant, write_plant
from jobs.fleet.plants import PLANTS
from models.errors import InputError

MARK = ".truth/fleet.json"  # a folder with this file was written by `simulate`
_OURS = re.compile(  # below a plant's folder
    r"(failures|maintenance|errors|equipment)\.csv|readings(/(pumps|export|spindles)_\d+-\d+\.(csv|jsonl\.gz|parquet))?"
)


class SimulatedPlant(BaseModel):
    name: str
    machine_type: str
    machines: int
    failures: int  # true ones, unlogged ones included
    never_failed: int  # machines
    files: int
    rows: int  # of readings, as the files carry them
    size_bytes: int


class SimulateReport(Report):
    out: str
    seed: int
    days: int
    plants: list[SimulatedPlant]
    files: int
    rows: int
    size_bytes: int

    def render(self) -> RenderableType:
        table = Table(title=f"Simulated fleet, {self.days} days, seed {self.seed}, in {self.out}", title_justify="left")
        for name in ("plant", "machines", "failures", "never failed", "files", "rows", "size"):
            table.add_column(name, justify="left" if name == "plant" else "right")
        for p in self.plants:
            cells = (p.failures, p.never_failed, p.files, f"{p.rows:,}", f"{p.size_bytes / 1e6:.1f} MB")
            table.add_row(f"{p.name} ({p.machine_type})", str(p.machines), *map(str, cells))
        sums = [sum(getattr(p, key) for p in self.plants) for key in ("machines", "failures", "never_failed")]
        table.add_section()
        table.add_row("all", *map(str, sums), str(self.files), f"{self.rows:,}", f"{self.size_bytes / 1e6:.1f} MB")
        return table


def run(
    home: Home,
    *,
    out: Path | None = None,
    progress: Progress,
    machines: int = 40,
    days: int = 210,
    seed: int = 0,
    plants: Sequence[str] | None = None,
) -> SimulateReport:
    """Write a fleet to ``out`` (default: ``raw`` in the home). The same arguments give the same bytes.

    Raises InputError on a number out of range, an unknown plant, or a folder that holds anything else.
    """
    began = time.monotonic()
    folder = Path(out) if out is not None else home.path / "raw"
    chosen = _checked(machines, days, seed, plants)
    _prepare(folder, {"seed": seed, "machines": machines, "days": days, "plants": chosen, "version": code_version()})
    found = []
    for name in chosen:
        progress.step(f"Simulating {name}: {machines} {PLANTS[name].machine_type}s, {days} days")
        history = simulate_plant(PLANTS[name], machines=machines, days=days, seed=seed)
        found.append(_write(history, folder, progress))
    return SimulateReport(
        out=str(folder), seed=seed, days=days, plants=found, files=sum(p.files for p in found),
        rows=sum(p.rows for p in found), size_bytes=sum(p.size_bytes for p in found),
        seconds=time.monotonic() - began,
    )  # fmt: skip


def _write(history: History, folder: Path, progress: Progress) -> SimulatedPlant:
    plant, name, machines = history.plant, history.plant.name, len(history.names)
    steps = history.lives.calendar.num_hours * plant.steps_per_hour
    rows, expected = 0, machines * steps * (len(plant.sensors) if plant.scattered else 1)
    for written in write_plant(history, folder / name, folder / ".truth" / name):
        rows += written.rows
        progress.update(min(rows, expected), expected, "rows")
    files = [path for path in (folder / name).rglob("*") if path.is_file()]
    failed = {failure.machine for failure in history.lives.failures}
    return SimulatedPlant(
        name=name, machine_type=plant.machine_type, machines=machines, failures=len(history.lives.failures),
        never_failed=machines - len(failed), files=len(files), rows=rows,
        size_bytes=sum(path.stat().st_size for path in files),
    )  # fmt: skip


def _checked(machines: int, days: int, seed: int, plants: Sequence[str] | None) -> list[str]:
    for name, value, low, high in (("machines", machines, 1, 999), ("days", days, 1, 3650), ("seed", seed, 0, 2**63)):
        if not low <= value <= high:
            raise InputError(
                f"Cannot simulate with these {name}" if name != "seed" else "Cannot simulate with this seed",
                expected=f"{low} to {high}", found=value, do=f"Choose another --{name}",
            )  # fmt: skip
    chosen = list(dict.fromkeys(plants)) if plants is not None else list(PLANTS)
    unknown = [name for name in chosen if name not in PLANTS]
    if unknown or not chosen:
        raise InputError("Unknown plant to simulate", expected=f"some of {', '.join(PLANTS)}",
                         found=", ".join(map(repr, unknown)) or "none", do="Correct --plants")  # fmt: skip
    return chosen


def _prepare(folder: Path, parameters: dict[str, Any]) -> None:
    """Empty the folder of an earlier fleet, and mark it as this one. Refuses a folder that holds anything else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "Cannot write a fleet", expected="a folder", found="a file", where=folder, do="Choose another --out"
        )
    earlier = _earlier(folder)
    foreign = _foreign(folder, earlier) if folder.is_dir() else []
    if foreign:
        raise InputError(
            "Will not write into this folder", expected="an empty folder or an earlier fleet of `millwright simulate`",
            found=", ".join(foreign[:3]), where=folder, do="Choose another --out",
        )  # fmt: skip
    try:
        for name in earlier or ():
            shutil.rmtree(folder / name, ignore_errors=True)
        shutil.rmtree(folder / ".truth", ignore_errors=True)
        (folder / MARK).parent.mkdir(parents=True)
        (folder / MARK).write_bytes(orjson.dumps(parameters, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise InputError("Cannot write a fleet", expected="a writable folder", found=error.strerror, where=folder,
                         do="Choose another --out") from error  # fmt: skip


def _foreign(folder: Path, earlier: list[str] | None) -> list[str]:
    """What is in the folder that `simulate` did not write."""
    if earlier is None:
        return sorted(path.name for path in folder.iterdir())
    inside = (path.relative_to(folder) for path in folder.rglob("*"))
    others = (path for path in inside if path.parts[0] not in (".truth", *earlier))
    below = (
        path.relative_to(folder) for name in earlier for path in (folder / name).rglob("*")
        if not _OURS.fullmatch(path.relative_to(folder / name).as_posix())
    )  # fmt: skip
    return sorted({str(path) for path in (*others, *below)})


def _earlier(folder: Path) -> list[str] | None:
    """The plants of the fleet that is in the folder, or None if there is no fleet."""
    try:
        parameters = orjson.loads((folder / MARK).read_bytes())
        return [name for name in parameters["plants"] if name in PLANTS]
    except (OSError, ValueError, KeyError, TypeError):
        return None

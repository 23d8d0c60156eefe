"""Microsoft's Azure predictive-maintenance sample: simulated machines of four components, telemetry and logs.

The one idea: most of it is told by the logs alone (error codes come a day before a failure, and failures fall on the
grid of the services), so what counts is the network's gain over the baseline that sees no sensor, paired, by failure;
and, since trees and a network make unequal use of the same logs, over the same network without the sensors.

Telemetry has two parts: hourly means of 20 machines over 90 days, and daily means of 100 machines over a year. A day's
mean is known at 06:00 of the next day, when most failures are stamped: it is read as of then, so that the first
prediction that knows it is made at the midnight after, strictly later.

A service renews its component (``since_service.<component>``); the machine, with three others, is not new by it, so it
does not censor what the log goes on to tell. Folds are for judging: none of their models is made champion.
"""

from __future__ import annotations

import csv
import io
import time
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.files import write_atomically
from cluster.home import Home
from cluster.report import Progress, Report
from cluster.sources import write_source
from jobs import ingest
from jobs.benchmarks.folds import out_of_fold
from jobs.benchmarks.given import UNREADABLE, given_file, require_folder, unpacked
from jobs.benchmarks.paired import Compared, Figures, compared
from jobs.dataset import load_plant
from jobs.evaluation.results import Figure
from models.config import Clock, HazardConfig, ModelConfig, NetworkConfig, TreesConfig, WindowConfig
from models.errors import InputError
from models.source import CsvFormat, MachineFrom, SensorColumn, SourceDescription, Stream, TimeFormat

HORIZON = "48h"
FOLDS = 5
SENSORS = ("volt", "rotate", "pressure", "vibration")
_EDGES = (12.0, 24.0, 36.0, 48.0, 72.0, 96.0)  # lives are learned up to the last one
_TREES = TreesConfig(rounds=300, leaves=4, min_rows=1000, learning_rate=0.05)
_HORIZONS = {"24h": 24.0, HORIZON: 48.0}
# All settings were chosen by the likelihood of validation machines, on folds of another seed than any that is judged.
_NETWORK = NetworkConfig(
    name="tcn", kernel=5, hidden=32, layers=4, learning_rate=3e-3, epochs=40, patience=10, dropout=0.2, noise=0.1
)
# Ages of components name a machine's day as a time stamp would; from 23 failures a network learns such days by heart.
_AGES = ("since_service", *(f"since_service.comp{number}" for number in range(1, 5)))
CONFIG = {
    "hourly": ModelConfig(
        clock=Clock(step_s=3600), window=WindowConfig(length=72, carry=3),
        hazard=HazardConfig(horizons=_HORIZONS, edges=_EDGES),
        network=_NETWORK.model_copy(update={"ignore": _AGES}), trees=_TREES,
    ),
    "daily": ModelConfig(
        clock=Clock(step_s=86_400), window=WindowConfig(length=14, carry=1),
        hazard=HazardConfig(horizons=_HORIZONS, edges=(24.0, 48.0, 72.0, 96.0)),
        network=_NETWORK.model_copy(update={"layers": 2, "epochs": 25}),
        trees=_TREES.model_copy(update={"min_rows": 20, "leaves": 31}),
    ),
}  # fmt: skip
COLUMNS: dict[str, tuple[str, ...]] = {
    "PdM_errors": ("datetime", "machineID", "errorID"),
    "PdM_failures": ("datetime", "machineID", "failure"),
    "PdM_maint": ("datetime", "machineID", "comp"),
    "PdM_machines": ("machineID", "model"),
    "PdM_telemetry_hourly_m1-20_90d": ("datetime", "machineID", *SENSORS),
    "PdM_telemetry_daily_mean": ("date", "machineID", *SENSORS),
}
TELEMETRY = {"hourly": "PdM_telemetry_hourly_m1-20_90d", "daily": "PdM_telemetry_daily_mean"}
_WHOSE = "Microsoft's PdM_*.csv files"
DAY_IS_KNOWN = timedelta(days=1, hours=6)  # after the midnight that a daily row is dated with


class Part(BaseModel):
    """One part of the telemetry, judged."""

    name: str
    folds: int
    found: Compared


class AzureReport(Report):
    """``model``, ``baseline``, ``no_sensor`` and ``gain`` are those of the first part; ``parts`` holds all."""

    name: str = "azure"
    simulated: bool = True
    horizon: str = HORIZON
    model: Figures
    baseline: Figures
    no_sensor: Figures
    gain: Figure
    parts: list[Part]

    def render(self) -> RenderableType:
        notes = (
            "Simulated data. Every tick is answered once a repetition, by models that never saw its machine; figures "
            "are means over repetitions, with 95 % intervals over machines. Average precision weighs each failure one; "
            "caught and precision are at equal false alarms, each under its best threshold on these very ticks."
        )
        return Group(*(line for part in self.parts for line in (_table(part), _verdict(part))), notes)


def run(home: Home, *, progress: Progress, data: Path, subset: str | None = None, seeds: int = 3) -> AzureReport:
    """``hourly``, ``daily`` or both; ``seeds`` repetitions of the folds. Raises InputError for files not there."""
    began = time.monotonic()
    if subset is not None and subset not in CONFIG:
        raise InputError("Unknown subset", expected=f"one of {', '.join(CONFIG)}", found=repr(subset))
    wanted = list(CONFIG) if subset is None else [subset]
    files = check(data, wanted)
    parts = [_judged(home, name, files, seeds, progress) for name in wanted]
    first = parts[0].found
    return AzureReport(
        seconds=time.monotonic() - began, model=first.model, baseline=first.baseline, no_sensor=first.no_sensor,
        gain=first.gain, parts=parts,
    )  # fmt: skip


def _judged(home: Home, name: str, files: dict[str, Path], seeds: int, progress: Progress) -> Part:
    source = description(name, files, home.path / "raw" / f"azure-{name}")
    home.sources.mkdir(parents=True, exist_ok=True)
    write_source(home.of(source.plant).source, source)
    progress.step(f"Ingest {name} telemetry and the logs")
    told = ingest.run(home, plant=source.plant, progress=progress)
    if told.rows_quarantined:  # a figure from a part of the rows would be no figure
        raise InputError(
            "Rows that history cannot take", expected="none", found=f"{told.rows_quarantined:,} in quarantine",
            where=files[TELEMETRY[name]].parent, do="Fetch Microsoft's files again",
        )  # fmt: skip
    progress.step("Cut windows")
    config = CONFIG[name]
    history = load_plant(home, source.plant, config=config, by_machine=True)
    progress.step(f"Fit {seeds} x {FOLDS} folds, and answer for each fold's unseen machines")
    answers = out_of_fold(home, history, config, folds=FOLDS, repeats=seeds, progress=progress)
    progress.step("Draw machines for the intervals")
    return Part(name=name, folds=FOLDS, found=compared(answers, config.hazard, horizon=_HORIZONS[HORIZON]))


def description(name: str, files: dict[str, Path], folder: Path) -> SourceDescription:
    """What Microsoft's files mean; ``folder`` gets the telemetry as of when it is known, and copies of the logs."""
    for key, path in files.items():
        if key not in TELEMETRY.values():
            write_atomically(folder / f"{key}.csv", _text(path))
    write_atomically(folder / "telemetry.csv", _telemetry(name, files[TELEMETRY[name]]))

    def log(role: str, file: str, **fields: str) -> Stream:
        return Stream.model_validate(
            {"name": role, "role": role, "files": f"{file}.csv", "machine": machine, "fields": fields, "time": at}
        )

    at, machine = TimeFormat(column="datetime"), MachineFrom(column="machineID")
    telemetry = Stream(
        name="telemetry", role="readings", files="telemetry.csv", csv=CsvFormat(), time=at, machine=machine,
        sensors={column: SensorColumn(sensor=column) for column in SENSORS},
    )  # fmt: skip
    machines = Stream(
        name="machines", role="machines", files="PdM_machines.csv", machine=machine, fields={"machine_type": "model"}
    )
    streams = (
        telemetry, machines, log("failures", "PdM_failures", component="failure"),
        log("maintenance", "PdM_maint", component="comp"), log("errors", "PdM_errors", code="errorID"),
    )  # fmt: skip
    return SourceDescription(
        plant=f"azure-{name}", root=str(folder.resolve()), clock=CONFIG[name].clock, streams=streams
    )


def _telemetry(name: str, path: Path) -> str:
    """The rows under one header, machines as the logs call them, each day's mean stamped when it is known."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("datetime", "machineID", *SENSORS))
    for row in csv.DictReader(io.StringIO(_text(path))):
        stamp = row["datetime"] if name == "hourly" else str(datetime.fromisoformat(row["date"]) + DAY_IS_KNOWN)
        writer.writerow((stamp, row["machineID"].removesuffix(".0"), *(row[sensor] for sensor in SENSORS)))
    return out.getvalue()


def check(data: Path, parts: list[str]) -> dict[str, Path]:
    """Every file that the parts need, by name. Raises InputError naming the one that is missing or not whole."""
    require_folder(data, _WHOSE)
    needed = [name for name in COLUMNS if name not in TELEMETRY.values() or name in {TELEMETRY[p] for p in parts}]
    found = {name: given_file(data, name, "csv", _WHOSE) for name in needed}
    for name, path in found.items():
        header = next(csv.reader(io.StringIO(_text(path))), [])
        missing = [column for column in COLUMNS[name] if column not in header]
        if missing:
            raise InputError(
                "A column is missing", expected=", ".join(COLUMNS[name]), found=", ".join(header) or "nothing",
                where=path, do="Fetch Microsoft's file again",
            )  # fmt: skip
    return found


def _text(path: Path) -> str:
    try:
        return unpacked(path).decode("utf-8")
    except UNREADABLE as error:
        raise InputError(
            "Unreadable file", expected="comma-separated text", found=str(error), where=path,
            do="Fetch Microsoft's file again",
        ) from error  # fmt: skip


def _table(part: Part) -> Table:
    found = part.found
    repeats = len(found.model.repeats)
    table = Table(
        title=f"azure {part.name}: {found.num_machines} machines, {found.num_failures} failures, {HORIZON} ahead, "
        f"{repeats} x {part.folds} folds"
    )
    columns = ("model", "average precision", "by tick", "AUC", "Brier skill", "failures caught", "precision")
    for column in columns:
        table.add_column(column)
    rows = (
        ("network", found.model), ("trees", found.baseline), ("no sensor (trees)", found.no_sensor),
        ("no sensor (network)", found.blind),
    )  # fmt: skip
    for label, kind in rows:
        caught = f"{kind.num_caught:.1f}, {_written(kind.caught)}"
        figures = (kind.average_precision, kind.average_precision_ticks, kind.auc, kind.brier_skill)
        table.add_row(label, *(_written(f) for f in figures), caught, _written(kind.precision))
    return table


def _verdict(part: Part) -> str:
    found = part.found
    return (
        f"Gain in average precision, paired, over no sensor (trees): network {_written(found.gain)}, trees "
        f"{_written(found.baseline_gain)}; of the network over itself without sensors: {_written(found.sensor_gain)}. "
        f"Who knows nothing has {found.positive_share:.3f}; {found.false_alarms_per_machine_month:.2f} false alarms a "
        "machine-month are allowed."
    )


def _written(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    interval = "" if figure.low is None else f" ({figure.low:.2f} to {figure.high:.2f})"
    return f"{figure.value:.3f}{interval}"

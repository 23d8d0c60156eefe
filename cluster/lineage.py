"""What a run read and wrote: told by the jobs, recorded around them, sent as OpenLineage events.

The one idea: a job says `reads(...)` and `writes(...)` wherever it knows, in its own words; where nobody
records, both do nothing. `traced` records around one verb, and a verb inside another is its child. Whatever
goes wrong with lineage is noted, and the job goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from cluster.report import Progress

if TYPE_CHECKING:
    from cluster.home import Home
    from cluster.places import Place
    from cluster.visibility import AsOf

MOST_DATASETS = 1000  # in one event, each way; a batch's plan names every file
Kind = Literal["FILE", "TABLE", "MODEL"]


@dataclass(frozen=True)
class Dataset:
    """``name`` is an absolute path or a URL. ``rows``, ``size_bytes`` and ``files`` are what was read or written."""

    name: str
    kind: Kind
    version: str | None = None  # of a file its SHA-256
    columns: tuple[tuple[str, str], ...] = ()  # name, type
    rows: int | None = None
    size_bytes: int | None = None
    files: int | None = None


@dataclass
class Run:
    """One run of a verb. ``options`` are shown in its events; they hold no secrets."""

    id: str
    verb: str
    options: Mapping[str, str]
    parent: Run | None
    inputs: dict[str, Dataset] = field(default_factory=dict)
    outputs: dict[str, Dataset] = field(default_factory=dict)


_CURRENT: ContextVar[Run | None] = ContextVar("millwright_lineage_run", default=None)


def reads(*datasets: Dataset) -> None:
    """Inputs of the run around this call."""
    _add(datasets, outputs=False)


def writes(*datasets: Dataset) -> None:
    """Outputs of the run around this call."""
    _add(datasets, outputs=True)


def recording() -> bool:
    return _CURRENT.get() is not None


def reads_files(root: Path, files: Iterable[tuple[str, str, int]]) -> None:
    """Source files: path below ``root``, SHA-256 and size of each."""
    if recording():
        reads(*(Dataset(str(root / path), "FILE", digest, size_bytes=size, files=1) for path, digest, size in files))


def reads_history(home: Home, plant: str, as_of: AsOf = None) -> None:
    """The plant's tables as readers see them, now or as of a version."""
    if recording():
        reads(*_tables(home, plant, as_of))


def writes_history(home: Home, plant: str, *, mark: str, tables: Iterable[str] | None = None) -> None:
    """The plant's tables (all, or those named) as readers see them now.

    Counted are the files whose name holds ``mark`` (the batch); a table without any was not written.
    """
    if recording():
        wanted = None if tables is None else set(tables)
        found = _tables(home, plant, None, mark=mark, wanted=wanted)
        writes(*(table for table in found if table.files))


def ingested(home: Home, plant: str, batch: str, root: Path, files: Iterable[tuple[str, str, int]]) -> None:
    """A batch is visible: its files in, the plant's tables and the batch's plan out."""
    if recording():
        reads_files(root, files)
        writes_history(home, plant, mark=batch)
        writes_file(home.of(plant).plans / f"{batch}.json")


def learns(home: Home, plant: str, data_version: str, bundles: Iterable[Place]) -> None:
    """Models were made from a version of the plant's data: it in, their bundles out."""
    if recording():
        reads_history(home, plant, data_version)
        writes(*(model(folder, folder.name) for folder in bundles))


def scored(home: Home, plant: str, bundle: Place, *, rows: int) -> None:
    """The champion and the plant's tables in, predictions out."""
    if recording():
        reads_history(home, plant)
        reads(model(bundle, bundle.name))
        writes(Dataset(str(home.table(plant, "predictions")), "TABLE", rows=rows))


def writes_file(path: Path, version: str | None = None) -> None:
    if recording():
        writes(Dataset(str(path.resolve()), "FILE", version, size_bytes=path.stat().st_size, files=1))


def model(folder: Place, version: str) -> Dataset:
    """A bundle, as something that is read or written."""
    return Dataset(str(folder.resolve()), "MODEL", version)


@contextmanager
def traced(home: Home, verb: str, options: Mapping[str, Any], progress: Progress) -> Iterator[None]:
    """Records what the work inside reads and writes, and tells of its beginning and its end."""
    if not home.settings.lineage.enabled:
        yield
        return
    try:
        from cluster.lineage_events import Sender, new_run_id  # here: the client takes a quarter of a second
    except ImportError as error:  # a cluster's nodes may lack it
        progress.note(f"no lineage of this run: {error}")
        yield
        return
    shown = {key: str(value) for key, value in options.items() if isinstance(value, str | int | float | bool | Path)}
    run = Run(new_run_id(), verb, shown, _CURRENT.get())
    sender = Sender(home, run, progress)
    sender.start()
    token, began = _CURRENT.set(run), time.monotonic()
    try:
        yield
    except BaseException as error:
        sender.failed(error, time.monotonic() - began)
        raise
    else:
        sender.complete(time.monotonic() - began)
    finally:
        _CURRENT.reset(token)


def _add(datasets: Iterable[Dataset], *, outputs: bool) -> None:
    run = _CURRENT.get()
    if run is None:
        return
    known = run.outputs if outputs else run.inputs
    for dataset in datasets:
        if len(known) < MOST_DATASETS or dataset.kind != "FILE":
            known[dataset.name] = dataset


def _tables(
    home: Home, plant: str, as_of: AsOf, *, mark: str = "", wanted: set[str] | None = None
) -> Iterator[Dataset]:
    import pyarrow as pa  # the command line starts without it

    from cluster.storage import visible_table, visible_versions, written_files

    for name in sorted(visible_versions(home, plant, as_of) or {}):
        table = visible_table(home, plant, name, as_of) if wanted is None or name in wanted else None
        if table is None:
            continue
        files = [file for file in written_files(table) if mark in unquote(file.path)]
        yield Dataset(
            str(home.table(plant, name)), "TABLE", str(table.version()),
            tuple((field.name, str(field.type)) for field in pa.schema(table.schema().to_arrow())),
            sum(file.rows for file in files), sum(file.size for file in files), len(files),
        )  # fmt: skip

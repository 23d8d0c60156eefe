"""What a batch is: the files it delivers, with digests and in order, on disk before anything is read.

The one idea: a plan is a promise that can be kept twice. Everything a batch does follows from its
plan, so a run that was killed is finished by doing the same again; a new plan is made only when no old
one is open, and its number makes the order of deliveries. A file is delivered again when its bytes
or the meaning of its stream changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.commit import is_committed
from cluster.files import write_atomically
from cluster.home import Home
from cluster.places import tables_below
from cluster.report import code_version
from cluster.storage import read_machines
from jobs.ingesting.fingerprint import Spans, digests, fingerprints
from jobs.ingesting.numbering import last_sequence, plan_files
from jobs.sources import archive
from models.errors import InputError, MillwrightError
from models.source import SensorColumn, SourceDescription, Stream


@dataclass(frozen=True)
class Known:
    """What earlier plans have seen: digests of file and stream by (stream, path), columns, added sensors."""

    delivered: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    added: dict[str, dict[str, SensorColumn]] = field(default_factory=dict)


class PlannedFile(BaseModel):
    """``path`` is below the source's root, with ``/``; ``export.zip!/a.csv`` is a member of an archive.

    ``size`` is in bytes on disk, or of the unpacked member. ``spans`` cut a large text file into pieces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str
    path: str
    size: int
    mtime_ns: int
    digest: str
    stream_digest: str
    spans: Spans = ()


class Plan(BaseModel):
    """A batch. ``machine_types`` fixes under which readings table a machine's rows go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    plant: str
    sequence: int
    batch: str
    created_at: datetime
    code_version: str
    source_digest: str
    source: SourceDescription
    files: tuple[PlannedFile, ...]
    machine_types: dict[str, str] = {}
    columns: dict[str, tuple[str, ...]] = {}  # stream -> every column its files have ever had
    added: dict[str, dict[str, SensorColumn]] = {}  # stream -> raw column -> sensor that connect did not know
    dropped: tuple[str, ...] = ()  # changed between a crash and its repair: they are a later delivery
    resumed: bool = False  # a run was killed before it was done
    done: bool = False
    held: bool = False  # a check said stop: nothing of it is in history
    accepts: str | None = None  # the held batch that a person let in as this one
    counts: dict[str, int] = {}

    def stream(self, name: str) -> Stream:
        """The stream with the sensors that its later files have brought."""
        found = next(stream for stream in self.source.streams if stream.name == name)
        return found.model_copy(update={"sensors": self.added.get(name, {}) | found.sensors})


def plan_path(home: Home, plant: str, batch: str) -> Path:
    return home.of(plant).plans / f"{batch}.json"


def work_folder(home: Home, plan: Plan) -> Path:
    """Where a batch's tasks leave what they have parsed."""
    return home.of(plan.plant).plans / f"{plan.batch}.work"


def save(home: Home, plan: Plan) -> Plan:
    write_atomically(plan_path(home, plan.plant, plan.batch), plan.model_dump_json(indent=1) + "\n")
    return plan


def plans(home: Home, plant: str) -> list[Plan]:
    """Every plan of the plant, in delivery order."""
    return [read_plan(path) for path in plan_files(home, plant)]


def read_plan(path: Path) -> Plan:
    """Raises MillwrightError where the file is not as it was written."""
    try:
        plan, found = Plan.model_validate_json(path.read_bytes()), "another plant's or batch's name in it"
    except ValidationError as error:
        plan, found = None, error.errors()[0]["msg"]
    if plan is None or (plan.plant, plan.batch) != (path.parent.name, path.stem):
        raise MillwrightError(
            "Unreadable plan of a batch", expected="the file as ingest wrote it", found=found, where=path,
            do="Put it back from a backup: it says which files history holds",
        )
    return plan


def resume(home: Home, plant: str, source: SourceDescription) -> Plan | None:
    """The plan that a killed run left open, less the files that changed since; None where there is none.

    A plan that no table has yet is given up where files or description changed: a corrected one must win.
    """
    left = [plan for plan in plans(home, plant) if not (plan.done or plan.held)]
    if not left:
        return None
    plan = left[0]  # a new plan is only made when none is open
    root = _root(plan.source)
    found = digests(root / file.path for file in plan.files)
    changed = {f.path for f in plan.files if found.get(root / f.path) != f.digest}
    plan = _touched(plan, changed)
    if not changed and plan.source_digest == digest_of(source):
        return plan.model_copy(update={"resumed": True})
    if not has_begun(home, plan):
        plan_path(home, plant, plan.batch).unlink()
        return None
    if not changed:
        return plan.model_copy(update={"resumed": True})
    kept = tuple(file for file in plan.files if file.path not in changed)
    return save(home, plan.model_copy(update={"files": kept, "dropped": tuple(sorted(changed)), "resumed": True}))


def _root(source: SourceDescription) -> Path:
    root = Path(source.root)
    if not root.is_dir():
        raise InputError(
            "The source's folder is gone", expected="a folder", found="nothing", where=root,
            do=f"Put it back, or run `millwright connect PATH --plant {source.plant}`",
        )  # fmt: skip
    return root


def _touched(plan: Plan, changed: set[str]) -> Plan:
    """Files of the same bytes may have another time: they were copied back, or touched."""
    root = Path(plan.source.root)
    files = [
        f if f.path in changed
        else f.model_copy(update={"mtime_ns": archive.split(root / f.path)[0].stat().st_mtime_ns})
        for f in plan.files
    ]  # fmt: skip
    return plan.model_copy(update={"files": tuple(files)})


def known(home: Home, plant: str) -> Known:
    """What each file was when it was last ingested, and what the streams have had."""
    found = Known()
    every = plans(home, plant)
    for plan in every:
        found.columns.update(plan.columns)
        found.added.update(plan.added)
        for key in [key for key in found.delivered if key[1] in plan.dropped]:
            del found.delivered[key]  # some tables may hold what lay there
        if plan.held and not is_open(plan, every) and all(other.accepts != plan.batch for other in every):
            continue  # given up: what no later batch has brought is not in history
        found.delivered.update({(f.stream, f.path): (f.digest, f.stream_digest) for f in plan.files})
    return found


def new_files(source: SourceDescription, known: Known) -> list[PlannedFile]:
    """Files to be delivered now, in delivery order: by path, then by stream.

    Raises InputError where the root is gone, or where no file of any stream is there at all.
    """
    root = _root(source)
    matched = [(s, path) for s in source.streams if s.role != "ignored" for path in _files(s, root)]
    if not matched:
        raise InputError(
            "No file to ingest", expected=" or ".join(s.files for s in source.streams[:4]), found="no such file",
            where=root, do="Check `files` in the source description",
        )  # fmt: skip
    prints = fingerprints({path: stream for stream, path in matched})
    meaning = {stream.name: digest_of(stream) for stream in source.streams}
    found = []
    for stream, path in matched:
        name, own = path.relative_to(root).as_posix(), prints[path]
        if known.delivered.get((stream.name, name)) != (own.digest, meaning[stream.name]):
            mtime_ns = archive.split(path)[0].stat().st_mtime_ns
            file = PlannedFile(
                stream=stream.name, path=name, size=archive.size(path), mtime_ns=mtime_ns, digest=own.digest,
                stream_digest=meaning[stream.name], spans=own.spans,
            )  # fmt: skip
            found.append(file)
    return sorted(found, key=lambda f: (f.path, f.stream))


def _files(stream: Stream, root: Path) -> Iterator[Path]:
    """Files of the stream, and members where they are archives; an archive that cannot be read stands for itself."""
    for path in sorted(root.glob(stream.files)):
        if not is_ours(path, root):
            continue
        members = archive.members(path, stream.member) if stream.member else []
        yield from (Path(f"{path}{archive.MARK}{member}") for member in members)
        if not members:
            yield path


def new_plan(
    home: Home,
    source: SourceDescription,
    files: list[PlannedFile],
    *,
    known: Known,
    types: dict[str, str],
    now: datetime,
) -> Plan:
    """Persist the next batch."""
    sequence = last_sequence(home, source.plant) + 1
    content = "".join(f"{f.stream}\0{f.path}\0{f.digest}\0{f.stream_digest}\n" for f in files)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return save(
        home,
        Plan(
            plant=source.plant, sequence=sequence, batch=f"{sequence:06d}-{digest[:12]}", created_at=now,
            code_version=code_version(), source_digest=digest_of(source), source=source, files=tuple(files),
            machine_types=types, columns=known.columns, added=known.added,
        ),
    )  # fmt: skip


def accepted_plan(home: Home, plant: str, batch: str, *, now: datetime) -> Plan:
    """The files of a held batch as the next batch, which no check holds. Raises InputError."""
    every = plans(home, plant)
    held = next((plan for plan in every if plan.batch == batch), None)
    open_ones = [plan.batch for plan in every if is_open(plan, every)]
    if held is None or batch not in open_ones:
        raise InputError(
            "No such held batch", expected=", ".join(open_ones) or "none is held", found=repr(batch),
            where=home.of(plant).plans, do=f"See `millwright quality --plant {plant}`",
        )  # fmt: skip
    root = Path(held.source.root)
    found = digests(root / file.path for file in held.files)
    if changed := [f.path for f in held.files if found[root / f.path] != f.digest]:
        raise InputError(
            "A file of the held batch has changed", expected="the files as they were judged", found=changed[0],
            where=root, do="Run `millwright ingest` without --accept: it judges them anew",
        )  # fmt: skip
    machines = read_machines(home, plant)
    listed = dict(zip(machines["machine"].to_pylist(), machines["machine_type"].to_pylist(), strict=True))
    sequence = last_sequence(home, plant) + 1
    update = {
        "sequence": sequence, "batch": f"{sequence:06d}-{batch.partition('-')[2]}", "created_at": now,
        "code_version": code_version(), "held": False, "accepts": batch,
        "machine_types": held.machine_types | listed,  # other batches have come since
    }  # fmt: skip
    return save(home, _touched(held, set()).model_copy(update=update))


def is_open(plan: Plan, every: list[Plan]) -> bool:
    """Whether the batch is held, and no later one has brought any of its files."""
    own = {(f.stream, f.path) for f in plan.files}
    later = (other for other in every if other.sequence > plan.sequence)
    return plan.held and not any((f.stream, f.path) in own for other in later for f in other.files)


def digest_of(description: BaseModel) -> str:
    return hashlib.sha256(description.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def has_begun(home: Home, plan: Plan) -> bool:
    """Whether any table holds the batch."""
    tables = home.of(plan.plant).tables
    return any(is_committed(tables / name, plan.batch) for name in tables_below(tables))


def is_ours(path: Path, root: Path) -> bool:
    """A plain file, not hidden, and inside the plant's folder: a link out of it is another plant's business."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.is_file() and not hidden and path.resolve().is_relative_to(root.resolve())

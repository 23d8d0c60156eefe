"""What a batch is: the files it delivers, with digests and in order, on disk before anything is read.

The one idea: a plan is a promise that can be kept twice. Everything a batch does follows from its
plan, so a run that was killed is finished by doing the same again; a new plan is made only when no old
one is open, and its number makes the order of deliveries. A file is delivered again when its bytes
or the meaning of its stream changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.commit import is_committed
from cluster.files import write_atomically
from cluster.home import Home
from cluster.report import code_version
from models.errors import InputError, MillwrightError
from models.source import SensorColumn, SourceDescription, Stream


@dataclass(frozen=True)
class Known:
    """What earlier plans have seen: digests of file and stream by (stream, path), columns, added sensors."""

    delivered: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    added: dict[str, dict[str, SensorColumn]] = field(default_factory=dict)


class PlannedFile(BaseModel):
    """``path`` is below the source's root, with ``/``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str
    path: str
    size: int
    mtime_ns: int
    digest: str
    stream_digest: str


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
    counts: dict[str, int] = {}

    def stream(self, name: str) -> Stream:
        """The stream with the sensors that its later files have brought."""
        found = next(stream for stream in self.source.streams if stream.name == name)
        return found.model_copy(update={"sensors": self.added.get(name, {}) | found.sensors})


def plan_path(home: Home, plant: str, batch: str) -> Path:
    return home.plans / plant / f"{batch}.json"


def work_folder(home: Home, plan: Plan) -> Path:
    """Where a batch's tasks leave what they have parsed."""
    return home.plans / plan.plant / f"{plan.batch}.work"


def save(home: Home, plan: Plan) -> Plan:
    write_atomically(plan_path(home, plan.plant, plan.batch), plan.model_dump_json(indent=1) + "\n")
    return plan


def plans(home: Home, plant: str) -> list[Plan]:
    """Every plan of the plant, in delivery order."""
    return [_read(path) for path in sorted((home.plans / plant).glob("[0-9]*.json"))]


def _read(path: Path) -> Plan:
    try:
        return Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MillwrightError(
            "Unreadable plan of a batch", expected="the file as ingest wrote it", found=error.errors()[0]["msg"],
            where=path, do="Put it back from a backup: it says which files history holds",
        ) from error  # fmt: skip


def resume(home: Home, plant: str, source: SourceDescription) -> Plan | None:
    """The plan that a killed run left open, less the files that changed since; None where there is none.

    A plan that no table has yet is given up where files or description changed: a corrected one must win.
    """
    left = [plan for plan in plans(home, plant) if not plan.done]
    if not left:
        return None
    plan = left[0]  # a new plan is only made when none is open
    root = Path(plan.source.root)
    found = _digests(root / file.path for file in plan.files)
    changed = {f.path for f in plan.files if found.get(root / f.path) != f.digest}
    if not changed and plan.source_digest == digest_of(source):
        return plan.model_copy(update={"resumed": True})
    if not _has_begun(home, plan):
        plan_path(home, plant, plan.batch).unlink()
        return None
    if not changed:
        return plan.model_copy(update={"resumed": True})
    kept = tuple(file for file in plan.files if file.path not in changed)
    return save(home, plan.model_copy(update={"files": kept, "dropped": tuple(sorted(changed)), "resumed": True}))


def known(home: Home, plant: str) -> Known:
    """What each file was when it was last ingested, and what the streams have had."""
    found = Known()
    for plan in plans(home, plant):
        found.delivered.update({(f.stream, f.path): (f.digest, f.stream_digest) for f in plan.files})
        found.columns.update(plan.columns)
        found.added.update(plan.added)
    return found


def new_files(source: SourceDescription, known: Known) -> list[PlannedFile]:
    """Files to be delivered now, in delivery order: by path, then by stream.

    Raises InputError where the root is gone, or where no file of any stream is there at all.
    """
    root = Path(source.root)
    if not root.is_dir():
        raise InputError(
            "The source's folder is gone", expected="a folder", found="nothing", where=root,
            do=f"Put it back, or run `millwright connect PATH --plant {source.plant}`",
        )  # fmt: skip
    streams = [stream for stream in source.streams if stream.role != "ignored"]
    matched = [(s, path) for s in streams for path in sorted(root.glob(s.files)) if _counts(path, root)]
    if not matched:
        raise InputError(
            "No file to ingest", expected=" or ".join(s.files for s in source.streams[:4]), found="no such file",
            where=root, do="Check `files` in the source description",
        )  # fmt: skip
    digests = _digests({path for _, path in matched})
    meaning = {stream.name: digest_of(stream) for stream in source.streams}
    found = []
    for stream, path in matched:
        name, stat = path.relative_to(root).as_posix(), path.stat()
        file = PlannedFile(
            stream=stream.name, path=name, size=stat.st_size, mtime_ns=stat.st_mtime_ns, digest=digests[path],
            stream_digest=meaning[stream.name],
        )  # fmt: skip
        if known.delivered.get((stream.name, name)) != (file.digest, file.stream_digest):
            found.append(file)
    return sorted(found, key=lambda f: (f.path, f.stream))


def strangers(source: SourceDescription, since_ns: int) -> list[str]:
    """Files that have come after ``since_ns`` and that no stream names: nobody would ever read them."""
    root = Path(source.root)
    named = {path for stream in source.streams for path in root.glob(stream.files)}
    others = (p for p in root.rglob("*") if p not in named and _counts(p, root))
    return sorted(p.relative_to(root).as_posix() for p in others if p.stat().st_ctime_ns > since_ns)


def barren(source: SourceDescription) -> list[str]:
    """Streams that no file is there for."""
    root = Path(source.root)
    streams = (s for s in source.streams if s.role != "ignored")
    return [f"{s.name} ({s.files})" for s in streams if not any(_counts(path, root) for path in root.glob(s.files))]


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
    sequence = max((plan.sequence for plan in plans(home, source.plant)), default=0) + 1
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


def digest_of(description: BaseModel) -> str:
    return hashlib.sha256(description.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def _has_begun(home: Home, plan: Plan) -> bool:
    """Whether any table holds the batch."""
    lake = home.lake / plan.plant
    return any(is_committed(log.parent, plan.batch) for log in lake.rglob("_delta_log"))


def _counts(path: Path, root: Path) -> bool:
    """A plain file, not hidden, and inside the plant's folder: a link out of it is another plant's business."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.is_file() and not hidden and path.resolve().is_relative_to(root.resolve())


def _digests(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 by path; a file that cannot be read has an empty one. hashlib works beside other threads."""
    found = list(paths)
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(found, pool.map(_digest, found), strict=True))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""

"""What readers of a plant see, and what they saw at any earlier time.

The one idea: `visible.json` names each table's version that readers open now; every state it has had is a
line of `visible.jsonl` with its time and its cause. A reader as of a time opens exactly what was visible
then; as of a batch, what that batch's end made visible; as of a data version, the versions it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from cluster.files import flush, write_atomically
from cluster.home import Home
from models.errors import InputError, MillwrightError, NotFoundError

AsOf = str | datetime | None  # a batch's id, a time (text: ISO), a data version as `data_version` prints it; None: now
BATCH = re.compile(r"^\d{6,}-[0-9a-f]{12}\Z")
_TABLE = r"(?!\.)[^@,/]+(/(?!\.)[^@,/]+)?"  # below the plant's own folder: no way leads up or out
_VERSIONS = re.compile(rf"^{_TABLE}@\d{{1,18}}(,{_TABLE}@\d{{1,18}})*\Z")
_TAIL = 1 << 16  # bytes of the record that hold its newest states
_BELOW = re.compile(rf"^{_TABLE}\Z")


@dataclass(frozen=True)
class State:
    """What was visible from ``at`` until the next state.

    ``cause`` is the batch's id, or the id of a compaction or retention; empty where nobody said.
    ``rows`` are the tables' totals; ``detail`` is what the cause says of itself.
    """

    at: datetime
    versions: dict[str, int]
    cause: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)


def visible_versions(home: Home, plant: str, as_of: AsOf = None) -> dict[str, int] | None:
    """Table -> version, as the last complete batch left them; None where ingest has never run.

    Raises InputError where ``as_of`` is nothing of its kinds, NotFoundError for a batch that was never visible.
    """
    if as_of is None:
        return _current(home, plant)
    if isinstance(as_of, str) and _VERSIONS.match(as_of):
        return {name: int(number) for name, _, number in (part.rpartition("@") for part in as_of.split(","))}
    if isinstance(as_of, str) and BATCH.match(as_of):
        return state_of(home, plant, as_of).versions
    moment = parse_time(as_of)
    return next((s.versions for s in reversed(states(home, plant)) if s.at <= moment), {})


def state_of(home: Home, plant: str, batch: str) -> State:
    """The state that a batch's end made visible. Raises NotFoundError."""
    found = next((state for state in states(home, plant) if state.cause == batch), None)
    if found is None:
        raise NotFoundError(
            "No such version", expected="a batch that was visible once", found=batch, where=f"plant {plant}",
            do=f"`millwright history --plant {plant}` lists them",
        )  # fmt: skip
    return found


def show_versions(
    home: Home,
    plant: str,
    versions: dict[str, int],
    *,
    cause: str = "",
    rows: Mapping[str, int] | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Make these versions the ones that readers see, at once, and write down when and why."""
    before, is_written = _newest(home, plant)
    if before and not is_written:
        _append(_record(home, plant), before)  # a run was killed between showing it and writing it down
    text = orjson.dumps(versions, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    write_atomically(_pointer(home, plant), text + "\n")
    now = datetime.now(UTC)
    at = max(now, before.at) if before else now  # a clock that was set back makes no history
    _append(_record(home, plant), State(at, versions, cause, dict(rows or {}), dict(detail or {})))


def remark(home: Home, plant: str, cause: str, detail: Mapping[str, Any]) -> None:
    """Write down something that left what readers see as it was."""
    before, _ = _newest(home, plant)
    if before:
        at = max(datetime.now(UTC), before.at)
        _append(_record(home, plant), State(at, before.versions, cause, before.rows, dict(detail)))


def states(home: Home, plant: str) -> list[State]:
    """Every state there was, oldest first; the last is what is visible now."""
    found = _written(_record(home, plant))
    unwritten = _unwritten(home, plant, found[-1] if found else None)
    return [*found, unwritten] if unwritten else found


def newest_state(home: Home, plant: str) -> State | None:
    """What is visible now, whatever the number of states before it."""
    return _newest(home, plant)[0]


def _newest(home: Home, plant: str) -> tuple[State | None, bool]:
    """The newest state, read from the record's end, and whether it is written down there."""
    path, size = _record(home, plant), _TAIL
    last: list[State] = []
    while path.is_file() and not last:
        lines = _tail(path, size)
        for line in reversed(lines):
            if last := _states_of([line], path):
                break
        if size >= path.stat().st_size:
            break
        size *= 16
    unwritten = _unwritten(home, plant, last[0] if last else None)
    return unwritten or (last[0] if last else None), unwritten is None


def _unwritten(home: Home, plant: str, last: State | None) -> State | None:
    now = _current(home, plant)
    if now is None or (last is not None and last.versions == now):
        return None
    at = datetime.fromtimestamp(_pointer(home, plant).stat().st_mtime, UTC)
    return State(max(at, last.at) if last else at, now)


def _tail(path: Path, size: int) -> list[bytes]:
    """Whole lines at a file's end."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - size)
        file.seek(start)
        lines = file.read().splitlines()
    return lines[1:] if start else lines


def parse_time(as_of: str | datetime) -> datetime:
    """A moment; without an offset it is UTC. Raises InputError."""
    try:
        moment = datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of
    except ValueError as error:
        raise InputError(
            "Not a version", expected="a batch's id, a time such as 2025-06-01T00:00Z, or versions as readings/pump@3",
            found=repr(as_of), do="`millwright history` lists batches and their times",
        ) from error  # fmt: skip
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _current(home: Home, plant: str) -> dict[str, int] | None:
    path = _pointer(home, plant)
    try:
        return _checked(orjson.loads(path.read_bytes())) if path.is_file() else None
    except ValueError as error:
        raise MillwrightError(
            "Unreadable list of visible tables", expected="JSON as ingest wrote it", found=str(error), where=path,
            do=f"Delete it (then each table is read at its newest) and run `millwright ingest --plant {plant}`",
        ) from error  # fmt: skip


def _checked(versions: object) -> dict[str, int]:
    """Tables of the plant with their versions. Raises ValueError: a file that leads to another's tables is forged."""
    if not isinstance(versions, dict):
        raise ValueError("no list of tables")
    wrong = next((n for n, v in versions.items() if not _BELOW.match(n) or type(v) is not int or v < 0), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r}: {versions[wrong]!r}")
    return versions


def _pointer(home: Home, plant: str) -> Path:
    return home.of(plant).plans / "visible.json"


def shown_at(home: Home, plant: str) -> int | None:
    """A number that changes whenever readers see something else; None where nothing says what they see."""
    try:
        return _pointer(home, plant).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _record(home: Home, plant: str) -> Path:
    return home.of(plant).plans / "visible.jsonl"


def _written(path: Path) -> list[State]:
    return _states_of(path.read_bytes().splitlines() if path.is_file() else [], path)


def _states_of(lines: Iterable[bytes], path: Path) -> list[State]:
    found = []
    for line in lines:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:  # a process died while it wrote the line; what it showed is in visible.json
            continue
        try:
            state = State(**(entry | {"at": parse_time(datetime.fromisoformat(entry["at"]))}))
            _checked(state.versions)
        except (TypeError, KeyError, ValueError) as error:
            raise MillwrightError(
                "Unreadable record of visible tables", expected="lines as ingest wrote them", found=str(error),
                where=path, do="Restore the file, or delete that line",
            ) from error  # fmt: skip
        found.append(state)
    return found


def _append(path: Path, state: State) -> None:
    line = orjson.dumps(state, option=orjson.OPT_SORT_KEYS)
    new = not path.exists()
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        flush([path.parent])

"""What this home has running, and how to end all of it.

The one idea: everything a Ray session starts (its daemons and workers) carries the session's *scratch* folder in its
command line or environment. So one record a session, naming its process and that folder, is enough to find and end
what is left of it.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.files import write_atomically
from cluster.home import Home
from cluster.report import Progress, Report

SCRATCH_VARIABLE = "MILLWRIGHT_SESSION_SCRATCH"  # in the environment of all that a session starts
SCRATCH_PREFIX = "millwright-"  # of every scratch folder's name
_CLOCK_TOLERANCE_S = 0.05  # psutil rounds a process's creation time to clock ticks


class Record(BaseModel):
    """A running thing of this home. ``created`` tells its process from a later one with the same pid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pid: int
    created: float
    ports: dict[str, int] = {}
    command: tuple[str, ...] = ()
    scratch: str | None = None  # in the command line of every process of the session; removed with it


class StopReport(Report):
    stopped: list[str] = []
    reaped: list[str] = []

    def render(self) -> str:
        if not self.stopped and not self.reaped:
            return "Nothing was running."
        return "\n".join([f"Stopped {name}." for name in self.stopped] + [f"Ended {what}." for what in self.reaped])


def record(
    home: Home, name: str, *, pid: int, ports: dict[str, int] | None = None, scratch: Path | None = None
) -> Record:
    """Write down that process ``pid`` runs as ``name``; replaces an earlier record of that name."""
    process = psutil.Process(pid)
    entry = Record(
        name=name, pid=pid, created=process.create_time(), ports=ports or {}, command=tuple(process.cmdline()),
        scratch=str(scratch) if scratch else None,
    )  # fmt: skip
    write_atomically(_path(home, name), entry.model_dump_json(indent=1))
    return entry


def forget(home: Home, name: str) -> None:
    _path(home, name).unlink(missing_ok=True)


def records(home: Home) -> list[Record]:
    """Every record, dead or alive, by name."""
    found = (_read(path) for path in sorted(home.run.glob("*.json")))
    return [entry for entry in found if entry]


def alive(home: Home, name: str) -> Record | None:
    """The record of ``name`` if its process still runs."""
    entry = _read(_path(home, name))
    return entry if entry and _process(entry) else None


def stop(home: Home, name: str, *, timeout_s: float = 30.0) -> bool:
    """End ``name`` and everything below it: ask, wait, then kill. False if it was not running."""
    entry = _read(_path(home, name))
    process = _process(entry) if entry else None
    if process:
        end_tree(process, timeout_s=timeout_s)
    if entry:
        _clear(home, entry)
    return process is not None


def reap(home: Home) -> list[str]:
    """End what dead sessions left behind, and forget them. Returns the command of each process ended."""
    ended = []
    for entry in records(home):
        if not _process(entry):
            ended += _clear(home, entry)
    return ended


def end_tree(process: psutil.Process, *, timeout_s: float) -> None:
    """Ask the process to end; after ``timeout_s`` kill it, and in any case whatever of its tree remains."""
    try:
        tree = [process, *process.children(recursive=True)]
        process.terminate()
        psutil.wait_procs([process], timeout=timeout_s)
    except psutil.NoSuchProcess:
        return
    _kill(tree)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def port_is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def run_stop(home: Home, *, progress: Progress) -> StopReport:
    """End everything this home runs: the service first, then any session, then what was left behind."""
    began = time.monotonic()
    live = [entry.name for entry in records(home) if _process(entry)]
    stopped = []
    for name in sorted(live, key=lambda name: name != "serve"):
        progress.step(f"Stopping {name}")
        if stop(home, name):
            stopped.append(name)
    return StopReport(stopped=stopped, reaped=reap(home), seconds=time.monotonic() - began)


def _path(home: Home, name: str) -> Path:
    return home.run / f"{name}.json"


def _read(path: Path) -> Record | None:
    try:
        return Record.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValidationError):  # another process removed it, or a crash of the machine cut it short
        return None


def _process(entry: Record) -> psutil.Process | None:
    try:
        process = psutil.Process(entry.pid)
        same = abs(process.create_time() - entry.created) < _CLOCK_TOLERANCE_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _clear(home: Home, entry: Record) -> list[str]:
    ended = []
    # A damaged record must not cost someone else's processes or files.
    if entry.scratch and Path(entry.scratch).name.startswith(SCRATCH_PREFIX):
        left = _below(entry.scratch)
        ended = [f"{command} (pid {process.pid})" for process, command in left]
        _kill(process for process, _ in left)
        shutil.rmtree(entry.scratch, ignore_errors=True)
    forget(home, entry.name)
    return ended


def _below(scratch: str) -> Sequence[tuple[psutil.Process, str]]:
    """Processes, not our own, with the scratch folder in their command line or environment, and their names.

    Ray's agents and workers replace their command line by a title, and outlive a killed session by a minute.
    """
    own = {process.pid for process in psutil.Process().parents()} | {psutil.Process().pid}
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if process.pid in own:
                continue
            if any(scratch in part for part in line) or process.environ().get(SCRATCH_VARIABLE) == scratch:
                found.append((process, Path(line[0]).name))
        except psutil.Error:
            continue
    return found


def _kill(processes: Iterable[psutil.Process]) -> None:
    dying = []
    for process in processes:
        try:
            process.kill()
            dying.append(process)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(dying, timeout=5.0)

"""Ingest that dies at its n-th change of a file: a process that imports once and forks for every death.

The one idea: between two changes on disk nothing can be lost, so dying before each of them, one after
the other, is dying everywhere. What counts a change is libc (``once_disk.c``), preloaded; without a
compiler it is Python's own audit hook, which sees all but what Delta and Arrow do by themselves.

Run as a program it is the process that forks: requests as JSON lines in, answers as JSON lines out.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.jobs.once_plants import PLANT

ROOT = Path(__file__).parents[2]
NO_CUTS: dict[str, int] = {}
SMALL_CUTS = {
    "jobs.ingesting.fingerprint.SPAN_BYTES": 60, "jobs.ingesting.parts.FLUSH_CELLS": 40,
    "jobs.ingesting.parts.BATCH_ROWS": 2, "jobs.ingesting.rewrite.TILE_CELLS": 24,
    "jobs.ingesting.parse._WRONG_HELD": 1, "jobs.ingest.TASK_BYTES": 100,
}  # fmt: skip
COUNT, KILL, TORN, FAIL = range(4)
CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "once.delta"}


def disk(folder: Path) -> Path | None:
    """The library that counts, built; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    built = folder / "once_disk.so"
    source = Path(__file__).with_name("once_disk.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built


class Forks:
    """Runs ingest in a child of a child, with a death or a fault where asked for."""

    def __init__(self, library: Path | None) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"LD_PRELOAD": str(library)} if library else {})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.once_crashes"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def start(
        self, home: Path, *, mode: int = COUNT, at: int = 0, error: int = 0, unlocked: bool = False,
        trace: Path | str = "", accept: str | None = None, cuts: Mapping[str, int] = NO_CUTS, user: int | None = None,
    ) -> None:  # fmt: skip
        """Begin a run; several may be on their way.

        ``unlocked`` takes the lock's power away, ``cuts`` sets sizes of pieces, ``user`` is whose rights it has.
        """
        assert self.process.stdin
        request = {
            "home": str(home), "mode": mode, "at": at, "error": error, "unlocked": unlocked, "trace": str(trace),
            "accept": accept, "cuts": dict(cuts), "user": user,
        }  # fmt: skip
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """The end of one run: ``killed``, or ``files``, ``held`` and ``steps``, or ``failed`` (what and exit code)."""
        assert self.process.stdout
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def run(self, home: Path, **options: Any) -> dict[str, Any]:
        self.start(home, **options)
        return self.end()


def lose_power(home: Path, trace: Path) -> int:
    """Take away what was not on disk yet: content that was not flushed, names whose folder was not; how much it was."""
    unflushed: set[int] = set()
    new: dict[int, set[str]] = {}  # folder's inode -> new names in it
    for line in trace.read_text().splitlines() if trace.exists() else []:
        what, number, path = line.split(" ", 2)
        if what == "w":
            unflushed.add(int(number))
        elif what == "s":
            unflushed.discard(int(number))
            new.pop(int(number), None)
        elif what == "n" and Path(path).parent.exists():
            new.setdefault(Path(path).parent.stat().st_ino, set()).add(path)
    lost = 0
    for found in [path for path in home.rglob("*") if path.is_file()]:
        if found.stat().st_ino in unflushed:
            os.truncate(found, 0 if lost % 2 else found.stat().st_size // 2)
            lost += 1
    for name in [name for names in new.values() for name in names if Path(name).is_file()]:
        Path(name).unlink()
        lost += 1
    return lost


def _serve() -> None:
    import threading

    _warm()

    waiting = []
    for line in sys.stdin:
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(json.loads(line), writes)
        os.close(writes)
        waiting.append(threading.Thread(target=_answer, args=(pid, reads)))
        waiting[-1].start()
    for thread in waiting:
        thread.join()


def _warm() -> None:
    """What every fork would load again. Delta's threads start only after the forks."""
    import importlib

    for name in ("encodings.utf_8_sig", "encodings.idna", "pyarrow.acero", "jobs.ingest"):
        importlib.import_module(name)
    from models.units import conversion

    conversion("degF", "temperature")


def _answer(pid: int, reads: int) -> None:
    with os.fdopen(reads) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    os.write(1, ((json.dumps({"killed": True}) if killed else text or '{"broken": "no answer"}') + "\n").encode())


def _child(request: dict[str, Any], writes: int) -> None:
    from cluster.home import open_home
    from cluster.report import Silent
    from jobs import ingest
    from models.errors import MillwrightError

    answer: dict[str, Any] = {}
    try:
        home = open_home(request["home"], environment={})
        if request["unlocked"]:
            fcntl.flock = lambda *_: None
        _prepare(request)
        steps = _arm(request)
        try:
            accept = request["accept"]
            plant = PLANT if accept else None
            report = ingest.run(home, plant=plant, accept=accept, progress=Silent(), spread=map)
            held = [plant.held for plant in report.plants if plant.held]
            answer = {"files": report.files, "held": held, "code": report.exit_code, "steps": steps()}
        except MillwrightError as error:
            answer = {"failed": str(error), "code": error.exit_code}
    except BaseException:
        answer = {"broken": traceback.format_exc()}
    _disarm()
    os.write(writes, json.dumps(answer).encode())
    os._exit(0)


def _prepare(request: dict[str, Any]) -> None:
    for name, size in request["cuts"].items():
        module, _, constant = name.rpartition(".")
        assert hasattr(sys.modules[module], constant)
        setattr(sys.modules[module], constant, size)
    if request["user"] is not None:
        os.setgroups([])
        os.setegid(request["user"])
        os.seteuid(request["user"])


def _disarm() -> None:
    if hasattr(ctypes.CDLL(None), "once_arm"):
        ctypes.CDLL(None).once_arm(b"", COUNT, 0, 0, b"")


def _arm(request: dict[str, Any]) -> Any:
    library = ctypes.CDLL(None)
    if hasattr(library, "once_arm"):
        library.once_arm(
            request["home"].encode(), request["mode"], request["at"], request["error"], request["trace"].encode()
        )
        return library.once_steps
    return _audit(request)


def _audit(request: dict[str, Any]) -> Any:
    """The same in Python: every change that it is asked to make, and Delta's commits before and after."""
    from deltalake import DeltaTable
    from deltalake.table import TableAlterer

    count = [0]

    def seen(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            changes = str(given[0]).startswith(request["home"]) and bool(given[2] & (os.O_CREAT | os.O_TRUNC))
        else:
            changes = event in CHANGES and (event == "once.delta" or str(given[0]).startswith(request["home"]))
        if changes:
            count[0] += 1
            if request["mode"] in (KILL, TORN) and count[0] == request["at"]:
                os.kill(os.getpid(), signal.SIGKILL)
            if request["mode"] == FAIL and count[0] >= request["at"]:
                raise OSError(request["error"], os.strerror(request["error"]), str(given[0]))

    def audited(function: Any) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            sys.audit("once.delta", function.__name__)
            found = function(*args, **options)
            sys.audit("once.delta", function.__name__)
            return found

        return called

    commits = ((DeltaTable, "create"), (DeltaTable, "create_write_transaction"), (TableAlterer, "add_columns"))
    for owner, name in commits:
        setattr(owner, name, audited(getattr(owner, name)))
    sys.addaudithook(seen)
    return lambda: count[0]


if __name__ == "__main__":
    _serve()

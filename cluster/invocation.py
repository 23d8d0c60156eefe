"""One run of a verb at the edge of the process: standard output, errors, exit code, clean-up.

The one idea: standard output belongs to the report alone. While the job runs, file descriptor 1 is
a copy of descriptor 2, so that nothing that Ray, MLflow or a child process prints can get into it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from cluster.config import load_settings
from cluster.home import Home, open_home, resolve
from cluster.report import Report, code_version
from cluster.session import stoppable
from cluster.verbs import named, target
from models.errors import MillwrightError

INTERRUPTED = 130


@dataclass(frozen=True)
class Common:
    """What every verb takes."""

    home: Path | None = None
    profile: str | None = None
    assignments: tuple[str, ...] = ()
    as_json: bool = False


def invoke(verb: str, common: Common, options: dict[str, Any], *, creates_home: bool | None = None) -> int:
    """Open the home, run the verb, print its report. Returns the exit code; raises nothing."""
    began = time.monotonic()
    home: Home | None = None
    with _own_stdout() as out:
        try:
            with stoppable():
                home = _open(verb, common, creates_home)
                report = _run(verb, home, options)
                _print(report, out, as_json=common.as_json)
                return report.exit_code
        except BaseException as error:  # the process's edge
            return complain(error, out, home=home, as_json=common.as_json, seconds=time.monotonic() - began)


def complain(
    error: BaseException, out: TextIO, *, home: Home | None = None, as_json: bool = False, seconds: float = 0.0
) -> int:
    """One sentence on standard error, with ``as_json`` one object on ``out`` too. Returns the exit code."""
    text, code = explain(error, home)
    print(f"millwright: {text}", file=sys.stderr, flush=True)
    if as_json:
        found = {"error": text, "exit_code": code, "seconds": round(seconds, 3), "version": code_version()}
        _write(out, json.dumps(found))
    return code


def explain(error: BaseException, home: Home | None) -> tuple[str, int]:
    """The sentence and the exit code. What was not foreseen leaves its traceback in a file, and says where."""
    cause = getattr(error, "cause", None)
    known = cause if isinstance(cause, MillwrightError) else error  # Ray wraps what a task raised
    if isinstance(known, MillwrightError):
        return str(known), known.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped; what was started has been ended.", INTERRUPTED
    if isinstance(error, SystemExit):
        return f"the job ended the process with code {error.code}.", error.code if isinstance(error.code, int) else 1
    shown = cause if isinstance(cause, Exception) else error
    lines = str(shown).strip().splitlines()
    what = f"{type(shown).__name__}: {lines[0]}" if lines else type(shown).__name__
    return f"{what} (unexpected; the traceback is in {_save_traceback(error, home)}).", 1


def _open(verb: str, common: Common, creates_home: bool | None) -> Home:
    entry = named(verb)
    where = resolve(common.home)
    if not entry.needs_home and not (where.exists() and any(where.iterdir())):
        return Home(where, *load_settings(profile=common.profile, assignments=common.assignments))
    create = entry.creates_home if creates_home is None else creates_home
    return open_home(where, create=create, profile=common.profile, assignments=common.assignments)


def _run(verb: str, home: Home, options: dict[str, Any]) -> Report:
    from cluster.console import Drawing

    with Drawing(sys.stderr) as progress:
        return target(verb)(home, progress=progress, **options)


def _print(report: Report, out: TextIO, *, as_json: bool) -> None:
    if as_json:
        _write(out, json.dumps(report.as_json(), allow_nan=False, default=str))
        return
    from rich.console import Console

    rendered = report.render()
    if rendered:
        # A pipe or a log has no width of its own; rich's 80 columns would cut the tables.
        width = None if out.isatty() or "COLUMNS" in os.environ else 140
        Console(file=out, highlight=False, width=width).print(rendered)


def _write(out: TextIO, text: str) -> None:
    out.write(text + "\n")
    out.flush()


@contextmanager
def _own_stdout() -> Iterator[TextIO]:
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out:
            try:
                with redirect_stdout(sys.stderr):
                    yield out
            except BrokenPipeError:  # the reader has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
                raise
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _save_traceback(error: BaseException, home: Home | None) -> Path:
    text = "".join(traceback.format_exception(error))
    for folder in ([home.logs] if home else []) + [Path(tempfile.gettempdir())]:
        path = folder / f"millwright-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{sys.argv}\n{text}", "utf-8")
        except OSError:  # a full disk or a read-only home: try the next folder
            continue
        return path
    sys.stderr.write(text)
    return Path("the lines above")

"""How far a job is, for a person: a live line on a terminal, one line a step in a log.

Everything here goes to standard error; standard output belongs to the report.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

_LOG_EVERY_S = 30.0  # how long a log may stay silent within a step that reports how far it is
_SETTLED = 0.02  # share done before a time left means anything


class Drawing:
    """A ``Progress`` as a context manager; leaving it ends the last step."""

    def __init__(self, stream: TextIO, *, live: bool | None = None) -> None:
        self._console = Console(file=stream, stderr=True, highlight=False, soft_wrap=True)
        terminal = self._console.is_terminal if live is None else live
        self._live = Live(console=self._console, transient=True, refresh_per_second=8) if terminal else None
        self._spinner = Spinner("dots")
        self._began = time.monotonic()
        self._step: str | None = None
        self._step_began = self._logged = self._began
        self._amount = ""

    def __enter__(self) -> Drawing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(failed=error is not None)
        if self._live:
            self._live.stop()

    def step(self, text: str) -> None:
        """A new step; the one before it is done."""
        self._finish(failed=False)
        self._step, self._amount = text, ""
        self._step_began = self._logged = time.monotonic()
        if self._live:
            self._spinner.update(text=self)
            self._live.update(self._spinner)
            self._live.start()
        else:
            self._log(text)

    def update(self, done: float, total: float | None = None, unit: str = "") -> None:
        """How far the step is; draws rate and, where ``total`` is known, share and time left."""
        now = time.monotonic()
        self._amount = amount(done, total, unit, now - self._step_began)
        if self._live is None and now - self._logged > _LOG_EVERY_S:
            self._logged = now
            self._log(f"  {self._amount}")

    def note(self, text: str) -> None:
        if self._live:
            self._console.print(Text(f"  {text}", style="yellow"))
        else:
            self._log(f"  note: {text}")

    def show(self, view: RenderableType, line: str = "") -> None:
        """On a terminal ``view`` stands below the step until the next; a log gets ``line``, where there is one."""
        if self._live:
            self._live.update(Group(self._spinner, view))
        elif line:
            self._logged = time.monotonic()
            self._log(f"  {line}")

    def __rich__(self) -> Text:
        elapsed = duration(time.monotonic() - self._step_began)
        return Text.assemble(f"{self._step}  ", (f"{elapsed}  {self._amount}", "dim"))

    def _finish(self, *, failed: bool) -> None:
        if self._step is not None and self._live:
            mark, style = ("✗", "red") if failed else ("✓", "green")
            took = duration(time.monotonic() - self._step_began)
            self._live.stop()
            self._console.print(Text.assemble((f"{mark} ", style), f"{self._step}  ", (took, "dim")))
        self._step = None

    def _log(self, text: str) -> None:
        self._console.print(Text(f"[{time.monotonic() - self._began:7.1f} s] {text}"))


def amount(done: float, total: float | None, unit: str, elapsed_s: float) -> str:
    """``120 of 400 files, 12.0/s, 23 s left``."""
    label = f" {unit}" if unit else ""
    parts = [f"{_number(done)} of {_number(total)}{label}" if total else f"{_number(done)}{label}"]
    if done > 0 and elapsed_s > 0:
        rate = done / elapsed_s
        parts.append(f"{_number(rate)}/s")
        if total and _SETTLED < done / total < 1:  # at its end a step may still write, for which nobody knows the time
            parts.append(f"{duration((total - done) / rate)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``3.2 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _number(value: float) -> str:
    if value == round(value) or value >= 1000:
        return f"{round(value):,}"
    return f"{value:.3g}"

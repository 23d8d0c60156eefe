"""What a job says at its end: one JSON object for machines, one table for people."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType


def code_version() -> str:
    try:
        return version("millwright")
    except PackageNotFoundError:  # a `working_dir` on a cluster is not installed
        return "unreleased"


class Report(BaseModel):
    """Subclasses add fields; ``model_dump(mode="json")`` is what ``--json`` prints."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = 0.0
    version: str = ""
    exit_code: int = 0  # 3 where a gate said no

    def as_json(self) -> dict[str, Any]:
        found = self.model_dump(mode="json", exclude={"exit_code"})
        return found | {"version": self.version or code_version()}

    def render(self) -> RenderableType:
        """What a person reads on the terminal."""
        return ""


class Progress(Protocol):
    """Where a job says how far it is. The CLI gives one that draws on a terminal or logs lines."""

    def step(self, text: str) -> None: ...  # a new step begins: one line in the log

    def update(self, done: float, total: float | None = None, unit: str = "") -> None: ...  # within the step

    def note(self, text: str) -> None: ...  # something a person should know

    def show(self, view: RenderableType, line: str = "") -> None: ...  # below the step on a terminal; in a log the line


class Silent:
    """A progress that says nothing, for tests and libraries."""

    def step(self, text: str) -> None:
        pass

    def update(self, done: float, total: float | None = None, unit: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def show(self, view: RenderableType, line: str = "") -> None:
        pass

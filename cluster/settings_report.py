"""``config``: every setting, its value and which layer it came from."""

from __future__ import annotations

import time
from typing import Any

from rich.console import RenderableType
from rich.table import Column, Table

from cluster.config import flatten
from cluster.home import Home
from cluster.report import Progress, Report


class SettingsReport(Report):
    settings: list[dict[str, Any]]  # key, value, origin

    def render(self) -> RenderableType:
        table = Table("setting", Column("value", max_width=60), "from", box=None, pad_edge=False)
        for row in self.settings:
            table.add_row(row["key"], str(row["value"]), row["origin"])
        return table


def run(home: Home, *, progress: Progress) -> SettingsReport:
    began = time.monotonic()
    rows = [
        {"key": key, "value": value, "origin": home.origins.get(key, "default")}
        for key, value in flatten(home.settings).items()
    ]
    return SettingsReport(settings=rows, seconds=time.monotonic() - began)

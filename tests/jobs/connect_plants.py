"""Small plants for the golden tests of `connect`: writing their files, and telling a description in a few lines.

The one idea: what `connect` found is told as text, so that a golden case reads like its report.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cluster.home import Home, open_home
from cluster.report import Silent
from jobs.connect import ConnectReport, run
from models.source import SourceDescription, Stream, TimeFormat

START = datetime(2025, 1, 20)
FAILURES = "machine,failure_mode,started_at\nP-01,wear,2025-01-21T10:00:00Z\nP-02,wear,2025-01-21T12:00:00Z\n"


@dataclass(frozen=True)
class Case:
    """Files as a system writes them, and what is to be told of them; ``doubts`` are codes."""

    name: str
    files: Mapping[str, str | bytes]
    told: str
    doubts: set[str] = field(default_factory=set)
    remarks: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def rows(pattern: str, time: str = "%Y-%m-%dT%H:%M:%SZ", *, number: int = 24, step_s: float = 3600) -> str:
    """Lines with ``{t}`` a time, ``{m}`` 1 or 2 in turn, ``{v}`` and ``{w}`` values, ``{c}`` and ``{d}`` with a
    comma.
    """
    found = []
    for i in range(number):
        v, w = f"{60 + i % 7}.{i % 10}", f"{5 + i % 5}.{i % 8}5"
        moment = (START + timedelta(seconds=step_s * i)).strftime(time)
        own = {"t": moment, "m": i % 2 + 1, "v": v, "w": w, "c": v.replace(".", ","), "d": w.replace(".", ",")}
        found.append(pattern.format(i=i, odd=i % 2, word=("RUN", "STOP", "IDLE")[i % 3], **own))
    return "\n".join(found) + "\n"


def zipped(**members: str) -> bytes:
    """A zip archive; ``__`` in a name is a slash, ``_csv`` at its end the suffix."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(re.sub("_csv$", ".csv", name).replace("__", "/"), text)
    return packed.getvalue()


def written(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def connected(home: Home, path: Path, *settings: str) -> tuple[SourceDescription, ConnectReport]:
    """Connect as plant `alpha` and read back what was written."""
    answered = open_home(home.path, environment={}, assignments=settings)
    report = run(answered, path=path, plant="alpha", progress=Silent())
    found = answered.source("alpha")
    assert report.doubts == found.doubts
    return found, report


def told(found: SourceDescription) -> str:
    """All streams in the order of the file, without what is as usual."""
    return "\n".join(line for stream in found.streams for line in _told(stream))


def _told(stream: Stream) -> list[str]:
    files = stream.files + (f"!/{stream.member}" if stream.member else "")
    if stream.role == "ignored":
        return [f"ignored {files}"]
    written_as = stream.csv.model_dump(exclude_defaults=True)
    shape = stream.format + (" long" if stream.layout == "long" else "")
    lines = [f"{stream.role} {files}", "  " + " ".join([shape, *(f"{k}={v!r}" for k, v in written_as.items())])]
    if stream.where:
        lines.append("  where " + ", ".join(f"{k} is {' or '.join(v)}" for k, v in stream.where.items()))
    if stream.time:
        lines.append(f"  time {_when(stream.time)}")
    machine = stream.machine
    place = machine.column or machine.value or ("" if machine.pattern is None else "by pattern")
    names = [f"{raw} is {own}" for raw, own in machine.names.items()]
    lines.append("  " + " ".join(filter(None, ["machine", machine.kind, machine.prefix, place, ", ".join(names)])))
    if stream.layout == "long":
        good = f", quality {stream.quality_column} {' '.join(stream.quality_good)}" if stream.quality_column else ""
        lines.append(f"  tag {stream.tag_column or 'the file'}, value {stream.value_column}{good}")
    for raw, sensor in stream.sensors.items():
        states = f" {sensor.states}" if sensor.states else ""
        lines.append(f"  {raw} = {sensor.sensor}: {sensor.kind} [{sensor.unit}]{states}")
    lines += [f"  {name} = {raw}" for name, raw in stream.fields.items() if name not in stream.times]
    lines += [f"  {name} = {_when(form)}" for name, form in stream.times.items()]
    lines += [f"  {name}: {raw} is {value}" for name, texts in stream.values.items() for raw, value in texts.items()]
    return lines


def _when(form: TimeFormat) -> str:
    parts = [form.date_column, form.column, form.format, "" if form.zone == "UTC" else form.zone]
    return " ".join([*filter(None, parts), *([f"step {form.step_s:g} s"] if form.step_s else [])])

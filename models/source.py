"""What a plant's raw files mean: the description that ``connect`` writes and everything else reads.

The one idea: a plant is a list of *streams*; a stream is a set of files of one format and one
role. The same description drives ingest and the unit conversion of readings sent over HTTP.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from models.config import Clock, Frozen
from models.errors import InputError
from models.live import LiveStream
from models.units import CANONICAL_UNIT

Role = Literal["readings", "failures", "maintenance", "errors", "operating_states", "machines", "ignored"]
EVENT_KIND: dict[str, str] = {
    "failures": "failure", "maintenance": "maintenance", "errors": "error", "operating_states": "operating_state",
}  # fmt: skip
Severity = Literal["off", "note", "quarantine", "stop"]
Check = Literal["impossible", "unit_jump", "stuck", "gap", "clock_step", "dst_fold", "future"]
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


class CsvFormat(Frozen):
    """How a text table is written; read in the order of the fields.

    ``encoding`` is Python's name (``utf-8-sig`` drops a byte order mark). Leading lines that start
    with ``comment`` are skipped, however many a file has, then ``skip_rows`` lines, then comes the
    header (unless ``columns`` names the columns of a file without one), then ``skip_after_header``
    lines (a row of units). ``delimiter`` may be ``whitespace`` (runs of blanks, trailing ones too), or
    ``fixed``: then ``widths`` are the columns' widths in characters, and the last one takes the rest of
    the line. ``quote`` is empty where quotes mean nothing.
    """

    delimiter: str = Field(",", pattern=r"^(.|\t|whitespace|fixed)$")
    widths: tuple[int, ...] | None = None
    quote: Literal['"', "'", ""] = '"'
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", "'", " "] = ""
    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None
    comment: str | None = None
    skip_rows: int = Field(0, ge=0)
    skip_after_header: int = Field(0, ge=0)


class TimeFormat(Frozen):
    """How a stream writes time.

    ``format``: ``iso`` (date, or date and time; ``T`` or a blank; with or without an offset; also a
    Parquet timestamp), ``epoch_s|ms|us|ns``, ``counter`` (epoch + n steps), or a strptime pattern.
    ``zone`` is an IANA name, applied where neither the text nor the type carries an offset. Where the
    date has a column of its own, ``date_column``, ``column`` holds the time of day: both are joined with
    a blank, the date first, and read by ``format``.
    """

    column: str
    date_column: str | None = None
    format: str = "iso"
    zone: str = "UTC"
    step_s: float | None = None  # a counter's step


class MachineFrom(Frozen):
    """Where a row's machine comes from; ``prefix`` keeps equal numbers in two files apart.

    ``pattern`` is searched (``re.search``) in the file's name (``file_name``), in its folder's path
    below the root, with ``/`` (``folder``), or in the tag (``tag``; in the wide layout a column's name is
    its tag). ``column`` and ``constant`` use ``column`` and ``value``. What is found so becomes
    ``prefix + names.get(found, found)``: ``names`` holds the machines that a stream calls otherwise than
    the plant's list of machines does (by an equipment number, a functional location, a tag's loop number).
    """

    kind: Literal["column", "file_name", "folder", "constant", "tag"] = "column"
    column: str | None = None
    value: str | None = None
    pattern: str | None = None  # a regular expression with group `machine` (and `sensor` where kind is `tag`)
    prefix: str = ""
    names: dict[str, str] = {}

    @field_validator("pattern")
    @classmethod
    def _names_a_machine(cls, pattern: str | None) -> str | None:
        try:
            groups = re.compile(pattern).groupindex if pattern is not None else {"machine": 1}
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from error
        if "machine" not in groups:
            raise ValueError("a regular expression with the group (?P<machine>...)")
        return pattern


class Checks(Frozen):
    """What is looked for in a batch, and what follows where it is found.

    ``note``: told; ``quarantine``: these cells never reach history; ``stop``: the batch is held, so that
    nothing of it reaches history, until a person accepts it or the files are corrected.
    """

    impossible: Severity = "quarantine"  # values that the sensor cannot read
    future: Severity = "quarantine"  # readings from the future
    unit_jump: Severity = "stop"  # from one batch to the next, or within one, as if the unit had changed
    stuck: Severity = "note"  # the same value for too long while others move
    gap: Severity = "note"  # no readings for many periods
    clock_step: Severity = "note"  # a logger's clock was set
    dst_fold: Severity = "note"  # hours that a local clock shows twice or never


class SensorColumn(Frozen):
    """One raw column or tag: the sensor it becomes, what it measures, and in which unit it is written.

    ``states`` reads text as numbers (``{"RUN": 1, "STOP": 0}``). ``checks`` holds what differs from the plant's.
    """

    sensor: str = Field(min_length=1)
    kind: str = "number"
    unit: str = "1"
    low: float | None = None  # physically possible range, in canonical units
    high: float | None = None
    states: dict[str, float] = {}
    stuck_h: float | None = Field(None, gt=0)  # the same value for longer is a stuck sensor
    checks: dict[Check, Severity] = {}

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in CANONICAL_UNIT:
            raise ValueError(f"one of {', '.join(CANONICAL_UNIT)}")
        return kind


class Stream(Frozen):
    """A set of files of one format and one role. ``fields`` maps a table's column to a raw column.

    A file's compression (gzip, zstd) is told by its first bytes, never by the description; where the
    files are zip archives, ``member`` is a glob of the members that are meant. The machine
    is never among ``fields``; an event's ``started_at`` is, and equals ``time.column``. Every time
    column of the stream is written as ``time``, except the fields in ``times``. In the long layout
    ``sensors`` is keyed by the tag, or by the pattern's group ``sensor`` where the machine is in the tag.
    A long stream without ``tag_column`` has one sensor a file: ``tag_pattern`` (a regular expression with
    the group ``tag``) is searched in the file's path below the root.
    ``where`` keeps the rows of which every named raw column holds one of its texts; other rows belong to
    another stream over the same files, or to none, and are no rows of this one.
    A readings stream without ``machine_type`` takes each machine's type from the machines stream.
    """

    name: str
    role: Role
    files: str  # a glob below the source's root, as pathlib reads it; hidden files never match
    member: str | None = None
    format: Literal["csv", "jsonl", "json", "parquet"] = "csv"
    csv: CsvFormat = CsvFormat()
    layout: Literal["wide", "long"] = "wide"
    where: dict[str, tuple[str, ...]] = {}  # raw column -> accepted texts (events: a log of several kinds)
    time: TimeFormat | None = None
    machine: MachineFrom = MachineFrom()
    machine_type: str | None = None
    sensors: dict[str, SensorColumn] = {}
    tag_column: str | None = None  # long layout
    tag_pattern: str | None = None
    value_column: str | None = None
    quality_column: str | None = None
    quality_good: tuple[str, ...] = ()
    fields: dict[str, str] = {}  # events: started_at, ended_at, recorded_at, component, failure_mode, code, ...
    values: dict[str, dict[str, str]] = {}  # field -> raw text -> canonical text
    times: dict[str, TimeFormat] = {}  # field -> its own way of writing time, where it differs from `time`
    period_s: float | None = None  # median time between consecutive readings of a machine (long: of a tag)
    run_to_failure: bool = False  # each machine's record ends with its failure

    @field_validator("files")
    @classmethod
    def _below_the_root(cls, files: str) -> str:
        parts = files.split("/")
        if not files or not parts[0] or ".." in parts:
            raise ValueError("a glob below the root, such as readings/*.csv")
        return files


class SourceDescription(Frozen):
    """All of a plant's raw data. ``doubts`` are what ``connect`` could not settle: code -> question.

    ``live`` are streams of messages, and ``live_sensors`` their sensors that no file has: by key, tag or metric.
    """

    plant: str
    root: str
    clock: Clock = Clock()
    streams: tuple[Stream, ...] = ()
    live: tuple[LiveStream, ...] = ()
    live_sensors: dict[str, SensorColumn] = {}
    checks: Checks = Checks()
    doubts: dict[str, str] = {}

    @field_validator("plant")
    @classmethod
    def _name(cls, plant: str) -> str:
        return checked_name(plant, "plant")

    @model_validator(mode="after")
    def _told_apart(self) -> SourceDescription:
        if not self.streams and not self.live:
            raise ValueError("at least one of `streams` and `live`")
        names = [stream.name for stream in self.streams] + [live.name for live in self.live]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"a name of its own for each stream; {twice[0]!r} comes twice")
        return self

    def sensors(self) -> dict[str, SensorColumn]:
        """Every sensor of every readings stream by its canonical name, sorted."""
        found = {s.sensor: s for stream in self.streams if stream.role == "readings" for s in stream.sensors.values()}
        found |= {s.sensor: s for s in self.live_sensors.values() if s.sensor not in found}
        return dict(sorted(found.items()))

    def by_raw_name(self) -> dict[str, SensorColumn]:
        """Raw column or tag -> sensor, and each sensor under its own name, in canonical units."""
        own = {
            name: SensorColumn(sensor=name, kind=s.kind, unit=CANONICAL_UNIT[s.kind], low=s.low, high=s.high)
            for name, s in self.sensors().items()
        }
        raw = {key: s for stream in self.streams if stream.role == "readings" for key, s in stream.sensors.items()}
        return own | raw | self.live_sensors


def checked_name(name: str, what: str) -> str:
    """A name that is safe as a folder and in a URL. Raises InputError."""
    if not NAME.match(name) or ".." in name:
        raise InputError(
            f"Not a {what} name", expected="1 to 64 letters, digits, '_', '-' or '.', starting with a letter or digit",
            found=repr(name), do=f"Choose another {what} name",
        )  # fmt: skip
    return name

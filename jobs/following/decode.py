"""Messages of one live stream -> a chunk of raw rows, as a reader of files would give it.

The one idea: nothing that a message holds can do more than end in quarantine. Its JSON is bounded in size, depth
and keys before anything is made of it; what it is worth is then judged by the same code as a row of a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from jobs.following.spool import ROWS, WRONG, Record
from jobs.infer.names import sensor_of
from jobs.sources.objects import as_text, loads, number_cell
from jobs.sources.raw import MAX_RAW, Chunk, Reason, Texts, Wrong
from models.live import LiveStream
from models.source import MachineFrom, SensorColumn, Stream, TimeFormat

MACHINE, TIME, TAG, VALUE, QUALITY = "(machine)", "(time)", "(tag)", "(value)", "(quality)"
MOST_KEYS, DEEPEST = 2_000, 4
Row = dict[str, Any]


@dataclass
class Decoder:
    """One stream's. ``known``: raw name -> sensor, ``added`` of them brought by the stream itself before.

    ``new`` are those that come now: at most as many as the stream may bring.
    """

    live: LiveStream
    known: Mapping[str, SensorColumn]
    added: int = 0
    new: dict[str, SensorColumn] = field(default_factory=dict)
    wrong: list[Wrong] = field(default_factory=list)
    machines: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def is_long(self) -> bool:
        return self.live.layout == "long" or self.live.kind == "sparkplug"

    def stream(self) -> Stream:
        """What the canonical code of files reads the chunk by."""
        live, own = self.live, self.live.machine
        clock = live.time
        plain = clock is None or live.kind == "sparkplug"
        time = TimeFormat(column=TIME, format="epoch_us") if plain or clock is None else TimeFormat(
            column=TIME, format=clock.format, zone=clock.zone
        )  # fmt: skip
        machine = MachineFrom(column=MACHINE, prefix=own.prefix, names=own.names)
        layout: dict[str, Any] = {"layout": "wide"}
        if self.is_long:
            layout = {"layout": "long", "tag_column": TAG, "value_column": VALUE}
            if live.quality_field or live.kind == "sparkplug":
                good = live.quality_good or (("192",) if live.kind == "sparkplug" else ())
                layout |= {"quality_column": QUALITY, "quality_good": good}
        return Stream(
            name=live.name, role="readings", files="live", format="json", time=time, machine=machine,
            machine_type=live.machine_type, sensors={**self.known, **self.new}, **layout,
        )  # fmt: skip

    def chunk(self, records: Sequence[Record]) -> Chunk:
        """``locate`` and the lines of ``wrong`` give a record's index in ``records``, not yet a line."""
        rows: list[Row] = []
        index: list[int] = []
        self.wrong = []
        for number, record in enumerate(records):
            for row in self._rows(number, record):
                rows.append(row)
                index.append(number)
        table, texts = _columns(rows, self._kinds(rows))

        def locate(asked: Sequence[int]) -> list[tuple[int, str]]:
            return [(index[row], raw_text(records[index[row]])) for row in asked]

        return Chunk(table, locate, self.wrong, texts)

    def _rows(self, number: int, record: Record) -> Iterable[Row]:
        if record.kind == WRONG:
            reason, _, detail = record.body.partition(b"\0")[0].decode().partition(" ")
            self._refuse(number, record, Reason(reason), detail)
            return []
        if len(record.body) > self.live.max_message_bytes and record.kind != ROWS:
            detail = f"{len(record.body)} bytes, at most {self.live.max_message_bytes}"
            self._refuse(number, record, Reason.LARGE, detail)
            return []
        found = loads(record.body)
        if record.kind == ROWS:
            return [row for row in map(self._of_metric, found) if self._is_known(number, record, row[TAG])]
        objects = found if isinstance(found, list) else [found]
        return [row for each in objects if (row := self._row(number, record, each)) is not None]

    def _of_metric(self, metric: list[Any]) -> Row:
        machine, tag, value, time_us, quality = metric
        return {MACHINE: machine, TAG: tag, VALUE: value, TIME: time_us, QUALITY: quality}

    def _row(self, number: int, record: Record, found: Any) -> Row | None:
        live = self.live
        bare = self.is_long and live.sensor_in_topic and not isinstance(found, dict | list) and found is not None
        if not bare and not isinstance(found, dict):
            self._refuse(number, record, Reason.JSON, "not a JSON object")
            return None
        flat = {live.value_field: found} if bare else _flat(found)
        if flat is None:
            self._refuse(number, record, Reason.JSON, f"more than {MOST_KEYS} keys")
            return None
        machine, sensor = self._machine(record, flat)
        time: Any = record.received_us
        if live.time is not None:
            time = flat.get(live.time.field)
            time = None if time is None else as_text(time) if not isinstance(time, str) else time
        row: Row = {MACHINE: machine, TIME: time}
        if self.is_long:
            tag = _text(flat.get(live.tag_field)) if live.tag_field else sensor
            row |= {TAG: tag, VALUE: flat.get(live.value_field)}
            if live.quality_field:
                row[QUALITY] = _text(flat.get(live.quality_field))
            return row if tag is None or self._is_known(number, record, tag) else None
        return self._wide(number, record, row, flat)

    def _wide(self, number: int, record: Record, row: Row, flat: Row) -> Row | None:
        own = {live for live in (self.live.machine.field, self.live.time.field if self.live.time else None) if live}
        for key, value in flat.items():
            if value is None or key in self.live.ignore or key in (MACHINE, TIME):
                continue
            is_new = key not in own and type(value) in (int, float)
            if key in self.known or key in self.new or (is_new and self._may_add(key)):
                row[key] = value
        if len(row) == 2:
            self._refuse(number, record, Reason.NO_VALUE, "no key is a sensor")
            return None
        return row

    def _machine(self, record: Record, flat: Row) -> tuple[str | None, str | None]:
        own = self.live.machine
        topic = record.topic
        if topic not in self.machines:
            match = re.search(own.pattern, topic)
            groups = match.groupdict() if match else {}
            self.machines[topic] = groups.get("machine"), groups.get("sensor")
        by_topic, sensor = self.machines[topic]
        if own.kind == "topic":
            return by_topic, sensor
        if own.kind == "constant":
            return own.value, sensor
        if own.kind == "key":
            return (record.key.decode("utf-8", "replace") if record.key else None), sensor
        return _text(flat.get(own.field)), sensor

    def _is_known(self, number: int, record: Record, tag: str) -> bool:
        if tag in self.known or tag in self.new or self._may_add(tag):
            return True
        self._refuse(number, record, Reason.TAG, f"{tag:.100} would be one new sensor too many")
        return False

    def _may_add(self, name: str) -> bool:
        if self.added + len(self.new) >= self.live.new_sensors or len(name) > 200:
            return False
        self.new[name] = sensor_of(name).column
        return True

    def _refuse(self, number: int, record: Record, reason: Reason, detail: str) -> None:
        self.wrong.append(Wrong(reason, number, raw_text(record), detail))

    def _kinds(self, rows: Sequence[Row]) -> dict[str, str]:
        """Column -> how it is read; a column of every row even where no row has it."""
        plain = self.live.time is None or self.live.kind == "sparkplug"
        kinds = {MACHINE: "name", TIME: "whole" if plain else "name"}
        if self.is_long:
            kinds |= {TAG: "name", VALUE: "number", QUALITY: "name"}
            return kinds
        sensors = {**self.known, **self.new}
        for key in dict.fromkeys(key for row in rows for key in row):
            if key not in kinds:
                kinds[key] = "name" if sensors[key].states else "number"
        return kinds


def raw_text(record: Record) -> str:
    """What quarantine keeps of a message."""
    body = record.body.partition(b"\0")[2] if record.kind == WRONG else record.body
    return body[: 4 * MAX_RAW].decode("utf-8", "replace").replace("\0", "\\0")[:MAX_RAW]


def refused(record: Record, reason: Reason, detail: str) -> Record:
    """The message as one that is known to be wrong before it is spooled."""
    body = f"{reason.value} {detail}".replace("\0", " ").encode() + b"\0" + record.body[: 2 * MAX_RAW]
    return Record(record.stream, record.topic, body, record.received_us, WRONG, record.offset, record.partition)


def decoded(record: Record, rows: list[list[Any]]) -> Record:
    """The message as rows that Sparkplug's state has made of it."""
    return Record(record.stream, record.topic, orjson.dumps(rows), record.received_us, ROWS)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return value if isinstance(value, str) else as_text(value)


def _flat(found: Row) -> Row | None:
    """Keys of an object, of objects in it as ``a.b``; what lies too deep is left out; None: too many keys."""
    if len(found) <= MOST_KEYS and not any(isinstance(value, dict) for value in found.values()):
        return found
    flat: Row = {}
    waiting: list[tuple[str, Row, int]] = [("", found, 1)]
    while waiting:
        before, tree, depth = waiting.pop()
        for key, value in tree.items():
            if isinstance(value, dict):
                if depth < DEEPEST:
                    waiting.append((f"{before}{key}.", value, depth + 1))
            else:
                flat[before + key] = value
            if len(flat) + len(waiting) > MOST_KEYS:
                return None
    return flat


def _columns(rows: Sequence[Row], kinds: Mapping[str, str]) -> tuple[pa.Table, dict[str, Texts]]:
    texts: dict[str, Texts] = {}
    columns: dict[str, pa.Array] = {}
    for name, kind in kinds.items():
        values = [row.get(name) for row in rows]
        if kind == "number":
            columns[name], wrong = _numbers(values)
            texts |= {name: wrong} if wrong else {}
        elif kind == "whole":
            columns[name] = pa.array(values, pa.int64())
        else:
            columns[name] = _names(values)
    return pa.table(columns) if rows else pa.table({}), texts


def _numbers(values: list[Any]) -> tuple[pa.Array, Texts]:
    if {type(value) for value in values} <= {float, type(None)}:
        found = pa.array(values, pa.float64(), from_pandas=False)
        return found, {}
    numbers: list[float | None] = []
    wrong: Texts = {}
    for row, value in enumerate(values):
        try:
            number, text = (float(value), None) if type(value) in (int, float) else number_cell(value)
        except OverflowError:
            number, text = None, as_text(value)[:100]
        numbers.append(number)
        if text is not None:
            wrong[row] = text
    return pa.array(numbers, pa.float64()), wrong


def _names(values: list[Any]) -> pa.Array:
    safe: Callable[[Any], str | None] = lambda v: None if v is None else _utf8(v if isinstance(v, str) else as_text(v))  # noqa: E731
    return pa.array([safe(value) for value in values], pa.string())


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()

"""Sparkplug B: births say what metrics are, data only names them by a number; sequence numbers tell what was lost.

The one idea: nothing is guessed. A metric without its birth in this very connection is no reading: it goes to
quarantine and its node is asked to be born again. A gap in the sequence is counted and asked about; births can
be missed only while nobody listens, so what births have said stays true over a gap. After a death its metrics
mean nothing until the next birth; a death writes no row, since no value is what history then has.
Source: Eclipse Sparkplug 3.0.0, payload of chapter 6.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from jobs.following.decode import decoded, refused
from jobs.following.spool import Record
from jobs.sources.raw import Reason

REBIRTH = "Node Control/Rebirth"
_OWN = ("bdSeq", "Node Control/", "Device Control/", "Node Info/", "Device Info/")  # the protocol's, no sensor's
_TEXTS, _BOOLEAN = (12, 14, 15), 11
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
_REBIRTH_AGAIN_US = 5_000_000
GOOD = "192"
_SCALARS = {"uint32": 13, "uint64": 4, "float": 2, "double": 1, "bool": 8, "string": 9, "bytes": 12}
_MESSAGES: dict[str, list[tuple[str, int, str, bool, bool]]] = {  # name, number, type, repeated, in the oneof
    "PropertyValue": [
        ("type", 1, "uint32", False, False), ("is_null", 2, "bool", False, False),
        ("int_value", 3, "uint32", False, True), ("long_value", 4, "uint64", False, True),
        ("float_value", 5, "float", False, True), ("double_value", 6, "double", False, True),
        ("boolean_value", 7, "bool", False, True), ("string_value", 8, "string", False, True),
    ],
    "PropertySet": [("keys", 1, "string", True, False), ("values", 2, "PropertyValue", True, False)],
    "Metric": [
        ("name", 1, "string", False, False), ("alias", 2, "uint64", False, False),
        ("timestamp", 3, "uint64", False, False), ("datatype", 4, "uint32", False, False),
        ("is_historical", 5, "bool", False, False), ("is_transient", 6, "bool", False, False),
        ("is_null", 7, "bool", False, False), ("properties", 9, "PropertySet", False, False),
        ("int_value", 10, "uint32", False, True), ("long_value", 11, "uint64", False, True),
        ("float_value", 12, "float", False, True), ("double_value", 13, "double", False, True),
        ("boolean_value", 14, "bool", False, True), ("string_value", 15, "string", False, True),
        ("bytes_value", 16, "bytes", False, True), ("dataset_value", 17, "bytes", False, True),
        ("template_value", 18, "bytes", False, True),
    ],
    "Payload": [
        ("timestamp", 1, "uint64", False, False), ("metrics", 2, "Metric", True, False),
        ("seq", 3, "uint64", False, False),
    ],
}  # fmt: skip


@cache
def payload_class() -> Any:
    """The message class of a payload, made of its description; no generated code."""
    file = descriptor_pb2.FileDescriptorProto(name="millwright/sparkplug_b.proto", package="millwright.sparkplug")
    file.syntax = "proto2"
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if any(in_oneof for *_, in_oneof in fields):
            message.oneof_decl.add(name="value")
        for field_name, number, kind, repeated, in_oneof in fields:
            own = message.field.add(name=field_name, number=number, label=3 if repeated else 1)
            own.type = _SCALARS.get(kind, 11)
            if kind not in _SCALARS:
                own.type_name = f".millwright.sparkplug.{kind}"
            if in_oneof:
                own.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("millwright.sparkplug.Payload"))


def rebirth_command(now_ms: int) -> bytes:
    """What asks a node for its births."""
    payload = payload_class()(timestamp=now_ms)
    payload.metrics.add(name=REBIRTH, datatype=_BOOLEAN, boolean_value=True, timestamp=now_ms)
    return bytes(payload.SerializeToString())


@dataclass
class _Born:
    """What a birth has said: names and datatypes by alias, datatypes by name."""

    aliases: dict[int, str] = field(default_factory=dict)
    datatypes: dict[str, int] = field(default_factory=dict)


@dataclass
class _Node:
    births: dict[str, _Born] = field(default_factory=dict)  # device, "" for the node itself
    next_seq: int | None = None
    bd_seq: int | None = None
    asked_us: int = -_REBIRTH_AGAIN_US


@dataclass
class Nodes:
    """Every edge node that one connection hears. ``asked`` are topics on which a rebirth is to be asked for."""

    stream: str
    nodes: dict[str, _Node] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def forget(self) -> None:
        """The connection was lost: births may have been missed."""
        self.nodes.clear()

    def take(self, topic: str, body: bytes, received_us: int) -> list[Record]:  # noqa: PLR0911
        """The records that a message becomes; none where it holds no reading and nothing is wrong."""
        parts = topic.split("/")
        record = Record(self.stream, topic, body, received_us)
        if len(parts) not in (4, 5) or parts[2] not in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH"):
            return []  # commands, and states of host applications
        group, kind, edge, device = parts[1], parts[2], parts[3], parts[4] if len(parts) == 5 else ""
        record = Record(self.stream, "/".join(filter(None, (group, edge, device))), body, received_us)
        try:
            payload = payload_class().FromString(body)
            metrics = list(payload.metrics)
            names = [metric.name for metric in metrics]
        except (DecodeError, UnicodeDecodeError, ValueError) as error:
            return [refused(record, Reason.PROTOBUF, f"{kind}: {str(error)[:100]}")]
        key = f"{group}/{edge}"
        node = self.nodes.setdefault(key, _Node())
        if kind == "NDEATH":
            self._death(node, metrics, names)
            return []
        self._sequence(node, key, kind, payload, received_us)
        if kind == "DDEATH":
            self.counts["deaths"] += 1
            node.births.pop(device, None)
            return []
        if kind in ("NBIRTH", "DBIRTH"):
            if kind == "DBIRTH" and "" not in node.births:
                self._ask(node, key, received_us)
                return [refused(record, Reason.BIRTH, "a device's birth before its node's")]
            self._birth(node, device, metrics, names)
        born = node.births.get(device)
        if born is None:
            self._ask(node, key, received_us)
            self.counts["before_birth"] += 1
            return [refused(record, Reason.BIRTH, f"{kind} before a birth")]
        return self._readings(record, payload, born, device or edge)

    def _death(self, node: _Node, metrics: Sequence[Any], names: Sequence[str]) -> None:
        told = next((_integer(m) for m, name in zip(metrics, names, strict=True) if name == "bdSeq"), None)
        if told is not None and node.bd_seq is not None and told != node.bd_seq:
            self.counts["stale_deaths"] += 1  # of an earlier connection: the broker tells it late
            return
        self.counts["deaths"] += 1
        node.births.clear()
        node.next_seq = None

    def _sequence(self, node: _Node, key: str, kind: str, payload: Any, now_us: int) -> None:
        if kind == "NBIRTH":
            node.next_seq = (int(payload.seq) + 1) % 256
            return
        seq = int(payload.seq) if payload.HasField("seq") else None
        if seq is None or node.next_seq is None:
            return
        if seq != node.next_seq:
            self.counts["gaps"] += 1
            self._ask(node, key, now_us)
        node.next_seq = (seq + 1) % 256

    def _birth(self, node: _Node, device: str, metrics: Sequence[Any], names: Sequence[str]) -> None:
        if not device:
            node.births.clear()
            told = next((_integer(m) for m, name in zip(metrics, names, strict=True) if name == "bdSeq"), None)
            node.bd_seq = told
        born = node.births[device] = _Born()
        for metric, name in zip(metrics, names, strict=True):
            if metric.HasField("alias"):
                born.aliases[metric.alias] = name
            born.datatypes[name] = metric.datatype
        self.counts["births"] += 1

    def _readings(self, record: Record, payload: Any, born: _Born, machine: str) -> list[Record]:
        rows: list[list[Any]] = []
        wrong: list[Record] = []
        for metric in payload.metrics:
            name = metric.name or born.aliases.get(metric.alias if metric.HasField("alias") else -1, "")
            if name.startswith(_OWN) or metric.is_null:
                continue
            if name not in born.datatypes:
                wrong.append(refused(record, Reason.TAG, f"metric {name or metric.alias} is in no birth"))
                continue
            which = metric.WhichOneof("value")
            if which in (None, "bytes_value", "dataset_value", "template_value"):
                wrong.append(refused(record, Reason.TYPE, f"{name:.100}: {which or 'no value'}"))
                continue
            self.counts["historical"] += metric.is_historical
            moment = metric.timestamp or payload.timestamp
            at_us = moment * 1000 if 0 < moment < 2**52 else record.received_us if not moment else 2**62
            value = _value(metric, which, metric.datatype or born.datatypes[name])
            rows.append([machine, name, value, at_us, _quality(metric)])
        return [*([decoded(record, rows)] if rows else []), *wrong]

    def _ask(self, node: _Node, key: str, now_us: int) -> None:
        if now_us - node.asked_us >= _REBIRTH_AGAIN_US:
            node.asked_us = now_us
            self.counts["rebirths_asked"] += 1
            group, _, edge = key.partition("/")
            self.asked.append(f"spBv1.0/{group}/NCMD/{edge}")


def _integer(metric: Any) -> int | None:
    which = metric.WhichOneof("value")
    return int(getattr(metric, which)) if which in ("int_value", "long_value") else None


def _value(metric: Any, which: str, datatype: int) -> float | int | str | None:
    value = getattr(metric, which)
    if which in ("int_value", "long_value"):
        bits = _SIGNED.get(datatype)
        value = int(value) & ((1 << bits) - 1) if bits else int(value)
        return value - (1 << bits) if bits and value >> (bits - 1) else value
    if which == "boolean_value":
        return int(value)
    if which == "string_value":
        return str(value)
    return float(value) if math.isfinite(value) else None


def _quality(metric: Any) -> str:
    properties: Mapping[str, Any] = dict(zip(metric.properties.keys, metric.properties.values, strict=False))
    found = properties.get("Quality")
    which = None if found is None else found.WhichOneof("value")
    return GOOD if which is None else str(getattr(found, which))

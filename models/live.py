"""What a plant's live streams mean: where messages come from, and how they become readings.

The one idea: a live stream says only where machine, time, sensor and value lie in a message; everything after
that (units, ranges, states, quality) is the same description of sensors as files have.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from models.config import Frozen

LiveKind = Literal["mqtt", "sparkplug", "kafka"]
NAME = r"^[A-Za-z][A-Za-z0-9_]{0,31}$"
PORTS: dict[str, tuple[int, int]] = {"mqtt": (1883, 8883), "sparkplug": (1883, 8883), "kafka": (9092, 9093)}


class LiveMachine(Frozen):
    """Where a message's machine comes from; ``prefix`` and ``names`` are as for files.

    ``topic``: ``pattern`` is searched in the topic and has the group ``machine`` (and ``sensor`` where each
    message is one sensor's value). Sparkplug topics are matched without namespace and message type, as
    ``group/edge_node/device``. ``field`` is a key of the payload, ``a.b`` one of an object in it; ``key`` is
    Kafka's key; ``constant`` uses ``value``.
    """

    kind: Literal["topic", "field", "key", "constant"] = "topic"
    pattern: str = r"(?P<machine>[^/]+)$"
    field: str = "machine"
    value: str | None = None
    prefix: str = ""
    names: dict[str, str] = {}

    @field_validator("pattern")
    @classmethod
    def _names_a_machine(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from error
        if "machine" not in groups:
            raise ValueError("a regular expression with the group (?P<machine>...)")
        return pattern


class LiveTime(Frozen):
    """How a message writes time: ``format`` and ``zone`` as for files."""

    field: str
    format: str = "iso"
    zone: str = "UTC"


class LiveStream(Frozen):
    """Messages of one kind from one broker.

    ``wide``: a JSON object (or a list of them) with a key for each sensor; ``long``: one value a message, of the
    sensor in ``tag_field``, or in the topic's group ``sensor``, its value in ``value_field`` (or the payload itself
    is the number). Without ``time`` the moment of arrival counts. ``sensors`` adds to those of the plant's files;
    ``new_sensors`` is how many others a stream may bring: beyond that they go to quarantine. User and password
    come from the environment: the plant's credentials prefix, then ``NAME_USER`` and ``NAME_PASSWORD``.
    """

    name: str = Field(pattern=NAME)
    kind: LiveKind = "mqtt"
    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=1, le=65535)
    tls: bool = False
    ca_file: str | None = None
    topics: tuple[str, ...] = Field(min_length=1)  # MQTT: filters with + and #; Kafka: names
    client_id: str | None = None  # MQTT: the session's name at the broker; Kafka: the consumer group
    layout: Literal["wide", "long"] = "wide"
    machine: LiveMachine = LiveMachine()
    time: LiveTime | None = None
    tag_field: str | None = None
    value_field: str = "value"
    quality_field: str | None = None
    quality_good: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()  # keys that are no sensor
    machine_type: str | None = None
    new_sensors: int = Field(64, ge=0, le=2000)
    max_message_bytes: int = Field(262_144, ge=64, le=8 << 20)

    @model_validator(mode="after")
    def _fits(self) -> LiveStream:
        if self.machine.kind == "key" and self.kind != "kafka":
            raise ValueError("machine.kind `key` only with Kafka")
        if self.machine.kind == "constant" and not self.machine.value:
            raise ValueError("machine.value with machine.kind `constant`")
        if self.layout == "long" and self.kind != "sparkplug" and self.tag_field is None and not self.sensor_in_topic:
            raise ValueError("tag_field, or a pattern with the group (?P<sensor>...), in the long layout")
        if self.kind == "kafka" and any(mark in topic for topic in self.topics for mark in "+#*"):
            raise ValueError("whole names of topics for Kafka")
        return self

    @property
    def sensor_in_topic(self) -> bool:
        return "sensor" in re.compile(self.machine.pattern).groupindex

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port or PORTS[self.kind][self.tls]

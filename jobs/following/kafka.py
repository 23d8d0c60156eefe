"""Messages of Kafka's partitions, into the spool, from where our own history ends.

The one idea: which offset is next is known from history and spool alone. Partitions are assigned, no group shares
them out; offsets are committed at the broker only so that its monitoring sees how far we are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from cluster.home import Home
from jobs.following.access import user_and_password
from jobs.following.spool import Record
from models.live import LiveStream

MOST, PATIENCE_S, LOOK_AGAIN_S, TELL_S = 1_000, 0.2, 60.0, 5.0
Append = Callable[[list[Record]], None]
Note = Callable[[str], None]


def follow_kafka(
    home: Home, plant: str, live: LiveStream, *, append: Append, note: Note, stop: threading.Event,
    offsets: Mapping[str, int],
) -> None:  # fmt: skip
    """Until ``stop``. ``offsets``: ``stream/topic/partition`` -> the next one; a partition that is new from its start.

    ``append`` returns when the records are on disk, and waits while there is no room.
    """
    Reader(home, plant, live, note, dict(offsets)).run(append, stop)


class Reader:
    """One stream's consumer. A broker that is away is told once: librdkafka finds it again by itself."""

    def __init__(self, home: Home, plant: str, live: LiveStream, note: Note, offsets: dict[str, int]) -> None:
        self.plant, self.live, self.note, self.offsets = plant, live, note, offsets
        self.is_away = False
        self.assigned: set[tuple[str, int]] = set()
        self.consumer = Consumer(_settings(home, plant, live) | {"error_cb": self._error})

    def run(self, append: Append, stop: threading.Event) -> None:
        looked, told = -LOOK_AGAIN_S, time.monotonic()
        try:
            while not stop.is_set():
                now = time.monotonic()
                if now - looked >= (LOOK_AGAIN_S if self.assigned else 1.0):
                    self._assign()
                    looked = now
                if not self.assigned:
                    self.consumer.poll(PATIENCE_S)
                    continue
                records = self._records(self.consumer.consume(MOST, PATIENCE_S))
                if records:
                    append(records)
                    for record in records:
                        self.offsets[self._key(record.topic, record.partition)] = record.offset + 1
                if now - told >= TELL_S:
                    self._tell()
                    told = now
        finally:
            self.consumer.close()

    def _assign(self) -> None:
        """Partitions that the topics have now; those that are new begin where history ends, or at their start."""
        found: list[TopicPartition] = []
        for topic in self.live.topics:
            try:
                listed = self.consumer.list_topics(topic, timeout=5.0).topics[topic]
            except KafkaException as error:
                self._away(str(error.args[0]))
                return
            for partition in listed.partitions:
                if (topic, partition) not in self.assigned:
                    start = self.offsets.get(self._key(topic, partition), OFFSET_BEGINNING)
                    found.append(TopicPartition(topic, partition, start))
        if found:
            self.consumer.incremental_assign(found)
            self.assigned |= {(own.topic, own.partition) for own in found}

    def _records(self, messages: list[Any]) -> list[Record]:
        found = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._fault(message, error)
                continue
            if self.is_away:
                self.is_away = False
                self.note(f"{self.plant}: {self.live.name}: the broker is back")
            body = (message.value() or b"")[: self.live.max_message_bytes + 1]
            record = Record(
                self.live.name, message.topic(), body, time.time_ns() // 1000, offset=message.offset(),
                partition=message.partition(), key=(message.key() or b"")[:1000] or None,
            )  # fmt: skip
            found.append(record)
        return found

    def _fault(self, message: Any, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            topic, partition = message.topic(), message.partition()
            low, _ = self.consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5.0)
            before = self.offsets.get(self._key(topic, partition))
            self.note(f"{self.plant}: {topic}/{partition}: the broker has dropped messages {before} to {low - 1}")
            self.consumer.seek(TopicPartition(topic, partition, low))
        elif error.code() != KafkaError._PARTITION_EOF:
            self._away(error.str())

    def _error(self, error: KafkaError) -> None:
        self._away(error.str())

    def _away(self, found: str) -> None:
        if not self.is_away:
            host, port = self.live.address
            self.note(f"{self.plant}: {self.live.name}: the broker at {host}:{port} does not answer ({found})")
        self.is_away = True

    def _tell(self) -> None:
        places = [
            TopicPartition(topic, partition, self.offsets[key])
            for topic, partition in sorted(self.assigned)
            if (key := self._key(topic, partition)) in self.offsets
        ]
        if places:
            self.consumer.commit(offsets=places, asynchronous=True)

    def _key(self, topic: str, partition: int) -> str:
        return f"{self.live.name}/{topic}/{partition}"


def _settings(home: Home, plant: str, live: LiveStream) -> dict[str, Any]:
    user, password = user_and_password(home, plant, live)
    host, port = live.address
    found: dict[str, Any] = {
        "bootstrap.servers": f"{host}:{port}", "group.id": live.client_id or f"millwright-{plant}-{live.name}",
        "enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": "error",
        "queued.max.messages.kbytes": 16_384, "reconnect.backoff.max.ms": 10_000, "log_level": 0,
        "security.protocol": ("SASL_" if user else "") + ("SSL" if live.tls else "PLAINTEXT"),
    }  # fmt: skip
    found |= {"ssl.ca.location": live.ca_file} if live.tls and live.ca_file else {}
    return found | ({"sasl.mechanism": "PLAIN", "sasl.username": user, "sasl.password": password} if user else {})

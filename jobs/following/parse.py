"""A batch of live messages -> canonical rows and quarantine, as `ingest` makes them of a piece of a file.

The one idea: a batch is read back from the spool whenever it is needed, and always gives the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cluster.added import added
from cluster.home import Home
from cluster.storage import QUARANTINE
from jobs.following.decode import Decoder, refused
from jobs.following.spool import Record, read
from jobs.ingesting.live import LiveBatch
from jobs.ingesting.parse import UNUSABLE, Parsed
from jobs.ingesting.parts import Origin, PartWriter, write_ipc
from jobs.ingesting.plan import Plan
from jobs.sources import readings
from jobs.sources.raw import Reason, Wrong
from models.live import LiveStream
from models.source import SensorColumn, SourceDescription

STRANGE = (*UNUSABLE, ValueError, TypeError, KeyError, OverflowError, RecursionError, ArithmeticError)


@dataclass(frozen=True)
class Decoded:
    """A batch's rows on their way to the tables, with the plan that the tables' code wants."""

    plan: Plan
    parsed: list[Parsed]
    received_us: list[int]  # of every message


def spool_folder(home: Home, plant: str) -> Path:
    return home.of(plant).plans / "spool"


def decode(home: Home, source: SourceDescription, batch: LiveBatch, types: Mapping[str, str]) -> Decoded:
    """``types``: machine -> type, as history has them. Raises MillwrightError where the spool is damaged."""
    records: dict[str, list[tuple[int, Record]]] = {}
    received: list[int] = []
    for placed in read(spool_folder(home, source.plant), batch.first, batch.at):
        if placed.number >= batch.last:
            break
        received.append(placed.record.received_us)
        records.setdefault(placed.record.stream, []).append((placed.number, placed.record))
    described = {live.name: live for live in source.live}
    kept = added(home, source.plant)
    work = home.of(source.plant).plans / f"{batch.batch}.work"
    parsed, streams = [], []
    for order, (name, own) in enumerate(sorted(records.items())):
        live = described.get(name) or LiveStream(name=name, topics=("#",))  # no longer described: all to quarantine
        earlier = kept.get(name, {})
        known = {**source.by_raw_name(), **earlier} if name in described else {}
        decoder = Decoder(live, known, len(earlier) if name in described else live.new_sensors)
        parsed.append(_parsed(decoder, own, order, batch=batch, types=types, work=work))
        streams.append(decoder.stream())
    plan = Plan(
        plant=source.plant, sequence=batch.sequence, batch=batch.batch, created_at=batch.created_at,
        code_version=batch.code_version, source_digest=batch.source_digest, files=(), machine_types=dict(types),
        source=source.model_copy(update={"streams": tuple(streams), "live": ()}),
    )  # fmt: skip
    return Decoded(plan, parsed, received)


def _parsed(
    decoder: Decoder, own: list[tuple[int, Record]], order: int, *, batch: LiveBatch, types: Mapping[str, str],
    work: Path,
) -> Parsed:  # fmt: skip
    name = decoder.live.name
    now_us = round(batch.created_at.timestamp() * 1e6)
    rows = _rows(decoder, [record for _, record in own], now_us)
    stream = decoder.stream()
    writer = PartWriter(work, Origin(name, name, order, 0, types, stream.machine_type))
    writer.add(rows.table)
    new: dict[str, SensorColumn] = decoder.new
    found = Parsed(
        plant=batch.plant, order=order, piece=0, stream=name, path=name, rows=rows.num_rows, parts=writer.finish(),
        num_bytes=sum(len(record.body) for _, record in own), new_sensors=new,
    )  # fmt: skip
    found.quarantined = sum(entry.scope == "row" for entry in rows.wrong)
    found.cells = sum(entry.scope == "cell" for entry in rows.wrong)
    found.reasons = dict(Counter(entry.reason.value for entry in rows.wrong))
    if rows.wrong:
        found.quarantine = [write_ipc(work, f"{order:06d}-wrong", _quarantine(rows.wrong, own, batch, name))]
    return found


def _rows(decoder: Decoder, records: list[Record], now_us: int) -> readings.Readings:
    """A message that the code for rows of files cannot take, however strange it is, is told, and the others go on."""
    start = dict(decoder.new)
    try:
        return readings.canonical(decoder.chunk(records), decoder.stream(), decoder.live.name, now_us=now_us)
    except STRANGE:
        usable = []
        for record in records:
            alone = Decoder(decoder.live, decoder.known, decoder.added, dict(start))
            try:
                readings.canonical(alone.chunk([record]), alone.stream(), decoder.live.name, now_us=now_us)
                usable.append(record)
            except STRANGE as error:
                usable.append(refused(record, Reason.JSON, f"{type(error).__name__}: {str(error)[:100]}"))
        decoder.new = start
        return readings.canonical(decoder.chunk(usable), decoder.stream(), decoder.live.name, now_us=now_us)


def _quarantine(wrong: list[Wrong], own: list[tuple[int, Record]], batch: LiveBatch, stream: str) -> pa.Table:
    """``file`` is the topic, ``line`` the offset: the broker's with Kafka, the spool's with MQTT."""
    files, lines = [], []
    for entry in wrong:
        number, record = own[entry.line or 0]
        files.append(record.topic if record.partition < 0 else f"{record.topic}/{record.partition}")
        lines.append(number if record.offset < 0 else record.offset)
    return pa.table(
        {
            "raw": [entry.raw for entry in wrong], "file": files, "line": pa.array(lines, pa.int64()),
            "reason": [entry.reason.value for entry in wrong], "detail": [entry.detail for entry in wrong],
            "time": pa.array([batch.created_at] * len(wrong), pa.timestamp("us", "UTC")),
            "stream": [stream] * len(wrong), "source_id": [batch.batch] * len(wrong),
        },
        schema=QUARANTINE,
    )  # fmt: skip

"""What the service has received -> history: one more source of readings, whose numbers are those of deliveries.

The one idea: rows leave the service's store only once history has them. Killed in between, the next run commits what
is still there again, which changes nothing. They are canonical already: the service has read units and refused what no
sensor can give, and its answers said so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import pyarrow as pa

from cluster.home import Home
from cluster.received import State
from jobs.following.parse import Decoded
from jobs.ingesting.live import LiveBatch
from jobs.ingesting.parse import Parsed
from jobs.ingesting.parts import Origin, PartWriter
from jobs.ingesting.plan import Plan
from models.source import MachineFrom, SourceDescription, Stream, TimeFormat

SERVICE = "service"  # where the readings are from, as history tells it
MOST_ROWS = 50_000  # of a batch; the store is closed to writers for about a tenth of a second when they leave it


def next_deliveries(home: Home, plant: str) -> tuple[int, int] | None:
    """The first and last number of the next batch; None where nothing waits, or the service was never asked."""
    if not home.of(plant).state.is_file():
        return None
    with closing(State(home.of(plant).state)) as state:
        return state.waiting(MOST_ROWS)


def taken(home: Home, batch: LiveBatch) -> None:
    """The batch is in history: the store may forget its rows."""
    assert batch.delivered is not None
    with closing(State(home.of(batch.plant).state)) as state:
        state.taken(batch.delivered)


def decode_delivered(home: Home, source: SourceDescription, batch: LiveBatch, types: Mapping[str, str]) -> Decoded:
    """``types``: machine -> type, as history has them. Raises InputError where the store cannot be read."""
    assert batch.delivered is not None
    with closing(State(home.of(source.plant).state)) as state:
        rows = state.delivered(batch.delivered)
    columns = {name: pa.array(rows.values[:, i]) for i, name in enumerate(rows.sensors)}
    table = pa.table({"machine": pa.array(rows.machines, pa.string()), "time": pa.array(rows.time_us)} | columns)
    stream = _stream(source)
    writer = PartWriter(
        home.of(source.plant).plans / f"{batch.batch}.work", Origin(SERVICE, SERVICE, 0, 0, types, stream.machine_type)
    )
    writer.add(table)
    found = Parsed(
        plant=batch.plant, order=0, piece=0, stream=SERVICE, path=SERVICE, num_bytes=table.nbytes, rows=table.num_rows,
        parts=writer.finish(),
    )  # fmt: skip
    plan = Plan(
        plant=source.plant, sequence=batch.sequence, batch=batch.batch, created_at=batch.created_at,
        code_version=batch.code_version, source_digest=batch.source_digest, files=(), machine_types=dict(types),
        source=source.model_copy(update={"streams": (stream,), "live": ()}),
    )  # fmt: skip
    return Decoded(plan, [found], [])


def _stream(source: SourceDescription) -> Stream:
    """A machine that nobody has listed is of the type that all streams of readings agree on."""
    kinds = {own.machine_type for own in source.streams if own.role == "readings"}
    kinds |= {own.machine_type for own in source.live}
    return Stream(
        name=SERVICE, role="readings", files=SERVICE, format="json", time=TimeFormat(column="time", format="epoch_us"),
        machine=MachineFrom(column="machine"), machine_type=kinds.pop() if len(kinds) == 1 else None,
    )  # fmt: skip

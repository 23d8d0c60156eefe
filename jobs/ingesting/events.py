"""The events of a batch merged into the events table.

The one idea: an event is merged cell by cell as a reading is, by its id; the latest value that is there wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cluster.commit import WrittenFile, write_part
from cluster.places import Place
from cluster.storage import EVENTS
from jobs.ingesting.parts import read_back


def rewrite_events(
    path: Place, parts: Iterable[str], ends: pa.Table, existing: pa.Table, batch: str
) -> tuple[WrittenFile | None, int]:
    """The whole events table merged by ``event_id``, cell by cell, and how many of the batch's rows changed nothing.

    ``ends`` are events that readings imply; they are no source rows. None where nothing changed. A row
    changes nothing of its own where its event has the same cells already, or where another row of
    the batch has the same event.
    """
    new = [read_back(part) for part in parts]
    if not any(table.num_rows for table in (*new, ends)):
        return None, 0
    at = EVENTS.get_field_index("source_id")
    stamped = [table.set_column(at, "source_id", pa.repeat(batch, table.num_rows)) for table in (*new, ends)]
    rows = pa.concat_tables([existing, *stamped])
    cells = [name for name in EVENTS.names if name not in ("event_id", "source_id")]
    last = pc.ScalarAggregateOptions(skip_nulls=True, min_count=0)
    grouped = rows.group_by("event_id", use_threads=False).aggregate(
        [(name, "last", last) for name in [*cells, "source_id"]]
    )
    merged = grouped.rename_columns(["event_id", *cells, "source_id"]).select(EVENTS.names).cast(EVENTS)
    merged = _keep_source(merged, existing, cells).sort_by([("started_at", "ascending"), ("event_id", "ascending")])
    num_new = sum(table.num_rows for table in new)
    changed = merged.filter(pc.equal(merged["source_id"], batch))
    if not changed.num_rows:
        return None, num_new
    implied = pc.sum(pc.is_in(changed["event_id"], ends["event_id"].combine_chunks())).as_py() or 0
    return write_part(path, merged, stem=f"part-{batch}"), num_new - (changed.num_rows - implied)


def _keep_source(merged: pa.Table, existing: pa.Table, cells: Sequence[str]) -> pa.Table:
    """An event that a batch only repeats stays the earlier batch's."""
    before = {row["event_id"]: row for row in existing.to_pylist()}
    sources = [
        before[row["event_id"]]["source_id"]
        if row["event_id"] in before and all(row[c] == before[row["event_id"]][c] for c in cells)
        else row["source_id"]
        for row in merged.to_pylist()
    ]
    return merged.set_column(merged.num_columns - 1, "source_id", pa.array(sources, pa.string()))

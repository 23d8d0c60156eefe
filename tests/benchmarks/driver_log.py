"""A readings table of any size without its data: the Delta log alone, entry by entry as the protocol has it.

    python -m tests.benchmarks.driver_log HOME MACHINES

One reading a second of 24 sensors for five years, compacted: two files a machine and month.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from cluster.commit import append_once, open_or_create
from cluster.durability import CHECKPOINT
from cluster.home import open_home
from cluster.storage import MACHINES, readings_schema
from jobs.ingesting.tables import show

PLANT, KIND = "plant", "pump"
SENSORS = tuple(f"s{number:02d}" for number in range(24))
MONTHS, FILES = 60, 2  # of a machine and month
ROW_BYTES = 55  # measured by test_file_shapes.py
FILE_ROWS = 2_629_746 // FILES
FILE_BYTES = FILE_ROWS * ROW_BYTES
ENTRY = 100_000  # files of a commit
ENTRIES = 3  # at least
START = datetime(2021, 1, 1, tzinfo=UTC)


def machine(number: int) -> str:
    return f"M-{number:06d}"


def adds(machines: int) -> Iterator[str]:
    """A line of the log a file, month by month, as ingest and compaction bring them."""
    for month in range(MONTHS):
        name = f"{2021 + month // 12}-{month % 12 + 1:02d}"
        spans = []
        for number in range(FILES):
            first = START + timedelta(seconds=(month * FILES + number) * FILE_ROWS)
            last = first + timedelta(seconds=FILE_ROWS - 1)
            spans.append(tuple(f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z" for moment in (first, last)))
        for at in range(machines):
            for number, (first_at, last_at) in enumerate(spans):
                own = machine(at)
                stats = (
                    f'{{"numRecords":{FILE_ROWS},"minValues":{{"machine":"{own}","time":"{first_at}"}},'
                    f'"maxValues":{{"machine":"{own}","time":"{last_at}"}},"nullCount":{{"machine":0,"time":0}}}}'
                )
                path = f"month={name}/compact-{month:03x}{at:07x}{number:02x}.parquet"
                yield (
                    f'{{"add":{{"path":"{path}","partitionValues":{{"month":"{name}"}},"size":{FILE_BYTES},'
                    f'"modificationTime":1780000000000,"dataChange":true,"stats":{json.dumps(stats)}}}}}\n'
                )


def write(path: Path, machines: int) -> None:
    total = machines * MONTHS * FILES
    size = min(ENTRY, -(-total // ENTRIES))
    version, held = 0, list[str]()
    for number, line in enumerate(adds(machines), 1):
        held.append(line)
        if len(held) == size or number == total:
            version += 1
            held.append(f'{{"txn":{{"appId":"{version:06d}-0123456789ab","version":1}}}}\n')
            held.append('{"commitInfo":{"timestamp":1780000000000,"operation":"WRITE"}}\n')
            (path / "_delta_log" / f"{version:020}.json").write_text("".join(held))
            held = []
    assert version < CHECKPOINT
    DeltaTable(str(path)).create_checkpoint()


def main() -> None:
    home = open_home(sys.argv[1], create=True, environment={})
    machines = int(sys.argv[2])
    home.of(PLANT).make()
    path = home.table(PLANT, f"readings/{KIND}")
    open_or_create(path, readings_schema(SENSORS), partition_by=["month"])
    write(path, machines)
    listed = {
        "machine": [machine(number) for number in range(machines)], "machine_type": [KIND] * machines,
        "valid_from": pa.array([START] * machines, MACHINES.field("valid_from").type),
    }  # fmt: skip
    columns = [pa.array(listed[f.name], f.type) if f.name in listed else pa.nulls(machines, f.type) for f in MACHINES]
    append_once(home.table(PLANT, "machines"), pa.table(columns, schema=MACHINES), app_id="machines", version=1)
    show(home, PLANT)


if __name__ == "__main__":
    main()

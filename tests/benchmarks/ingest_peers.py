"""DuckDB and Polars over a simulated plant's raw files, as a careful user would write it.

Each writes what `ingest` writes: one row a machine and time, UTC, canonical units in float32, impossible
values empty, sorted by machine and time, zstd Parquet by month. Neither keeps what was wrong, numbers a
delivery, nor can be run twice. Prints seconds and rows as JSON.

    python ingest_peers.py duckdb|polars DESCRIPTION.json OUT THREADS
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

Sensor = dict[str, Any]  # raw, sensor, factor, offset, low, high


def duckdb_sql(plant: str, raw: str, sensors: list[Sensor]) -> str:
    """A query of machine, time and sensors; later duplicates are dropped."""

    def canonical(value: str, s: Sensor) -> str:
        found = f"{value} * {s['factor']!r} + {s['offset']!r}"
        return f"CASE WHEN {found} BETWEEN {s['low']!r} AND {s['high']!r} THEN ({found})::FLOAT END"

    if plant == "ridge":
        pivoted = ", ".join(
            f"max(CASE WHEN sensor = '{s['raw']}' THEN {canonical('v', s)} END) AS \"{s['sensor']}\"" for s in sensors
        )
        return f"""
            SELECT machine, time, {pivoted} FROM (
              SELECT split_part(tag, '.', 1) AS machine, split_part(tag, '.', 2) AS sensor,
                     TRY_CAST(time AS TIMESTAMPTZ) AS time, TRY_CAST(value AS DOUBLE) AS v
              FROM read_json('{raw}/readings/*.jsonl*', format = 'newline_delimited', ignore_errors = true,
                             columns = {{tag: 'VARCHAR', time: 'VARCHAR', value: 'VARCHAR', quality: 'VARCHAR'}})
              WHERE quality = 'Good' AND tag <> '')
            WHERE v IS NOT NULL AND time IS NOT NULL GROUP BY machine, time"""
    columns = ", ".join(f"{canonical(chr(34) + s['raw'] + chr(34), s)} AS \"{s['sensor']}\"" for s in sensors)
    if plant == "summit":
        rows = f"""SELECT machine_id AS machine, ts AS time, {columns} FROM read_parquet('{raw}/readings/*.parquet')
                   WHERE machine_id IS NOT NULL"""
    else:
        types = ", ".join(["Zeit: 'VARCHAR'", "Pumpe: 'VARCHAR'", *(f"\"{s['raw']}\": 'DOUBLE'" for s in sensors)])
        rows = f"""SELECT Pumpe AS machine, timezone('Europe/Berlin', local) AS time, {columns}
                   FROM (SELECT *, try_strptime(Zeit, '%d.%m.%Y %H:%M:%S') AS local
                         FROM read_csv('{raw}/readings/*.csv', delim = ';', header = true, skip = 1,
                                       decimal_separator = ',', columns = {{{types}}}, nullstr = ['', '#WERT!'],
                                       ignore_errors = true))
                   WHERE machine IS NOT NULL AND local IS NOT NULL"""
    return f"SELECT DISTINCT ON (machine, time) * FROM ({rows})"


def with_duckdb(plant: str, raw: str, sensors: list[Sensor], out: str, threads: int) -> None:
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}; SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    query = duckdb_sql(plant, raw, sensors)
    connection.execute(
        f"COPY (SELECT *, strftime(time, '%Y-%m') AS month FROM ({query}) ORDER BY month, machine, time) "
        f"TO '{out}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (month))"
    )


def with_polars(plant: str, raw: str, sensors: list[Sensor], out: str, _: int) -> None:
    import polars as pl

    def canonical(value: Any, s: Sensor) -> Any:
        found = value.cast(pl.Float64) * s["factor"] + s["offset"]
        return pl.when(found.is_between(s["low"], s["high"])).then(found).cast(pl.Float32)

    if plant == "ridge":
        # scan_ndjson gives up at the first line that is cut off: lines as text, the whole ones decoded.
        text = pl.scan_csv(
            f"{raw}/readings/*.jsonl*", separator="\x01", has_header=False, quote_char=None, schema={"line": pl.String}
        )
        fields = pl.Struct(dict.fromkeys(("tag", "time", "value", "quality"), pl.String))
        rows = text.filter(pl.col("line").str.ends_with("}")).select(pl.col("line").str.json_decode(fields))
        rows = rows.unnest("line").filter((pl.col("quality") == "Good") & (pl.col("tag") != ""))
        rows = rows.with_columns(parts=pl.col("tag").str.split_exact(".", 1)).with_columns(
            machine=pl.col("parts").struct.field("field_0"),
            sensor=pl.col("parts").struct.field("field_1"),
            time=pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%z", time_unit="us", strict=False),
            value=pl.col("value").cast(pl.Float64, strict=False),
        )
        rows = rows.filter(pl.col("value").is_not_null() & pl.col("time").is_not_null())
        pivoted = [
            pl.when(pl.col("sensor") == s["raw"]).then(canonical(pl.col("value"), s)).max().alias(s["sensor"])
            for s in sensors
        ]
        found = rows.group_by("machine", "time").agg(pivoted)
    else:
        if plant == "summit":
            rows = pl.scan_parquet(f"{raw}/readings/*.parquet").rename({"machine_id": "machine"})
            rows = rows.with_columns(time=pl.col("ts").dt.cast_time_unit("us"))
        else:
            types = {"Zeit": pl.String, "Pumpe": pl.String} | {s["raw"]: pl.Float64 for s in sensors}
            rows = pl.scan_csv(
                f"{raw}/readings/*.csv", separator=";", skip_rows=1, decimal_comma=True, schema=types,
                null_values=["", "#WERT!"], ignore_errors=True, truncate_ragged_lines=True,
            ).rename({"Pumpe": "machine"})  # fmt: skip
            local = pl.col("Zeit").str.to_datetime("%d.%m.%Y %H:%M:%S", time_unit="us", strict=False)
            zoned = local.dt.replace_time_zone("Europe/Berlin", ambiguous="earliest", non_existent="null")
            rows = rows.with_columns(time=zoned.dt.convert_time_zone("UTC"))
        rows = rows.filter(pl.col("machine").is_not_null() & pl.col("time").is_not_null())
        columns = [canonical(pl.col(s["raw"]), s).alias(s["sensor"]) for s in sensors]
        found = rows.select("machine", "time", *columns).unique(subset=["machine", "time"], keep="any")
    found = found.with_columns(month=pl.col("time").dt.strftime("%Y-%m")).sort("month", "machine", "time")
    found.sink_parquet(pl.PartitionBy(out, key="month", include_key=False), compression="zstd", mkdir=True)


def main() -> None:
    engine, description, out, threads = sys.argv[1:]
    told = json.loads(Path(description).read_text())
    run = with_duckdb if engine == "duckdb" else with_polars
    os.environ["POLARS_MAX_THREADS"] = threads
    importlib.import_module(engine)  # not part of the time, as Ray's start is not
    __import__(engine)
    began = time.perf_counter()
    run(told["plant"], told["raw"], told["sensors"], out, int(threads))
    seconds = time.perf_counter() - began
    import pyarrow.parquet as pq

    rows = sum(pq.read_metadata(path).num_rows for path in Path(out).rglob("*.parquet"))
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()

"""500 machines x 24 sensors at 1 Hz over MQTT: is anything lost, how late is a row, does memory stay where it is?

``MILLWRIGHT_BENCH_STREAM_S`` is how long (600). Publisher, broker and follower share this machine's cores. Latency
is from the stamp in a message to the moment that its batch is what readers see, as the record of versions has it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cluster.home import Home
from cluster.storage import read_quarantine, reading_files, to_us
from cluster.visibility import states
from jobs.ingesting import live
from models.live import LiveTime
from tests.jobs.live_broker import Broker, Follow, connected, eventually, line

MACHINES, SENSORS = 500, 24
SECONDS = int(os.environ.get("MILLWRIGHT_BENCH_STREAM_S", "600"))
MOST_P99_S, MOST_GROWTH = 5.0, 0.1  # growth: over the second half, when small files have been joined


def latencies_s(home: Home) -> np.ndarray:
    shown = {state.cause: to_us(state.at) for state in states(home, "p")}
    paths = [file.path for file in reading_files(home, "p")]
    rows = ds.dataset(paths, format="parquet").to_table(columns=["machine", "time", "source_id"])
    assert rows.group_by(["machine", "time"]).aggregate([]).num_rows == rows.num_rows, "a row came twice"
    names = rows["source_id"].combine_chunks().dictionary_encode()
    moments = np.asarray([shown[name] for name in names.dictionary.to_pylist()])
    return (moments[np.asarray(names.indices)] - rows["time"].cast(pa.int64()).to_numpy()) / 1e6


@pytest.mark.slow
def test_five_hundred_machines_at_one_hertz(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker").start()
    home = connected(tmp_path / "home", "p", line(broker.port, time=LiveTime(field="ts", format="epoch_us")))
    follow = Follow(home).start()
    assert follow.process is not None
    process = psutil.Process(follow.process.pid)
    eventually(lambda: b"millwright-p-line" in (broker.folder / "log").read_bytes())
    script = Path(__file__).with_name("streams_publisher.py")
    began = time.monotonic()
    publisher = subprocess.Popen(
        [sys.executable, str(script), str(broker.port), str(MACHINES), str(SENSORS), str(SECONDS)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    memory: list[tuple[float, int]] = []
    busy = process.cpu_times()
    while publisher.poll() is None:
        memory.append((time.monotonic() - began, process.memory_info().rss))
        time.sleep(1)
    after = process.cpu_times()
    took_s = time.monotonic() - began
    published = json.loads(publisher.communicate()[0])
    eventually(lambda: sum(b.counts.get("rows_ingested", 0) for b in live.done_batches(home, "p"))
               >= published["messages"], timeout_s=60)  # fmt: skip
    last_rss = process.memory_info().rss
    report = follow.end()
    broker.stop()
    late = latencies_s(home)
    p50, p99, most = np.quantile(late, [0.5, 0.99, 1.0]).tolist()
    warm = next((rss for at, rss in memory if at >= min(60, SECONDS / 2)), memory[-1][1])
    half = next((rss for at, rss in memory if at >= took_s / 2), memory[-1][1])
    growth = last_rss / half - 1
    cpu = (after.user + after.system - busy.user - busy.system) / took_s
    log = len(list((home.table("p", "readings/machine") / "_delta_log").glob("*.json")))
    print(
        f"\n{MACHINES} machines x {SENSORS} sensors, 1 Hz, {SECONDS} s: {published['messages']:,} messages, "
        f"{published['messages'] - len(late):,} lost, publisher at most {published['late_s']} s late\n"
        f"publish to committed and visible: p50 {p50:.2f} s, p99 {p99:.2f} s, most {most:.2f} s\n"
        f"follower: {cpu:.2f} cores, {warm / 2**20:.0f} MB after a minute (or half), {half / 2**20:.0f} MB at half, "
        f"{last_rss / 2**20:.0f} MB at the end ({100 * growth:+.1f} % since half)\n"
        f"{report['batches']:,} batches, {len(reading_files(home, 'p'))} files, {log} entries of the log"
    )
    assert len(late) == published["messages"]
    assert read_quarantine(home, "p").num_rows == 0
    assert p99 <= MOST_P99_S
    assert growth <= MOST_GROWTH

"""Scripts of the benchmarks in processes of their own, and the memory that they and their children hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
MIB = 1 << 20


def child(script: str, *arguments: object, mapped: bool = True) -> tuple[dict[str, Any], float]:
    """What a script prints, and the most memory (MiB, resident) that it and its children held.

    Without ``mapped`` what is mapped from files is left out: it is the page cache's, whoever looks at it.
    """
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *map(str, arguments)], stdout=subprocess.PIPE, text=True,
        cwd=HERE.parents[1], env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
    )  # fmt: skip
    done, peak = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.5):
            peak[0] = max(peak[0], _resident(process.pid, mapped=mapped))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    done.set()
    watcher.join()
    assert process.returncode == 0
    return json.loads(out.strip().splitlines()[-1]), peak[0] / MIB


def _resident(pid: int, *, mapped: bool) -> int:
    total = 0
    try:
        for process in (root := psutil.Process(pid), *root.children(recursive=True)):
            try:
                found = process.memory_info()
                total += found.rss - (0 if mapped else found.shared)
            except psutil.Error:
                continue
    except psutil.Error:
        return 0
    return total

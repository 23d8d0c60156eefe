"""The journal: every prediction that was answered, once, in the plant's Delta table ``predictions``.

The one idea: writing never makes a request wait. Predictions go into a bounded queue; one thread looks there every few
seconds, so that hardly a request wakes it, and writes them in batches, each exactly once (``append_once``); what does
not fit or cannot be written is counted. A prediction is known by its id: the same question asked again is the same
prediction.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.home import Home
from cluster.predictions import append_predictions, as_table, ids_among
from serve.metrics import Metrics

log = logging.getLogger("millwright.serve")
REMEMBERED = 200_000  # ids, of the newest predictions: 30 MB

Item = tuple[str, Mapping[str, Any], int]  # plant, prediction as served, microseconds UTC
Append = Callable[[str, Sequence[Item], str, int], int]  # plant, items, application id, version -> rows written


class Journal:
    """``add`` never waits; ``close`` writes what is left."""

    def __init__(
        self, append: Append, metrics: Metrics, *, max_rows: int, interval_s: float = 5.0, batch_rows: int = 2000
    ) -> None:
        self._append, self._metrics = append, metrics
        self._waiting: deque[Item] = deque()  # one thread adds, one takes
        self._max_rows, self._interval_s, self._batch_rows = max_rows, interval_s, batch_rows
        self._known: OrderedDict[str, None] = OrderedDict()
        self._app_id = f"serve-{uuid.uuid4().hex}"
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._look, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="millwright-journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, plant: str, predictions: Sequence[Mapping[str, Any]], predicted_us: int) -> None:
        """Queue predictions; drops and counts what does not fit."""
        for prediction in predictions:
            identity = prediction["prediction_id"]
            if identity in self._known:
                continue
            if len(self._waiting) >= self._max_rows:
                self._metrics.count("journal_dropped")
                continue
            self._waiting.append((plant, prediction, predicted_us))
            self._known[identity] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._metrics.set("journal_waiting", len(self._waiting))
        if len(self._waiting) >= self._batch_rows:
            self._look.set()

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and end the thread."""
        if self._thread.is_alive():
            self._ended = True
            self._look.set()
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended or self._waiting:
            self._look.wait(self._interval_s)
            self._look.clear()
            while self._waiting:
                by_plant: defaultdict[str, list[Item]] = defaultdict(list)
                for _ in range(min(len(self._waiting), self._batch_rows)):
                    item = self._waiting.popleft()
                    by_plant[item[0]].append(item)
                for plant, items in by_plant.items():
                    self._write(plant, items)
                self._metrics.set("journal_waiting", len(self._waiting))

    def _write(self, plant: str, items: Sequence[Item]) -> None:
        self._versions[plant] += 1
        try:
            written = self._append(plant, items, self._app_id, self._versions[plant])
        except Exception:  # the thread's edge: a full disk must not end the journal
            self._metrics.count("journal_dropped", len(items))
            log.exception("plant %s: %d predictions could not be written to the journal", plant, len(items))
        else:
            self._metrics.count("journal_written", written)


def to_delta(home: Home) -> Append:
    """Append to the plant's journal, exactly once; what another process, or a batch score, wrote is left out."""

    def append(plant: str, items: Sequence[Item], app_id: str, version: int) -> int:
        there = ids_among(home, plant, [item[1] for item in items])
        fresh = [item for item in items if item[1]["prediction_id"] not in there]
        if fresh:
            append_predictions(home, plant, as_table(fresh, source="serve"), app_id=app_id, version=version)
        return len(fresh)

    return append

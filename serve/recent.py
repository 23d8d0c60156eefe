"""The newest ticks of machines, gridded: what a window is made of, without reading the store again for each reading.

The one idea: a delivery changes a few ticks of a few machines. Those alone are read and averaged again; the others
stand as long as nobody else has written, which the number of the machine's last delivery tells. So what a reading costs
hangs on the rows of its tick, not of its window, and the window is the same bytes as one that is cut from the store.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cluster.received import Rows, State, Written
from models.config import Clock, WindowConfig
from models.online import ticks_back, window_of
from models.windows import Channel, Float, Int, MachineEvents, grid, silence, span_us, tick_of

_MOST_KNOWN = 256  # orders of sensors in deliveries
MOST_MACHINES = 4_096  # of a plant, 6 KB each at 70 ticks of 22 sensors


@dataclass(frozen=True)
class Newest:
    """The window [W, C] that ends with a machine's newest reading."""

    tick: int
    data_until_us: int
    values: Float
    num_rows: int


@dataclass
class _Tail:
    """Means [T, S] and numbers of rows [T] of the ticks up to ``tick``; ``dirty`` ones are to be read again."""

    number: int
    tick: int
    newest_us: int
    means: Float
    counts: Int
    dirty: set[int] = field(default_factory=set)


class Recent:
    """A model's view of a store. Safe to share between threads."""

    def __init__(self, state: State, sensors: Sequence[str], clock: Clock, window: WindowConfig) -> None:
        self._state, self._sensors, self._clock, self._window = state, sensors, clock, window
        self._ticks = silence(window)  # what a window reaches back
        self._tails: dict[str, _Tail] = {}
        self._known: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}
        self._lock = threading.Lock()

    def note(self, rows: Rows, written: Written) -> None:
        """What was just committed: ticks of machines that nobody else has written to become dirty, others are gone."""
        ticks, times = tick_of(rows.time_us, self._clock).tolist(), rows.time_us.tolist()
        with self._lock:
            for machine, before in written.before.items():
                tail = self._tails.get(machine)
                if tail is not None and tail.number == before:
                    tail.number = written.number
                else:
                    self._tails.pop(machine, None)
            lone = len(written.before) == len(rows.machines)  # one row a machine
            for row, (machine, tick, time_us) in enumerate(zip(rows.machines, ticks, times, strict=True)):
                tail = self._tails.get(machine)
                if tail is None:
                    continue
                if lone and tick > tail.tick:
                    self._extend(tail, tick)
                    ours, theirs = self._columns(rows.sensors)
                    tail.counts[-1], tail.means[-1, ours] = 1, rows.values[row, theirs]
                else:
                    tail.dirty.add(tick)
                    if len(tail.dirty) > self._ticks:  # nobody asks about it: another model answers for the machine
                        del self._tails[machine]
                tail.newest_us = max(tail.newest_us, time_us)

    def window(self, machine: str, events: MachineEvents, channels: Sequence[Channel]) -> Newest | None:
        """The newest window, with context ``channels``; None where there is no reading."""
        with self._lock:
            tail = self._tail(machine)
            if tail is None:
                return None
            values = window_of(
                tail.means, tail.counts, events, tick=tail.tick, clock=self._clock, window=self._window,
                channels=channels,
            )  # fmt: skip
            return Newest(tail.tick, tail.newest_us, values, int(tail.counts.sum()))

    def _columns(self, sent: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """Columns of ours that a delivery has, and where it has them."""
        if sent not in self._known:
            both = [(i, sent.index(name)) for i, name in enumerate(self._sensors) if name in sent]
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[sent] = [ours for ours, _ in both], [theirs for _, theirs in both]
        return self._known[sent]

    def _tail(self, machine: str) -> _Tail | None:
        number, tail = self._state.number(machine), self._tails.get(machine)
        if tail is None or tail.number != number:
            self._tails.pop(machine, None)
            tail = self._loaded(machine, number)
            if tail is None:
                return None
            self._tails[machine] = tail
            if len(self._tails) > MOST_MACHINES:
                self._tails.pop(next(iter(self._tails)))
        else:
            self._renew(machine, tail)
        return tail

    def _loaded(self, machine: str, number: int) -> _Tail | None:
        newest_us = self._state.newest_us(machine)
        if newest_us is None:
            return None
        tick = int(tick_of(np.array([newest_us]), self._clock)[0])
        since_us = tick * self._clock.step_us - span_us(self._clock, self._window)
        times, values = self._state.read(machine, self._sensors, span_us=newest_us - since_us, until_us=newest_us)
        means, counts = ticks_back(times, values, tick=tick, clock=self._clock, window=self._window)
        return _Tail(number, tick, newest_us, means, counts)

    def _renew(self, machine: str, tail: _Tail) -> None:
        if not tail.dirty:
            return
        step_us, tick = self._clock.step_us, int(tick_of(np.array([tail.newest_us]), self._clock)[0])
        self._extend(tail, tick)
        for one in tail.dirty:
            at = self._ticks - 1 - (tick - one)
            if at < 0:
                continue
            times, values = self._state.read(machine, self._sensors, span_us=step_us, until_us=one * step_us)
            tail.counts[at] = len(times)
            tail.means[at] = grid(times, values, self._clock)[1][0] if len(times) else np.nan
        tail.dirty = set()

    def _extend(self, tail: _Tail, tick: int) -> None:
        """Make ``tick``, which is no earlier, the last one."""
        if (later := min(tick - tail.tick, self._ticks)) > 0:
            tail.means[:-later], tail.counts[:-later] = tail.means[later:], tail.counts[later:]
            tail.means[-later:], tail.counts[-later:] = np.nan, 0
        tail.tick = tick

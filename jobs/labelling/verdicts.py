"""What became of every event and of every life, read off the labels that training uses.

The one idea: nothing is decided here. The labels say, tick by tick, at which failure or censoring a life
ends; an event that ends an observed life is a label or a censoring, and for every other the facts (no
reading, an outage, the end of observation) are looked up that kept it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from cluster.logs import FAR, renewing, time_us
from jobs.dataset import PartOfMachine, PlantData
from models.labels import CONDITION, END, FAILURE, FINDING, SERVICE, MachineLog, booking_delay_us
from models.split import Part, Split
from models.windows import MachineEvents

PARTS: tuple[Part, ...] = ("train", "validate", "test")
BETWEEN, APART, UNSETTLED, EARLY = "between_parts", "kept_apart", "unsettled", "too_early"
_ENDED = {FAILURE: "failure", END: "end"}
SERVICES = {SERVICE: "service", CONDITION: "condition", FINDING: "finding"}
_ALL_TIME = (np.iinfo(np.int64).min, FAR)
_WHOLE = Split({"test": _ALL_TIME}, frozenset())  # every tick of every machine, as the log stands now


@dataclass(frozen=True)
class Life:
    """``began_by``: installation, readings, repair or service; ``ended_by``: failure, service or end (of observation).

    ``service`` says what kind of maintenance cut it short: service, condition or finding; empty where none did.
    ``blind`` where no reading, carried ones included, lies in the life's last hours.
    """

    machine: str
    began_us: int
    began_by: str
    ended_us: int
    ended_by: str
    num_ticks: int
    blind: bool
    service: str = ""


@dataclass(frozen=True)
class Verdict:
    """``use`` is the part that learns from a failure or is judged by it, or why no part does; empty for the rest."""

    verdict: str
    reason: str
    use: str = ""


@dataclass(frozen=True)
class Account:
    """``verdicts`` in the order of the events table, one each."""

    verdicts: list[Verdict]
    lives: list[Life]
    delay_us: int  # so much of the newest past is not claimed: bookings may still come


def account(data: PlantData, events: pa.Table, split: Split | None, *, now_us: int, blind_us: int) -> Account:
    """Every event's verdict and every machine's lives. ``split`` is None where no machine has readings."""
    delay = booking_delay_us(list(data.logs.values()), FAR)
    pieces = {piece.machine: piece for piece in data.part("test", _WHOLE)}
    found = {machine: list(_lives(data, piece, blind_us)) for machine, piece in pieces.items()}
    uses = _uses(data, split) if split else {}
    ends = {(machine, life.ended_us): life.service or life.ended_by for machine, own in found.items() for life in own}
    judge = _Judge(data, split, pieces, ends, uses, delay, now_us)
    renewals = set(renewing(events)["event_id"].to_pylist())
    columns = ("event_id", "machine", "kind", "effect")
    rows = zip(*(events[name].to_pylist() for name in columns), time_us(events["started_at"]).tolist(), strict=True)
    verdicts = [
        judge.of(machine, kind, effect, at, renews=event in renewals) for event, machine, kind, effect, at in rows
    ]
    return Account(verdicts, [life for own in found.values() for life in own], delay)


def _lives(data: PlantData, piece: PartOfMachine, blind_us: int) -> Iterator[Life]:
    """One life for each moment at which the labels of ticks with a reading end."""
    rows = piece.rows[piece.labels.usable[piece.rows]]
    now, seen = piece.series.ticks[rows] * data.clock.step_us, piece.series.ticks[piece.rows] * data.clock.step_us
    ends, first, counts = np.unique(piece.labels.end_us[rows], return_index=True, return_counts=True)
    for end, start, count in zip(ends.tolist(), first.tolist(), counts.tolist(), strict=True):
        code = int(piece.labels.ended_by[rows[start]])
        cause = _ENDED.get(code, "service")
        began, by = _beginning(data, piece.machine, int(now[start]), int(seen[0]))
        last = seen[np.searchsorted(seen, end, side="right") - 1]
        kind = SERVICES.get(code, "")
        yield Life(piece.machine, began, by, end, cause, count, bool(end - last > blind_us), kind)


def _beginning(data: PlantData, machine: str, first_us: int, seen_us: int) -> tuple[int, str]:
    """What made the machine new before a life's first tick; its first reading where nothing did."""
    log = data.logs.get(machine, MachineLog())
    installed = data.events.get(machine, MachineEvents()).installed_us
    known = [(int(at), "repair") for at in log.repaired_us] + [(int(at), "service") for at in log.serviced_us]
    if installed is not None and installed < seen_us - data.clock.step_us:
        known.append((installed, "installation"))
    return max((one for one in known if one[0] <= first_us), default=(seen_us, "readings"))


def _uses(data: PlantData, split: Split) -> dict[tuple[str, int], str]:
    """(machine, moment) of each failure that a part's labels hold."""
    found: dict[tuple[str, int], str] = {}
    for part in PARTS:
        for piece in data.part(part, split):
            ends = piece.labels.end_us[piece.rows[piece.labels.event[piece.rows]]]
            found |= {(piece.machine, int(end)): part for end in np.unique(ends)}
    return found


@dataclass(frozen=True)
class _Judge:
    """The facts by which one event after the other is judged; ``given`` remembers the moments that have had theirs."""

    data: PlantData
    split: Split | None
    pieces: dict[str, PartOfMachine]
    ends: dict[tuple[str, int], str]
    uses: dict[tuple[str, int], str]
    delay_us: int
    now_us: int
    given: set[tuple[str, int]] = field(default_factory=set)

    def of(self, machine: str | None, kind: str, effect: str | None, at_us: int, *, renews: bool) -> Verdict:
        if kind != "failure" and not renews:
            reason = kind if kind != "maintenance" else "inspected" if effect else "no_effect"
            return Verdict("context", reason)
        if machine is None:
            return Verdict("excluded", "no_machine")
        key, failure = (machine, at_us), kind == "failure"
        ended_by = self.ends.get(key, "")
        if ended_by not in (("failure",) if failure else SERVICES.values()):
            return Verdict("excluded", self._why(machine, at_us, failure=failure))
        if key in self.given:
            return Verdict("excluded", "same_moment")
        self.given.add(key)
        return Verdict("failure", "label", self._use(*key)) if failure else Verdict("censored", ended_by)

    def _why(self, machine: str, at_us: int, *, failure: bool) -> str:
        """What kept an event from ending an observed life: the first that holds."""
        if at_us == FAR:
            return "no_time"
        if at_us > self.now_us:
            return "future"
        if machine not in self.pieces:
            return "no_readings"
        piece, log, step_us = self.pieces[machine], self.data.logs[machine], self.data.clock.step_us
        after = log.failed_us < at_us if failure else log.failed_us <= at_us
        before = at_us < log.repaired_us if failure else at_us <= log.repaired_us
        facts = (
            (at_us <= int(piece.series.ticks[piece.rows[0]]) * step_us, "before_readings"),
            (bool((after & before).any()), "in_outage" if failure else "repair"),
            (at_us > int(piece.series.ticks[-1]) * step_us, "after_readings"),
            (at_us > self.data.observed_until_us(machine, FAR, self.delay_us), "recent"),
        )
        return next((reason for holds, reason in facts if holds), "unobserved")

    def _use(self, machine: str, at_us: int) -> str:
        """The part whose labels hold a failure, or why none does."""
        if self.split is None or (machine, at_us) in self.uses:
            return self.uses.get((machine, at_us), "")
        bounds = self.split.bounds_us
        if machine in self.split.unseen and at_us <= bounds["test"][0]:
            return APART
        part = next((part for part in PARTS if bounds[part][0] < at_us <= bounds[part][1]), None)
        if part is None:
            return BETWEEN
        log, as_of = self.data.logs[machine], FAR if part == "test" else bounds[part][1]
        booked = int(log.failed_known_us[log.failed_us == at_us][0])
        settled = at_us + booking_delay_us(list(self.data.logs.values()), as_of)
        return UNSETTLED if max(booked, settled) > as_of else EARLY

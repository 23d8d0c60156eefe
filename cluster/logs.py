"""What features may know of each machine's log, out of the tables.

The one idea: an event counts from the moment it was recorded, never from the moment it happened, so
that training, batch scoring and the service see the same past.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.labels import CONDITION, FINDING, SERVICE, UNNAMED, MachineLog
from models.windows import CONTEXT, Channel, Int, MachineEvents

RENEWING = ("replaced", "repaired")  # an inspection leaves the machine as it was
ON_CONDITION = ("condition", "millwright")  # triggers by which a machine's state chose the moment
MOST_MODES = 127
FAR = np.iinfo(np.int64).max
_NOTHING = re.compile(
    r"(none|nothing|nil|no|na|nff|ntf|ok|false|0|unconfirmed|not confirmed|nicht bestätigt|ohne|ohne befund|keine?r?|ob"
    r"|io|in ordnung|unauff(ä|ae)llig|(no|keine?|without) (fault|finding|defect|damage|issue|problem|abnormalit|befund"
    r"|mangel|mängel|schaden|auff(ä|ae)lligkeit)\w*( found| gefunden| festgestellt)?)"
)
MOST_NAMED = 8  # components, and codes, that have a channel of their own


def machine_events(events: pa.Table, machines: pa.Table) -> dict[str, MachineEvents]:
    """Installation, renewals and errors of each machine, each with its booking time."""
    installed = dict(zip(machines["machine"].to_pylist(), time_us(machines["valid_from"]).tolist(), strict=True))
    found = {m: MachineEvents(None if at == FAR else at) for m, at in installed.items()}
    listed = set(machines["machine"].filter(pc.invert(pc.fill_null(machines["inferred"], False))).to_pylist())
    for machine, own in by_machine(events):
        renewals = pa.concat_tables([own.filter(pc.equal(own["kind"], "failure")), renewing(own)])
        errors = own.filter(pc.equal(own["kind"], "error"))
        since = found.get(machine, MachineEvents()).installed_us
        found[machine] = MachineEvents(
            since, time_us(ended(renewals)),
            time_us(pc.coalesce(renewals["recorded_at"], ended(renewals))),
            np.sort(time_us(pc.coalesce(errors["recorded_at"], errors["started_at"]))),
            _parts(own, since, listed=machine in listed), _codes(errors),
        )  # fmt: skip
    return found


def mode_names(events: pa.Table) -> tuple[str, ...]:
    """The plant's failure modes, sorted: a label's number of a mode is its place here; at most the 127 most frequent.

    ``failure_mode`` names them where the log has any, else ``component``: one vocabulary, never both mixed.
    """
    failures = events.filter(pc.equal(events["kind"], "failure"))
    counts = Counter(name for name in _named(failures, _mode_column(failures)).to_pylist() if name)
    return tuple(sorted(name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_MODES]))


def _mode_column(failures: pa.Table) -> str:
    return "failure_mode" if any(_named(failures, "failure_mode").to_pylist()) else "component"


def _named(events: pa.Table, column: str) -> pa.ChunkedArray:
    """A column's names, trimmed; null where nobody wrote one."""
    found = pc.utf8_trim_whitespace(events[column])
    return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.string()), found)


def confirmed(finding: str | None) -> bool:
    """Whether a finding says that something was found: any text that does not say the opposite."""
    text = re.sub(r"[^\w ]+", "", (finding or "").lower()).strip()
    return bool(text) and not _NOTHING.fullmatch(text)


def maintained_as(services: pa.Table) -> npt.NDArray[np.int8]:
    """What each renewing maintenance means to labels: SERVICE, CONDITION, or FINDING where it was confirmed."""
    rows = zip(services["trigger"].to_pylist(), services["finding"].to_pylist(), strict=True)
    return np.array(
        [SERVICE if trigger not in ON_CONDITION else FINDING if confirmed(finding) else CONDITION
         for trigger, finding in rows], np.int8,
    )  # fmt: skip


def context_channels(known: Mapping[str, MachineEvents], *, until_us: int = FAR) -> tuple[Channel, ...]:
    """Context of a plant's windows: of all, then of its commonest components and error codes, eight of each at most.

    Names are chosen by what the log held at ``until_us``, so that what was booked later has no say in them. A name that
    is the only one tells nothing that the machine's own channel does not tell, so it has none. Nor has a component that
    is renewed less than once a machine: its age would name the machine and its day, and little else.
    """
    parts: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for events in known.values():
        for name, (renewed, told) in events.parts.items():
            parts[name] += int(((renewed != events.installed_us) & (told <= until_us)).sum())
        for name, times in events.codes.items():
            codes[name] += int((times <= until_us).sum())
    there = sum(events.installed_us is None or events.installed_us <= until_us for events in known.values())
    parts = Counter({name: count for name, count in parts.items() if count >= max(there, 1)})
    since, errors = CONTEXT
    return (
        *CONTEXT,
        *(Channel(f"{since.name}.{name}", since.kind, since.unit, since.role) for name in _commonest(parts)),
        *(Channel(f"{errors.name}.{name}", errors.kind, errors.unit, errors.role) for name in _commonest(+codes)),
    )


def _commonest(counts: Counter[str]) -> list[str]:
    chosen = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_NAMED]
    return sorted(chosen) if len(counts) > 1 else []


def _parts(own: pa.Table, installed: int | None, *, listed: bool) -> dict[str, tuple[Int, Int]]:
    """When each component was renewed, and since when that is known.

    Its failure renews a component, and any service but an inspection: a part that is exchanged is new, whether or
    not the machine counts as new by that. Installation counts too; where it is only inferred from the first reading,
    a service that is older, and was booked by then, is believed instead.
    """
    service = pc.and_(
        pc.equal(own["kind"], "maintenance"), pc.fill_null(pc.not_equal(own["effect"], "inspected"), True)
    )
    own = own.filter(pc.and_(pc.or_(pc.equal(own["kind"], "failure"), service), pc.is_valid(own["component"])))
    names, renewed = _keys(own["component"]), time_us(ended(own))
    known = time_us(pc.coalesce(own["recorded_at"], ended(own)))
    found = {}
    for name in np.unique(names[names != ""]).tolist():
        mine = names == name
        when, told = renewed[mine], known[mine]
        older = installed is not None and bool((np.maximum(when, told) <= installed).any())
        if installed is not None and (listed or not older):
            when, told = np.append(when, installed), np.append(told, installed)
        found[name] = (when, told)
    return found


def _codes(errors: pa.Table) -> dict[str, Int]:
    """When the errors of each code became known, sorted."""
    errors = errors.filter(pc.is_valid(errors["code"]))
    names, known = _keys(errors["code"]), time_us(pc.coalesce(errors["recorded_at"], errors["started_at"]))
    return {name: np.sort(known[names == name]) for name in np.unique(names[names != ""]).tolist()}


def _keys(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Names as they stand in a channel's: letters, digits and underscores, however the log writes them."""
    return np.array([re.sub(r"\W+", "_", text).strip("_").lower()[:40] for text in column.to_pylist()], object)


def machine_logs(events: pa.Table) -> dict[str, MachineLog]:
    """Failures and renewing maintenance of each machine, each with its booking time."""
    logs: dict[str, MachineLog] = {}
    names = mode_names(events)
    column = _mode_column(events.filter(pc.equal(events["kind"], "failure")))
    numbers = pc.index_in(_named(events, column), pa.array(names, pa.string()))
    events = events.append_column("mode", pc.fill_null(numbers, UNNAMED))
    for machine, own in by_machine(events):
        failures, services = own.filter(pc.equal(own["kind"], "failure")), renewing(own)
        order = np.argsort(time_us(failures["started_at"]), kind="stable")
        known = time_us(pc.coalesce(failures["recorded_at"], failures["started_at"]))
        logs[machine] = MachineLog(
            time_us(failures["started_at"])[order], time_us(ended(failures))[order], known[order],
            time_us(services["started_at"]), time_us(pc.coalesce(services["recorded_at"], services["started_at"])),
            failures["mode"].to_numpy().astype(np.int8)[order], maintained_as(services),
        )  # fmt: skip
    return logs


def time_us(column: pa.ChunkedArray) -> Int:
    """Timestamps as microseconds; a null becomes the far future, so that nothing knows it yet."""
    found: Int = pc.fill_null(column.cast(pa.int64()), FAR).to_numpy()
    return found


def by_machine(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    for machine in pc.unique(table["machine"]).to_pylist():
        yield machine, table.filter(pc.equal(table["machine"], machine))


def renewing(events: pa.Table) -> pa.Table:
    """Maintenance after which a machine counts as new."""
    maintenance = pc.equal(events["kind"], "maintenance")
    return events.filter(pc.and_(maintenance, pc.is_in(events["effect"], pa.array(RENEWING))))


def ended(events: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(events["ended_at"], events["started_at"])

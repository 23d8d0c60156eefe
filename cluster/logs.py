"""What features may know of each machine's log, out of the tables.

The one idea: an event counts from the moment it was recorded, never from the moment it happened, so
that training, batch scoring and the service see the same past.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.labels import MachineLog
from models.windows import Int, MachineEvents

RENEWING = ("replaced", "repaired")  # an inspection leaves the machine as it was
FAR = np.iinfo(np.int64).max


def machine_events(events: pa.Table, machines: pa.Table) -> dict[str, MachineEvents]:
    """Installation, renewals and errors of each machine, each with its booking time."""
    installed = dict(zip(machines["machine"].to_pylist(), time_us(machines["valid_from"]).tolist(), strict=True))
    found = {m: MachineEvents(None if at == FAR else at) for m, at in installed.items()}
    for machine, own in by_machine(events):
        renewals = pa.concat_tables([own.filter(pc.equal(own["kind"], "failure")), renewing(own)])
        errors = own.filter(pc.equal(own["kind"], "error"))
        found[machine] = MachineEvents(
            found.get(machine, MachineEvents()).installed_us, time_us(ended(renewals)),
            time_us(pc.coalesce(renewals["recorded_at"], ended(renewals))),
            np.sort(time_us(pc.coalesce(errors["recorded_at"], errors["started_at"]))),
        )  # fmt: skip
    return found


def machine_logs(events: pa.Table) -> dict[str, MachineLog]:
    """Failures and renewing maintenance of each machine, each with its booking time."""
    logs: dict[str, MachineLog] = {}
    for machine, own in by_machine(events):
        failures, services = own.filter(pc.equal(own["kind"], "failure")), renewing(own)
        order = np.argsort(time_us(failures["started_at"]), kind="stable")
        known = time_us(pc.coalesce(failures["recorded_at"], failures["started_at"]))
        logs[machine] = MachineLog(
            time_us(failures["started_at"])[order], time_us(ended(failures))[order], known[order],
            time_us(services["started_at"]), time_us(pc.coalesce(services["recorded_at"], services["started_at"])),
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

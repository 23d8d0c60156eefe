"""Context channels out of logs: which components and codes have one, and what each knows at a moment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from cluster.logs import context_channels, machine_events
from cluster.storage import EVENTS, MACHINES
from models.config import Clock
from models.windows import CONTEXT, context

HOUR = 3_600_000_000


def events(*rows: dict[str, Any]) -> pa.Table:
    """Rows of the table, times in hours."""
    times = ("started_at", "ended_at", "recorded_at")
    full = [{"machine": "m"} | row | {t: row[t] * HOUR for t in times if t in row} for row in rows]
    return pa.Table.from_pylist([{name: row.get(name) for name in EVENTS.names} for row in full], schema=EVENTS)


def machines(*, installed: int | None = 0, inferred: bool = False) -> pa.Table:
    at = None if installed is None else installed * HOUR
    row = {"machine": "m", "valid_from": at, "inferred": inferred}
    return pa.Table.from_pylist([{name: row.get(name) for name in MACHINES.names}], schema=MACHINES)


def error(at: int, code: str | None) -> dict[str, Any]:
    return {"kind": "error", "code": code, "started_at": at}


def service(at: int, component: str | None, effect: str | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": "maintenance", "component": component, "effect": effect, "started_at": at} | more


def test_a_plant_whose_log_names_nothing_has_the_two_channels_of_old() -> None:
    found = machine_events(events(error(1, None), service(2, None, "replaced")), machines())
    assert context_channels(found) == CONTEXT
    assert found["m"].parts == {} and found["m"].codes == {}


def test_a_name_that_is_the_only_one_has_no_channel() -> None:
    found = machine_events(events(error(1, "e1"), service(2, "pump", "replaced")), machines())
    assert context_channels(found) == CONTEXT


def test_the_eight_commonest_codes_have_a_channel_each_in_the_order_of_their_names() -> None:
    rows = [error(hour, f"E-{number}") for number in range(10) for hour in range(20 - number)]
    names = [c.name for c in context_channels(machine_events(events(*rows), machines()))]
    assert names == ["since_service", "errors_24h", *(f"errors_24h.e_{number}" for number in range(8))]


def test_components_count_failures_and_every_service_but_an_inspection() -> None:
    log = events(
        {"kind": "failure", "component": "Pump 1", "started_at": 10, "ended_at": 12},
        service(20, "fan"), service(30, "pump-1", "inspected"), service(40, "fan", "replaced", recorded_at=45),
    )  # fmt: skip
    found = machine_events(log, machines())
    chosen = context_channels(found)
    assert [c.name for c in chosen[2:]] == ["since_service.fan", "since_service.pump_1"]
    ages = context(np.array([9, 12, 25, 44, 45]), found["m"], Clock(), chosen)[:, 2:]
    assert ages[:, 0].tolist() == [9, 12, 5, 24, 5]  # the service of 40 h is known from 45 h on
    assert ages[:, 1].tolist() == [9, 0, 13, 32, 33]  # the inspection renews nothing


def test_an_inferred_installation_does_not_hide_an_older_service_and_a_listed_one_does() -> None:
    log = events(service(-50, "fan"), service(-20, "pump"), service(200, "pump"))
    chosen = context_channels(machine_events(log, machines()))
    inferred = machine_events(log, machines(inferred=True))["m"]
    listed = machine_events(log, machines())["m"]
    assert context(np.array([10]), inferred, Clock(), chosen)[0, 2:].tolist() == [60, 30]
    assert context(np.array([10]), listed, Clock(), chosen)[0, 2:].tolist() == [10, 10]


def test_a_service_that_is_booked_late_does_not_change_what_was_known_before() -> None:
    known, late = service(5, "fan"), service(-50, "pump", recorded_at=40)
    chosen = context_channels(machine_events(events(known, late), machines(inferred=True)))
    then, since = (machine_events(events(*rows), machines(inferred=True))["m"] for rows in ([known], [known, late]))
    for one in (then, since):
        assert context(np.array([10]), one, Clock(), chosen)[0, 2:].tolist() == [5, 10]


def test_a_component_that_is_seldom_renewed_has_no_age_of_its_own() -> None:
    log = events(
        service(10, "fan"), service(20, "pump"), service(30, "fan", machine="n"), error(5, "e1"), error(6, "e2")
    )
    both = pa.concat_tables([machines(), machines().set_column(0, "machine", pa.array(["n"]))])
    names = [c.name for c in context_channels(machine_events(log, both))]
    assert names == ["since_service", "errors_24h", "errors_24h.e1", "errors_24h.e2"]  # fan alone would be the only one


def test_names_are_chosen_by_what_was_booked_by_then() -> None:
    early = [error(5, "e1"), error(6, "e2"), service(10, "fan"), service(20, "pump")]
    late = [
        *(error(hour, f"E-{number}") for number in range(10) for hour in range(60, 80)),
        *(service(hour, "valve") for hour in range(60, 70)), service(30, "belt", recorded_at=70),
    ]  # fmt: skip
    both, then = (machine_events(events(*rows), machines()) for rows in ([*early, *late], early))
    assert context_channels(both, until_us=50 * HOUR) == context_channels(then)
    assert [c.name for c in context_channels(both, until_us=50 * HOUR)[2:]] == [
        "since_service.fan", "since_service.pump", "errors_24h.e1", "errors_24h.e2"
    ]  # fmt: skip
    assert "errors_24h.e_0" in [c.name for c in context_channels(both)]
    assert context_channels(both, until_us=0) == CONTEXT


def test_a_machine_that_comes_later_does_not_make_components_rare() -> None:
    log = events(service(10, "fan"), service(20, "pump"))
    later = pa.Table.from_pylist(
        [{name: {"machine": "n", "valid_from": 90 * HOUR, "inferred": False}.get(name) for name in MACHINES.names}],
        schema=MACHINES,
    )
    found = machine_events(log, pa.concat_tables([machines(), later]))
    chosen = context_channels(found, until_us=50 * HOUR)
    assert [c.name for c in chosen[2:]] == ["since_service.fan", "since_service.pump"]
    assert context_channels(found) == CONTEXT

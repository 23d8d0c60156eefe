"""What a verdict means, in the words of those who keep the plant's books.

The one idea: an engineer who misses a failure among the labels must see from one line why, and what to correct.
"""

from __future__ import annotations

from jobs.labelling.verdicts import APART, BETWEEN, EARLY, UNSETTLED

WHY: dict[str, str] = {
    "label": "ends an observed life",
    "service": "renewed the machine first: how long it would have lived is not known",
    "condition": "renewed the machine on its condition: people chose the moment, so figures come with both bounds",
    "finding": "renewed it on its condition, and a finding confirmed that: half a failure, never a healthy window",
    "same_moment": "booked at the same moment as another of this machine: one event, not two",
    "in_outage": "within the outage of an earlier failure: that one is counted",
    "repair": "the repair of a failure: no life ends with it",
    "no_readings": "the machine has no readings: not ingested, or under another name in the readings",
    "before_readings": "before the machine's first reading",
    "after_readings": "after the machine's last reading",
    "recent": "so near the last reading that bookings may still come: nothing is claimed there yet",
    "unobserved": "no reading between it and what ended the life before",
    "future": "starts in the future",
    "no_time": "has no time",
    "no_machine": "names no machine",
    "error": "an error: features see it, labels do not",
    "operating_state": "an operating state, not an end of life",
    "inspected": "left the machine as it was: its life goes on",
    "no_effect": "does not say whether it renewed the machine (`effect`): taken as if it did not",
}
NOT_USED: dict[str, str] = {
    BETWEEN: "in the gap between two parts, which keeps the later one unknown to the earlier",
    APART: "on machines that are kept apart for the test, before it begins",
    UNSETTLED: "booked after their part's end, or so near it that bookings might still come",
    EARLY: "before their part's first reading of the machine",
}
ENDED: dict[str, str] = {
    "failure": "ended in a failure", "service": "cut short by maintenance", "end": "not ended when the readings do",
}  # fmt: skip


COMPETING: dict[str, str] = {
    "service": "taken as independent of the machine's state", "condition": "on its condition",
    "finding": "on its condition with a confirmed finding",
}  # fmt: skip


def few(what: str, number: int, enough: int) -> str:
    """What it means that there are so few failures."""
    return (
        f"{what}: not enough failures (n = {number}); under {enough} the difference between two models is mostly"
        " chance, so none is claimed"
    )


def few_groups(what: str, groups: dict[str, int]) -> str:
    """The failure modes or machine types that have too few, in one sentence."""
    listed = ", ".join(f"{name} (n = {number})" for name, number in groups.items())
    return f"not enough failures of the {what} {listed}: a model may foresee these, but nobody can tell from so few"

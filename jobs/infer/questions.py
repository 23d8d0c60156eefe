"""Doubts as questions a person can answer: one for each code, with how to answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_SHOWN = 4
_QUESTIONS = {
    "time.zone": "In which zone are the times of {0}? Nothing names one for sure: taken as {zone}. "
    "Answer with `--set time.zone=Europe/Berlin`, or correct `zone`.",
    "time.step": "How many seconds is one step of the counter in {0}? Taken as 1 s. "
    "Answer with `--set time.step=SECONDS`, or correct `step_s`.",
    "machine": "Which machine do the rows of {0} belong to? Nothing names it: taken as one machine. Correct `machine`.",
    "units": "What do {0} measure, in which unit? No unit is known: taken as they are. Correct `kind` and `unit`.",
    "roles": "What is {0}? No role fits, so it is not read. Give it a `role`, or delete the stream.",
    "files": "Are these files broken? They could not be read: {0}.",
    "failures": "Where are failures logged? No stream holds them, so nothing can be learned from.",
    "machines": "Are these the same machines? {0}",
    "values.trigger": "What triggered maintenance booked as {0}? Taken as unknown. Add it to `values`.",
    "values.effect": "What did maintenance booked as {0} do to the machine? Left open. Add it to `values`.",
}


def asked(doubts: Iterable[tuple[str, str]], zones: Mapping[str, str]) -> dict[str, str]:
    """Code -> question, what they are about joined. ``zones``: what a stream's times were taken as."""
    about: dict[str, dict[str, None]] = {}
    for code, what in doubts:
        about.setdefault(code, {})[what] = None
    return {
        code: _QUESTIONS[code].format(
            _listed(about[code]), zone=_listed({zones.get(what, "UTC"): None for what in about[code]})
        )
        for code in _QUESTIONS
        if code in about
    }


def _listed(names: Mapping[str, None]) -> str:
    shown = list(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")

"""The plant's list of machines as a key to what other files call them.

The one idea: a machine has one name, the one in the list that the readings use too where there is one;
equipment numbers, functional locations and other spellings in other files are led back to it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.infer import words
from jobs.infer.columns import Column
from jobs.infer.machines import Found
from jobs.infer.roles import Fit

_IDENTITIES = ("functional_location", "equipment")
_MOST = 5000  # names that one stream's description may list


@dataclass(frozen=True)
class Roster:
    """Machines, and their other names: as written, spelled loosely, and by a number that only one of them has."""

    machines: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[Mapping[str, str], ...] = ()  # the same, one for each column of a list
    loose: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[str]:
        """Every text that is certainly a machine's."""
        return self.machines | frozenset(self.names)


def settled(fit: Fit, columns: Mapping[str, Column], said: Collection[str]) -> Fit:
    """The fit of a log or list with that column as machine which other files speak of most; ``said``: what they say."""
    if fit.machine is None:
        return fit
    able = [fit.machine, *(n for n, c in columns.items() if n != fit.machine and c.identifies and _names_machine(c))]
    hits = {name: _hits(columns[name].distinct, said) for name in able}
    best = max(able, key=lambda name: hits[name])  # the first of equals: the one that its name speaks for
    if best == fit.machine or hits[best] < 0.3:
        return fit
    fields = {name: raw for name, raw in fit.fields.items() if raw != best or name in _IDENTITIES}
    if fit.role == "machines" and "equipment" not in fields:
        fields["equipment"] = fit.machine
    return replace(fit, machine=best, fields=fields, evidence=f"{fit.evidence}; other files name {best!r}")


def pieces(text: str) -> set[str]:
    """Every run of whole parts of a tag, a file's name or a machine's: what another file may call the machine."""
    parts = re.split(r"([\s_./:|\\-])", text)[:41]
    return {"".join(parts[a:b]) for a in range(0, len(parts), 2) for b in range(a + 1, len(parts) + 1, 2)} - {""}


def roster(lists: Iterable[tuple[Fit, Mapping[str, Column]]], logged: Iterable[str] = ()) -> Roster:
    """What the lists of machines say; without a list, the machines that logs name."""
    names: dict[str, set[str]] = defaultdict(set)
    columns_of: list[set[str]] = []
    machines: set[str] = set()
    for fit, columns in lists:
        assert fit.machine is not None, "a list of machines names them"
        own = columns[fit.machine].cells
        machines |= {machine for machine in own if machine}
        for name, column in columns.items():
            if name != fit.machine and column.identifies and (name in fit.fields.values() or _names_machine(column)):
                columns_of.append(set(column.distinct))
                for machine, text in zip(own, column.cells, strict=True):
                    if machine and text:
                        names[text].add(machine)
    machines = machines or set(logged)
    unique = {text: next(iter(found)) for text, found in names.items() if len(found) == 1 and text not in machines}
    loose: dict[str, set[str]] = defaultdict(set)
    numbers: dict[str, set[str]] = defaultdict(set)
    for text, machine in (*unique.items(), *((m, m) for m in machines)):
        loose[_loosely(text)].add(machine)
    for machine in machines:
        if found := re.search(r"(\d+)$", machine):
            numbers[found[1]].add(machine)
    apart = tuple({text: unique[text] for text in sorted(texts) if text in unique} for texts in columns_of)
    return Roster(frozenset(machines), unique, apart, _single(loose), _single(numbers))


def renamed(found: Found, by: Roster) -> Found:
    """The machines under the names of the list, where it knows them by others."""
    texts = [text for text in found.machines if text not in by.machines]
    if not by.machines or not texts or found.machine.kind == "constant" or found.machine.names or found.machine.prefix:
        return found
    exact = {text: by.names[text] for text in sorted(texts) if text in by.names}
    loose = {text: by.loose[key] for text in sorted(texts) if text not in exact and (key := _loosely(text)) in by.loose}
    if len(exact) + len(loose) < 0.5 * len(texts) or len(exact) + len(loose) > _MOST:
        return found
    names = exact | loose
    if len(set(names.values())) < len(names):  # two of them would become one machine
        return found
    one = next(iter(names.items()))
    # The machines that the sample does not show are in the same column of the list.
    names = _as_listed(exact or loose, by) | names
    why = "the list of machines says so" if exact else "spelled otherwise"
    return Found(
        found.machine.model_copy(update={"names": names}), frozenset(names.get(m, m) for m in found.machines),
        "high" if exact and not loose else "medium", f"{found.evidence}; {one[0]!r} is {one[1]!r}: {why}",
    )  # fmt: skip


def _as_listed(names: Mapping[str, str], by: Roster) -> dict[str, str]:
    """All of the column of the list that these names stand in; numbers with as many zeros before them."""
    lengths = {len(text) for text in names}
    zeros = lengths.pop() if len(lengths) == 1 and all(text.isdigit() for text in names) else 0
    padded = [{(t.zfill(zeros) if t.isdigit() else t): m for t, m in column.items()} for column in by.columns]
    best = max(padded, key=lambda column: len(column.keys() & names.keys()), default={})
    return best if best.keys() & names.keys() and len(best) <= _MOST else {}


def _names_machine(column: Column) -> bool:
    own = (words.FIELDS["machines"][name] for name in _IDENTITIES)
    return column.key in words.MACHINE or column.key in words.MACHINE_LATE or any(column.key in each for each in own)


def _hits(texts: Sequence[str], said: Collection[str]) -> float:
    return sum(text in said for text in texts) / len(texts) if texts else 0.0


def _loosely(text: str) -> str:
    """``P-0101``, ``p101`` and ``P 101`` are one."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[^a-z0-9]", "", text.lower()))


def _single(found: Mapping[str, set[str]]) -> dict[str, str]:
    return {text: next(iter(machines)) for text, machines in found.items() if len(machines) == 1}

"""Where a stream's machine comes from: a column, the tag, the file's name, the folder, or there is only one.

The one idea: among ways to cut a tag, the right one makes machines share their sensors; machines that
the logs name settle it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from jobs.infer import time, words
from jobs.infer.format import Table
from jobs.infer.layout import DATED, Group
from jobs.infer.names import folded
from jobs.infer.sampling import SUFFIXES, stem
from jobs.infer.tags import LOOPS, has_part, instrument
from models.source import MachineFrom

_SEPARATORS = (".", ":", "/", "\\", "|")  # that stand between machine and sensor
_SUFFIX = r"(?:" + "|".join(map(re.escape, SUFFIXES)) + r")+$"
_FOLDER = r"(?P<machine>[^/]+)$"
_FILE_PATTERNS = (  # a date behind the machine, one before it, none
    r"^(?P<machine>.*?[^-_.])[-_.]*(?<!\d)(?:19|20)\d\d",
    r"^(?:19|20)\d\d[-_.\d]*[-_.](?P<machine>[A-Za-z].*?)" + _SUFFIX,
    r"^(?P<machine>.+?)" + _SUFFIX,
)
_WEAK = ("_", "-")  # that also stand within names


@dataclass(frozen=True)
class Found:
    """Where machines come from, which the sample shows, how sure that is and by what."""

    machine: MachineFrom
    machines: frozenset[str]
    confidence: str
    evidence: str


def only(plant: str) -> Found:
    """Nothing names the machine: there is one, called as the plant, and a person is asked."""
    machine = MachineFrom(kind="constant", value=plant)
    return Found(machine, frozenset({plant}), "low", f"nothing names the machine: it is one, {plant!r}")


def in_column(column: str, cells: Sequence[str], prefix: str = "") -> Found:
    machines = frozenset(prefix + cell for cell in cells if cell)
    evidence = f"the column {column!r}, such as {_some(machines)}"
    return Found(MachineFrom(kind="column", column=column, prefix=prefix), machines, "high", evidence)


def in_tag(tags: Collection[str], known: Collection[str], *, wide: bool = False) -> Found | None:
    """A pattern that cuts every tag into machine and sensor, or None where none makes sense.

    ``wide``: the tags are columns' names, where a cut needs better evidence.
    """
    best: tuple[float, str] | None = None
    for pattern, weak in _patterns(wide=wide):
        cut = [match for tag in tags if (match := re.search(pattern, tag))]
        if len(cut) < 0.95 * len(tags):
            continue
        names = {match["machine"] for match in cut}
        sensors = {match["sensor"] for match in cut}
        told = len(names & set(known)) / len(names)
        if not told and not _sensible(names, sensors):
            continue
        shared = len(cut) / (len(names) * len(sensors))
        numbered = sum(bool(re.search(r"[A-Za-z].*\d", name)) for name in names) / len(names)
        if shared < 0.4 or (weak and not told and (shared < 0.8 or min(len(names), len(sensors)) < 2)):
            continue
        if wide and not told and (numbered < 1 or shared < 0.6):
            continue
        ends = sum(name[-1].isdigit() for name in names) / len(names)
        score = shared + 2 * told + 0.25 * ends - 0.5 * weak - 0.5 * (len(names) == 1)
        if best is None or score > best[0] + 1e-9:
            best = score, pattern
    return _cut(tags, best[1], known) if best else None


def in_loops(tags: Collection[str], numbered: Mapping[str, str]) -> Found | None:
    """ISA tags whose loops are the machines: ``PT-101`` is the pressure of 101.

    ``numbered`` holds the listed machine of each number. Without a list, every loop must have the same instruments.
    """
    cut = [match for tag in tags if instrument(tag) and (match := re.search(LOOPS, tag))]
    loops = {match["machine"] for match in cut}
    pairs = {(match["machine"], match["sensor"]) for match in cut}
    if not cut or len(cut) < len(tags) or len(pairs) < len(cut):
        return None
    listed = {loop: numbered[loop] for loop in sorted(loops) if loop in numbered}
    even = len(pairs) == len(loops) * len({sensor for _, sensor in pairs})
    if len(listed) < 0.8 * len(loops) and (listed or not even or min(len(loops), len(pairs) // len(loops)) < 2):
        return None
    why = "machines of those numbers are known" if listed else "each loop has the same instruments"
    machine = MachineFrom(kind="tag", pattern=LOOPS, names=listed)
    evidence = f"the number of the loop, such as in {sorted(tags)[0]!r}; {why}"
    return Found(machine, frozenset(listed.get(loop, loop) for loop in loops), "medium" if listed else "low", evidence)


def _cut(tags: Collection[str], pattern: str, known: Collection[str]) -> Found:
    machines = frozenset(match["machine"] for tag in tags if (match := re.search(pattern, tag)))
    evidence = f"the tag, such as {sorted(tags)[0]!r}, holds machine and sensor"
    confidence = "high" if machines & set(known) else "medium"
    return Found(MachineFrom(kind="tag", pattern=pattern), machines, confidence, evidence)


def _sensible(names: Collection[str], sensors: Collection[str]) -> bool:
    """Whether these could be machines and sensors: not an instrument and its value, nor bearings of one machine."""
    if all(has_part(f"x.{sensor}") for sensor in sensors) or not all(re.search("[A-Za-z]", s) for s in sensors):
        return False
    if sum(instrument(name) is not None for name in names) > len(names) / 2 or any(s[0] in "[(" for s in sensors):
        return False
    return not any(set(re.sub(r"\d+", " ", folded(name)).replace("_", " ").split()) & words.PARTS for name in names)


def in_path(
    group: Group, column: str, pattern: str, known: Collection[str], plant: str, *, sensors_apart: bool = False
) -> Found:
    """From the folder or the file's name where files are of different machines; else one machine, a doubt.

    ``sensors_apart``: the file's name is a sensor's.
    """
    folders = {name.rsplit("/", 1)[0] if "/" in name else "" for name in group.files}
    if len(folders) > 1 and "" not in folders and all(map(_is_name, {f.rsplit("/", 1)[-1] for f in folders})):
        pieces = frozenset(folder.rsplit("/", 1)[-1].removesuffix(".zip!") for folder in folders)
        packed = r"?(?=\.zip!$|$)" if any(folder.endswith("!") for folder in folders) else "$"
        machine = MachineFrom(kind="folder", pattern=rf"(?P<machine>[^/]+{packed})" if packed != "$" else _FOLDER)
        return Found(machine, pieces, "medium", f"one folder a machine, such as {_some(pieces)}")
    by_file = None if sensors_apart else _in_file_name(group, known)
    if by_file is not None and (by_file.machines & set(known) or overlap(group.samples, column, pattern)):
        return by_file
    return only(plant)


def _in_file_name(group: Group, known: Collection[str]) -> Found | None:
    """The part of the file's name that differs, or that the logs know, without dates."""
    names = [name.rsplit("/", 1)[-1] for name in group.files]
    listed = sorted((m for m in known if any(m in name for name in names)), key=len, reverse=True)
    if listed and all(any(m in name for m in listed) for name in names):
        pattern = "(?P<machine>" + "|".join(map(re.escape, listed)) + ")"
        generic = r"^(?P<machine>[^_.]+)"
        cut = [match["machine"] for name in names if (match := re.search(generic, name))]
        pattern = generic if len(cut) == len(names) and set(cut) <= set(listed) else pattern
    else:
        rests = {re.sub(r"[-_.]*\0[-_.]*", "", DATED.sub("\0", stem(name))) for name in names}
        fitting = (p for p in _FILE_PATTERNS if all(re.search(p, name) for name in names))
        found = next(fitting, None)
        if len(rests) < 2 or found is None:
            return None
        pattern = found
    machines = frozenset(match["machine"] for name in names if (match := re.search(pattern, name)))
    evidence = f"one file a machine, such as {_some(machines)}"
    confidence = "high" if machines & set(known) else "medium"
    return Found(MachineFrom(kind="file_name", pattern=pattern), machines, confidence, evidence)


def _patterns(*, wide: bool) -> list[tuple[str, bool]]:
    found = []
    for sign in (*_SEPARATORS, *_WEAK, *((" ",) if wide else ())):
        mark, weak = re.escape(sign), sign not in _SEPARATORS
        found += [
            (rf"^(?P<machine>[^{mark}]+){mark}\s*(?P<sensor>.+)$", weak),  # before the first
            (rf"^(?P<machine>.+){mark}\s*(?P<sensor>[^{mark}]+)$", weak),  # before the last
            (rf"(?P<machine>[^{mark}]+){mark}\s*(?P<sensor>[^{mark}]+)$", weak),  # a longer path's last two
        ]
        if wide:
            found.append((rf"^(?P<sensor>.+?){mark}(?P<machine>[^{mark}\s]+)(?:\s*[\[(].*)?$", weak))
    return found


def overlap(samples: Mapping[str, Table], column: str, pattern: str) -> bool:
    """Whether two files cover the same time, which two parts of one machine's history do not."""
    spans = []
    for table in samples.values():
        moments = time.microseconds(table.cells.get(column, []), pattern)
        if np.isfinite(moments).any():
            spans.append((float(np.nanmin(moments)), float(np.nanmax(moments))))
    spans.sort()
    return any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def _is_name(text: str) -> bool:
    return not DATED.fullmatch(text) and not re.fullmatch(r"\d{1,2}", text)


def _some(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)[:2])


def by_type(machines: Collection[str], types: Mapping[str, str]) -> dict[str, list[str]]:
    """Machine type -> machines, of those machines whose type is known."""
    found: dict[str, list[str]] = defaultdict(list)
    for machine in sorted(machines):
        if machine in types:
            found[types[machine]].append(machine)
    return dict(found)

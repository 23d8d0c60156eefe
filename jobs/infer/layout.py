"""Which files belong together: one stream is what one glob names, all written alike.

The one idea: names that differ in digits only are one delivery (``pumps_2025-01.csv``, ``CMP-07.csv``);
names that differ in letters are joined only where no column tells their machines apart. A glob that
would also match another stream's file is never used.
"""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.infer import words
from jobs.infer.format import Shape, Table, read
from jobs.infer.names import folded
from jobs.infer.sampling import SUFFIXES, UnreadableError, matched, shown, stem, utf8
from jobs.sources import archive

DATED = re.compile(r"(?<!\d)(?:19|20)\d\d(?:[-_.]?(?:[01]\d|[WwQq]\d{1,2})(?:[-_.]?\d\d)?)?(?:[T_-]?\d{4,6}Z?)?(?!\d)")
_SNIFF = 32 * 1024
_SNIFFED = 12  # files of one name pattern that are opened to see whether they are alike
_DEEP = 3  # files of a stream that are sampled in full
# What one file of a delivery may not show, and its usual value.
_BY_CONTENT = {"decimal": ".", "thousands": "", "quote": '"'}


@dataclass(frozen=True)
class Group:
    """Files of one stream, sorted, with a sample of some of them (path below the root -> table)."""

    glob: str
    files: tuple[str, ...]
    shape: Shape
    samples: dict[str, Table]

    @property
    def table(self) -> Table:
        """Every sample, one below the other."""
        tables = list(self.samples.values())
        cells = {c: [v for t in tables for v in t.cells.get(c, [""] * t.num_rows)] for c in self.shape.columns}
        return Table(cells, tables[0].num_head, {k: z for t in tables for k, z in t.zones.items()})


def group(root: Path, files: Iterable[Path]) -> tuple[list[Group], dict[str, str]]:
    """The streams below ``root``, and why files could not be read (path -> reason)."""
    names = [file.relative_to(root).as_posix() for file in files]
    broken = {shown(name): "its name is not UTF-8; rename it" for name in names if not utf8(name)}
    patterns: dict[str, list[str]] = defaultdict(list)
    for name in filter(utf8, names):
        patterns[re.sub(r"\d+", "#", name)].append(name)
    alike: list[tuple[Shape, list[str]]] = []
    for members in patterns.values():
        alike += _alike(root, members, broken)
    named = _globs(root, _joined(alike), set(broken))
    sampled = (_sampled(root, pattern, members, broken) for pattern, members in named)
    return [found for found in sampled if found], broken


def _alike(root: Path, members: list[str], broken: dict[str, str]) -> list[tuple[Shape, list[str]]]:
    """Members of one name pattern by how they are written; those not opened go with the first kind."""
    found: list[tuple[Shape, list[str]]] = []
    step = max(1, len(members) // _SNIFFED)
    opened = set(members[::step]) | {members[-1]}
    for name in members:
        if name not in opened and len(found) == 1:
            found[0][1].append(name)
            continue
        try:
            shape = read(root / name, head=_SNIFF, slices=False)[0]
        except UnreadableError as error:
            broken[name] = str(error)
            continue
        for at, (other, same) in enumerate(found):
            if _match(shape, other):
                found[at] = (_union(other, shape), [*same, name])
                break
        else:
            found.append((shape, [name]))
    return found


def _match(one: Shape, other: Shape) -> bool:
    # A log may have no number with a fraction in one file.
    plain, beside = (s.csv.model_copy(update=_BY_CONTENT | {"columns": None}) for s in (one, other))
    if one.format != other.format or plain != beside or one.named != other.named:
        return False
    return len(set(one.columns) & set(other.columns)) >= 0.5 * max(len(one.columns), len(other.columns))


def _union(one: Shape, other: Shape) -> Shape:
    """Both files' columns: a later export may have more sensors."""
    if one.csv.columns is not None:
        return one
    columns = tuple(dict.fromkeys((*one.columns, *other.columns)))
    told = {name: getattr(other.csv, name) for name, usual in _BY_CONTENT.items() if getattr(one.csv, name) == usual}
    written = one.csv.model_copy(update=told)
    return replace(one, csv=written, columns=columns, comments=one.comments or other.comments,
                   units=one.units | other.units)  # fmt: skip


def _joined(alike: list[tuple[Shape, list[str]]]) -> list[tuple[Shape, list[str]]]:
    """Join patterns with the same header and no machine among it: one file, or one folder, a machine."""
    found: list[tuple[Shape, list[str]]] = []
    for shape, members in alike:
        for at, (other, same) in enumerate(found):
            beside = _depth(members[0]) == _depth(same[0]) and _suffix(members[0]) == _suffix(same[0])
            if _twin(shape, other) and beside and shape.named and not _tells_machine(shape) and not _logs(members[0]):
                found[at] = (other, sorted([*same, *members]))
                break
        else:
            found.append((shape, members))
    return found


def _twin(one: Shape, other: Shape) -> bool:
    plain, beside = (replace(s, comments=(), csv=s.csv.model_copy(update=_BY_CONTENT)) for s in (one, other))
    return plain == beside


def _globs(root: Path, alike: list[tuple[Shape, list[str]]], broken: set[str]) -> list[tuple[str, list[str]]]:
    """A glob for each stream that matches its files and, but for broken ones, no other; else a stream a file."""
    found = []
    for _, members in alike:
        if (pattern := _glob(root, members, broken)) is not None:
            found.append((pattern, members))
            continue
        by_letters: dict[str, list[str]] = defaultdict(list)
        for name in members:
            by_letters[re.sub(r"\d+", "#", name)].append(name)
        for part in by_letters.values():
            pattern = _glob(root, part, broken)
            found += [(pattern, part)] if pattern is not None else [(_literal(root, name), [name]) for name in part]
    return found


def _glob(root: Path, members: list[str], broken: set[str]) -> str | None:
    able = dict.fromkeys(_generalised(root, members, dates=dates) for dates in (True, False))
    return next((pattern for pattern in able if matched(root, pattern) - broken == set(members)), None)


def _generalised(root: Path, members: list[str], *, dates: bool) -> str:
    """One glob for the names: what differs, and (``dates``) what looks like a date, becomes ``*``.

    The ``!`` at the end of a folder's own name is written ``[#!]``: what stands before ``!/`` is an archive.
    """
    columns = list(zip(*(name.split("/") for name in members), strict=True))
    last = len(columns) - 1
    able = (dates and (at == last or parts[0].endswith("!")) for at, parts in enumerate(columns))
    found = [_component(list(parts), each) for parts, each in zip(columns, able, strict=True)]
    file, member = archive.split(root / members[0])
    packed = None if member is None else len(file.relative_to(root).parts) - 1
    told = (re.sub("!$", "[#!]", part) if at not in (packed, last) else part for at, part in enumerate(found))
    return "/".join(told)


def _literal(root: Path, name: str) -> str:
    return _generalised(root, [name], dates=False)


def _component(parts: list[str], dates: bool) -> str:
    if dates:
        parts = [DATED.sub("\0", part) for part in parts]
    if len(set(parts)) > 1:
        pieces = [re.split(r"(\d+)", part) for part in parts]
        if len({tuple(piece[::2]) for piece in pieces}) == 1:  # digits differ, letters do not
            merged = ["\0" if len(set(at)) > 1 else at[0] for at in zip(*pieces, strict=True)]
        else:
            head, tail = _common(parts), _common([part[::-1] for part in parts])[::-1]
            head = re.sub(r"[A-Za-z0-9]+$", "", head) if not head.endswith(tuple("-_. ")) else head
            tail = _suffix(parts[0]) if _suffix(parts[0]) == _suffix(parts[-1]) else tail
            merged = [head, "\0", tail]
        parts = ["".join(merged)]
    escaped = "*".join(glob.escape(piece) for piece in re.split("\0+(?:[-_.]?\0)*", parts[0]))
    return re.sub(r"\*[-_.]\*", "*", re.sub(r"\*+", "*", escaped))


def _common(parts: list[str]) -> str:
    first, last = min(parts), max(parts)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def _sampled(root: Path, pattern: str, members: list[str], broken: dict[str, str]) -> Group | None:
    """Sample the first, the middle and the last file (for period, zone and order), and note what is broken."""
    chosen = sorted({members[0], members[len(members) // 2], members[-1]}) if len(members) > _DEEP else members
    shape: Shape | None = None
    samples: dict[str, Table] = {}
    for name in chosen:
        try:
            found, samples[name] = read(root / name)
        except UnreadableError as error:
            broken[name] = str(error)
            continue
        shape = found if shape is None else _union(shape, found)
    if shape is None:
        return None
    return Group(pattern, tuple(members), shape, samples)


def _suffix(name: str) -> str:
    base = name.rsplit("/", 1)[-1]
    return base[len(stem(base)) :] if base.lower().endswith(SUFFIXES) else ""


def _depth(name: str) -> int:
    return name.count("/")


def _tells_machine(shape: Shape) -> bool:
    keys = {folded(name) for name in shape.columns}
    return bool(keys & (words.MACHINE | words.TAG | set(words.MACHINE_LATE)))


def _logs(name: str) -> bool:
    """Whether the file's own name tells a role: two logs with one header are two streams."""
    logs = (pieces for role, pieces in words.FILE_WORDS.items() if role != "readings")
    return any(piece in folded(stem(name)) for pieces in logs for piece in pieces)


def common_words(members: Iterable[str]) -> str:
    """The words of a stream's files that are the same in all, without dates: ``pumps``."""
    stems = [folded(DATED.sub(" ", stem(name))).split("_") for name in members]
    order = [word for word in stems[0] if word]
    return "_".join(dict.fromkeys(word for word in order if all(word in found for found in stems)))


def alone(root: Path, whole: Group) -> list[Group]:
    """The group's files as streams of one file each."""
    shape = {name: read(root / name) for name in whole.files}
    return [Group(_literal(root, name), (name,), found, {name: table}) for name, (found, table) in shape.items()]

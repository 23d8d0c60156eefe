"""One file a sensor: the file's name is the tag.

The one idea: a column that is called ``value`` says nothing, so what it holds must stand in the file's name;
only where those names speak of sensors, and do not name machines, are they taken for tags.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from jobs.infer import words
from jobs.infer.columns import Column
from jobs.infer.layout import DATED, Group
from jobs.infer.machines import in_tag
from jobs.infer.names import folded, sensor_of
from jobs.infer.roles import Fit
from jobs.infer.sampling import SUFFIXES, stem
from jobs.infer.tags import instrument


def told(group: Group, fit: Fit, columns: Mapping[str, Column], known: Collection[str]) -> Fit:
    """The fit, as long layout where each file of the group is one sensor."""
    if fit.long or fit.machine or len(fit.sensors) != 1:
        return fit
    value = columns[fit.sensors[0]]
    if group.shape.named and value.key not in words.VALUE:
        return fit
    names = {file: DATED.sub("", stem(file)).strip("-_. ") for file in group.files}
    tags = set(names.values())
    pattern = _pattern(group.files)
    if "" in tags or tags <= set(known) or not all(_tag(pattern, file) for file in group.files):
        return fit
    if sum(_speaks(tag) for tag in tags) < 0.5 * len(tags) and not (len(tags) > 1 and in_tag(tags, known)):
        return fit
    evidence = f"one sensor a file, such as {min(tags)!r}, its values in {value.name!r}"
    return replace(fit, sensors=(), value=value.name, tag_pattern=pattern, evidence=evidence)


def tags(group: Group, fit: Fit) -> dict[str, str]:
    """File -> tag."""
    found = {file: _tag(fit.tag_pattern, file) for file in group.files} if fit.tag_pattern else {}
    return {file: tag for file, tag in found.items() if tag}


def _tag(pattern: str, file: str) -> str | None:
    match = re.search(pattern, file)
    return match["tag"] if match else None


def _pattern(files: Collection[str]) -> str:
    used = "|".join(re.escape(suffix) for suffix in SUFFIXES if any(suffix in file.lower() for file in files))
    dated = any(DATED.search(stem(file)) for file in files)
    date = r"(?:[-_. ]*(?<!\d)(?:19|20)\d\d[-_.\dTWQZ]*)?" if dated else ""
    return rf"(?P<tag>[^/]+?){date}(?i:{used})*$" if used else rf"(?P<tag>[^/]+?){date}$"


def _speaks(tag: str) -> bool:
    """Whether a name is one of a sensor: an instrument's code, a unit, or what is measured."""
    if instrument(tag) or not sensor_of(tag).unknown_unit:
        return True
    return bool(set(re.sub(r"\d+", "", folded(tag)).split("_")) & words.MEASURED)

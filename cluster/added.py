"""Sensors that a plant's later files brought: columns that `connect` has not seen and nobody has described yet.

The one idea: they are read and served from the first day, under what their names tell, and every answer
says so until a person has put them into the source description.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import RootModel, ValidationError

from cluster.files import write_atomically
from cluster.home import Home
from models.errors import MillwrightError
from models.predict import Cause
from models.source import SensorColumn, SourceDescription

Added = dict[str, dict[str, SensorColumn]]  # stream -> raw column or tag -> sensor


class _File(RootModel[Added]):
    pass


def added(home: Home, plant: str) -> Added:
    """What no stream's description names, as `ingest` has read it."""
    path = home.of(plant).plans / "added.json"
    try:
        found = _File.model_validate_json(path.read_bytes()).root if path.is_file() else {}
    except ValidationError as error:
        raise MillwrightError(
            "Unreadable list of added sensors", expected="the file as ingest wrote it", found=error.errors()[0]["msg"],
            where=path, do=f"Delete it and run `millwright ingest --plant {plant}`",
        ) from error  # fmt: skip
    source = home.source(plant)
    described = {stream.name: stream.sensors for stream in source.streams}
    described |= {live.name: source.live_sensors for live in source.live}
    return {
        stream: own
        for stream, columns in found.items()
        if (own := {raw: column for raw, column in columns.items() if raw not in described.get(stream, {})})
    }


def keep(home: Home, plant: str, new: Mapping[str, Mapping[str, SensorColumn]]) -> None:
    """Adds to what is kept; the first reading of a column stays."""
    kept = added(home, plant)
    both = {name: {**new.get(name, {}), **kept.get(name, {})} for name in {*kept, *new}}
    if any(both.values()) and both != kept:
        write_atomically(home.of(plant).plans / "added.json", _File(both).model_dump_json(indent=1) + "\n")


def full_source(home: Home, plant: str) -> SourceDescription:
    """The plant's source description with the sensors that came later."""
    source, new = home.source(plant), added(home, plant)
    streams = [s.model_copy(update={"sensors": {**new.get(s.name, {}), **s.sensors}}) for s in source.streams]
    live = {raw: column for own in source.live for raw, column in new.get(own.name, {}).items()}
    return source.model_copy(update={"streams": tuple(streams), "live_sensors": {**live, **source.live_sensors}})


@dataclass(frozen=True)
class Change:
    """A column that came later, and what it means for a model that was trained before."""

    sensor: str
    renamed: bool
    text: str

    def concerns(self, known: Collection[str]) -> bool:
        """Whether a model of the sensors ``known`` is worth less for it."""
        return self.renamed or self.sensor not in known

    @property
    def code(self) -> str:
        return "renamed_sensor" if self.renamed else "new_sensor"


def changes(home: Home, plant: str) -> tuple[Change, ...]:
    """What has come since a person last looked at the source description."""
    described = set(home.source(plant).sensors())
    found = []
    for stream, columns in sorted(added(home, plant).items()):
        for raw, column in columns.items():
            renamed = column.sensor in described
            text = f"{raw} in the files of {stream} is read as {column.sensor}"
            found.append(Change(column.sensor, renamed, text + (", which had another name" if renamed else ", new")))
    return tuple(found)


def causes_of(found: Sequence[Change], known: Collection[str]) -> list[Cause]:
    """What predictions of a model of the sensors ``known`` say of it."""
    return [Cause(code=change.code, text=change.text) for change in found if change.concerns(known)]

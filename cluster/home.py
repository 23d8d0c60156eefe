"""A deployment's folder: configuration, sources, lake, registry, logs. The Python surface starts here.

``open_home(path)`` gives the same configuration and the same code as the command line.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.config import Origins, PlantSettings, Settings, load_settings
from cluster.places import Place, placed
from models.errors import InputError, NotFoundError
from models.source import SourceDescription, checked_name

if TYPE_CHECKING:
    import pyarrow as pa

MARK = "millwright.toml"  # a folder with this file is a home
DEFAULT = "./millwright-home"
_FIRST = "# Only what differs from the default. `millwright config` lists every setting.\n"


@dataclass(frozen=True)
class PlantPaths:
    """Where everything of one plant is; ``Home.of`` is the only way to it."""

    source: Path
    tables: Place
    plans: Path
    bundles: Place
    champion: Path
    dossiers: Path
    studies: Place
    state: Path
    cache: Path  # series for training, and bundles as they were fetched from an object store
    keys: str | None = None  # the name of what opens its places in an object store

    def make(self) -> None:
        """The folders that are not there yet, for their owner alone; what lies in them is as closed as they are."""
        for folder in (self.tables, self.plans, self.bundles, self.studies):
            if not isinstance(folder, Path):
                continue
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True)
class Home:
    """Paths of a deployment and its settings. Nothing here touches Ray, MLflow or torch.

    ``scope`` names the plants that this home knows (None: all); ``withheld`` is how the names of those
    environment variables begin that hold the secrets of others. Both come from ``only``.
    """

    path: Path
    settings: Settings
    origins: Origins
    scope: frozenset[str] | None = None
    withheld: tuple[str, ...] = ()

    @property
    def sources(self) -> Path:
        return self.path / "sources"  # <plant>.toml

    @property
    def lake(self) -> Place:
        return self._root / "lake"  # <plant>/<table>

    @property
    def artifacts(self) -> Place:
        """MLflow's files, for all plants; reached with the process's own keys."""
        if own := self.settings.registry.artifacts:
            return placed(own)
        return self._root / "artifacts" if self.settings.storage.root else self.registry / "artifacts"

    @property
    def _root(self) -> Place:
        return placed(self.settings.storage.root) if self.settings.storage.root else self.path

    @property
    def plans(self) -> Path:
        return self.path / "plans"  # <plant>/<batch>.json

    @property
    def registry(self) -> Path:
        return self.path / "registry"  # mlflow.db, bundles/<plant>/<version>, champions/<plant>.json, dossiers/<plant>

    @property
    def state(self) -> Path:
        return self.path / "state"  # plants/<plant>.sqlite: windows of the service; keys.sqlite

    @property
    def run(self) -> Path:
        return self.path / "run"  # what is running: <name>.json with pid, start time, ports

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def of(self, plant: str) -> PlantPaths:
        """Where everything of a plant is. Every path of a plant comes from here, so this is the only gate.

        Raises NotFoundError where this home is scoped to other plants, whether that plant exists or not.
        """
        name = checked_name(plant, "plant")
        if self.scope is not None and name not in self.scope:
            raise self._unknown(name)
        own, shared = self.settings.plants.get(name, PlantSettings()), self.settings.storage.root
        keys = own.credentials
        if keys and not keys.endswith("_"):
            keys = str(self.path / Path(keys).expanduser())
        lake, bundles, studies = (
            placed(own.root, keys) / kind if own.root
            else placed(shared, keys) / kind / name if shared
            else self.path / inside / name
            for kind, inside in (("lake", "lake"), ("bundles", "registry/bundles"), ("studies", "studies"))
        )  # fmt: skip
        return PlantPaths(
            source=self.sources / f"{name}.toml",
            tables=placed(own.lake, keys) if own.lake else lake,
            plans=self.plans / name,
            bundles=bundles,
            champion=self.registry / "champions" / f"{name}.json",
            dossiers=self.registry / "dossiers" / name,
            studies=studies,
            state=self.state / "plants" / f"{name}.sqlite",
            cache=self.path / "cache" / name,
            keys=keys,
        )

    def only(self, *plants: str) -> Home:
        """This home with these plants alone: every other is as if it did not exist. Never widens a scope."""
        for plant in plants:
            self.of(plant)
        kept = {name: own for name, own in self.settings.plants.items() if name in plants}
        others = [own.credentials for name, own in self.settings.plants.items() if name not in plants]
        hidden = tuple(f"plants.{name}." for name in self.settings.plants if name not in plants)
        return replace(
            self, scope=frozenset(plants), settings=self.settings.model_copy(update={"plants": kept}),
            origins={key: origin for key, origin in self.origins.items() if not key.startswith(hidden)},
            withheld=(*self.withheld, *(text for text in others if text and text.endswith("_"))),
        )  # fmt: skip

    def table(self, plant: str, name: str) -> Place:
        return self.of(plant).tables / name

    def plants(self) -> list[str]:
        """Plants that are connected, sorted."""
        connected = sorted(p.stem for p in self.sources.glob("*.toml"))
        return [name for name in connected if self.scope is None or name in self.scope]

    def source(self, plant: str) -> SourceDescription:
        """The plant's source description. Raises NotFoundError, or InputError where it is malformed."""
        from cluster.sources import read_source  # tomllib and pint only when asked

        path = self.of(plant).source
        if not path.is_file():
            raise self._unknown(plant)
        found = read_source(path)
        if found.plant != plant:
            raise InputError(
                "Wrong source description at 'plant'", expected=f"{plant!r}, as the file is named",
                found=repr(found.plant), where=path, do="Correct that key, or rename the file",
            )  # fmt: skip
        return found

    def _unknown(self, plant: str) -> NotFoundError:
        known = ", ".join(self.plants()) or "none yet"
        return NotFoundError(
            "Unknown plant", expected=f"a connected plant ({known})", found=repr(plant), where=self.path,
            do=f"Run `millwright connect PATH --plant {plant}`",
        )  # fmt: skip

    def launch(self, verb: str, **options: Any) -> Any:
        """Run a verb as the command line would and return its report."""
        from cluster.verbs import target

        return target(verb)(self, **options)

    def events(self, plant: str, as_of: str | datetime | None = None) -> pa.Table:
        """The plant's events, every kind, in the order of ``started_at``.

        ``as_of`` an earlier version: a batch's id, a time, or a data version such as a bundle names.
        """
        from cluster.storage import read_events

        return read_events(self, plant, as_of=as_of)

    def readings(self, plant: str, as_of: str | datetime | None = None) -> Any:
        """A Ray dataset over every reading of the plant, now or ``as_of`` an earlier version.

        Starts a quiet Ray for this process where none is up.
        """
        _job("cluster.session", "keep_ray")(self)
        return _job("jobs.dataset", "readings_dataset")(self, plant, as_of)

    def windows(self, plant: str) -> Any:
        """A Ray dataset of gridded series, one row a machine: ``machine``, ``first_tick``, ``values``."""
        _job("cluster.session", "keep_ray")(self)
        return _job("jobs.dataset", "series_dataset")(self, plant)

    def studies(self, plant: str) -> Any:
        """The plant's trials as a pandas frame, newest study first."""
        return _job("cluster.registry", "studies")(self, plant)

    def score(self, plant: str, frame: Any) -> Any:
        """Predictions for a frame of readings with columns ``machine``, ``time`` and sensors."""
        return _job("jobs.score", "score_frame")(self, plant, frame)


def _job(module: str, function: str) -> Any:
    # By name, as the verb table does: `cluster` never imports `jobs`, and `session` imports this module.
    return getattr(importlib.import_module(module), function)


def resolve(path: str | os.PathLike[str] | None, environment: Mapping[str, str] = os.environ) -> Path:
    return Path(path or environment.get("MILLWRIGHT_HOME") or DEFAULT).expanduser().resolve()


def open_home(
    path: str | os.PathLike[str] | None = None,
    *,
    create: bool = False,
    profile: str | None = None,
    assignments: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Home:
    """Open a home; with ``create`` a missing or empty folder becomes one.

    Raises InputError where the folder holds something else, NotFoundError where there is none.
    """
    where = resolve(path, environment)
    if not (where / MARK).is_file():
        _make(where, create)
    settings, origins = load_settings(
        home_file=where / MARK, profile=profile, environment=environment, assignments=assignments
    )
    home = Home(where, settings, origins)
    _check_roots(home)
    return home


def _check_roots(home: Home) -> None:
    """A plant's own root lies outside the home and outside every other's: what is inside is another's too."""
    roots = [
        (name, key, placed(text).resolve())
        for name, own in home.settings.plants.items() for key in ("root", "lake") if (text := getattr(own, key))
    ]  # fmt: skip
    shared = [home.path, *([placed(home.settings.storage.root).resolve()] if home.settings.storage.root else [])]
    for name, key, root in roots:
        around = [other for owner, _, other in roots if owner != name] + shared
        if inside := next((other for other in around if _is_inside(root, other)), None):
            raise InputError(
                f"Wrong setting 'plants.{name}.{key}'", expected="a folder of this plant alone", found=str(root),
                where=inside, do="Choose a folder outside the home and outside other plants' folders",
            )  # fmt: skip


def _is_inside(place: Place, other: Place) -> bool:
    return type(place) is type(other) and place.is_relative_to(other)  # type: ignore[arg-type]


def _make(where: Path, create: bool) -> None:
    if where.exists() and not where.is_dir():
        raise InputError("Not a home", expected="a folder", found="a file", where=where, do="Choose another --home")
    contents = _names(where) if where.is_dir() else []
    if contents:
        raise InputError(
            "Not a Millwright home", expected=f"an empty folder or one with {MARK}",
            found=f"a folder that holds {', '.join(contents[:3])}", where=where, do="Choose another --home",
        )  # fmt: skip
    if not create:
        raise NotFoundError(
            "No home here", expected=f"a folder with {MARK}", found="nothing", where=where,
            do="Name one with --home or MILLWRIGHT_HOME, or make one with `millwright connect` or `millwright demo`",
        )  # fmt: skip
    try:
        where.mkdir(parents=True, exist_ok=True)
        (where / MARK).write_text(_FIRST, "utf-8")
    except OSError as error:
        raise InputError(
            "Cannot make a home", expected="a writable folder", found=error.strerror, where=where,
            do="Choose another --home",
        ) from error  # fmt: skip


def _names(folder: Path) -> list[str]:
    found: Iterable[str] = (p.name for p in folder.iterdir())
    return sorted(found)

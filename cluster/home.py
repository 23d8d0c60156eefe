"""A deployment's folder: configuration, sources, lake, registry, logs. The Python surface starts here.

``open_home(path)`` gives the same configuration and the same code as the command line.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.config import Origins, PlantSettings, Settings, load_settings
from cluster.opening import MARK, check_roots, make_home
from cluster.places import Place, placed
from models.errors import InputError, NotFoundError
from models.source import SourceDescription, checked_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["DEFAULT", "MARK", "Home", "PlantPaths", "open_home", "resolve"]

Moment = str | datetime  # ISO 8601 as text; UTC where it names no zone
DEFAULT = "./millwright-home"


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
        """Run a verb as the command line would and return its report; its fields are those of ``--json``.

        ``options`` are the command line's, with ``_`` for ``-``; silent, unless ``progress`` is given. Raises
        InputError for a verb or an option that there is not.
        """
        from cluster.verbs import target

        return target(verb)(self, **options)

    def events(self, plant: str, as_of: Moment | None = None) -> pa.Table:
        """The plant's events as an Arrow table, every ``kind`` (failure, maintenance, error), by ``started_at``.

        ``as_of`` an earlier version: a batch's id, a time, or a data version such as a bundle names.
        """
        from cluster.storage import read_events

        self.source(plant)
        return read_events(self, plant, as_of=as_of)

    def readings(
        self, plant: str, as_of: Moment | None = None, *, machines: str | Sequence[str] | None = None,
        since: Moment | None = None, until: Moment | None = None,
    ) -> Any:  # fmt: skip
        """The plant's readings: ``machine``, ``time`` (UTC) and a float32 column a sensor, in canonical units.

        All are a Ray dataset, with the columns that ingest adds; it starts a quiet Ray where none is up. A part, by
        ``machines`` or times from ``since`` to ``until`` (both included), is an Arrow table. Both have ``to_pandas()``.
        """
        self.source(plant)
        if machines is None and since is None and until is None:
            _job("cluster.session", "keep_ray")(self)
            return _job("jobs.dataset", "readings_dataset")(self, plant, as_of)
        return _job("jobs.frames", "readings_part")(
            self, plant, machines=machines, since=since, until=until, as_of=as_of
        )

    def windows(self, plant: str, *, machines: str | Sequence[str] | None = None) -> Any:
        """What models see: a row a machine and tick of the plant's clock, ``time`` the tick's end (UTC).

        One float32 column a channel: sensors carried forward as in a window, then context such as time since service
        (in the clock's life unit); NaN where nothing is known. A model's window of W steps is W such rows. All machines
        are a Ray dataset, those of ``machines`` an Arrow table; either has ``to_pandas()``.
        """
        self.source(plant)
        if machines is not None:
            return _job("jobs.frames", "grid_table")(self, plant, machines)
        _job("cluster.session", "keep_ray")(self)
        return _job("jobs.frames", "grid_dataset")(self, plant)

    def studies(self, plant: str) -> pd.DataFrame:
        """The plant's trials, newest first, one a row: ``study_id`` (as below ``studies/``), trial, status, settings
        and last metrics. ``best_loss`` is the negative log-likelihood a tick on later time: lower is better.
        """
        self.source(plant)
        found: pd.DataFrame = _job("cluster.registry", "studies")(self, plant)
        return found

    def candidates(self, plant: str) -> pd.DataFrame:
        """What the plant's last study ended with, best first: the network beside its baselines, one a row.

        ``log_likelihood`` is the mean a tick on later time, calibrated: higher is better. ``champion`` answers now;
        ``promote`` takes another ``version``. Raises NotFoundError before there is a study.
        """
        self.source(plant)
        found: pd.DataFrame = _job("jobs.frames", "candidates_frame")(self, plant)
        return found

    def score(self, plant: str, frame: pd.DataFrame, *, since: Moment | None = None) -> pd.DataFrame:
        """What the plant's champion says of readings: a row a machine, or every tick that ends after ``since``.

        ``frame`` has columns ``machine``, ``time`` (UTC where it names no zone) and sensors in canonical units, as
        ``readings`` gives them. Columns are the served answer's, nested ones with a dot: ``failure_probability.48h``
        (0 to 1), ``remaining_useful_life.p10`` (in ``remaining_useful_life.unit``; past the last edge it is that edge,
        and ``.beyond`` names it), ``degraded`` (codes of what makes the answer worth less). Nothing is journalled.
        """
        found: pd.DataFrame = _job("jobs.scoring.frames", "score_frame")(self, plant, frame, since)
        return found

    def reasons(self, plant: str, frame: pd.DataFrame, *, since: Moment | None = None) -> pd.DataFrame:
        """Why ``score`` says so, as the service does: a row a machine, tick and channel, the largest part first.

        Contributions sum to ``risk - usual_risk``, within the alarm's horizon. ``value`` and ``usual`` are in ``unit``.
        """
        found: pd.DataFrame = _job("jobs.scoring.frames", "reasons_frame")(self, plant, frame, since)
        return found


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
        make_home(where, create)
    settings, origins = load_settings(
        home_file=where / MARK, profile=profile, environment=environment, assignments=assignments
    )
    home = Home(where, settings, origins)
    check_roots(path=home.path, settings=home.settings)
    return home

"""Settings of a deployment: where and how Millwright runs. ``models/config.py`` says what a model is.

Precedence, lowest first: default, profile, the home's ``millwright.toml``, environment
(``MILLWRIGHT__SERVE__PORT``), ``--set serve.port=9000``. ``explain`` says which one won.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from cluster.serving import ServeSettings
from cluster.stores import URL
from models.config import Frozen, ModelConfig
from models.errors import InputError
from models.ruling import GateConfig
from models.source import checked_name

ENVIRONMENT_PREFIX = "MILLWRIGHT__"
_CREDENTIALS = re.compile(r"(?!MILLWRIGHT_|RAY_)[A-Za-z][A-Za-z0-9_]*_\Z|.*[/.].*[^_]\Z")


def _checked_place(key: str, value: str | None) -> str | None:
    if value is not None and not value.startswith(("/", "~/")) and not URL.match(value):
        raise ValueError(f"{key} an absolute folder, or a URL such as s3://bucket/path (without keys)")
    return value


class RaySettings(Frozen):
    address: str | None = None  # None: a local cluster of this process
    num_cpus: int | None = Field(None, ge=1)
    object_store_mb: int = Field(512, ge=80)
    token_path: str | None = None  # file with Ray's token (0600); needed beyond loopback


class TuneSettings(Frozen):
    trials: int | None = Field(None, ge=1)  # configurations tried a plant; None: as it is, from scratch and the fleet
    concurrent: int | None = Field(None, ge=1)  # trials at once over all plants; None: as many as there is room for
    batch: int | None = Field(None, ge=1)  # trials of a plant that wait for none of each other; None: 2, or a quarter
    gpu_per_trial: float = Field(0.0, ge=0)  # a share of a GPU, and of its memory
    seed: int = 0
    fleet: bool = True  # train one network over all plants first, which each may start from
    fleet_workers: int = Field(1, ge=1)  # that share its training, a core each, and a GPU each where trials have one


class SplitSettings(Frozen):
    """Shares of time, then of machines. Later time and unseen machines are the test part."""

    train_until: float = Field(0.6, gt=0, lt=1)
    validate_until: float = Field(0.75, gt=0, lt=1)
    unseen_machines: float = Field(0.2, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _in_order(self) -> SplitSettings:
        if self.train_until >= self.validate_until:
            raise ValueError(f"train_until below validate_until ({self.validate_until:g})")
        return self


class HistorySettings(Frozen):
    """Gridded series that training maps from ``HOME/cache``: what was used least goes first beyond ``cache_gb``."""

    cache_gb: float = Field(50.0, gt=0)


class TimeSettings(Frozen):
    """Answers to ``connect``'s doubts about time."""

    zone: str | None = None
    step: float | None = Field(None, gt=0)
    dayfirst: bool | None = None


class FollowSettings(Frozen):
    """Live streams: a batch every ``batch_s``, or sooner where ``batch_messages`` have come."""

    batch_s: float = Field(1.5, gt=0, le=60)
    batch_messages: int = Field(5_000, ge=1, le=200_000)
    spool_mb: int = Field(1024, ge=1)  # messages that may wait on disk; beyond it none is acknowledged


class RegistrySettings(Frozen):
    uri: str | None = None  # None: SQLite in the home
    allowed_networks: tuple[str, ...] = ()  # import paths whose code may be trained, and run from a bundle
    artifacts: str | None = None  # where MLflow keeps files; None: below storage.root, or in the home


class StorageSettings(Frozen):
    """Where what grows is: tables, bundles, studies and artifacts. All else stays in the home."""

    root: str | None = None  # s3://, gs:// or abfs://, or an absolute folder; None: the home

    @field_validator("root")
    @classmethod
    def _place(cls, root: str | None) -> str | None:
        return _checked_place("root", root)


class LineageSettings(Frozen):
    """OpenLineage events of every run; with ``url`` to a receiver over HTTP, else to files in the home."""

    enabled: bool = True
    url: str | None = Field(None, pattern=r"^https?://[^@]+$")  # its key comes from MILLWRIGHT_LINEAGE_KEY
    namespace: str = Field("millwright", min_length=1)


class PlantSettings(Frozen):
    """What belongs to one plant alone: who answers for it, where its tables are, which secrets it may use.

    ``credentials`` is the beginning of the names of environment variables (``HARBOR_``, ending with ``_``), or
    a file of ``NAME=value`` lines that its owner alone can read; the secrets themselves are never in here.
    """

    owner: str | None = None
    lake: str | None = None  # its tables alone; None: below its root
    credentials: str | None = None
    root: str | None = None  # its lake, bundles and studies; None: below storage.root

    @model_validator(mode="after")
    def _places(self) -> PlantSettings:
        _checked_place("root", self.root)
        _checked_place("lake", self.lake)
        if self.credentials is not None and not _CREDENTIALS.match(self.credentials):
            raise ValueError("credentials a prefix of variables such as HARBOR_, or a file such as secrets/harbor.env")
        return self


class Settings(Frozen):
    serve: ServeSettings = ServeSettings()
    ray: RaySettings = RaySettings()
    tune: TuneSettings = TuneSettings()
    split: SplitSettings = SplitSettings()
    history: HistorySettings = HistorySettings()
    time: TimeSettings = TimeSettings()
    follow: FollowSettings = FollowSettings()
    registry: RegistrySettings = RegistrySettings()
    promote: GateConfig = GateConfig()
    storage: StorageSettings = StorageSettings()
    lineage: LineageSettings = LineageSettings()
    model: ModelConfig = ModelConfig()
    plants: dict[str, PlantSettings] = {}

    @field_validator("plants")
    @classmethod
    def _apart(cls, plants: dict[str, PlantSettings]) -> dict[str, PlantSettings]:
        for name in plants:
            checked_name(name, "plant")
        for key in ("root", "lake", "credentials"):
            values = [value for own in plants.values() if (value := getattr(own, key)) is not None]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{key} of its own for each plant; {twice[0]!r} comes twice")
        return plants


Origins = dict[str, str]  # dotted key -> where its value came from


def load_settings(
    *,
    home_file: Path | None = None,
    profile: str | None = None,
    environment: Mapping[str, str] = os.environ,
    assignments: Sequence[str] = (),
) -> tuple[Settings, Origins]:
    """Merge every layer. Raises InputError naming the key, what was expected and where it came from."""
    merged, origins = dict[str, Any](), Origins()
    layers: list[tuple[str, dict[str, Any]]] = [(f"profile {profile}", _profile(profile))] if profile else []
    if home_file is not None and home_file.is_file():
        layers.append((str(home_file), _toml(home_file)))
    layers += [("the environment", _from_environment(environment)), ("--set", _from_assignments(assignments))]
    for origin, layer in layers:
        for key, value in _leaves(layer):
            _put(merged, key, value)
            origins[".".join(key)] = origin
    try:
        # `strict=False`: environment and --set bring text; pydantic parses it by the field's type.
        return Settings.model_validate(merged), origins
    except ValidationError as error:
        raise _wrong(error.errors()[0], origins) from error


def _wrong(error: ErrorDetails, origins: Origins) -> InputError:
    name = ".".join(str(part) for part in error["loc"])
    given = next((key for key in reversed(origins) if key == name or key.startswith(f"{name}.")), None)
    expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "extra_forbidden":
        known = _keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
        expected = f"{near[0]!r}, or another of {', '.join(known)}" if near else f"one of {', '.join(known)}"
    elif error["type"] == "model_type":
        expected = f"a section with {', '.join(_keys(error['loc']))}"
    return InputError(
        f"Wrong setting {name!r}", expected=expected, found=repr(error.get("input")),
        where=origins[given] if given else "the configuration", do="`millwright config` lists every setting",
    )  # fmt: skip


def _keys(section: tuple[int | str, ...]) -> list[str]:
    """The settings in a section."""
    found: type[BaseModel] = PlantSettings if section[:1] == ("plants",) and len(section) == 2 else Settings
    for part in () if found is PlantSettings else section:
        inner = found.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        found = inner
    return list(found.model_fields)


def flatten(settings: Settings) -> dict[str, Any]:
    """Dotted key -> value, every setting."""
    return {".".join(key): value for key, value in _leaves(settings.model_dump(mode="json"))}


def _leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value and key not in ("horizons",):
            found += _leaves(value, (*prefix, key))
        else:
            found.append(((*prefix, key), value))
    return found


def _put(tree: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        nested = tree.setdefault(part, {})
        if not isinstance(nested, dict):
            raise InputError(f"Wrong setting {'.'.join(key)!r}", expected="a key of a section", found=repr(nested))
        tree = nested
    tree[key[-1]] = value


def _profile(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise InputError("No such profile", expected="a TOML file", found=str(path), do="Check the path")
        return _toml(path)
    profiles = resources.files("cluster") / "profiles"
    packaged = profiles / f"{name}.toml"
    if not packaged.is_file():
        known = sorted(p.name[:-5] for p in profiles.iterdir() if p.name.endswith(".toml"))
        raise InputError("No such profile", expected=f"one of {', '.join(known)} or a .toml file", found=repr(name))
    return tomllib.loads(packaged.read_text("utf-8"))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            "Unreadable configuration", expected="TOML", found=str(error), where=path, do="Correct that line"
        ) from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            _put(tree, tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__")), _value(text))
    return tree


def _from_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError("Wrong --set", expected="key=value such as serve.port=9000", found=repr(text))
        _put(tree, tuple(key.strip().split(".")), _value(value))
    return tree


def _value(text: str) -> Any:
    """JSON where it is JSON (lists, tables), else the text itself, which pydantic parses by type."""
    if text[:1] in "[{" or text == "null":
        try:
            return TypeAdapter(Any).validate_json(text)
        except ValidationError:
            return text
    return text

"""What a study searches, as data: a TOML file of settings, their ranges, and when they exist.

The one idea: a file says which settings of ``NetworkConfig`` are drawn and from where; everything in it is checked
against that model's own types and bounds before a trial begins, so an option is added without touching code.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from models.config import Frozen, NetworkConfig
from models.errors import InputError

FILE = "space.toml"  # a home's own
_FIELDS = NetworkConfig.model_fields
_SEARCHED = tuple(name for name in _FIELDS if name not in ("ignore", "folds"))
_DO = "Correct that line of the search space"
Value = bool | int | float | str
Params = dict[str, Any]  # what was drawn, by the name of its variant


class _Option(Frozen):
    when: dict[str, Value | tuple[Value, ...]] = {}

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether the settings chosen so far are those that it exists for."""
        wanted = {key: value if isinstance(value, tuple) else (value,) for key, value in self.when.items()}
        return all(settings[key] in values for key, values in wanted.items())


class _Range(_Option):
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> _Range:
        low, high, step = (getattr(self, name) for name in ("low", "high", "step"))
        if low > high:
            raise ValueError(f"low {low:g} at most high {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"low above 0 where log is true, not {low:g}")
        if self.log and step is not None:
            raise ValueError("no step where log is true")
        return self


class Integers(_Range):
    type: Literal["int"]
    low: int
    high: int
    step: int | None = Field(None, ge=1)


class Floats(_Range):
    type: Literal["float"]
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    step: float | None = Field(None, gt=0)


class Choices(_Option):
    type: Literal["categorical"]
    choices: tuple[Value, ...] = Field(min_length=1)


class Fixed(_Option):
    type: Literal["fixed"]
    value: Value


Option = Annotated[Integers | Floats | Choices | Fixed, Field(discriminator="type")]


@dataclass(frozen=True)
class Space:
    """``options`` [name -> its variants, of which the first whose ``when`` holds counts], in the order of drawing."""

    options: dict[str, tuple[Any, ...]]
    where: str

    def draw(self, trial: Any, default: NetworkConfig) -> dict[str, Any]:
        """The settings of a trial, by Optuna's ``trial.suggest_...``, over the deployment's own configuration."""
        settings = default.model_dump()
        chosen: dict[str, Any] = {}
        for name, variants in self.options.items():
            value = _FIELDS[name].default  # what exists only for another choice keeps no value of the deployment
            for number, option in enumerate(variants):
                if option.holds(settings):
                    value = _suggest(trial, label(name, number), option)
                    break
            settings[name] = chosen[name] = value
        return chosen

    def names(self) -> list[str]:
        """The networks that it may choose."""
        found = [value for option in self.options.get("name", ()) for _, value in _values(option)]
        return [str(value) for value in found]

    def distribution(self, key: str) -> Any:
        """Optuna's distribution of what was drawn as ``key``."""
        name, _, number = key.partition("#")
        return _distribution(self.options[name][int(number or 0)])

    def digest(self) -> str:
        found = {name: [option.model_dump(mode="json") for option in v] for name, v in self.options.items()}
        return hashlib.sha256(json.dumps(list(found.items())).encode()).hexdigest()


def label(name: str, number: int) -> str:
    """The name of a setting's variant; the first is the setting's own."""
    return f"{name}#{number}" if number else name


def find_space(home: Path, given: str | Mapping[str, Any] | None) -> tuple[str, str]:
    """The text of a search space, and where it is: ``given``, which is tables, a file or a shipped one's name; else
    the home's, or the default.
    """
    if isinstance(given, Mapping):
        return _written(given), "the space that was given"
    shipped = resources.files("jobs.tuning") / "spaces"
    if given is not None and not given.endswith(".toml"):
        known = sorted(path.name.removesuffix(".toml") for path in shipped.iterdir() if path.name.endswith(".toml"))
        if given not in known:
            expected = f"one of {', '.join(known)}, or a .toml file"
            raise InputError("No such search space", expected=expected, found=repr(given))
    elif given is not None or (home / FILE).is_file():
        path = home / FILE if given is None else Path(given)
        if not path.is_file():
            raise InputError("No such search space", expected="a TOML file", found=str(path), do="Check the path")
        try:
            return path.read_text("utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise InputError("Unreadable search space", expected="UTF-8", found=str(error), where=path) from error
    name = f"{given or 'default'}.toml"
    return (shipped / name).read_text("utf-8"), f"jobs/tuning/spaces/{name}"


def _written(tables: Mapping[str, Any]) -> str:
    """Tables of a notebook as the file would have them: one way to be checked."""
    import tomlkit

    try:
        return tomlkit.dumps({key: dict(t) if isinstance(t, Mapping) else t for key, t in tables.items()})
    except Exception as error:  # tomlkit names no error for what TOML has no word for
        raise InputError(
            "Unreadable search space", expected="tables of numbers, text and lists", found=str(error), do=_DO
        ) from error  # fmt: skip


def parse_space(text: str, where: str, default: NetworkConfig) -> Space:
    """The space, checked against ``NetworkConfig``. Raises InputError naming file, key, expected and found."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError("Unreadable search space", expected="TOML", found=str(error), where=where, do=_DO) from error
    parsed: dict[str, tuple[Any, ...]] = {}
    for name, table in tables.items():
        if name not in _SEARCHED:
            near = difflib.get_close_matches(name, _SEARCHED, 1)
            others = ", ".join(_SEARCHED)
            expected = f"{near[0]!r}, or another of {others}" if near else f"one of {others}"
            raise _wrong(where, name, expected, "no such setting of a network")
        variants = table if isinstance(table, list) else [table]
        parsed[name] = tuple(_option(where, label(name, number), item) for number, item in enumerate(variants))
    if not parsed:
        expected = "a table such as [hidden]"
        raise InputError("An empty search space", expected=expected, found="none", where=where, do=_DO)
    space = Space({name: parsed[name] for name in _order(parsed, where)}, where)
    _require_configurations(space, default)
    return space


def _option(where: str, key: str, table: Any) -> Any:
    name = key.partition("#")[0]
    try:
        option = TypeAdapter(Option).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        inside = ".".join(str(part) for part in first["loc"] if part not in ("int", "float", "categorical", "fixed"))
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise _wrong(where, f"{key}.{inside}".rstrip("."), expected, repr(first.get("input"))) from error
    for place, value in _values(option):
        _check(where, f"{key}.{place}", name, value)
    for other, values in option.when.items():
        if other not in _FIELDS or other == name:
            raise _wrong(where, f"{key}.when", "another setting of a network", other)
        for value in values if isinstance(values, tuple) else (values,):
            _check(where, f"{key}.when.{other}", other, value)
    return option


def _values(option: Any) -> list[tuple[str, Any]]:
    if isinstance(option, Fixed):
        return [("value", option.value)]
    if isinstance(option, Choices):
        return [(f"choices[{number}]", value) for number, value in enumerate(option.choices)]
    return [("low", option.low), ("high", option.high)]


def _check(where: str, key: str, name: str, value: Any) -> None:
    """One value against the type and the bounds of a setting."""
    field = _FIELDS[name]
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        adapter.validate_python(value, strict=not (field.annotation is float and type(value) is int))
    except ValidationError as error:
        raise _wrong(where, key, error.errors()[0]["msg"].removeprefix("Input should be "), repr(value)) from error


def _order(parsed: Mapping[str, tuple[Any, ...]], where: str) -> list[str]:
    """Settings after those that their conditions ask for."""
    needs = {name: {key for option in v for key in option.when} & parsed.keys() for name, v in parsed.items()}
    done: list[str] = []
    while len(done) < len(needs):
        ready = [name for name in needs if name not in done and needs[name] <= set(done)]
        if not ready:
            circle = sorted(set(needs) - set(done))
            raise _wrong(where, circle[0], "conditions without a circle", f"a circle of {', '.join(circle)}")
        done += ready
    return done


def _require_configurations(space: Space, default: NetworkConfig, draws: int = 64) -> None:
    """Settings that hold each on its own may not hold together: some draws are tried."""
    import optuna

    sampler = optuna.samplers.RandomSampler(seed=0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    for _ in range(draws):
        chosen = space.draw(study.ask(), default)
        try:
            NetworkConfig.model_validate(default.model_dump() | chosen)
        except ValidationError as error:
            told = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise _wrong(space.where, ", ".join(chosen), "draws that are configurations", told) from error


def _suggest(trial: Any, key: str, option: Any) -> Any:
    if isinstance(option, Fixed):
        return option.value
    if isinstance(option, Choices):
        return trial.suggest_categorical(key, option.choices)
    if isinstance(option, Integers):
        return trial.suggest_int(key, option.low, option.high, step=option.step or 1, log=option.log)
    return trial.suggest_float(key, option.low, option.high, step=option.step, log=option.log)


def _distribution(option: Any) -> Any:
    from optuna import distributions

    if isinstance(option, Choices):
        return distributions.CategoricalDistribution(option.choices)
    if isinstance(option, Integers):
        return distributions.IntDistribution(option.low, option.high, step=option.step or 1, log=option.log)
    return distributions.FloatDistribution(option.low, option.high, step=option.step, log=option.log)


def _wrong(where: str, key: str, expected: str, found: str) -> InputError:
    return InputError(f"Wrong search space at {key!r}", expected=expected, found=found, where=where, do=_DO)

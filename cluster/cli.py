"""The command line: one function a verb, whose signature is the verb's options and nothing else.

The one idea: ``_verb`` turns a signature into a command. It adds what every verb takes (``--home``,
``--profile``, ``--set``, ``--json``) and hands the rest, by name, to the job of the table in
``cluster/verbs.py``; a test compares the names with the job's own.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cluster.invocation import Common, complain, invoke
from cluster.report import code_version
from cluster.verbs import VERBS
from models.errors import InputError

app = typer.Typer(
    name="millwright",
    help="From raw plant files to served predictions of failures and remaining life.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The deployment's folder. [MILLWRIGHT_HOME, then ./millwright-home]")
]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="`local`, `cluster` or a TOML file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; repeatable.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")]

PlantOption = Annotated[str | None, typer.Option(help="One plant. [all]")]
PlantsOption = Annotated[str, typer.Option(help="Plants, comma-separated, or `all`.")]
SeedOption = Annotated[int, typer.Option(help="Seed of every random choice.")]
MachinesOption = Annotated[int, typer.Option(min=1, help="Machines a plant.")]
TrialsOption = Annotated[int | None, typer.Option(min=1, help="Configurations tried a plant. [tune.trials]")]
DaysOption = Annotated[int, typer.Option(min=1, help="Days of history.")]


def _common(
    home: HomeOption = None, profile: ProfileOption = None, assignments: SetOption = None, as_json: JsonOption = False
) -> Common:  # fmt: skip
    return Common(home, profile, tuple(assignments or ()), as_json)


_COMMON = inspect.signature(_common, eval_str=True).parameters


def _verb(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose parameters are the function's own, then those that every verb takes."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True).parameters

        @functools.wraps(function)
        def command(**given: Any) -> None:
            common = _common(**{key: given.pop(key) for key in _COMMON})
            options = {key: value for key, value in given.items() if value is not None}  # else the job's own default
            raise typer.Exit(invoke(name, common, options))

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own.values(), *_COMMON.values())]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, help=VERBS[name].help)(command)
        return function

    return register


@_verb("demo")
def demo(
    machines: MachinesOption = 40, days: DaysOption = 210, seed: SeedOption = 0,
    trials: TrialsOption = None,
) -> None: ...  # fmt: skip


@_verb("simulate")
def simulate(
    out: Annotated[Path, typer.Option(help="Where the raw files go, one folder a plant.")],
    machines: MachinesOption = 40, days: DaysOption = 210, seed: SeedOption = 0,
) -> None: ...  # fmt: skip


@_verb("connect")
def connect(
    path: Annotated[Path, typer.Argument(help="The plant's folder of raw files.")],
    plant: Annotated[str, typer.Option(help="The name it gets.")],
    force: Annotated[bool, typer.Option("--force", help="Replace its source description.")] = False,
) -> None: ...


@_verb("ingest")
def ingest(
    plant: PlantOption = None,
    accept: Annotated[str | None, typer.Option(help="A held batch that is to go into history as it is.")] = None,
) -> None: ...


@_verb("follow")
def follow(
    plant: PlantOption = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="How long. [until Ctrl-C]")] = None,
) -> None: ...


@_verb("quality")
def quality(
    plant: PlantOption = None,
    batch: Annotated[str | None, typer.Option(help="One batch. [all]")] = None,
    html: Annotated[Path | None, typer.Option(help="Where the page goes. [reports/quality.html in the home]")] = None,
) -> None: ...


@_verb("labels")
def labels(plants: PlantsOption = "all", plant: PlantOption = None) -> None: ...


@_verb("history")
def history(
    action: Annotated[
        Literal["list", "show", "diff", "row", "compact", "retain"],
        typer.Argument(help="list, show BATCH, diff A B, row, compact, or retain."),
    ] = "list",
    first: Annotated[str | None, typer.Argument(metavar="VERSION", help="A batch, a time, or readings/TYPE@N.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="VERSION", help="For `diff`: the other version.")] = None,
    *,
    plant: PlantOption = None,
    machine: Annotated[str | None, typer.Option(help="For `row`: whose reading.")] = None,
    time: Annotated[str | None, typer.Option(help="For `row`: its time, ISO, UTC where it says nothing.")] = None,
    as_of: Annotated[str | None, typer.Option(help="For `row`: the version to look in. [the newest]")] = None,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="For `retain`: versions so young stay readable.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="For `retain`: only say what would go.")] = False,
) -> None: ...


@_verb("tune")
def tune(
    plants: PlantsOption = "all",
    trials: TrialsOption = None,
    *,
    budget: Annotated[str | None, typer.Option(help="How long in all: 90s, 30m, 2h. [no limit]")] = None,
    space: Annotated[
        str | None, typer.Option(help="What is searched: FILE.toml, or `architectures`. [space.toml in the home]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice. [tune.seed]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Only go on with what was begun, never begin anew.")] = False,
) -> None: ...


@_verb("train")
def train(plants: PlantsOption = "all", seed: SeedOption = 0) -> None: ...


@_verb("evaluate")
def evaluate(
    plants: PlantsOption = "all",
    truth: Annotated[Path | None, typer.Option(help="A simulated fleet's folder, for the oracle beside it.")] = None,
    *,
    unseen: Annotated[bool, typer.Option("--unseen", help="Also as if each plant were new to the fleet.")] = False,
) -> None: ...


@_verb("promote")
def promote(
    plant: Annotated[str, typer.Option(help="The plant.")],
    version: Annotated[str, typer.Option(help="The version of a bundle in the registry.")],
    reason: Annotated[str | None, typer.Option(help="Why; kept with the version. [what the gate found]")] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --reason.")] = False,
) -> None: ...


@_verb("challenge")
def challenge(
    plant: Annotated[str, typer.Option(help="The plant.")],
    version: Annotated[str | None, typer.Option(help="The version of a bundle in the registry.")] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the machines that it answers for; 0: shadow.")] = 0.0,
    end: Annotated[bool, typer.Option("--end", help="End the trial.")] = False,
) -> None: ...


@_verb("rollback")
def rollback(
    plant: Annotated[str, typer.Option(help="The plant.")],
    reason: Annotated[str | None, typer.Option(help="Why; kept in the dossier.")] = None,
) -> None: ...


@_verb("benchmark")
def benchmark(
    name: Annotated[str, typer.Argument(help="`cmapss`, `azure`; `fleet` and `unseen`, which are simulated.")],
    data: Annotated[Path | None, typer.Option(help="The folder of its files; none where it is simulated.")] = None,
    subset: Annotated[
        str | None,
        typer.Option(help="cmapss: FD001 to FD004 [FD001]; azure: hourly, daily; fleet: a plant; unseen: plant, type."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, each with its own seed.")] = 3,
) -> None: ...


@_verb("score")
def score(
    plant: PlantOption = None,
    since: Annotated[str | None, typer.Option(help="ISO time; ticks after it. [the latest tick]")] = None,
) -> None: ...


@_verb("serve")
def serve(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="[serve.port]")] = None,
    host: Annotated[str | None, typer.Option(help="[serve.host]")] = None,
) -> None: ...


@_verb("stop")
def stop() -> None: ...


@_verb("status")
def status() -> None: ...


@_verb("doctor")
def doctor() -> None: ...


@_verb("keys")
def keys(
    action: Annotated[Literal["add", "list", "revoke"], typer.Argument(help="add NAME, list, or revoke NAME.")],
    name: Annotated[str | None, typer.Argument(help="The key's name.")] = None,
    plants: Annotated[list[str] | None, typer.Option("--plant", help="A plant it opens; repeatable. [all]")] = None,
    roles: Annotated[list[str] | None, typer.Option("--role", help="What it may do; repeatable. [read]")] = None,
    *,
    rate: Annotated[float | None, typer.Option(min=0, help="Requests a second.")] = None,
    max_body_mb: Annotated[float | None, typer.Option(min=0, help="Size of a request.")] = None,
    max_windows: Annotated[int | None, typer.Option(min=1, help="Windows of a request.")] = None,
) -> None: ...


@_verb("config")
def config() -> None: ...


@app.command("submit", help=VERBS["submit"].help, context_settings={"allow_interspersed_args": False})
def submit(
    command: Annotated[str, typer.Argument(metavar="VERB", help="The verb; its own options follow it.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="The verb's options.")] = None,
    *,
    address: Annotated[str | None, typer.Option(help="Ray's Jobs API, http://HOST:8265. [ray.address]")] = None,
    home: HomeOption = None, profile: ProfileOption = None, assignments: SetOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    own = [text for text in arguments or () if text != "--json"]  # before the verb or after it, it means both
    common = _common(home, profile, assignments, as_json or own != (arguments or []))
    passed = ["--profile", profile] if profile else []
    passed += ["--json"] if common.as_json else []
    passed += [part for text in assignments or () for part in ("--set", text)]
    options = {"address": address, "command": command, "arguments": [*passed, *own]}
    creates = command in VERBS and VERBS[command].creates_home
    raise typer.Exit(invoke("submit", common, options, creates_home=creates))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"millwright {code_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Kept apart from the verbs: nothing is shared between them but what ``_common`` names."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. A wrong command is one sentence and code 2, as any other wrong input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], prog_name="millwright", standalone_mode=False)
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        wrong = InputError(message.rstrip("."), do=f"See `millwright {_help_for(given)}`")
        code = complain(wrong, sys.stdout, as_json="--json" in given)
    sys.exit(code or 0)


def _help_for(given: list[str]) -> str:
    return f"{given[0]} --help" if given and given[0] in VERBS else "--help"


if __name__ == "__main__":
    main()

"""The command line is what the jobs take, the README is true, and our names are ours alone."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

from cluster import cli
from cluster.cli import app
from cluster.report import Report
from cluster.verbs import VERBS, load

ROOT = Path(__file__).parents[2]
OURS = ("models", "cluster", "jobs", "serve")
EVERY_VERB_TAKES = {"home", "profile", "assignments", "as_json"}
README = ROOT / "README.md"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_a_job_that_takes_what_the_command_line_gives(verb: str) -> None:
    job = inspect.signature(load(VERBS[verb].target)).parameters
    assert next(iter(job)) == "home"
    assert job["progress"].kind is inspect.Parameter.KEYWORD_ONLY
    given = set(inspect.signature(getattr(cli, verb)).parameters) - EVERY_VERB_TAKES
    assert given <= set(job), "the command line offers what the job does not take"
    for name, parameter in inspect.signature(getattr(cli, verb)).parameters.items():
        if name in given and parameter.default not in (None, inspect.Parameter.empty):
            assert parameter.default == job[name].default, f"{name} has two defaults"
    required = {n for n, p in job.items() if p.default is inspect.Parameter.empty} - {"home", "progress"}
    assert required <= given, "the job needs what the command line does not offer"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_job_returns_a_report(verb: str) -> None:
    job = load(VERBS[verb].target)
    annotation = inspect.signature(job, eval_str=True).return_annotation
    assert inspect.isclass(annotation)
    assert issubclass(annotation, Report)


def test_every_verb_is_a_command_and_every_command_a_verb() -> None:
    assert [command.name for command in app.registered_commands] == list(VERBS)


def test_verbs_of_the_design_are_all_there() -> None:
    work = "demo simulate connect ingest tune train evaluate promote score benchmark"
    around = "serve stop status doctor keys config submit"
    assert set(work.split()) | set(around.split()) <= set(VERBS)


@pytest.mark.parametrize("name", OURS)
def test_top_level_names_belong_to_us_alone(name: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(name, []))
    assert owners <= {"millwright"}


def blocks() -> list[str]:
    return re.findall(r"^```[a-z]*\n(.*?)^```", README.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_commands_of_the_readme_exist() -> None:
    text = "\n".join(blocks())
    verbs = set(re.findall(r"(?:^|[\s/$])millwright\s+([a-z]+)", text, flags=re.MULTILINE))
    targets = set(re.findall(r"(?:^|[\s$])make\s+([a-z]+)", text, flags=re.MULTILINE))
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    assert verbs, "the README shows no command"
    assert verbs <= set(VERBS)
    assert targets <= known


def test_readme_shows_real_commands_before_line_30() -> None:
    first = next(n for n, line in enumerate(README.read_text("utf-8").splitlines(), 1) if line.startswith("```"))
    assert first < 30


def readme_tree() -> dict[str, bool]:
    """Path -> whether lines below it list what it holds; from the block that has a line `models/`."""
    block = next(b for b in blocks() if re.search(r"^models/", b, flags=re.MULTILINE))
    found: dict[str, bool] = {}
    way: list[tuple[int, str]] = []
    for line in filter(str.strip, block.splitlines()):
        plain = re.sub(r"[│├└─]", " ", line)
        indent, name = len(plain) - len(plain.lstrip()), plain.split()[0]
        if indent > 0 and not re.fullmatch(r"[\w.*-]+(/|\.\w+)", name):
            continue  # a caption's second line
        way = [(i, n) for i, n in way if i < indent]
        path = "".join(n for _, n in way) + name
        for depth in range(1, len(way) + 1):
            found["".join(n for _, n in way[:depth])] = True
        found.setdefault(path, False)
        if name.endswith("/"):
            way.append((indent, name))
    return found


def test_every_line_of_the_readme_tree_exists() -> None:
    missing = [path for path in readme_tree() if not (ROOT / path).exists()]
    assert missing == []


def test_every_module_appears_in_the_readme_tree() -> None:
    """By name, or under a folder below the four whose line stands for all it holds."""
    tree = readme_tree()
    missing = []
    for path in sorted(p for folder in OURS for p in (ROOT / folder).rglob("*.py") if p.name != "__init__.py"):
        name = path.relative_to(ROOT).as_posix()
        folders = [f"{parent.as_posix()}/" for parent in path.relative_to(ROOT).parents][:-2]
        if name not in tree and not any(tree.get(folder) is False for folder in folders):
            missing.append(name)
    assert missing == []

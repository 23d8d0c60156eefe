"""The notebooks of the documentation: nothing stored in them, nothing of any machine, and each runs from top to bottom.

Cells run as a kernel runs them: in order, in one fresh namespace, the last expression of each shown.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from cluster.home import Home, open_home
from cluster.registry import champion
from tests.jobs.conftest import PLANT, Tuned

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
BOOKS = ("01-look-at-a-plant.ipynb", "02-launch-and-compare-a-sweep.ipynb", "03-ask-a-model-why.ipynb")


def cells(name: str, kind: str) -> list[str]:
    book = json.loads((FOLDER / name).read_text("utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def executed(name: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    """The namespace that the notebook leaves, and what its cells show."""
    monkeypatch.setenv("MILLWRIGHT_HOME", str(home.path))
    known: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    with mpl.rc_context({"backend": "agg"}):
        for number, text in enumerate(cells(name, "code"), 1):
            tree = ast.parse(text, f"{name}, cell {number}")
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"{name}, cell {number}", "exec"), known)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), f"{name}, cell {number}", "eval"), known)
                shown.append("" if value is None else getattr(value, "_repr_html_", value.__repr__)())
        plt.close("all")
    return known, shown


@pytest.fixture(scope="module")
def copied(tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The tuned home for these tests alone: a notebook tunes and promotes."""
    where = tmp_path_factory.mktemp("books") / "home"
    shutil.copytree(tuned.home.path, where, ignore=shutil.ignore_patterns("run"))
    return open_home(where, environment={})


def test_the_notebooks_are_these() -> None:
    assert tuple(sorted(path.name for path in FOLDER.iterdir() if path.suffix)) == BOOKS


@pytest.mark.parametrize("name", BOOKS)
def test_a_notebook_stores_no_output_and_names_no_machines_path(name: str) -> None:
    book = json.loads((FOLDER / name).read_text("utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        assert cell["cell_type"] in ("markdown", "code") and cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    text = "\n".join(cells(name, "code"))
    assert not re.search(r"[\"'](/|~|[A-Z]:)", text), "the home comes from the environment"
    assert "open_home(" in text and "import ray" not in text


@pytest.mark.parametrize("name", BOOKS)
def test_links_of_a_notebook_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(cells(name, "markdown")))
    assert [link for link in links if not (FOLDER / link).is_file()] == []


def test_a_look_at_a_plant(copied: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    known, shown = executed(BOOKS[0], copied, monkeypatch)
    assert len(known["everything"]) == known["dataset"].count() > len(known["readings"]) > 500
    assert set(known["readings"]["machine"]) == {known["last"]["machine"]}
    assert known["readings"]["time"].max() <= known["last"]["started_at"]
    assert known["usual"].total_seconds() == 3600 and (known["gaps"]["silent_h"] > 6).all()
    assert "since_service" in known["context"] and known["account"].verdicts["failure"] > 0
    assert len(known["events"]) == known["account"].events and "ends an observed life" in shown[-1]


def test_a_sweep_launched_compared_and_promoted(copied: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = champion(copied, PLANT)
    known, _ = executed(BOOKS[1], copied, monkeypatch)
    assert known["study"].finished == 3 and set(known["mine"]["hidden"]) <= {16, 32}
    assert known["trials"]["study_id"].nunique() == 2, "the fixture's study and the notebook's"
    first = known["mine"].set_index("trial").loc[f"{PLANT}/trial-0000"]
    assert (first["hidden"], first["learning_rate"]) == (16, copied.settings.model.network.learning_rate)
    candidates = known["candidates"]
    assert set(candidates["kind"]) == {"network", "trees", "no_sensor"} and candidates["champion"].sum() == 1
    assert candidates["champion"].iloc[0] and candidates["log_likelihood"].is_monotonic_decreasing
    assert "too few" in known["refused"], "of the plant's twelve machines too few fail to tell"
    assert known["promoted"].after == known["runner_up"] and known["promoted"].forced
    after = champion(copied, PLANT)
    assert after and before and (after.kind, after.version) == (before.kind, before.version)


def test_a_model_asked_why(copied: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    known, shown = executed(BOOKS[2], copied, monkeypatch)
    assert known["off"] < 1e-12 and len(known["parts"]) > 3 * len(known["reasons"])
    assert known["reasons"]["contribution"].sum() == pytest.approx(known["risk_now"] - known["usual_risk"], abs=1e-12)
    assert (known["life"]["p10"] <= known["life"]["p50"]).all() and (known["life"]["p50"] <= known["life"]["p90"]).all()
    assert len(known["now"]) == 12 and "main reason" in shown[-1]

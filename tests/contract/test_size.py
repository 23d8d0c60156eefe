"""One idea a file, one idea a function: the style guide's outer limits."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES_FILE = 300
MOST_LINES_FUNCTION = 60
FILES = sorted(path for folder in ("models", "cluster", "jobs", "serve") for path in (ROOT / folder).rglob("*.py"))
BANNED_NAMES = {"utils", "common", "helpers", "base", "manager", "misc"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short_and_files_say_what_they_are_for(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES_FILE
    assert path.stem not in BANNED_NAMES
    tree = ast.parse(text)
    assert not text.strip() or ast.get_docstring(tree), "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MOST_LINES_FUNCTION, f"{node.name} has {lines} lines"

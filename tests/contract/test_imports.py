"""Who may import whom, what `models/` may touch, and that importing does no work."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("models", "cluster", "jobs", "serve")
MAY_IMPORT = {
    "models": {"models"},
    "cluster": {"cluster", "models"},
    "jobs": {"jobs", "cluster", "models"},
    "serve": {"serve", "cluster", "models"},
}
FORBIDDEN = {
    "models": {"ray", "mlflow", "fastapi", "starlette", "pandas", "requests", "http", "urllib", "socket", "subprocess"},
    "cluster": {"torch", "fastapi"},
    "serve": {"mlflow", "pickle"},
    "jobs": {"pickle"},
}
IMPURE = {
    "os.environ", "os.getenv", "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now",
    "date.today", "np.random.seed", "np.random.rand", "np.random.normal", "random.random", "random.seed",
    "importlib.import_module",
}  # fmt: skip
TOUCHES_FILES = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink"}


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def imports(node: ast.AST) -> Iterator[tuple[str, ast.Import | ast.ImportFrom]]:
    """Every imported module, wherever the import stands; ``from a import b`` gives ``a`` and ``a.b``."""
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            yield from ((alias.name, found) for alias in found.names)
        elif isinstance(found, ast.ImportFrom) and found.module:
            yield found.module, found
            yield from ((f"{found.module}.{alias.name}", found) for alias in found.names)


def imports_at_start(tree: ast.Module) -> Iterator[str]:
    """Modules that importing this one imports: not those inside functions or under TYPE_CHECKING."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name for name, _ in imports(node))


@pytest.mark.parametrize("path", files(*OURS), ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    folder = name_of(path).split(".")[0]
    ours = {name for name, _ in imports(tree_of(path)) if name.split(".")[0] in OURS}
    wrong = {name for name in ours if name.split(".")[0] not in MAY_IMPORT[folder]}
    assert not wrong, f"{folder} may import {sorted(MAY_IMPORT[folder])}"


@pytest.mark.parametrize("path", files(*OURS), ids=name_of)
def test_nothing_forbidden_is_imported(path: Path) -> None:
    forbidden = FORBIDDEN[name_of(path).split(".")[0]]
    assert not {name for name, _ in imports(tree_of(path)) if name.split(".")[0] in forbidden}


@pytest.mark.parametrize("path", files(*OURS, "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_absolute_and_never_from_ray(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            shadowed = node.module == "ray" and any(alias.name == "serve" for alias in node.names)
            assert not shadowed, f"line {node.lineno}: write `import ray.serve`; `serve` is our folder"


def test_no_two_modules_import_each_other() -> None:
    known = {name_of(path): path for path in files(*OURS)}
    graph = {name: {m for m in imports_at_start(tree_of(path)) if m in known} for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for following in sorted(graph[name]):
                visit(following, (*way, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", files("models"), ids=name_of)
def test_models_are_pure(path: Path) -> None:
    """No environment, no clock, no hidden randomness; only the bundle opens files."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in IMPURE, f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and path.name != "bundle.py":
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert called not in TOUCHES_FILES, f"line {node.lineno}: {ast.unparse(node)}"


def test_sources_have_no_todo_and_no_not_implemented_error() -> None:
    words = re.compile(r"\b(TODO|FIXME|NotImplementedError)\b")
    wrong = [f"{name_of(p)}: {found[0]}" for p in files(*OURS) if (found := words.search(p.read_text("utf-8")))]
    assert not wrong


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("cluster.cli", ["torch", "mlflow", "ray", "pandas", "pyarrow", "numpy", "matplotlib"]),
        ("serve.api", ["torch", "mlflow", "matplotlib", "lightgbm"]),
    ],
)
def test_starts_without_heavy_imports(module: str, heavy: list[str]) -> None:
    code = "import importlib, sys; importlib.import_module(sys.argv[1]); print(set(sys.argv[2:]) & set(sys.modules))"
    assert python(code, module, *heavy).strip() == "set()"


AUDIT = """
import importlib, json, sys

ROOTS, MODULES = tuple(json.loads(sys.argv[1])), json.loads(sys.argv[2])
WORK = {"open", "subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "socket.connect", "socket.bind",
        "os.putenv", "os.unsetenv", "os.mkdir", "os.remove", "os.rename", "_thread.start_new_thread", "signal.signal"}
FOUND = []

def watch(event, arguments):
    if event not in WORK:
        return
    frame = sys._getframe(1)
    if event == "open" and not set(str(arguments[1])) & set("wax+"):
        while frame and frame.f_code.co_filename.endswith("pathlib.py"):
            frame = frame.f_back
        if not frame.f_code.co_filename.startswith(ROOTS):
            return  # a library looks at its own files
    while frame and frame.f_code.co_name != "<module>":
        if frame.f_code.co_filename.startswith("<frozen "):
            return  # another module is being imported: its own frame answers for it
        frame = frame.f_back
    if frame and frame.f_code.co_filename.startswith(ROOTS):
        FOUND.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {event} {arguments[:1]}")

sys.addaudithook(watch)
for name in MODULES:
    importlib.import_module(name)
print(json.dumps(FOUND))
"""


def test_importing_does_no_work() -> None:
    """No file, process, thread, socket, signal or environment variable is touched by a module's own body."""
    names = [name_of(path) for path in files(*OURS)]
    roots = [f"{ROOT / folder}/" for folder in OURS]
    out = python(AUDIT, json.dumps(roots), json.dumps(names)).strip().splitlines()[-1]
    assert json.loads(out) == []

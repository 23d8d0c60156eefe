"""Is this machine fit for Millwright? Each check is one line: what was found, and what to do about it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.text import Text

import cluster
from cluster.home import Home
from cluster.report import Progress, Report
from cluster.running import alive, port_is_free, records

GIB = 2**30
_LEAST_CORES = 2
_LEAST_MEMORY_GIB = 4.0  # the demo's Ray, training and service together peak below it
_LEAST_DISK_GIB = 2.0
_LEAST_OPEN_FILES = 1024
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Check(BaseModel):
    name: str
    ok: bool
    found: str
    do: str | None = None  # where not ok


class DoctorReport(Report):
    fit: bool
    checks: list[Check]

    def render(self) -> RenderableType:
        lines = [
            Text.assemble(
                ("ok       ", "green") if c.ok else ("problem  ", "bold red"), f"{c.name}: {c.found}",
                f"\n         {c.do}" if c.do else "",
            )
            for c in self.checks
        ]  # fmt: skip
        last = "This machine is fit." if self.fit else "This machine is not fit yet; see each problem's second line."
        return Group(*lines, last)


def run(home: Home, *, progress: Progress) -> DoctorReport:
    """Every check, even after one has failed. Exit code 1 where any has."""
    began = time.monotonic()
    progress.step("Look at this machine")
    checks = [check(home) for check in CHECKS]
    fit = all(c.ok for c in checks)
    return DoctorReport(fit=fit, checks=checks, exit_code=0 if fit else 1, seconds=time.monotonic() - began)


def _python(home: Home) -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return _check("Python", sys.version_info >= (3, 11), found, "Install Python 3.11 and run `make setup`")


def _packages(home: Home) -> Check:
    wrong = [*_unmet(), *_unpinned()]
    found = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    return _check("packages", not wrong, found or "as required", "Run `make setup`")


def _unmet() -> list[str]:
    try:
        wanted = [Requirement(text) for text in metadata.requires("millwright") or []]
    except metadata.PackageNotFoundError:
        return ["millwright is not installed"]
    wrong = []
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} instead of {requirement.specifier}")
    return wrong


def _unpinned() -> list[str]:
    """Installed versions that differ from constraints.txt, where this runs from a checkout."""
    path = Path(cluster.__file__).parents[1] / "constraints.txt"
    if not path.is_file():
        return []
    wrong = []
    for line in path.read_text("utf-8").splitlines():
        if "==" not in line or line.startswith("#"):
            continue
        pin = Requirement(line)
        try:
            version = metadata.version(pin.name)
        except metadata.PackageNotFoundError:  # an extra's
            continue
        if not pin.specifier.contains(version, prereleases=True):
            wrong.append(f"{pin.name} {version} instead of {pin.specifier}")
    return wrong


def _cores(home: Home) -> Check:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _check("cores", found >= _LEAST_CORES, str(found), f"Give it {_LEAST_CORES} cores; fewer are very slow")


def _memory(home: Home) -> Check:
    found = psutil.virtual_memory().available / GIB
    return _check(
        "memory", found >= _LEAST_MEMORY_GIB, f"{found:.1f} GiB available",
        f"Free memory up to {_LEAST_MEMORY_GIB:.0f} GiB, or use fewer plants at a time",
    )  # fmt: skip


def _disk(home: Home) -> Check:
    found = shutil.disk_usage(_existing(home.path)).free / GIB
    return _check(
        "disk", found >= _LEAST_DISK_GIB, f"{found:.1f} GiB free at {_existing(home.path)}",
        "Free some, or choose another --home",
    )  # fmt: skip


def _shared_memory(home: Home) -> Check:
    if not Path("/dev/shm").is_dir():
        return _check("shared memory", True, "not used on this system")
    free, wanted = shutil.disk_usage("/dev/shm").free / 2**20, home.settings.ray.object_store_mb
    return _check(
        "shared memory", free >= wanted, f"{free:.0f} MiB free in /dev/shm, {wanted} wanted",
        "Raise it (docker: --shm-size=1g) or lower ray.object_store_mb; Ray falls back to /tmp, slowly",
    )  # fmt: skip


def _open_files(home: Home) -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= _LEAST_OPEN_FILES
    return _check("open files", enough, f"at most {soft}", f"Run `ulimit -n {_LEAST_OPEN_FILES}` or more")


def _port(home: Home) -> Check:
    host, port = home.settings.serve.host, home.settings.serve.port
    if alive(home, "serve"):
        return _check("port", True, "this home's service runs")
    return _check(
        "port", port_is_free(host, port), f"{host}:{port} is {'free' if port_is_free(host, port) else 'in use'}",
        "End what uses it, or choose another with --set serve.port=PORT",
    )  # fmt: skip


def _storage(home: Home) -> Check:
    """Two commits to a Delta table in the home: writable, and a rename there is atomic enough for Delta."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    do = "Choose a --home on a local disk or a file system with atomic rename"
    try:
        with tempfile.TemporaryDirectory(prefix=".millwright-doctor-", dir=_existing(home.path)) as folder:
            for number in range(2):
                write_deltalake(folder, pa.table({"x": [number]}), mode="append")
            ok = DeltaTable(folder).version() == 1
    except Exception as error:  # deltalake raises its own, and OSErrors
        return _check("storage", False, str(error).splitlines()[0], do)
    return _check("storage", ok, f"Delta commits work at {_existing(home.path)}", do)


def _access(home: Home) -> Check:
    host, token = home.settings.serve.host, home.settings.ray.token_path
    if token and not Path(token).expanduser().is_file():
        return _check("access", False, f"no token at {token}", "Make one: ray get-auth-token --generate")
    if token and Path(token).expanduser().stat().st_mode & 0o077:
        return _check("access", False, f"{token} can be read by others", f"Run `chmod 600 {token}`")
    if host in LOOPBACK:
        return _check("access", True, f"listens on {host} only")
    return _check(
        "access", (home.state / "keys.sqlite").is_file(), f"listens on {host}; API keys are required",
        "Add a key with `millwright keys add NAME`",
    )  # fmt: skip


def _left_behind(home: Home) -> Check:
    dead = [entry.name for entry in records(home) if not alive(home, entry.name)]
    return _check("left behind", not dead, ", ".join(dead) or "nothing", "Run `millwright stop`")


def _gpu(home: Home) -> Check:
    program = shutil.which("nvidia-smi")
    if program is None:
        return _check("GPU", True, "none; models train and score on the CPU")
    said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return _check(
        "GPU", said.returncode == 0, said.stdout.strip().splitlines()[0] if said.stdout.strip() else "no answer",
        "nvidia-smi fails: check the driver, or run on the CPU with CUDA_VISIBLE_DEVICES=''",
    )  # fmt: skip


CHECKS: tuple[Callable[[Home], Check], ...] = (
    _python, _packages, _cores, _memory, _disk, _shared_memory, _open_files, _port, _storage, _access,
    _left_behind, _gpu,
)  # fmt: skip


def _check(name: str, ok: bool, found: str, do: str | None = None) -> Check:
    return Check(name=name, ok=ok, found=found, do=None if ok else do)


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())

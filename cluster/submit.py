"""The same verb as a job on a Ray cluster: uploaded, followed to its end, its exit code returned.

The one idea: the cluster gets this repository as its working directory and runs the same command
line there, on the same home. So the home is a folder that this machine and the cluster both see.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cluster
from cluster.config import ENVIRONMENT_PREFIX
from cluster.credentials import handed_on
from cluster.home import Home
from cluster.report import Progress, Report
from cluster.session import changed_environment, import_ray, token_environment
from cluster.verbs import VERBS, named, plants_named
from models.errors import AccessError, InputError, MillwrightError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# In the pattern language of .gitignore, which Ray honours as well.
EXCLUDES = ("/.venv", "/.git", "/millwright-home", "/docs", "/tests", "__pycache__", "*.egg-info", ".*_cache")
_TALKATIVE = ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging",
              "_private.runtime_env.working_dir")  # fmt: skip
_POLL_S = 0.5
_STOP_S = 30.0
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class SubmitReport(Report):
    job: str
    address: str
    status: str  # SUCCEEDED, FAILED or STOPPED
    job_exit_code: int
    report: dict[str, Any] | None = None  # the verb's own, where it printed one

    def render(self) -> str:
        return f"Job {self.job} {self.status.lower()} with exit code {self.job_exit_code} after {self.seconds:.0f} s."


def run(
    home: Home, *, progress: Progress, command: str, arguments: Sequence[str] = (), address: str | None = None
) -> SubmitReport:
    """Submit, follow, return. Interrupted, it stops the job.

    Raises InputError without an address, AccessError without the token, MillwrightError where
    nothing answers.
    """
    began = time.monotonic()
    if named(command) is VERBS["submit"]:
        raise InputError("A submission cannot be submitted", expected="another verb", found="submit")
    where = _address(home, address)
    progress.step(f"Send {command} to {where}")
    with changed_environment(token_environment(home)):
        import_ray(local=False)
        client = _connect(where)
        for name in _TALKATIVE:  # a line for each file that is not uploaded, twice; what fails is raised
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
        job, last = f"millwright-{command}-{secrets.token_hex(4)}", _LastObject(_echo)
        try:
            _send(client, where, job, [command, *arguments, *_home_option(home, arguments)], home)
            progress.step(f"Follow job {job}")
            info = _follow(client, job, last)
        except KeyboardInterrupt:
            _stop(client, job)
            raise
    code = info.driver_exit_code
    return SubmitReport(
        job=job, address=where, status=str(info.status.value), job_exit_code=1 if code is None else code,
        exit_code=1 if code is None else code, report=last.found, seconds=time.monotonic() - began,
    )  # fmt: skip


def _address(home: Home, given: str | None) -> str:
    environment = os.environ
    candidates = (
        given, environment.get("RAY_API_SERVER_ADDRESS"), environment.get("RAY_ADDRESS"), home.settings.ray.address,
    )  # fmt: skip
    found = next((text for text in candidates if text), None)
    if found is None or not found.startswith(("http://", "https://")):
        raise InputError(
            "No address of Ray's Jobs API", expected="http://HOST:8265", found=repr(found) if found else "none",
            do="Give --address, or set RAY_API_SERVER_ADDRESS or ray.address",
        )  # fmt: skip
    return found.rstrip("/")


def _connect(where: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(where)
    except Exception as error:  # requests, Ray and RuntimeError, by what the other side is
        raise _refusal(error, where) from error


def _refusal(error: Exception, where: str) -> MillwrightError:
    text = str(error).strip() or type(error).__name__
    if type(error).__name__ == "AuthenticationError" or any(code in text for code in ("401", "403")):
        return AccessError(
            "The Ray cluster refuses this client", expected="its token", found="none or a wrong one", where=where,
            do="Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, or ray.token_path",
        )  # fmt: skip
    return MillwrightError(
        "No Ray cluster answers", expected="Ray's Jobs API", found=text.splitlines()[0], where=where,
        do="Check the address, and that its dashboard runs",
    )  # fmt: skip


def _send(client: JobSubmissionClient, where: str, job: str, command: Sequence[str], home: Home) -> None:
    root = Path(cluster.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        raise InputError(
            "Nothing to upload", expected="a checkout of Millwright", found="an installed package", where=root,
            do="Run `millwright submit` from a checkout (`make setup` there)",
        )  # fmt: skip
    runtime = {
        "working_dir": str(root),
        "excludes": excludes(root, home.path),
        "env_vars": job_environment(home, command, os.environ) | {"PYTHONUNBUFFERED": "1"},
    }
    line = shlex.join(["python", "-m", "cluster.cli", *command])
    try:
        client.submit_job(entrypoint=line, submission_id=job, runtime_env=runtime)
    except Exception as error:
        raise _refusal(error, where) from error


def job_environment(home: Home, command: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """What goes with a job: our settings, and the secrets of the plants that its options name (else of all).

    Secrets in a file stay there: the job reads them from the folder that both sides see. Keys of an object store
    are never sent: they are in such a file, or in the environment of the nodes.
    """
    named_there = [
        value for option, value in pairwise([part for text in command for part in text.split("=", 1)])
        if option in ("--plant", "--plants")
    ]  # fmt: skip
    names = plants_named({"plants": ",".join(named_there)}) if "all" not in named_there else []
    settings = {key: value for key, value in environment.items() if key.startswith(ENVIRONMENT_PREFIX)}
    return settings | handed_on(home.only(*names) if names else home, environment)


def excludes(root: Path, home: Path) -> list[str]:
    """What is not uploaded: a home inside the checkout neither, whatever its name."""
    return [*EXCLUDES, *([f"/{home.relative_to(root)}"] if root in home.parents else [])]


def _home_option(home: Home, arguments: Sequence[str]) -> list[str]:
    """The home by its absolute path: a relative one would be sought in the uploaded folder."""
    if any(text == "--home" or text.startswith("--home=") for text in arguments):
        raise InputError(
            "--home after the verb", expected="before it", found=shlex.join(arguments),
            do="Write `millwright submit --home DIR VERB ...`",
        )  # fmt: skip
    return ["--home", str(home.path)]


def _follow(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> Any:
    try:
        asyncio.run(_tail(client, job, say))
    except (RuntimeError, OSError) as error:  # the connection broke; the job goes on
        say(f"(the log cannot be followed: {error}; waiting for the job's end)\n")
    return _wait(client, job, None)


def _stop(client: JobSubmissionClient, job: str) -> None:
    _echo(f"\n(stopping job {job})\n")
    try:
        client.stop_job(job)
        _wait(client, job, _STOP_S)
    except RuntimeError as error:  # it had not arrived yet
        _echo(f"(it could not be stopped: {error})\n")


async def _tail(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> None:
    async for text in client.tail_job_logs(job):
        say(text)


def _wait(client: JobSubmissionClient, job: str, timeout_s: float | None) -> Any:
    end = time.monotonic() + timeout_s if timeout_s is not None else None
    while True:
        info = client.get_job_info(job)
        if str(info.status.value) in _ENDED or (end is not None and time.monotonic() > end):
            return info
        time.sleep(_POLL_S)


def _echo(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class _LastObject:
    """Passes the log on and keeps the last line that is a JSON object: the verb's report."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.found: dict[str, Any] | None = None
        self._say, self._rest = say, ""

    def __call__(self, text: str) -> None:
        self._say(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.startswith("{"):
                self._keep(line)

    def _keep(self, line: str) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            return
        if isinstance(found, Mapping):
            self.found = dict(found)

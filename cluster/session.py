"""A Ray session around a job: a local cluster of this process, or the cluster that the settings name.

The one idea: Ray and Serve read most of their settings from the environment when they are imported
or started, and hand it to every process they start; so the environment is complete *before*
``import ray``, which happens nowhere else at this level.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import cluster
from cluster.credentials import from_files, handed_on, session_environment
from cluster.files import write_atomically
from cluster.home import Home
from cluster.running import SCRATCH_PREFIX, SCRATCH_VARIABLE, forget, reap, record
from models.errors import InputError, MillwrightError

_RAY = "r"  # Ray lets everyone write to its own folder: the one around it must be closed
# A socket's path holds 107 bytes, and below the folder Ray's own takes 66.
_LONGEST_SCRATCH_PARENT = 107 - 66 - len(f"/{SCRATCH_PREFIX}12345678")
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set where this process is a submitted job
_NOISY = ("ray", "ray.data", "ray.serve", "ray.tune")


@contextmanager
def ray_session(home: Home, *, serve: bool = False) -> Iterator[None]:
    """Ray is up inside. Nested use, and use inside a Ray worker or a test's cluster, changes nothing.

    ``serve`` prepares the environment for low latency. Raises MillwrightError where
    Ray does not start, InputError where the address cannot be used.
    """
    if _initialised():
        yield
        return
    reap(home)
    address = os.environ.get("RAY_ADDRESS") or home.settings.ray.address
    if address and address.startswith(("http://", "https://")):
        raise InputError(
            "That is the address of Ray's Jobs API", expected="`auto`, HOST:PORT or no address", found=repr(address),
            where="ray.address", do="Send the verb there with `millwright submit VERB`",
        )  # fmt: skip
    secrets_of_plants = session_environment(home, os.environ)
    scratch = None if address else make_scratch()
    name = f"ray-{os.getpid()}"
    if scratch:
        record(home, name, pid=os.getpid(), scratch=scratch)
    with changed_environment(environment(home, scratch, serve=serve) | secrets_of_plants):
        try:
            _start(home, address, scratch)
            with stoppable():  # Ray replaces the handler of SIGTERM
                yield
        finally:
            _end(scratch)
            forget(home, name)


def keep_ray(home: Home) -> None:
    """A session that lasts as long as this process, for notebooks; nothing where Ray is up already."""
    if not _initialised():
        lasting = ExitStack()
        lasting.enter_context(ray_session(home))
        atexit.register(lasting.close)


@contextmanager
def changed_environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """The process's environment with ``values``, None for what is removed; as before at the end."""
    before = dict(os.environ)
    for key in values.keys() & before.keys():
        del os.environ[key]
    os.environ.update({key: value for key, value in values.items() if value is not None})
    try:
        yield
    finally:
        for key in os.environ.keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and a closed terminal end the work as Ctrl-C does, so that every ``finally`` runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in _ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_scratch() -> Path:
    """A folder for a session's sockets and logs that stays its owner's; its name marks the session's processes."""
    parent = tempfile.gettempdir()
    return Path(
        tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=parent if len(parent) <= _LONGEST_SCRATCH_PARENT else "/tmp")
    )


def environment(home: Home, scratch: Path | None, *, serve: bool) -> dict[str, str]:
    """What Ray's processes must find in their environment. What the user has set stays, but for what is the session's.

    ``scratch`` is None on a cluster that is there already.
    """
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1",  # 32 actors a read otherwise: 28 s instead of 6
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_DATA_LOG_LEVEL": "ERROR",
        "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that outlives its session must not start another Ray
        "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables; ours is the progress
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # small checkpoints, every epoch
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ARROW_DEFAULT_MEMORY_POOL": "jemalloc",  # an eighth faster ingest than with mimalloc, and less memory
    }
    if serve:
        wanted |= {
            "RAY_worker_niceness": "0",  # Ray's workers yield to everything else by default: 15
            "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",  # 10 by default, before any delay
        }
    own = {"PYTHONPATH": _python_path()}
    if home.settings.ray.token_path:
        own |= token_environment(home)
    elif scratch:
        own |= _token(scratch)
    if scratch:
        # Ray listens on every interface otherwise, whatever node address it is given; the name is misleading.
        own |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", SCRATCH_VARIABLE: str(scratch)}
    return {key: value for key, value in wanted.items() if key not in os.environ} | own


def token_environment(home: Home) -> dict[str, str]:
    """What makes Ray use the token that the settings name; empty where they name none."""
    path = home.settings.ray.token_path
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(Path(path).expanduser())} if path else {}


def _token(scratch: Path) -> dict[str, str]:
    # A replica's gRPC server listens on every interface and unpickles: no one without this token may speak to it.
    path = scratch / "token"
    write_atomically(path, _secret(), private=True)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


@cache
def _secret() -> str:
    return secrets.token_hex(32)  # one a process: Ray reads the token's file once and keeps it


def _python_path() -> str:
    """Ray's workers import our packages from where this process has them, installed or not."""
    root = str(Path(cluster.__file__).parents[1])
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != root]
    return os.pathsep.join([root, *given])


def _initialised() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _start(home: Home, address: str | None, scratch: Path | None) -> None:
    ray = import_ray(local=scratch is not None)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address:
        # Its processes are there already: what they must know goes with the tasks. A job's own is there, too.
        known = from_files(home) | ({} if _JOB in os.environ else handed_on(home, os.environ))
        options |= {"address": address} | ({"runtime_env": {"env_vars": known}} if known else {})
    elif scratch:
        options |= {
            "address": "local",
            "num_cpus": home.settings.ray.num_cpus or os.cpu_count(),
            "object_store_memory": home.settings.ray.object_store_mb * 2**20,
            "include_dashboard": False,
            "_temp_dir": str(scratch / _RAY),
        }
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise MillwrightError(
            "Ray did not start" if not address else "No Ray cluster answers",
            expected=f"a cluster at {address}" if address else None, found=str(error).strip().splitlines()[0],
            do="Run `millwright doctor`" if not address else "Check ray.address, RAY_ADDRESS and the token",
        ) from error  # fmt: skip


def import_ray(*, local: bool) -> ModuleType:
    """Ray, on the environment as it is now, even where a notebook or a test has imported it before."""
    imported_before = "ray" in sys.modules
    import ray

    if imported_before:
        ray._raylet.Config.initialize("")  # reads RAY_AUTH_MODE again
        if local:
            ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
        if "ray.data" in sys.modules:
            sys.modules["ray.data"].DataContext.get_current().enable_progress_bars = False
    module: ModuleType = ray
    return module


def _end(scratch: Path | None) -> None:
    # A second Ctrl-C must not cut the clean-up short.
    main = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, *_ending_signals())} if main else {}
    try:
        if _initialised():
            sys.modules["ray"].shutdown()
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ending_signals() -> tuple[signal.Signals, ...]:
    hangup = getattr(signal, "SIGHUP", None)
    return (signal.SIGTERM, hangup) if hangup else (signal.SIGTERM,)

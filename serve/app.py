"""The Ray Serve application, composed: replicas that accept from one socket, nothing between it and the model.

The one idea: Ray Serve starts, watches, heals and scales replicas, and no request goes through it. Everything that can
be wrong (no model, a port in use, no key) is said before Ray starts, and whatever was started is gone when ``run``
returns, however it ends.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import logging
import os
import shutil
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

from rich.console import RenderableType

from cluster.home import Home
from cluster.keys import open_keys
from cluster.report import Progress, Report
from cluster.running import forget, port_is_free, record
from cluster.session import ray_session
from models.errors import InputError, MillwrightError
from serve.checks import alone, bindable, check_address, is_loopback, servable_plants
from serve.listener import listening, obtain
from serve.scaling import IN_FLIGHT, Occupancy, replicas_wanted
from serve.service import METRICS

NAME = "millwright"
READY_S = 60.0
STOP_S = 15.0
CHECK_S = 3.0  # a window takes a millisecond; a replica that needs more is stuck
HEALTH_S = 4.0


class ServeReport(Report):
    """What was served, said at the end."""

    url: str
    plants: list[dict[str, str]] = []

    def render(self) -> RenderableType:
        return f"Served {', '.join(plant['name'] for plant in self.plants)} at {self.url} for {self.seconds:.0f} s."


class Replica:
    """What one replica holds. Plain: ``application`` makes a deployment of it.

    ``listener`` is where the socket is handed out (``serve.listener``).
    """

    def __init__(self, home: Home, listener: str) -> None:
        from serve.api import create_app
        from serve.logs import log_to
        from serve.server import Server
        from serve.service import open_service

        log_to(home.logs / "replica.log")
        settings = home.settings.serve
        self._service = open_service(home, now_us=lambda: time.time_ns() // 1000)
        self._service.start()
        self._app = create_app(self._service, open_metrics=is_loopback(settings.host))
        self._occupancy = Occupancy(0.0, time.monotonic())
        self._server = Server(self._app, obtain(listener, bindable(settings.host), settings.port))
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection looks through it again
        self._server.start()

    async def check_health(self) -> None:
        """Score a window where requests are answered, in time. Raises where that does not come."""
        await asyncio.wait_for(asyncio.wrap_future(self._server.call(self._service.check(CHECK_S))), CHECK_S)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Ray Serve asks every few seconds, for ``serve.scaling``."""
        return {IN_FLIGHT: self._occupancy.since(self._app.busy_s, time.monotonic())}

    def __del__(self) -> None:
        if hasattr(self, "_server"):
            self._server.stop()
        if hasattr(self, "_service"):
            self._service.close()


def application(home: Home, listener: str) -> Any:
    """The Serve application for a home; needs the environment of ``ray_session(serve=True)``."""
    import ray.serve

    settings = home.settings.serve
    scaling = None if settings.most_replicas is None else {
        "min_replicas": settings.replicas, "max_replicas": settings.most_replicas,
        "target_ongoing_requests": settings.target_in_flight, "look_back_period_s": 10.0,
        "upscale_delay_s": settings.upscale_delay_s, "downscale_delay_s": settings.downscale_delay_s,
        "policy": {"policy_function": replicas_wanted},
    }  # fmt: skip
    deployment = ray.serve.deployment(
        Replica,
        name=NAME,
        num_replicas=settings.replicas if scaling is None else "auto",
        autoscaling_config=scaling,
        max_surge_percent=100,  # an update starts the new replica before it stops the old one
        health_check_period_s=2,  # Ray gives a replica up after three failures in a row
        health_check_timeout_s=HEALTH_S,
        graceful_shutdown_timeout_s=6,  # five for what is being answered; a replica that hangs is waited for too
        ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    return deployment.bind(home, listener)


def run(home: Home, *, progress: Progress, port: int | None = None, host: str | None = None) -> ServeReport:
    """Serve every plant that has a champion until SIGTERM, Ctrl-C or `millwright stop`.

    Raises InputError where no plant has a model, the port is in use, the service runs already, or the
    host is beyond loopback without a key and a token for Ray.
    """
    began = time.monotonic()
    home = _with_address(home, host, port)
    settings = home.settings.serve
    plants = servable_plants(home, progress)
    check_address(home)
    url = f"http://{_written(settings.host)}:{settings.port}"
    address = bindable(settings.host), settings.port
    with alone(home), _Ending(*address), listening(*address) as listener:
        shutil.rmtree(home.run / METRICS, ignore_errors=True)  # what another service's replicas counted
        progress.step("Starting Ray")
        with ray_session(home, serve=True):
            _serve(home, url, listener, plants, progress)
    return ServeReport(url=url, plants=plants, seconds=time.monotonic() - began)


def _serve(home: Home, url: str, listener: str, plants: list[dict[str, str]], progress: Progress) -> None:
    """Deploy, say where, wait for the end, and end."""
    import ray
    import ray.serve

    settings = home.settings.serve
    gpus = float(ray.cluster_resources().get("GPU", 0))
    if settings.gpus * settings.replicas > gpus:
        raise InputError(
            "Not enough GPUs", expected=f"{settings.gpus:g} a replica, {settings.replicas} of them", found=f"{gpus:g}",
            where="serve.gpus",
            do="Set it to 0: networks then run on the CPU, by ONNX Runtime",
        )  # fmt: skip
    stopping = threading.Event()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # importing it sets INFO
    record(home, "serve", pid=os.getpid(), ports={"http": settings.port})
    try:
        progress.step(f"Loading the models of {len(plants)} plants" if len(plants) > 1 else "Loading the model")
        ray.serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
        try:
            ray.serve.run(application(home, listener), name=NAME, route_prefix=None)
        except RuntimeError as error:
            raise MillwrightError(
                "The service did not start", found=str(error).strip().splitlines()[-1], where=home.logs / "replica.log",
                do="Look there for the reason",
            ) from error  # fmt: skip
        _wait_until_ready(settings.host, settings.port)
        progress.step(f"Serving {', '.join(plant['name'] for plant in plants)} at {url}")
        with closing(open_keys(home)) as keys:
            if not keys.active():
                progress.note("No key opens it yet: `millwright keys add NAME --role read --role write`")
        stopping.wait()
    except KeyboardInterrupt:  # SIGTERM too: `ray_session` makes one of the other
        progress.step("Stopping")
    finally:
        forget(home, "serve")
        _shut_down()


def _shut_down() -> None:
    """Let replicas write their journal, but wait for nobody longer than ``STOP_S``; Ray's end ends the rest."""
    import ray.serve

    thread = threading.Thread(target=ray.serve.delete, args=(NAME,), daemon=True)
    thread.start()
    thread.join(STOP_S)


class _Ending:
    """Leaves only when nothing listens on the port any more, so that the next start finds it free."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        until = time.monotonic() + STOP_S
        while not port_is_free(self._host, self._port) and time.monotonic() < until:
            time.sleep(0.05)


def _with_address(home: Home, host: str | None, port: int | None) -> Home:
    changed = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    serve = type(home.settings.serve).model_validate(home.settings.serve.model_dump() | changed)
    return replace(home, settings=home.settings.model_copy(update={"serve": serve}))


def _wait_until_ready(host: str, port: int) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(bindable(host, reach=True), port, timeout=2)
        try:
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise MillwrightError("The service is not ready", expected=f"within {READY_S:g} s", do="See logs/replica.log")


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host
